//! Connections that a job had not accepted when it was checkpointed are made again, unseen.

mod world;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use mooring_api::watch::{Flow, Unaccepted, UnacceptedConnection};
use mooring_types::gateway::Protocol;
use mooring_types::job::JobStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use world::{PATIENCE, QUIET, Wire, World, held};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A job that does not accept, and is restored as another one without its queue.
struct Job {
    listener: TcpListener,
    address: SocketAddr,
}

impl Job {
    fn listen(address: SocketAddr) -> Self {
        let listener = listen(address);
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    fn new() -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Restores the job without what it has not accepted. The queue is emptied by resets.
    fn restored(self) -> Self {
        let address = self.address;
        drop(self);
        Self::listen(address)
    }

    fn accept(&self) -> TcpStream {
        self.listener.set_nonblocking(true).expect("a listener");
        let began = std::time::Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("a socket");
                    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    return stream;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(began.elapsed() < PATIENCE, "a connection in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn has_another(&self) -> bool {
        std::thread::sleep(QUIET);
        self.listener.accept().is_ok()
    }

    /// The gateway's ends of all connections in the queue, once there are `count`.
    fn queue(&self, count: usize) -> Vec<UnacceptedConnection> {
        let port = self.address.port();
        let began = std::time::Instant::now();
        loop {
            let sockets = mooring_linux::tcp_table::list_own().expect("a list");
            let waiting: Vec<_> = sockets
                .iter()
                .filter(|socket| socket.local.port() == port && socket.is_unaccepted())
                .map(|socket| UnacceptedConnection { port, peer: socket.peer })
                .collect();
            if waiting.len() == count {
                return waiting;
            }
            assert!(began.elapsed() < PATIENCE, "{count} connections in time: {waiting:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).expect("an address");
    socket.listen(16).expect("a listener");
    socket.into()
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.extend(byte);
    }
    String::from_utf8(head).expect("text")
}

fn restored(world: &mut World, checkpoint: u64, connections: Vec<UnacceptedConnection>) {
    world.change(|connection| {
        (connection.flow, connection.job_status) = (Flow::Open, JobStatus::Executing);
        connection.unaccepted = Some(Unaccepted { checkpoint, connections });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_restored_job_once_each() {
    let mut world = World::new();
    let job = Job::new();
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    let mut get = Wire::connect(port).await;
    get.send("GET /get HTTP/1.1\r\nHost: example\r\n\r\n").await;
    // A body makes a request that may not be repeated.
    let mut post = Wire::connect(port).await;
    post.send("POST /post HTTP/1.1\r\nHost: example\r\nContent-Length: 4\r\n\r\nbo").await;
    let mut raw = Wire::connect(port).await;
    raw.send("\u{1}hello").await;
    // A client that is silent is connected to the job, which might speak first.
    let silent = Wire::connect(port).await;
    let named = job.queue(4);

    world.hold();
    let mut job = job.restored();
    assert!(get.is_quiet().await && raw.is_quiet().await, "the ends that the lost job sends are held");
    // It is checkpointed once more before it accepts anything.
    restored(&mut world, 1, named);
    let named = job.queue(4);
    world.hold();
    job = job.restored();
    restored(&mut world, 2, named.clone());
    post.send("dy").await;
    raw.send(" again").await;
    raw.0.get_mut().shutdown().await.unwrap();

    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut stream = job.accept();
        let mut first = [0];
        stream.set_read_timeout(Some(QUIET)).unwrap();
        match stream.peek(&mut first) {
            Ok(_) => {}
            Err(_) => {
                seen.push("silent".to_owned());
                continue;
            }
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if first == [1] {
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            assert_eq!(all, "\u{1}hello again");
            stream.write_all(b"bye").unwrap();
            seen.push("raw".to_owned());
            continue;
        }
        let head = read_head(&mut stream);
        if head.starts_with("POST") {
            let mut body = [0; 4];
            stream.read_exact(&mut body).unwrap();
            assert_eq!(&body, b"body");
        }
        stream.write_all(ANSWER).unwrap();
        seen.push(head.split(' ').nth(1).unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["/get", "/post", "raw", "silent"]);
    assert_eq!(get.receive().await.body, "ok");
    assert_eq!(post.receive().await.body, "ok");
    let mut answer = String::new();
    timeout(PATIENCE, raw.0.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "bye");
    assert!(!job.has_another(), "each came once");

    // The same list names nobody again: a new connection may have an old one's port.
    restored(&mut world, 2, named);
    assert!(!job.has_another());
    drop(silent);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_is_not_named_ends_as_the_job_ends_it() {
    let mut world = World::new();
    let job = Job::new();
    let port = world.connect(job.address, Protocol::Tcp, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    client.send("hello").await;
    job.queue(1);
    world.hold();
    let job = job.restored();
    assert!(client.is_quiet().await);
    restored(&mut world, 1, Vec::new());
    assert!(client.rest().await.is_empty());
    assert!(!{
        job.listener.set_nonblocking(true).unwrap();
        job.has_another()
    });
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_an_unaccepted_connection_holds_is_not_kept() {
    let mut world = World::new();
    let job = Job::new();
    let port = world.connect(job.address, Protocol::Tcp, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    client.send("first").await;
    let named = job.queue(1);
    let mut stream = job.accept();
    let reader = std::thread::spawn(move || {
        let mut count = 0;
        let mut bytes = vec![0; 1 << 16];
        while count < (4 << 20) + 5 {
            count += stream.read(&mut bytes).unwrap();
        }
        stream
    });
    client.send(vec![7; 4 << 20]).await;
    let stream = tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
    world.change(|connection| connection.flow = held());
    restored(&mut world, 1, named);
    assert!(client.rest().await.is_empty(), "it can't be made again");
    drop(stream);
    world.stop().await;
}

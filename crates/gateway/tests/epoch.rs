//! Connections that end because the job was replaced.

mod world;

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::{Flow, Target};
use mooring_types::gateway::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use world::{GET, PATIENCE, QUIET, Wire, World, held, server, text};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

/// A WebSocket, and the job's side of its TCP connection.
async fn websocket(port: SocketAddr, listener: &TcpListener) -> (Socket, TcpStream) {
    let accept = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut job = Wire(BufReader::new(stream));
        let head = job.head().await;
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
        let accept = derive_accept_key(key.trim().as_bytes());
        // The first frame comes in one segment with the response.
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        job.send([answer.as_bytes(), b"\x81\x05early"].concat()).await;
        job.0.into_inner()
    };
    let (opened, job) = tokio::join!(tokio_tungstenite::connect_async(format!("ws://{port}/")), accept);
    let mut client = opened.expect("a WebSocket").0;
    let first = timeout(PATIENCE, client.next()).await.expect("a frame in time").expect("a frame");
    assert_eq!(first.expect("a message"), Message::text("early"));
    (client, job)
}

fn recover(world: &mut World, target: SocketAddr, flow: Flow) {
    world.change(|connection| {
        connection.epoch += 1;
        connection.target = Target::Overlay(target);
        connection.flow = flow;
    });
}

#[tokio::test]
async fn replaced_job_closes_websocket_with_1012() {
    let mut world = World::new();
    let (old, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let (mut client, mut job) = websocket(port, &old).await;
    job.write_all(b"\x81\x02hi").await.unwrap();
    assert_eq!(timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap(), Message::text("hi"));

    // The host is lost: its end of the connection may even be reset.
    world.hold();
    socket2::SockRef::from(&job).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(job);
    let (new, target) = server().await;
    recover(&mut world, target, held());
    assert!(timeout(QUIET, client.next()).await.is_err(), "it is kept while the job is not ready");
    world.open();
    let Message::Close(Some(close)) = timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap() else {
        panic!("no close frame")
    };
    assert_eq!(close.code, CloseCode::Restart);
    assert!(timeout(PATIENCE, client.next()).await.unwrap().is_none());
    world.until(|world| world.clients() == 0).await;
    // The client reconnects, to the new job.
    let (again, _job) = websocket(port, &new).await;
    drop(again);
    world.stop().await;
}

#[tokio::test]
async fn replaced_job_is_read_until_it_notices() {
    let mut world = World::new();
    let (old, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let (mut client, mut job) = websocket(port, &old).await;
    let (_new, target) = server().await;
    recover(&mut world, target, Flow::Open);
    // The server sends until it reads the end of its connection.
    assert!(timeout(PATIENCE, job.read_u8()).await.unwrap().is_err());
    job.write_all(b"\x81\x04late").await.unwrap();
    drop(job);
    assert_eq!(timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap(), Message::text("late"));
    let Message::Close(Some(close)) = timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap() else {
        panic!("no close frame")
    };
    assert_eq!(close.code, CloseCode::Restart);
    world.stop().await;
}

#[tokio::test]
async fn replaced_job_within_frame_sends_no_close() {
    let mut world = World::new();
    let (old, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let (mut client, mut job) = websocket(port, &old).await;
    job.write_all(b"\x81\x05hel").await.unwrap();
    world.until(|world| world.gateway.observe().connections[0].clients[0].bytes_out % 2 == 1).await;
    recover(&mut world, target, Flow::Open);
    let next = timeout(PATIENCE, client.next()).await.unwrap();
    assert!(!matches!(next, Some(Ok(_))), "{next:?} was never sent");
    world.stop().await;
}

#[tokio::test]
async fn replaced_job_resets_tunnel() {
    let mut world = World::new();
    let (old, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (job, _) = timeout(PATIENCE, old.accept()).await.unwrap().unwrap();
    let mut waiting = Vec::new();
    world.hold();
    let (new, target) = server().await;
    recover(&mut world, target, held());
    waiting.push(TcpStream::connect(port).await.unwrap());
    waiting[0].write_u8(9).await.unwrap();
    assert!(timeout(QUIET, client.read_u8()).await.is_err());
    world.open();
    let seen = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(seen.kind(), ErrorKind::ConnectionReset);
    let (mut job_again, _) = timeout(PATIENCE, new.accept()).await.unwrap().unwrap();
    assert_eq!(timeout(PATIENCE, job_again.read_u8()).await.unwrap().unwrap(), 9);
    drop(job);
    world.stop().await;
}

#[tokio::test]
async fn replaced_job_aborts_requests() {
    let mut world = World::new();
    let (old, target) = server().await;
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    let (mut idle, mut unanswered) = (Wire::connect(port).await, Wire::connect(port).await);
    let (mut half, mut posted) = (Wire::connect(port).await, Wire::connect(port).await);
    const POST: &str = "POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 0\r\n\r\n";
    let mut jobs = Vec::new();
    for (client, request, answer) in [
        (&mut idle, GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"),
        (&mut unanswered, GET, ""),
        (&mut posted, POST, ""),
        (&mut half, GET, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nhalf"),
    ] {
        client.send(request).await;
        let mut job = Wire(BufReader::new(timeout(PATIENCE, old.accept()).await.unwrap().unwrap().0));
        job.head().await;
        job.send(answer).await;
        jobs.push(job);
    }
    assert_eq!(idle.receive().await.body, "old");
    assert!(half.head().await.starts_with("HTTP/1.1 200"));
    let mut got = [0; 4];
    timeout(PATIENCE, half.0.read_exact(&mut got)).await.unwrap().unwrap();

    let new = world.job(|_| async { text("new") }).await;
    recover(&mut world, new.address, held());
    drop(jobs);
    assert!(unanswered.is_quiet().await && half.is_quiet().await && idle.is_quiet().await && posted.is_quiet().await);
    let mut waiting = Wire::connect(port).await;
    waiting.send(GET).await;
    world.open();
    assert_eq!((posted.rest().await, half.rest().await), (Vec::new(), Vec::new()));
    // A request with a safe method and without a response goes to the new job.
    assert_eq!(unanswered.receive().await.body, "new");
    assert_eq!(waiting.receive().await.body, "new");
    assert_eq!(idle.ask(GET).await.body, "new");
    assert_eq!(new.requests(), 3);
    world.stop().await;
}

#[tokio::test]
async fn replaced_job_resets_http2_stream() {
    let mut world = World::new();
    let (old, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let io = TokioIo::new(TcpStream::connect(port).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    world.lifecycle.tasks().spawn("client", connection);
    let request = || Request::get("http://example/").body(Empty::<Bytes>::new()).unwrap();
    let under_way = sender.send_request(Request::post("http://example/").body(Empty::<Bytes>::new()).unwrap());
    let accept = async {
        // The first connection finds out that the job does not speak HTTP/2.
        drop(old.accept().await.unwrap());
        let mut job = Wire(BufReader::new(old.accept().await.unwrap().0));
        job.head().await;
        job
    };
    let mut under_way = std::pin::pin!(under_way);
    let job = tokio::select! {
        _ = under_way.as_mut() => panic!("an answer that nobody gave"),
        job = timeout(PATIENCE, accept) => job.unwrap(),
    };
    let new = world.job(|_| async { text("new") }).await;
    recover(&mut world, new.address, held());
    drop(job);
    assert!(timeout(QUIET, under_way.as_mut()).await.is_err());
    world.open();
    assert!(timeout(PATIENCE, under_way).await.unwrap().is_err());
    let answer = timeout(PATIENCE, sender.send_request(request())).await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "new");
    drop(sender);
    world.stop().await;
}

#[tokio::test]
async fn reset_by_absent_job_is_deferred() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    client.write_u8(1).await.unwrap();
    assert_eq!(timeout(PATIENCE, job.read_u8()).await.unwrap().unwrap(), 1);
    world.hold();
    socket2::SockRef::from(&job).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(job);
    assert!(timeout(QUIET, client.read_u8()).await.is_err());
    world.open();
    let seen = timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(seen.kind(), ErrorKind::ConnectionReset);
    world.stop().await;
}

//! Clients that use more than a budget allows, and others that are served meanwhile.

mod world;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use mooring_api::watch::Flow;
use mooring_gateway::budget::{Budgets, Limits};
use mooring_types::gateway::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use world::{GET, Job, PATIENCE, Wire, World, server, text};

async fn world(limits: Limits) -> (World, Job, SocketAddr) {
    let mut world = World::with_budgets(Budgets::new(limits));
    let job = world.job(|_| async { text("answer") }).await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    (world, job, port)
}

async fn connect_from(source: &str, port: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{source}:0").parse().expect("an address")).expect("an address of loopback");
    socket.connect(port).await.expect("a connection")
}

async fn is_served(mut client: TcpStream) -> bool {
    if client.write_all(GET.as_bytes()).await.is_err() {
        return false;
    }
    let read = timeout(PATIENCE, client.read(&mut [0; 64])).await.expect("an answer or an end in time");
    read.is_ok_and(|length| length > 0)
}

fn over_budget(world: &World, budget: &str) -> bool {
    let text = world.gateway.metrics().text().expect("text");
    let line = text.lines().find(|line| line.contains("over_budget_total") && line.contains(budget));
    line.is_some_and(|line| !line.ends_with(" 0"))
}

#[tokio::test]
async fn connections_beyond_the_budget_of_an_address_are_reset() {
    let (world, _job, port) = world(Limits { connections_of_address: 3, ..Limits::default() }).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connect_from("127.0.0.2", port).await);
    }
    world.until(|world| world.clients() == 3).await;
    let mut beyond = connect_from("127.0.0.2", port).await;
    let end = timeout(PATIENCE, beyond.read_u8()).await.expect("an end in time");
    assert!(end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert!(over_budget(&world, "connections"));
    // Others are served, and so is the address when it has closed one.
    assert!(is_served(connect_from("127.0.0.3", port).await).await);
    drop(open.pop());
    world.until(|world| world.clients() == 2).await;
    assert!(is_served(connect_from("127.0.0.2", port).await).await);
    world.stop().await;
}

#[tokio::test]
async fn heads_beyond_the_budget_of_an_address_are_refused() {
    const HEAD: usize = 10_000;
    let (world, job, port) = world(Limits { heads_of_address: 3 * HEAD, ..Limits::default() }).await;
    let begin = "GET / HTTP/1.1\r\nHost: example\r\nX-Long: ";
    let unfinished = format!("{begin}{}", "x".repeat(HEAD - begin.len()));
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::connect(port).await;
        wire.send(&unfinished).await;
        assert!(wire.is_quiet().await);
        open.push(wire);
    }
    let mut beyond = Wire::connect(port).await;
    beyond.send(&unfinished).await;
    let got = beyond.receive().await;
    assert!(got.status() == 503 && got.body.starts_with("Too many unfinished requests"), "{got:?}");
    assert!(over_budget(&world, "heads"));
    assert!(is_served(connect_from("127.0.0.3", port).await).await);
    // A head that ends gives its bytes back.
    let first = open.first_mut().expect("a connection");
    assert_eq!(first.ask("\r\n\r\n").await.status(), 200);
    let mut again = Wire::connect(port).await;
    again.send(&unfinished).await;
    assert!(again.is_quiet().await);
    assert!(job.requests() >= 2);
    world.stop().await;
}

#[tokio::test]
async fn heads_beyond_the_budget_of_a_job_are_answered_for() {
    const HEAD: usize = 100_000;
    let mut world = World::with_budgets(Budgets::new(Limits { heads_of_job: HEAD * 3 / 2, ..Limits::default() }));
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    let (mut first, mut beyond) = (Wire::connect(port).await, Wire::connect(port).await);
    let mut jobs = Vec::new();
    for client in [&mut first, &mut beyond] {
        client.send(GET).await;
        let mut job = Wire(BufReader::new(timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0));
        job.head().await;
        job.send(format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(HEAD))).await;
        jobs.push(job);
        if jobs.len() == 1 {
            assert!(client.is_quiet().await);
        }
    }
    let got = beyond.receive().await;
    assert!(got.status() == 503 && got.body.contains("head of more than"), "{got:?}");
    jobs[0].send("\r\nContent-Length: 4\r\n\r\nfine").await;
    assert_eq!(first.receive().await.body, "fine");
    world.stop().await;
}

#[tokio::test]
async fn connection_without_a_request_is_closed() {
    let (world, _job, port) = world(Limits { idle: Duration::from_millis(500), ..Limits::default() }).await;
    let mut silent = Wire::connect(port).await;
    assert_eq!(silent.rest().await, b"");
    let mut used = Wire::connect(port).await;
    for _ in 0..3 {
        assert_eq!(used.ask(GET).await.status(), 200);
        assert!(used.is_quiet().await);
    }
    assert_eq!(used.rest().await, b"");
    world.stop().await;
}

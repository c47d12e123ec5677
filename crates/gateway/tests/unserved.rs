//! Jobs that listen elsewhere than at their published ports. Clients are told so, and don't wait.

mod world;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use world::{GET, PATIENCE, Wire, World};

const PROBLEM: &str = "nothing listens on port 8080 for others; the job listens on 127.0.0.1:8080: \
                       have it listen on 0.0.0.0:8080";
const PAGE: &str =
    "GET /lab HTTP/1.1\r\nHost: example\r\nAccept: text/html,*/*;q=0.8\r\nSec-Fetch-Mode: navigate\r\n\r\n";
/// Less than the time for which a job without a listener is waited for.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// A job that has its port and does not listen; returns its socket and the gateway's address.
async fn world() -> (World, TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let mut world = World::new();
    let port = world.connect(socket.local_addr().expect("an address"), Protocol::Auto, Flow::Open).await;
    (world, socket, port)
}

#[tokio::test]
async fn clients_are_told_where_the_job_listens() {
    let (mut world, _socket, port) = world().await;
    let mut waiting = Wire::connect(port).await;
    let asked = Instant::now();
    waiting.send(GET).await;
    assert!(waiting.is_quiet().await);
    world.change(|connection| connection.unserved = PROBLEM.to_owned());
    let answer = waiting.receive().await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("5")));
    assert_eq!(answer.body, format!("The job job (Executing) does not answer: {PROBLEM}. Try again in 5 seconds.\n"));
    let answer = Wire::connect(port).await.ask(PAGE).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.body.contains("data-mooring-waiting") && answer.body.contains(PROBLEM), "{answer:?}");
    assert!(asked.elapsed() < TOLD_WITHIN, "{:?}", asked.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn server_that_has_begun_to_listen_answers() {
    let (mut world, socket, port) = world().await;
    world.change(|connection| connection.unserved = PROBLEM.to_owned());
    let mut client = Wire::connect(port).await;
    client.send(GET).await;
    assert!(client.is_quiet().await);
    // The next slice comes later.
    let listener = socket.listen(8).expect("a listener");
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    let mut request = [0; 1024];
    assert!(job.read(&mut request).await.expect("a request") > 0);
    job.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved").await.expect("the gateway is connected");
    assert_eq!(client.receive().await.body, "served");
    world.stop().await;
}

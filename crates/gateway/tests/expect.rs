//! `Expect: 100-continue` and other interim responses.

mod world;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use world::{GET, PATIENCE, QUIET, Wire, World, server};

const POST: &str = "POST /up HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
/// The gateway's time limit of a job's silence.
const LIMIT: Duration = Duration::from_secs(1);

async fn listening(flow: Flow) -> (World, TcpListener, SocketAddr) {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Http, flow).await;
    (world, listener, port)
}

/// The job's side of the next connection.
async fn accept(listener: &TcpListener) -> Wire {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection in time").expect("a connection");
    Wire(BufReader::new(stream))
}

/// A client that expects a 100, and the job's side, which has received the head only.
async fn asked(listener: &TcpListener, port: SocketAddr) -> (Wire, Wire) {
    let mut client = Wire::connect(port).await;
    client.send(POST).await;
    let mut job = accept(listener).await;
    let head = job.head().await;
    assert!(head.starts_with("POST /up HTTP/1.1\r\n") && head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    (client, job)
}

/// Sends the 100 from the job, and the body from the client.
async fn goes_on(client: &mut Wire, job: &mut Wire) {
    job.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    sends(client, job).await;
}

async fn sends(client: &mut Wire, job: &mut Wire) {
    client.send("hello").await;
    let mut body = [0; 5];
    timeout(PATIENCE, job.0.read_exact(&mut body)).await.expect("a body in time").expect("a body");
    assert_eq!(&body, b"hello");
    job.send(FINE).await;
    assert_eq!(client.receive().await.body, "fine");
}

#[tokio::test]
async fn body_is_asked_for_by_job() {
    let (mut world, listener, port) = listening(Flow::Open).await;
    let (mut client, mut job) = asked(&listener, port).await;
    assert!(client.is_quiet().await, "the job has said nothing yet");
    goes_on(&mut client, &mut job).await;

    // Both connections are reusable. The gate is closed for longer than the job may be silent.
    client.send(POST).await;
    job.head().await;
    world.hold();
    assert!(timeout(LIMIT + QUIET, client.0.read_u8()).await.is_err(), "the time that it is away does not count");
    world.open();
    goes_on(&mut client, &mut job).await;

    // A silent job gets the body after the time limit.
    client.send(POST).await;
    job.head().await;
    let asked = Instant::now();
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(asked.elapsed() >= LIMIT - Duration::from_millis(100), "{:?}", asked.elapsed());
    sends(&mut client, &mut job).await;

    // A client of HTTP/1.0 expects nothing.
    let mut old = Wire::connect(port).await;
    old.send(POST.replace("HTTP/1.1", "HTTP/1.0") + "hello").await;
    let mut job = accept(&listener).await;
    assert!(!job.head().await.contains("expect"));
    let mut body = [0; 5];
    timeout(QUIET, job.0.read_exact(&mut body)).await.expect("a body at once").expect("a body");
    job.send(FINE).await;
    assert_eq!(old.receive().await.body, "fine");
    world.stop().await;
}

#[tokio::test]
async fn refused_body_is_never_sent() {
    let (mut world, listener, port) = listening(Flow::Open).await;
    for (status, first, last) in [
        (413, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo ", "long"),
        (417, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        let (mut client, mut job) = asked(&listener, port).await;
        job.send(first).await;
        if !last.is_empty() {
            // The end of the response is late: the client is not asked for the body, and nothing is
            // cut off.
            assert!(timeout(LIMIT + QUIET, job.0.read_u8()).await.is_err());
            job.send(last).await;
        }
        let got = client.receive().await;
        assert_eq!((got.status(), got.header("connection")), (status, Some("close")));
        assert!(got.body.ends_with(last), "{got:?}");
        assert_eq!(job.rest().await, b"", "nothing of the body, and the connection is over");
        assert_eq!(client.rest().await, b"");
    }

    // While the gate is closed the client is not asked, and the job may refuse afterwards.
    world.hold();
    let mut client = Wire::connect(port).await;
    client.send(POST).await;
    assert!(timeout(LIMIT + QUIET, client.0.read_u8()).await.is_err());
    world.open();
    let mut job = accept(&listener).await;
    job.head().await;
    job.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.receive().await.status(), 413);
    assert_eq!((job.rest().await, client.rest().await), (Vec::new(), Vec::new()));

    // A job that is not reached in time has asked for nothing.
    world.hold();
    world.change(|connection| connection.hold_limits.hold_seconds = 1);
    let mut client = Wire::connect(port).await;
    let answer = client.ask(POST).await;
    assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
    assert_eq!(client.rest().await, b"");
    world.stop().await;
}

#[tokio::test]
async fn interim_responses_are_forwarded() {
    let (world, listener, port) = listening(Flow::Open).await;
    let mut client = Wire::connect(port).await;
    // Pipelined requests: hints come at once, each with its own response.
    client.send([GET, GET].concat()).await;
    let mut job = accept(&listener).await;
    for _ in 0..2 {
        job.head().await;
        for _ in 0..2 {
            job.send(HINTS).await;
            let hints = client.head().await;
            assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
        }
        assert!(client.is_quiet().await);
        job.send(FINE).await;
        assert_eq!(client.receive().await.body, "fine");
    }
    // Hints that arrive together with the response are sent before it.
    for _ in 0..20 {
        client.send(GET).await;
        job.head().await;
        job.send([HINTS, "HTTP/1.1 100 Continue\r\n\r\n", HINTS, FINE].concat()).await;
        let heads = [client.head().await, client.head().await];
        assert!(heads.iter().all(|head| head.starts_with("HTTP/1.1 103 ")), "{heads:?}");
        assert_eq!(client.receive().await.body, "fine");
    }
    // A job may send hints and ask for the body.
    client.send(POST).await;
    job.head().await;
    job.send(HINTS).await;
    assert!(client.head().await.starts_with("HTTP/1.1 103 "));
    goes_on(&mut client, &mut job).await;

    // Clients of HTTP/1.0 and HTTP/2 get the response alone.
    let mut old = Wire::connect(port).await;
    old.send(GET.replace("HTTP/1.1", "HTTP/1.0")).await;
    let mut job = accept(&listener).await;
    job.head().await;
    job.send([HINTS, FINE].concat()).await;
    assert_eq!(old.receive().await.status(), 200);
    let io = TokioIo::new(TcpStream::connect(port).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    world.lifecycle.tasks().spawn("client", connection);
    let request = Request::get("http://example/").body(Empty::<Bytes>::new()).unwrap();
    let job = async {
        let mut job = accept(&listener).await;
        job.head().await;
        job.send([HINTS, FINE].concat()).await;
        job
    };
    let (answer, _job) = tokio::join!(sender.send_request(request), job);
    assert_eq!(answer.unwrap().into_body().collect().await.unwrap().to_bytes(), "fine");
    drop(sender);
    world.stop().await;
}

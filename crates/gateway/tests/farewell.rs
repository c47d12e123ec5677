//! The end of a job: its open page and its port tell of it, until the port is assigned again.

mod world;

use std::future;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use mooring_api::watch::{ConnectionDirective, Flow, Target};
use mooring_gateway::cache;
use mooring_gateway::process_role::ProcessRole;
use mooring_gateway::shared::Shared;
use mooring_gateway::state::Gateway;
use mooring_types::gateway::{Protocol, Widget};
use mooring_types::job::JobStatus;
use mooring_types::{ConnectionId, JobId};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use world::{Body, GET, Job, PATIENCE, Received, Wire, World, held, server, text};

const PAGE: &str = "GET /lab HTTP/1.1\r\nHost: example\r\nAccept: text/html\r\n\r\n";
const POST: &str = "POST /api/run HTTP/1.1\r\nHost: example\r\nContent-Length: 2\r\n\r\nhi";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Bytes that no request of HTTP begins with.
const BYTES: &str = "abc";
/// A path that the job never answers.
const NEVER: &str = "POST /never HTTP/1.1\r\nHost: example\r\nContent-Length: 2\r\n\r\nhi";
/// The time within which an open page learns of the end.
const SOON: Duration = Duration::from_secs(1);

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let _ = request.into_body().collect().await;
    if path == "/never" {
        future::pending::<()>().await;
    }
    text("answered")
}

async fn world() -> (World, Job, SocketAddr) {
    let mut world = World::new();
    let job = world.job(answer).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    world.change(|connection| connection.widget = Widget::Shown);
    (world, job, port)
}

type Page = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open_page(port: SocketAddr) -> Page {
    let page = tokio_tungstenite::connect_async(format!("ws://{port}/.mooring/state"));
    timeout(PATIENCE, page).await.expect("in time").expect("a page").0
}

async fn next_state(page: &mut Page) -> Value {
    let message = timeout(PATIENCE, page.next()).await.expect("in time").expect("a message").expect("a message");
    let Message::Text(text) = message else { panic!("{message:?}") };
    serde_json::from_str(&text).expect("JSON")
}

fn assert_gone(answer: &Received, is_page: bool) {
    let kind = if is_page { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    assert_eq!((answer.status(), answer.header("content-type")), (410, Some(kind)), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.body.contains("job has failed: it ended with exit code 3."), "{}", answer.body);
    assert!(answer.body.contains("2026-01-02 03:04:05 UTC"), "{}", answer.body);
    assert_eq!(answer.body.contains("data-mooring-ended"), is_page);
}

fn fail(world: &mut World) {
    world.end(JobStatus::FailToComplete, "it ended with exit code 3", Some(3));
}

#[tokio::test]
async fn farewell_for_page_and_new_clients() {
    let (mut world, job, port) = world().await;
    let mut page = open_page(port).await;
    let first = next_state(&mut page).await;
    assert_eq!((first["status"].as_str(), first.get("ended")), (Some("Executing"), None));
    let (mut wire, mut bytes) = (Wire::connect(port).await, Wire::connect(port).await);
    assert_eq!(wire.ask(GET).await.body, "answered");
    bytes.send(BYTES).await;
    world.until(|_| job.accepted() == 2).await;
    let asked = job.requests();
    let ended = Instant::now();
    fail(&mut world);

    let last = next_state(&mut page).await;
    assert!(ended.elapsed() < SOON, "{:?}", ended.elapsed());
    assert_eq!((&last["mark"], last["status"].as_str()), (&first["mark"], Some("FailToComplete")));
    assert_eq!(last["ended"], "job has failed: it ended with exit code 3.");
    assert_eq!((last["responsive"].as_bool(), last["possible"].as_array()), (Some(false), Some(&Vec::new())));
    assert_eq!(next_state(&mut open_page(port).await).await, last);
    // Over the open connection, and over a new one.
    for wire in [&mut wire, &mut Wire::connect(port).await] {
        assert_gone(&wire.ask(PAGE).await, true);
        for request in [GET, POST, UPGRADE] {
            assert_gone(&wire.ask(request).await, false);
        }
    }
    // Bytes other than HTTP are for the job: the connection is closed.
    assert!(bytes.rest().await.is_empty());
    let (mut late, mut silent) = (Wire::connect(port).await, Wire::connect(port).await);
    late.send(BYTES).await;
    assert!(late.rest().await.is_empty() && silent.rest().await.is_empty());
    assert_eq!(job.requests(), asked);
    assert!(world.gateway.observe().connections.is_empty());

    // A client that no rule allows is told nothing.
    world.slice.rules.clear();
    world.apply();
    assert!(Wire::connect(port).await.rest().await.is_empty());
    world.slice.farewells.clear();
    world.apply();
    let closed = async {
        while TcpStream::connect(port).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("nobody listens any more");
    world.stop().await;
}

#[tokio::test]
async fn ended_job_closes_websocket_without_frame() {
    let mut world = World::new();
    let (job, address) = server().await;
    let port = world.connect(address, Protocol::Auto, Flow::Open).await;
    let mut wire = Wire::connect(port).await;
    wire.send(UPGRADE).await;
    let (mut stream, _) = timeout(PATIENCE, job.accept()).await.expect("in time").unwrap();
    timeout(PATIENCE, stream.read(&mut [0; 4096])).await.expect("in time").unwrap();
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi")
        .await
        .unwrap();
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let mut frame = [0; 4];
    timeout(PATIENCE, wire.0.read_exact(&mut frame)).await.expect("in time").unwrap();
    assert_eq!(&frame, b"\x81\x02hi");
    fail(&mut world);
    // No close code fits: clients do not reconnect after 1000 or 1001, and reconnect at once after
    // 1012.
    assert!(wire.rest().await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn ended_job_releases_held_requests() {
    let (mut world, job, port) = world().await;
    let mut under_way = Wire::connect(port).await;
    under_way.send(NEVER).await;
    world.until(|_| job.requests() == 1).await;
    world.change(|connection| {
        connection.hold_limits.page_seconds = 600;
        (connection.flow, connection.job_status) = (held(), JobStatus::Cancelling);
    });
    let (mut page, mut call, mut silent) =
        (Wire::connect(port).await, Wire::connect(port).await, Wire::connect(port).await);
    page.send(PAGE).await;
    call.send(POST).await;
    // Two held requests, and a silent client that waits for the job to speak first.
    world.until(|world| world.gateway.load() >= 6).await;
    let ended = Instant::now();
    fail(&mut world);
    assert_gone(&page.receive().await, true);
    assert_gone(&call.receive().await, false);
    assert_gone(&under_way.receive().await, false);
    assert!(silent.rest().await.is_empty());
    assert!(ended.elapsed() < SOON, "{:?}", ended.elapsed());
    assert_eq!(job.requests(), 1);
    world.stop().await;
}

#[tokio::test]
async fn port_passes_to_next_connection() {
    let (mut world, _, port) = world().await;
    let mut page = open_page(port).await;
    let first = next_state(&mut page).await;
    let directive = world.slice.connections[0].clone();
    let connect = |target| ConnectionDirective {
        connection: ConnectionId::random(&mut rand::rng()),
        job: JobId::random(&mut rand::rng()),
        target: Target::Overlay(target),
        ..directive.clone()
    };
    fail(&mut world);
    assert_eq!(next_state(&mut page).await["status"], "FailToComplete");
    let mut before = Wire::connect(port).await;
    assert_gone(&before.ask(GET).await, false);

    // A connection displaces a farewell on the same port.
    let next = world.job(async |_| text("the next one")).await;
    world.slice.connections.push(connect(next.address));
    world.apply();
    assert_eq!(world.gateway.observe().connections[0].problem, None);
    assert_eq!(Wire::connect(port).await.ask(GET).await.body, "the next one");
    // Clients of the old job are not led to the new one.
    let end = timeout(PATIENCE, page.next()).await.expect("in time");
    assert!(!matches!(end, Some(Ok(Message::Close(Some(_))))), "{end:?}");
    assert!(before.rest().await.is_empty());
    let other = next_state(&mut open_page(port).await).await;
    assert_eq!(other["status"], "Executing");
    assert_ne!(other["mark"], first["mark"]);

    // The same holds after a disconnect.
    let third = world.job(async |_| text("the third")).await;
    world.slice.connections = vec![connect(third.address)];
    world.apply();
    assert_eq!(world.gateway.observe().connections[0].problem, None);
    assert_eq!(Wire::connect(port).await.ask(GET).await.body, "the third");
    world.stop().await;
}

#[tokio::test]
async fn farewell_survives_process() {
    let (mut world, _, port) = world().await;
    fail(&mut world);

    // The process hands over.
    let (slice, handed) = world.gateway.hand_over();
    let sockets = handed.iter().map(|(socket, listener)| {
        let socket = (socket.address, listener.as_fd().try_clone_to_owned().unwrap().into());
        assert_eq!(socket.0, port);
        socket
    });
    let successor = World::new();
    let role = ProcessRole::new(2, None, sockets.collect());
    let shared = Shared { role, ..Shared::new(successor.lifecycle.tasks().clone()) };
    let gateway = Gateway::new(shared, successor.lifecycle.soft());
    gateway.apply(slice.expect("a slice"));
    drop(handed);
    world.gateway.retire();
    assert_gone(&Wire::connect(port).await.ask(PAGE).await, true);
    assert!(world.gateway.load() == 0 && gateway.load() == 1);
    gateway.close();
    drop(gateway);
    successor.stop().await;

    // The process ends.
    let directory = tempfile::tempdir().unwrap();
    cache::save(directory.path(), &world.slice).unwrap();
    world.stop().await;
    assert!(TcpStream::connect(port).await.is_err());
    let restarted = World::new();
    restarted.gateway.apply(cache::load(directory.path()).unwrap().expect("a slice"));
    assert_gone(&Wire::connect(port).await.ask(PAGE).await, true);
    assert_eq!(next_state(&mut open_page(port).await).await["ended"], "job has failed: it ended with exit code 3.");
    restarted.stop().await;
}

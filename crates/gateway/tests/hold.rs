//! Held requests and connections, while the job is away.

mod world;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use mooring_types::{ConnectionId, MigrationId, Port};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use world::{Body, GET, Job, PATIENCE, Wire, World, held, server, text};

const PAGE: &str =
    "GET /lab HTTP/1.1\r\nHost: example\r\nAccept: text/html,*/*;q=0.8\r\nSec-Fetch-Mode: navigate\r\n\r\n";

/// Responds with the length of the request's body.
async fn count(request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
    text(format!("got {}", body.unwrap_or_default()))
}

async fn counting(flow: Flow) -> (World, Job, SocketAddr) {
    let mut world = World::new();
    let job = world.job(count).await;
    let port = world.connect(job.address, Protocol::Auto, flow).await;
    (world, job, port)
}

#[tokio::test]
async fn held_request_continues_at_once() {
    let (mut world, job, port) = counting(held()).await;
    let (mut fresh, mut with_body) = (Wire::connect(port).await, Wire::connect(port).await);
    fresh.send(GET).await;
    with_body.send("POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\n\r\nhello").await;
    assert!(fresh.is_quiet().await && with_body.is_quiet().await);
    assert_eq!((job.accepted(), job.requests()), (0, 0));
    let opened = Instant::now();
    world.open();
    assert_eq!(fresh.receive().await.body, "got 0");
    assert_eq!(with_body.receive().await.body, "got 5");
    assert!(opened.elapsed() < Duration::from_millis(250), "nothing polls: {:?}", opened.elapsed());

    // A request on a used connection is held, too.
    world.hold();
    fresh.send(GET).await;
    assert!(fresh.is_quiet().await);
    assert_eq!(job.requests(), 2);
    world.open();
    assert_eq!(fresh.receive().await.body, "got 0");
    assert_eq!(job.accepted(), 2);
    world.stop().await;
}

#[tokio::test]
async fn held_request_times_out_with_503() {
    let (mut world, job, port) = counting(held()).await;
    world.change(|connection| connection.hold_limits.hold_seconds = 1);
    let mut client = Wire::connect(port).await;
    let started = Instant::now();
    let answer = client.ask(GET).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("5")));
    assert!(answer.body.contains("job") && answer.body.len() < 200, "{answer:?}");
    assert_eq!(job.requests(), 0);
    // The connection is still usable.
    world.open();
    assert_eq!(client.ask(GET).await.body, "got 0");
    world.stop().await;
}

#[tokio::test]
async fn held_requests_are_counted_by_connection() {
    let (mut world, _job, port) = counting(held()).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // Another port of the same job.
    let mut second = world.slice.connections[0].clone();
    second.connection = ConnectionId::random(&mut rand::rng());
    second.gateway_port = Port::new(free.port()).unwrap();
    world.slice.connections.push(second);
    world.apply();
    let mut first = Wire::connect(port).await;
    first.send(GET).await;
    let by_connection = |world: &World| {
        let observed = world.gateway.observe().connections;
        let of = |index: usize| {
            let connection = &world.slice.connections[index].connection;
            observed.iter().find(|seen| seen.connection == *connection).map(|seen| seen.held)
        };
        (of(0), of(1))
    };
    world.until(|world| by_connection(world) == (Some(1), Some(0))).await;
    let mut other = Wire::connect(free).await;
    other.send(GET).await;
    world.until(|world| by_connection(world) == (Some(1), Some(1))).await;
    first.reset();
    world.until(|world| by_connection(world) == (Some(0), Some(1))).await;
    world.stop().await;
}

#[tokio::test]
async fn held_max_limits_requests() {
    let (mut world, job, port) = counting(held()).await;
    world.change(|connection| connection.hold_limits.held_max = 2);
    let post = "POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 100000\r\n\r\nbegin";
    // One request with an incomplete body, and one without a body.
    for (leaves, first) in [(0, post), (1, GET)] {
        let mut waiting = vec![Wire::connect(port).await, Wire::connect(port).await];
        waiting[0].send(if leaves == 0 { first } else { GET }).await;
        waiting[1].send(if leaves == 1 { first } else { GET }).await;
        assert!(waiting[0].is_quiet().await && waiting[1].is_quiet().await);
        let mut third = Wire::connect(port).await;
        let refused = third.ask(GET).await;
        assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")));
        waiting.remove(leaves).reset();
        // The place and the socket of the request are free while the job is still away.
        world.until(|world| world.clients() == 2).await;
        third.send(GET).await;
        assert!(third.is_quiet().await);
        world.open();
        assert_eq!(third.receive().await.body, "got 0");
        assert_eq!(waiting[0].receive().await.body, "got 0");
        world.hold();
        drop((third, waiting));
        world.until(|world| world.clients() == 0).await;
    }
    assert_eq!(job.requests(), 4);
    world.stop().await;
}

#[tokio::test]
async fn dropped_http2_request_frees_place() {
    let (mut world, job, port) = counting(held()).await;
    world.change(|connection| connection.hold_limits.held_max = 1);
    let io = TokioIo::new(TcpStream::connect(port).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = world.lifecycle.tasks().spawn("client", connection);
    let request = || Request::get("http://example/").body(Empty::<Bytes>::new()).unwrap();
    let mut other = Wire::connect(port).await;
    // First a request is given up, then the whole connection.
    for goes_away in [false, true] {
        let mut waiting = Box::pin(sender.send_request(request()));
        assert!(timeout(world::QUIET, &mut waiting).await.is_err());
        assert_eq!(other.ask(GET).await.status(), 503);
        drop(waiting);
        if goes_away {
            connection.abort();
            world.until(|world| world.clients() == 1).await;
        }
        let freed = async {
            loop {
                other.send(GET).await;
                if other.is_quiet().await {
                    break;
                }
                assert_eq!(other.receive().await.status(), 503);
            }
        };
        timeout(PATIENCE, freed).await.expect("there is room again");
        world.open();
        assert_eq!(other.receive().await.body, "got 0");
        world.hold();
    }
    assert_eq!(job.requests(), 2);
    world.stop().await;
}

#[tokio::test]
async fn abandoned_polls_leave_nothing() {
    let (world, job, port) = counting(held()).await;
    for _ in 0..200 {
        let mut polls = Vec::new();
        for path in ["api/kernels", "api/sessions", "api/terminals"] {
            let mut poll = Wire::connect(port).await;
            poll.send(format!("GET /{path} HTTP/1.1\r\nHost: example\r\n\r\n")).await;
            polls.push(poll);
        }
        polls.into_iter().for_each(Wire::reset);
    }
    world.until(|world| world.clients() == 0).await;
    assert_eq!(job.accepted(), 0);
    world.stop().await;
}

#[tokio::test]
async fn page_load_gets_waiting_page() {
    let (mut world, job, port) = counting(held()).await;
    world.change(|connection| {
        connection.hold_limits.page_seconds = 1;
        connection.job_status = mooring_types::job::JobStatus::Floating;
    });
    let mut browser = Wire::connect(port).await;
    let answer = browser.ask(PAGE).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("2")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    for part in [
        "<html lang=\"en\"",
        "<title>",
        "<main>",
        "role=\"status\"",
        "http-equiv=\"refresh\" content=\"2\"",
        "Floating",
    ] {
        assert!(answer.body.contains(part), "{part} is missing in {}", answer.body);
    }
    assert!(!answer.body.contains("<script") && !answer.body.contains("src="), "{}", answer.body);
    // A request by a script is held for longer.
    let mut script = Wire::connect(port).await;
    script.send("GET /api HTTP/1.1\r\nHost: example\r\nAccept: text/html\r\nSec-Fetch-Mode: cors\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(script.is_quiet().await);
    // The page reloads, and the job is back while the request is held.
    browser.send(PAGE).await;
    assert!(browser.is_quiet().await);
    world.open();
    assert_eq!(browser.receive().await.body, "got 0");
    assert_eq!(script.receive().await.body, "got 0");
    assert_eq!(job.requests(), 2);
    world.stop().await;
}

#[tokio::test]
async fn transfers_continue_after_hold() {
    let mut world = World::new();
    let (pieces, taken) = mpsc::channel::<Bytes>(1);
    let taken = parking_lot::Mutex::new(Some(taken));
    let job = world
        .job(move |request| {
            let taken = taken.lock().take();
            async move {
                let Some(mut taken) = taken else { return count(request).await };
                let body = async_pieces(move || {
                    let piece = taken.try_recv();
                    piece.map_err(|error| error == mpsc::error::TryRecvError::Disconnected)
                });
                Response::new(body)
            }
        })
        .await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    let mut download = Wire::connect(port).await;
    download.send(GET).await;
    assert!(download.head().await.starts_with("HTTP/1.1 200"));
    let mut upload = Wire::connect(port).await;
    upload.send("POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 10\r\n\r\nhello").await;
    world.until(|_| job.requests() == 2).await;

    world.hold();
    upload.send("world").await;
    assert!(upload.is_quiet().await && download.is_quiet().await);
    world.open();
    assert_eq!(upload.receive().await.body, "got 10");
    pieces.send(Bytes::from_static(b"the rest")).await.unwrap();
    drop(pieces);
    let mut rest = String::new();
    while !rest.ends_with("0\r\n\r\n") {
        use tokio::io::AsyncReadExt;
        rest.push(timeout(PATIENCE, download.0.read_u8()).await.unwrap().unwrap().into());
    }
    assert_eq!(rest, "8\r\nthe rest\r\n0\r\n\r\n");
    world.stop().await;
}

/// A body of the pieces of `next`; `Err(true)` is its end, `Err(false)` means no piece yet.
fn async_pieces(mut next: impl FnMut() -> Result<Bytes, bool> + Send + Sync + 'static) -> Body {
    let stream = futures_util::stream::poll_fn(move |context| match next() {
        Ok(piece) => std::task::Poll::Ready(Some(Ok(Frame::data(piece)))),
        Err(true) => std::task::Poll::Ready(None),
        Err(false) => {
            // Polling is good enough for a test's job.
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    });
    BodyExt::boxed(StreamBody::new(stream))
}

#[tokio::test]
async fn refusing_port_is_retried() {
    let mut world = World::new();
    let (listener, target) = server().await;
    drop(listener);
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    world.change(|connection| connection.hold_limits.page_seconds = 1);
    assert_eq!(Wire::connect(port).await.ask(PAGE).await.status(), 503);
    let mut client = Wire::connect(port).await;
    client.send(GET).await;
    assert!(client.is_quiet().await);
    let listener = TcpListener::bind(target).await.unwrap();
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut job = Wire(tokio::io::BufReader::new(stream));
    assert!(job.head().await.starts_with("GET / HTTP/1.1"));
    job.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.receive().await.status(), 204);
    world.stop().await;
}

/// Accepts WebSockets and echoes their messages.
async fn echo(mut request: Request<Incoming>, tasks: mooring_ops::Tasks) -> Response<Body> {
    let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.spawn("echo", async move {
        let io = TokioIo::new(upgrade.await.expect("an upgrade"));
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, "Upgrade".parse().expect("a value"));
    response.headers_mut().insert(UPGRADE, "websocket".parse().expect("a value"));
    response.headers_mut().insert("sec-websocket-accept", key.parse().expect("a value"));
    response
}

#[tokio::test]
async fn held_websocket_loses_nothing() {
    let mut world = World::new();
    let tasks = world.lifecycle.tasks().clone();
    let job = world.job(move |request| echo(request, tasks.clone())).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    let (mut client, _) =
        timeout(PATIENCE, tokio_tungstenite::connect_async(format!("ws://{port}/api/kernels/1/channels")))
            .await
            .unwrap()
            .unwrap();
    for round in 0..50 {
        client.send(Message::text(format!("before {round}"))).await.unwrap();
        let migration = MigrationId::random(&mut rand::rng());
        world.change(|connection| connection.flow = Flow::Held { quiesce: Some(migration) });
        client.send(Message::text(format!("during {round}"))).await.unwrap();
        world.until(|world| !world.gateway.observe().quiesced.is_empty()).await;
        assert_eq!(world.gateway.observe().quiesced[0].unacknowledged, 0);
        world.open();
        for expected in ["before", "during"] {
            let message = timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(message.into_text().unwrap().as_str(), format!("{expected} {round}"));
        }
    }
    assert_eq!(job.accepted(), 1);
    // A new WebSocket is held until the job is back.
    world.hold();
    let url = format!("ws://{port}/again");
    let mut opening = Box::pin(tokio_tungstenite::connect_async(url));
    assert!(timeout(world::QUIET, &mut opening).await.is_err());
    world.open();
    timeout(PATIENCE, opening).await.unwrap().unwrap();
    drop(client);
    world.stop().await;
}

/// A masked frame of a client, whose mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn pings_are_answered_while_the_job_is_away() {
    const PING: u8 = 0x89;
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut job = Wire(tokio::io::BufReader::new(stream));
    job.head().await;
    job.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    client.head().await;
    let read = async |wire: &mut Wire, expected: &[u8]| {
        let mut got = vec![0; expected.len()];
        timeout(PATIENCE, tokio::io::AsyncReadExt::read_exact(&mut wire.0, &mut got)).await.unwrap().unwrap();
        assert_eq!(got, expected);
    };
    // While the job is there, it answers.
    client.send(frame(PING, b"1")).await;
    read(&mut job, &frame(PING, b"1")).await;
    job.send(b"\x8A\x011").await;
    read(&mut client, b"\x8A\x011").await;

    for round in 0..3 {
        // The job has sent a frame in part.
        if round == 2 {
            job.send(b"\x81\x04ha").await;
            read(&mut client, b"\x81\x04ha").await;
        }
        let migration = MigrationId::random(&mut rand::rng());
        world.change(|connection| connection.flow = Flow::Held { quiesce: Some(migration) });
        world.until(|world| !world.gateway.observe().quiesced.is_empty()).await;
        let text = [frame(0x01, b"be"), frame(PING, b"2"), frame(0x80, b"gun")].concat();
        client.send(&text).await;
        if round == 2 {
            assert!(client.is_quiet().await, "a pong is not within a frame");
        } else {
            read(&mut client, b"\x8A\x012").await;
        }
        // One in two pieces is answered once it is whole, and not before.
        let cut = frame(PING, b"three");
        client.send(&cut[..8]).await;
        assert!(client.is_quiet().await && job.is_quiet().await);
        if round == 0 {
            client.send(&cut[8..]).await;
            read(&mut client, b"\x8A\x05three").await;
        }
        world.open();
        read(&mut job, &[frame(0x01, b"be"), frame(0x80, b"gun")].concat()).await;
        if round > 0 {
            // The job is back before the rest comes: this one is its own.
            read(&mut job, &cut[..8]).await;
            client.send(&cut[8..]).await;
            read(&mut job, &cut[8..]).await;
        }
        if round == 2 {
            job.send(b"lf").await;
            read(&mut client, b"lf\x8A\x012").await;
        }
        assert!(client.is_quiet().await && job.is_quiet().await, "no pong comes twice");
    }

    // More than the bound waits in the kernel, and nothing is lost. An end comes last.
    world.hold();
    let long = [vec![0x82, 0xFF], 300_000_u64.to_be_bytes().to_vec(), vec![0; 4], vec![7; 300_000]].concat();
    client.send(&long).await;
    client.0.get_mut().shutdown().await.unwrap();
    assert!(job.is_quiet().await);
    world.open();
    assert!(job.rest().await == long);
    world.stop().await;
}

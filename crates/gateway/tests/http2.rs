//! Jobs that speak HTTP/2 without TLS from the first byte, as gRPC does.

mod world;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use world::{Body, GET, PATIENCE, QUIET, Wire, World, held, server, text};

const LINES: usize = 5;
const GRPC: &str = "application/grpc";

/// Answers with lines at `/count`, one after the other; else with what it gets. Trailers follow.
async fn answer(request: Request<Incoming>) -> Response<Body> {
    let trailers = || {
        let names = ["grpc-status", "x-undeclared"];
        let trailers = names.map(|name| (name.parse().expect("a name"), HeaderValue::from_static("0")));
        Ok(Frame::trailers(HeaderMap::from_iter(trailers)))
    };
    let last = stream::once(async move { trailers() });
    let body = if request.uri().path() == "/count" {
        let lines = stream::iter(0..LINES).then(|number| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Frame::data(Bytes::from(format!("{number}\n"))))
        });
        BodyExt::boxed(StreamBody::new(Box::pin(lines.chain(last)) as SyncFrames))
    } else {
        let frames = http_body_util::BodyStream::new(request.into_body());
        let data = frames.filter(|frame| futures_util::future::ready(frame.as_ref().is_ok_and(Frame::is_data)));
        BodyExt::boxed(StreamBody::new(Box::pin(data.chain(last)) as SyncFrames))
    };
    Response::builder().header("content-type", GRPC).body(body).expect("a response")
}

type SyncFrames = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, hyper::Error>> + Send + Sync>>;

/// A job that speaks HTTP/2 alone, and the number of its connections.
async fn job(world: &World) -> (SocketAddr, Arc<AtomicUsize>) {
    let (listener, address) = server().await;
    let accepted = Arc::<AtomicUsize>::default();
    let (count, tasks, stop) = (accepted.clone(), world.lifecycle.tasks().clone(), world.lifecycle.soft().clone());
    world.lifecycle.tasks().spawn("job", async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted.expect("a connection").0,
            };
            count.fetch_add(1, Ordering::Relaxed);
            let stop = stop.clone();
            tasks.spawn("job connection", async move {
                let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = serving => {}
                }
            });
        }
    });
    (address, accepted)
}

async fn client<B>(world: &World, port: SocketAddr) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(TcpStream::connect(port).await.expect("a connection"));
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    world.lifecycle.tasks().spawn("client", connection);
    sender
}

fn request<B>(path: &str, body: B) -> Request<B> {
    let request = Request::post(format!("http://lab.example{path}"));
    request.header("content-type", GRPC).header("te", "trailers").body(body).expect("a request")
}

#[tokio::test]
async fn streams_and_trailers_pass() {
    for protocol in [Protocol::Auto, Protocol::Http] {
        let mut world = World::new();
        let (target, accepted) = job(&world).await;
        let port = world.connect(target, protocol, Flow::Open).await;
        let sender = client(&world, port).await;
        for _ in 0..3 {
            let asked = sender.clone().send_request(request("/count", Empty::<Bytes>::new()));
            let answer = timeout(PATIENCE, asked).await.unwrap().unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
            let mut body = answer.into_body();
            for number in 0..LINES {
                let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(line, format!("{number}\n"), "each line comes when it is made");
            }
            let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-undeclared"]),
                (&"0".parse().unwrap(), &"0".parse().unwrap())
            );
        }
        // One to find out, and one for all requests; another client needs one more.
        assert_eq!(accepted.load(Ordering::Relaxed), 2);
        let other = client(&world, port).await;
        let asked = other.clone().send_request(request("/count", Empty::<Bytes>::new()));
        timeout(PATIENCE, asked).await.unwrap().unwrap().into_body().collect().await.unwrap();
        assert_eq!(accepted.load(Ordering::Relaxed), 3);
        drop((sender, other));
        world.stop().await;
    }
}

#[tokio::test]
async fn stream_in_both_directions_goes_on_after_a_hold() {
    let mut world = World::new();
    let (target, _) = job(&world).await;
    let port = world.connect(target, Protocol::Auto, held()).await;
    let sender = client(&world, port).await;
    let (pieces, sent) = mpsc::channel::<Bytes>(4);
    let frames = stream::unfold(sent, |mut sent| async { sent.recv().await.map(|piece| (piece, sent)) });
    let body = StreamBody::new(Box::pin(frames.map(|piece| Ok::<_, Infallible>(Frame::data(piece)))));
    // The call comes while the job is away.
    let call =
        world.lifecycle.tasks().spawn("call", async move { sender.clone().send_request(request("/echo", body)).await });
    assert!(timeout(QUIET, std::future::pending::<()>()).await.is_err() && !call.is_finished());
    world.open();
    let call = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
    let mut answer = call.unwrap().into_body();
    for round in 0..6 {
        if round % 2 == 1 {
            world.hold();
        }
        pieces.send(Bytes::from(format!("piece {round}"))).await.unwrap();
        if round % 2 == 1 {
            assert!(timeout(QUIET, answer.frame()).await.is_err());
            world.open();
        }
        let piece = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, format!("piece {round}"));
    }
    drop(pieces);
    let trailers = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
    assert!(trailers.is_trailers());
    world.stop().await;
}

#[tokio::test]
async fn large_messages_pass_in_both_directions() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 40;
    let mut world = World::new();
    let (target, _) = job(&world).await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let mut sender = client(&world, port).await;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let frames = (0..CHUNKS).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone())));
    let asked = sender.send_request(request("/echo", StreamBody::new(stream::iter(frames))));
    let mut body = timeout(PATIENCE, asked).await.unwrap().unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.unwrap() {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(length, CHUNK * CHUNKS);
    drop(sender);
    world.stop().await;
}

#[tokio::test]
async fn other_requests_find_out_what_a_job_speaks() {
    let mut world = World::new();
    let (target, _) = job(&world).await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    // Neither says that it is of gRPC.
    let mut sender = client(&world, port).await;
    let plain = Request::get("http://lab.example/count").body(Empty::<Bytes>::new()).unwrap();
    let answer = timeout(PATIENCE, sender.send_request(plain)).await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, GRPC));
    answer.into_body().collect().await.unwrap();
    for _ in 0..2 {
        let got = Wire::connect(port).await.ask(GET).await;
        assert_eq!((got.status(), got.header("retry-after")), (503, None));
        assert!(got.body.contains("speaks HTTP/2 alone"), "{}", got.body);
    }
    drop(sender);
    world.stop().await;
}

#[tokio::test]
async fn job_that_is_another_program_now_is_found_out_again() {
    let mut world = World::new();
    let (target, _) = job(&world).await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let plain = || Request::get("http://lab.example/count").body(Empty::<Bytes>::new()).unwrap();
    let sender = client(&world, port).await;
    let ask = async || {
        let answer = timeout(PATIENCE, sender.clone().send_request(plain())).await.unwrap().unwrap();
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask().await, (200, Bytes::from_static(b"0\n1\n2\n3\n4\n")));
    let other = world.job(|_| async { text("another") }).await;
    world.change(|connection| {
        connection.epoch += 1;
        connection.target = mooring_api::watch::Target::Overlay(other.address);
    });
    assert_eq!(ask().await, (200, Bytes::from_static(b"another")));
    assert_eq!(Wire::connect(port).await.ask(GET).await.body, "another");
    drop(sender);
    world.stop().await;
}

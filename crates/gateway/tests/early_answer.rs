//! Jobs that answer before they have read an upload.

mod world;

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{PATIENCE, Wire, World, server};

const TEXT: &str = "too large";
const UPLOAD: usize = 8 << 20;

/// A job that answers once it has read a head, and closes with bytes unread: a reset follows.
async fn early(answer: &'static str) -> (World, SocketAddr) {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let stop = world.lifecycle.soft().clone();
    world.lifecycle.tasks().spawn("job", async move {
        while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
            let mut job = Wire(BufReader::new(stream));
            let head = job.head().await;
            if !head.starts_with("PRI ") && !answer.is_empty() {
                job.send(format!("HTTP/1.1 {answer}\r\nContent-Length: {}\r\n\r\n{TEXT}", TEXT.len())).await;
            }
        }
    });
    (world, port)
}

/// The answer to an upload, which ends when the answer has begun.
async fn upload(port: SocketAddr, framing: &str) -> String {
    let stream = TcpStream::connect(port).await.expect("a connection");
    let (mut reading, mut writing) = stream.into_split();
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let sending = async {
        writing.write_all(head.as_bytes()).await?;
        for _ in 0..UPLOAD / 65536 {
            writing.write_all(b"10000\r\n").await?;
            writing.write_all(&[b'x'; 65536]).await?;
            writing.write_all(b"\r\n").await?;
        }
        std::io::Result::Ok(())
    };
    let receiving = async {
        let mut got = Vec::new();
        let _ = timeout(PATIENCE, reading.read_to_end(&mut got)).await.expect("an answer in time");
        String::from_utf8(got).expect("text")
    };
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        got = receiving.as_mut() => return got,
        _ = sending => {}
    }
    receiving.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answer_is_passed() {
    for answer in ["413 Payload Too Large", "401 Unauthorized", "302 Found"] {
        let (world, port) = early(answer).await;
        for framing in [&format!("Content-Length: {UPLOAD}"), "Transfer-Encoding: chunked"] {
            for round in 0..10 {
                let got = upload(port, framing).await;
                assert!(got.starts_with(&format!("HTTP/1.1 {answer}")) && got.ends_with(TEXT), "{round}: {got}");
            }
        }
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answer_is_passed_to_http2() {
    let (world, port) = early("413 Content Too Large").await;
    let io = TokioIo::new(TcpStream::connect(port).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    world.lifecycle.tasks().spawn("client", connection);
    for _ in 0..10 {
        let chunk = Bytes::from(vec![7; 65536]);
        let frames = (0..UPLOAD / 65536).map(move |_| Ok::<_, std::io::Error>(Frame::data(chunk.clone())));
        let request = Request::put("http://a/").body(StreamBody::new(stream::iter(frames))).unwrap();
        let answer = timeout(PATIENCE, sender.clone().send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), TEXT);
    }
    drop(sender);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_that_closes_without_an_answer_is_told_of() {
    let (world, port) = early("").await;
    let got = upload(port, &format!("Content-Length: {UPLOAD}")).await;
    assert!(got.starts_with("HTTP/1.1 503") && got.contains("closed the connection without an answer"), "{got}");
    world.stop().await;
}

#[tokio::test]
async fn job_may_answer_first_and_read_on() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    let mut job = Wire(BufReader::new(timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0));
    job.head().await;
    job.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    client.send("world").await;
    let mut body = [0; 10];
    timeout(PATIENCE, job.0.read_exact(&mut body)).await.unwrap().unwrap();
    assert_eq!(&body, b"helloworld");
    job.send("fine").await;
    let mut answer = [0; 4];
    timeout(PATIENCE, client.0.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"fine");
    world.stop().await;
}

//! An upload that is larger than the gateway's memory limit for it. The test has a process of its
//! own, whose memory is measured.

mod world;

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use mooring_api::watch::Flow;
use mooring_types::gateway::Protocol;
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{PATIENCE, World, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_upload_has_flat_memory() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 200;
    let mut world = World::new();
    let job = world
        .job(|request| async {
            let coding = request.headers().get("transfer-encoding").cloned();
            let (mut body, mut length) = (request.into_body(), 0);
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            text(format!("{coding:?} {length}"))
        })
        .await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let body = StreamBody::new(stream::iter((0..CHUNKS).map(move |_| Ok::<_, Infallible>(Frame::data(chunk.clone())))));
    let io = TokioIo::new(TcpStream::connect(port).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    world.lifecycle.tasks().spawn("client", connection);
    let before = resident();
    let request = Request::post("/upload").header("host", "example").body(body).unwrap();
    let answer = timeout(PATIENCE * 3, sender.send_request(request)).await.unwrap().unwrap();
    let grown = resident().saturating_sub(before);
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(String::from_utf8_lossy(&said), format!("Some(\"chunked\") {}", CHUNK * CHUNKS));
    assert!(grown < 48 << 20, "memory grew by {grown} bytes");
    drop(sender);
    world.stop().await;
}

/// The peak resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the line");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

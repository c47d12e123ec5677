//! Clients that end their direction after a request, and clients that leave.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use mooring_api::watch::Flow;
use mooring_types::gateway::{Protocol, Widget};
use tokio::io::AsyncWriteExt;
use world::{GET, Job, Wire, World, held, text};

const OLD: &str = "GET / HTTP/1.0\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
const NAVIGATION: &str = "GET /page HTTP/1.1\r\nHost: a\r\nAccept: text/html,application/xhtml+xml,*/*\r\n\r\n";
/// Longer than it takes to see an end.
const WORK: Duration = Duration::from_millis(300);

async fn slow(flow: Flow) -> (World, Job, SocketAddr) {
    let mut world = World::new();
    let job = world
        .job(|request| async {
            let is_page = request.uri().path() == "/page";
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
            tokio::time::sleep(WORK).await;
            let mut answer = text(format!("<!doctype html>got {}", body.unwrap_or(99)));
            if is_page {
                answer.headers_mut().insert("content-type", "text/html".parse().expect("a value"));
            }
            answer
        })
        .await;
    let port = world.connect(job.address, Protocol::Auto, flow).await;
    world.change(|connection| connection.widget = Widget::Shown);
    (world, job, port)
}

async fn half_closed(port: SocketAddr, request: &str) -> Wire {
    let mut client = Wire::connect(port).await;
    client.send(request).await;
    client.0.shutdown().await.expect("an end of the direction");
    client
}

#[tokio::test]
async fn half_closed_client_gets_its_whole_answer() {
    let (mut world, job, port) = slow(Flow::Open).await;
    let requests = [OLD, GET, LAST, POST, CHUNKED, NAVIGATION];
    for is_away in [false, true] {
        if is_away {
            world.hold();
        }
        let mut clients = Vec::new();
        for request in requests {
            clients.push((request, half_closed(port, request).await));
        }
        if is_away {
            assert!(clients[0].1.is_quiet().await);
            world.open();
        }
        for (request, mut client) in clients {
            // The connection ends after the answer.
            let got = String::from_utf8(client.rest().await).unwrap();
            let length = if request.starts_with("POST") { 5 } else { 0 };
            assert!(got.starts_with("HTTP/1.") && got.contains(" 200 OK"), "{request}: {got}");
            assert!(got.contains(&format!("got {length}")), "{request}: {got}");
            assert_eq!(got.contains("widget.js"), request == NAVIGATION, "{got}");
        }
    }
    // Pipelined requests are answered in their order.
    let mut client = half_closed(port, &[GET, POST, GET].concat()).await;
    for length in [0, 5, 0] {
        assert_eq!(client.receive().await.body, format!("<!doctype html>got {length}"));
    }
    assert_eq!((client.rest().await, job.requests()), (Vec::new(), 2 * requests.len() + 3));
    world.stop().await;
}

#[tokio::test]
async fn half_closed_client_gets_the_waiting_page() {
    let (mut world, _job, port) = slow(held()).await;
    world.change(|connection| connection.hold_limits.page_seconds = 1);
    let mut client = half_closed(port, NAVIGATION).await;
    let got = String::from_utf8(client.rest().await).unwrap();
    assert!(got.starts_with("HTTP/1.1 503") && got.contains("data-mooring-waiting"), "{got}");
    world.stop().await;
}

#[tokio::test]
async fn unfinished_request_of_a_half_closed_client_is_aborted() {
    let (world, _job, port) = slow(Flow::Open).await;
    for request in [&POST[..POST.len() - 1], &CHUNKED[..CHUNKED.len() - 5], "GET / HTTP/1.1\r\nHost: a\r\nX"] {
        let mut client = half_closed(port, request).await;
        let got = String::from_utf8(client.rest().await).unwrap();
        assert!(!got.contains(" 200 "), "{request}: {got}");
    }
    world.until(|world| world.clients() == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn client_that_has_left_is_noticed() {
    let (mut world, job, port) = slow(held()).await;
    for request in [GET, POST] {
        let mut client = Wire::connect(port).await;
        client.send(request).await;
        assert!(client.is_quiet().await);
        client.reset();
        world.until(|world| world.clients() == 0).await;
    }
    // A browser ends no direction but by leaving.
    let poll = "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/5.0 (X11)\r\n\r\n";
    assert_eq!(half_closed(port, poll).await.rest().await, b"");
    world.open();
    assert_eq!(Wire::connect(port).await.ask(GET).await.status(), 200);
    assert_eq!(job.requests(), 1);
    // While the job is there, it is answered all the same.
    let got = half_closed(port, poll).await.rest().await;
    assert!(got.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&got));
    world.stop().await;
}

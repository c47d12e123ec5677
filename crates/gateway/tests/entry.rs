//! Connections that take a login: nothing reaches the job without a visit, and what is under way
//! ends with it.

mod world;

use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use mooring_api::watch::Flow;
use mooring_types::gateway::{Access, Cookies, Protocol, Widget};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use world::{Body, Job, PATIENCE, Received, Wire, World, text};

const TOKEN: &str = "the token of a visit";
const NAVIGATION: &str = "Accept: text/html,*/*;q=0.8\r\n";

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Responds with the cookies of a request; at `/endless` never ends.
async fn site(request: Request<Incoming>) -> Response<Body> {
    let cookies = request.headers().get("cookie").and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
    if request.uri().path() == "/endless" {
        let endless = http_body_util::StreamBody::new(futures_util::stream::pending());
        return Response::new(BodyExt::boxed(endless));
    }
    text(cookies)
}

async fn world(protocol: Protocol) -> (World, Job, SocketAddr) {
    let mut world = World::with_opcenter("https://192.0.2.1:8443");
    let job = world.job(site).await;
    let port = world.connect(job.address, protocol, Flow::Open).await;
    world.change(|connection| {
        (connection.access, connection.widget) = (Access::Private, Widget::Shown);
        connection.visits = vec![hash(TOKEN)];
    });
    (world, job, port)
}

/// The name of one of the gateway's cookies.
fn cookie(world: &World, what: &str) -> String {
    let id = world.slice.connections[0].connection.to_string();
    format!("mooring-port-{}-{what}", &id["c-".len()..][..8])
}

async fn get(port: SocketAddr, path: &str, more: &str) -> Received {
    let mut wire = Wire::connect(port).await;
    wire.ask(format!("GET {path} HTTP/1.1\r\nHost: {port}\r\n{more}\r\n")).await
}

#[tokio::test]
async fn no_byte_of_a_stranger_reaches_the_job() {
    let (world, job, port) = world(Protocol::Auto).await;
    let forged = format!("Cookie: {}=guessed\r\n", cookie(&world, "visit"));
    let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n";
    for (path, more) in
        [("/", ""), ("/", &forged[..]), ("/socket", upgrade), ("/.mooring/state", upgrade), ("/.mooringly", "")]
    {
        let got = get(port, path, more).await;
        assert_eq!(got.status(), 401, "{path} {more}");
        assert!(got.body.contains("takes a sign-in"), "{}", got.body);
    }
    let posted = Wire::connect(port)
        .await
        .ask(format!("POST / HTTP/1.1\r\nHost: {port}\r\n{NAVIGATION}Content-Length: 0\r\n\r\n"))
        .await;
    assert_eq!(posted.status(), 401);
    // Neither does what is no HTTP, nor a client that is silent.
    let mut raw = Wire::connect(port).await;
    raw.send("SSH-2.0-client\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&raw.rest().await).starts_with("HTTP/1.1 400"));
    let mut silent = Wire::connect(port).await;
    assert!(silent.is_quiet().await);
    assert_eq!((job.accepted(), job.requests()), (0, 0));
    // The panel's files tell nothing.
    assert_eq!(get(port, "/.mooring/panel", "").await.status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn page_load_goes_to_opcenter_and_comes_back_to_the_same_browser() {
    let (world, job, port) = world(Protocol::Http).await;
    let got = get(port, "/lab?a=b", NAVIGATION).await;
    assert_eq!(got.status(), 303);
    let location = got.header("location").expect("a location").to_owned();
    let connection = &world.slice.connections[0].connection;
    let expected = format!("https://192.0.2.1:8443/enter?connection={connection}&origin=http%3A%2F%2F127.0.0.1%3A");
    assert!(location.starts_with(&expected) && location.ends_with("&to=%2Flab%3Fa%3Db"), "{location}");
    assert!(!location.contains(world.slice.connections[0].job.as_str()), "{location}");
    let set = got.header("set-cookie").expect("a cookie").to_owned();
    assert!(set.starts_with(&cookie(&world, "state")) && set.contains("; HttpOnly; SameSite=Lax"), "{set}");
    let state = set.split_once('=').unwrap().1.split(';').next().unwrap().to_owned();
    // Another browser comes with the address.
    for (sent, kept) in [(state.as_str(), "another"), ("another", state.as_str()), ("", "")] {
        let cookie = format!("Cookie: {}={kept}\r\n", cookie(&world, "state"));
        let got = get(port, &format!("/.mooring/enter?code=c&state={sent}&to=/"), &cookie).await;
        assert_eq!(got.status(), 403, "{}", got.body);
        assert!(got.header("set-cookie").is_none());
    }
    assert_eq!(job.accepted(), 0);
    world.stop().await;
}

#[tokio::test]
async fn link_sets_a_cookie_that_the_job_does_not_get() {
    let (mut world, job, port) = world(Protocol::Auto).await;
    world.change(|connection| (connection.access, connection.visits) = (Access::Link, vec![hash("secret")]));
    let wrong = get(port, "/.mooring/enter?key=guessed&to=/", "").await;
    assert_eq!((wrong.status(), wrong.header("set-cookie")), (403, None));
    for (to, location) in [("%2Flab%3Fa", "/lab?a"), ("%2F%2Fevil.example", "/"), ("https%3A%2F%2Fevil.example", "/")] {
        let got = get(port, &format!("/.mooring/enter?key=secret&to={to}"), "").await;
        assert_eq!((got.status(), got.header("location")), (303, Some(location)));
        assert!(got.header("set-cookie").is_some_and(|set| set.starts_with(&cookie(&world, "visit"))));
    }
    let sent = format!("Cookie: a=b; {}=secret\r\n", cookie(&world, "visit"));
    assert_eq!(get(port, "/", &sent).await.body, "a=b");
    // The link once more, also where the paths of the widget are the job's.
    world.change(|connection| connection.widget = Widget::Hidden);
    let again = get(port, "/.mooring/enter?key=secret&to=%2Flab", &sent).await;
    assert_eq!((again.status(), again.header("location")), (303, Some("/lab")));
    world.change(|connection| connection.cookies = Cookies::Own);
    assert_eq!(get(port, "/", &sent).await.body, "none");
    assert_eq!(job.requests(), 2);
    world.stop().await;
}

#[tokio::test]
async fn what_is_under_way_ends_with_the_visit() {
    let (mut world, job, port) = world(Protocol::Auto).await;
    let sent = format!("Host: {port}\r\nCookie: {}={TOKEN}\r\n\r\n", cookie(&world, "visit"));
    let mut endless = Wire::connect(port).await;
    endless.send(format!("GET /endless HTTP/1.1\r\n{sent}")).await;
    assert!(endless.head().await.starts_with("HTTP/1.1 200"));
    let mut idle = Wire::connect(port).await;
    assert_eq!(idle.ask(format!("GET / HTTP/1.1\r\n{sent}")).await.status(), 200);
    assert!(endless.is_quiet().await);
    world.change(|connection| connection.visits = Vec::new());
    let mut rest = Vec::new();
    timeout(PATIENCE, endless.0.read_to_end(&mut rest)).await.expect("in time").ok();
    timeout(PATIENCE, idle.0.read_to_end(&mut rest)).await.expect("in time").ok();
    let again = get(port, "/", &format!("Cookie: {}={TOKEN}\r\n", cookie(&world, "visit"))).await;
    assert_eq!((again.status(), job.requests()), (401, 2));
    world.stop().await;
}

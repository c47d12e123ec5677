//! The state that browsers keep for an address: cookies, marks and service workers, and requests
//! that would pass unread.

mod world;

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::Flow;
use mooring_gateway::browser::CookieNames;
use mooring_types::gateway::{Cookies, Protocol, Widget};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{Body, PATIENCE, Wire, World, server, text};

/// Says which cookies the request has, and sets some.
async fn site(request: Request<Incoming>) -> Response<Body> {
    let cookies: Vec<_> = request.headers().get_all("cookie").iter().map(|line| line.to_str().unwrap_or("?")).collect();
    let path = request.uri().path();
    let begin = if path == "/page" { "<!doctype html>" } else { "" };
    let mut response = text(format!("{begin}cookies: {}", cookies.join("|")));
    let mut set = |name: &'static str, value: &'static str| {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    set("set-cookie", "s=1; Path=/; Domain=example; HttpOnly");
    set("set-cookie", "__Host-t=2; Path=/; Secure");
    set("clear-site-data", "\"cookies\", \"storage\"");
    match path {
        "/page" => set("content-type", "text/html"),
        "/worker.js" => set("content-type", "text/javascript"),
        "/packed.js" => set("content-encoding", "gzip"),
        _ => {}
    }
    response
}

async fn world(cookies: Cookies, protocol: Protocol) -> (World, SocketAddr, CookieNames) {
    let mut world = World::new();
    let job = world.job(site).await;
    let port = world.connect(job.address, protocol, Flow::Open).await;
    world.change(|connection| connection.cookies = cookies);
    let names = CookieNames::of(&world.slice.connections[0].connection);
    (world, port, names)
}

fn on_wire(names: &CookieNames, name: &str) -> String {
    String::from_utf8(names.to_wire(name.as_bytes())).expect("text")
}

fn all<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn cookies_have_names_of_their_connection() {
    for protocol in [Protocol::Auto, Protocol::Http, Protocol::Tcp] {
        let (world, port, names) = world(Cookies::Own, protocol).await;
        let (s, t) = (on_wire(&names, "s"), on_wire(&names, "__Host-t"));
        let mut wire = Wire::connect(port).await;
        let sent = format!("GET / HTTP/1.1\r\nHost: example\r\nCookie: {s}=1; s=old; {t}=2; mooring-session=x\r\n\r\n");
        let got = wire.ask(sent).await;
        assert_eq!(got.body, "cookies: s=1; __Host-t=2");
        let set = [format!("{s}=1; Path=/; HttpOnly"), format!("{t}=2; Path=/; Secure")];
        assert_eq!(all(&got.head, "set-cookie"), set);
        assert_eq!(all(&got.head, "clear-site-data"), ["\"storage\""]);

        // The request of a WebSocket has them as well.
        let upgrade =
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n";
        let got = wire.ask(format!("GET / HTTP/1.1\r\nHost: example\r\n{upgrade}Cookie: {s}=1; s=old\r\n\r\n")).await;
        assert_eq!(got.body, "cookies: s=1");
        world.stop().await;
    }
}

#[tokio::test]
async fn cookies_of_http2_have_names_of_their_connection() {
    let (world, port, names) = world(Cookies::Own, Protocol::Auto).await;
    let stream = TcpStream::connect(port).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    world.lifecycle.tasks().spawn("connection", async move { drop(connection.await) });
    let s = on_wire(&names, "s");
    let request = Request::get(format!("http://{port}/"))
        .header("cookie", "s=old")
        .header("cookie", format!("{s}=1"))
        .header("cookie", format!("{s}=2"))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let set: Vec<_> = answer.headers().get_all("set-cookie").iter().cloned().collect();
    assert!(set[0].to_str().unwrap().starts_with(&format!("{s}=1;")), "{set:?}");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "cookies: s=1; s=2");
    drop(sender);
    world.stop().await;
}

#[tokio::test]
async fn shared_cookies_keep_their_names() {
    let (world, port, names) = world(Cookies::Shared, Protocol::Auto).await;
    let foreign = on_wire(&names, "s");
    let mut wire = Wire::connect(port).await;
    let got = wire.ask(format!("GET / HTTP/1.1\r\nHost: example\r\nCookie: a=b; {foreign}=1\r\n\r\n")).await;
    assert_eq!(got.body, "cookies: a=b");
    let set = all(&got.head, "set-cookie");
    assert_eq!(set, ["s=1; Path=/; Domain=example; HttpOnly", "__Host-t=2; Path=/; Secure"]);
    world.stop().await;
}

#[tokio::test]
async fn pages_get_names_and_browsers_a_mark() {
    let (mut world, port, names) = world(Cookies::Own, Protocol::Auto).await;
    let navigation = "Host: example\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
    let mut wire = Wire::connect(port).await;
    for (dest, widget, has_widget) in
        [("document", Widget::Shown, true), ("iframe", Widget::Shown, false), ("document", Widget::Hidden, false)]
    {
        world.change(|connection| connection.widget = widget);
        wire.send(format!("GET /page HTTP/1.1\r\n{navigation}Sec-Fetch-Dest: {dest}\r\n\r\n")).await;
        let got = wire.receive_chunks().await;
        let script = got.body.find(&format!("('{}');</script>", on_wire(&names, "")));
        assert!(script.is_some() && got.body.contains("widget.js") == has_widget, "{dest}: {}", got.body);
        assert_eq!(all(&got.head, "clear-site-data"), ["\"storage\"", "\"cache\", \"storage\""]);
        assert_eq!(all(&got.head, "cache-control"), ["no-cache"]);
        assert_eq!(all(&got.head, "set-cookie").len(), 3);
    }
    let marks = {
        let got = wire.ask(format!("GET /text HTTP/1.1\r\n{navigation}\r\n")).await;
        all(&got.head, "set-cookie").last().map(|mark| (*mark).to_owned()).expect("a mark")
    };
    let mark = marks.split(';').next().expect("a pair");
    let got = wire.ask(format!("GET /text HTTP/1.1\r\n{navigation}Cookie: {mark}\r\n\r\n")).await;
    assert_eq!((got.body.as_str(), all(&got.head, "set-cookie").len()), ("cookies: ", 2));
    assert_eq!(all(&got.head, "clear-site-data"), ["\"storage\""]);
    // The mark of an earlier connection of the port is none.
    let earlier = format!("{}=00000000", mark.split('=').next().expect("a name"));
    let got = wire.ask(format!("GET /text HTTP/1.1\r\n{navigation}Cookie: {earlier}\r\n\r\n")).await;
    assert_eq!(all(&got.head, "clear-site-data").len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn service_worker_comes_behind_statements() {
    for (cookies, has_names) in [(Cookies::Own, true), (Cookies::Shared, false)] {
        let (world, port, _) = world(cookies, Protocol::Auto).await;
        let asked = "Host: example\r\nService-Worker: script\r\nIf-None-Match: \"a\"\r\n";
        let mut wire = Wire::connect(port).await;
        wire.send(format!("GET /worker.js HTTP/1.1\r\n{asked}\r\n")).await;
        let got = wire.receive_chunks().await;
        assert!(got.body.starts_with("with({});(() => {") && got.body.ends_with("cookies: "), "{}", got.body);
        assert_eq!(got.body.contains("(marker =>"), has_names);
        let got = wire.ask(format!("GET /packed.js HTTP/1.1\r\n{asked}\r\n")).await;
        assert_eq!(got.status(), 502);
        world.stop().await;
    }
}

#[tokio::test]
async fn request_after_the_job_has_spoken_is_cut_off() {
    for protocol in [Protocol::Auto, Protocol::Tcp] {
        let mut world = World::new();
        let (listener, target) = server().await;
        let port = world.connect(target, protocol, Flow::Open).await;
        let mut wire = Wire::connect(port).await;
        // A silent client is connected to the job, which speaks first.
        let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        job.write_all(b"!").await.unwrap();
        let mut greeting = [0];
        timeout(PATIENCE, tokio::io::AsyncReadExt::read_exact(&mut wire.0, &mut greeting)).await.unwrap().unwrap();
        wire.send("foo / HTTP/1.1\r\nHost: a\r\nCookie: secret=1\r\n\r\n").await;
        let mut read = Vec::new();
        let _ = timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(&mut job, &mut read)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read), "");
        world.stop().await;
    }
}

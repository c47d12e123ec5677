//! Proxies in front of a gateway: whose word about clients is believed, and what becomes of it.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use mooring_api::watch::Flow;
use mooring_gateway::budget::{Budgets, Limits};
use mooring_types::gateway::{Protocol, Widget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use world::{Body, GET, Job, PATIENCE, QUIET, Received, Wire, World, server, text};

/// The address of the trusted proxy.
const PROXY: &str = "127.0.0.2";
const LINE: &str = "PROXY TCP4 192.0.2.7 127.0.0.1 4711 9443\r\n";
const OTHER_LINE: &str = "PROXY TCP4 198.51.100.7 127.0.0.1 4711 9443\r\n";

/// The head of a request for each header, and the body.
async fn echo(request: hyper::Request<hyper::body::Incoming>) -> hyper::Response<Body> {
    let lines = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    let head = format!("{}\n{}", request.uri(), lines.collect::<String>());
    drop(request.collect().await);
    text(head)
}

/// A world whose job tells what it got; only clients of 192.0.2.0/24 and the test's are admitted.
async fn behind_proxy(external: Option<&str>) -> (World, Job, SocketAddr) {
    let mut world = World::new();
    world.slice.trusted_proxies = vec![
        format!("{PROXY}/32").parse().expect("it is written right"),
        "10.0.0.0/24".parse().expect("it is written right"),
    ];
    world.slice.rules = ["tcp:*:127.0.0.1/32", "tcp:*:192.0.2.0/24", "tcp:*:2001:db8::/32"]
        .map(|rule| rule.parse().expect("it is written right"))
        .into();
    let job = world.job(echo).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    world.change(|connection| connection.external_url = external.map(|url| url.parse().expect("it is written right")));
    (world, job, port)
}

async fn connect_from(source: &str, port: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a connection");
    socket.bind(format!("{source}:0").parse().expect("it is written right")).expect("a connection");
    let stream = timeout(PATIENCE, socket.connect(port)).await.expect("a connection").expect("a connection");
    stream.set_nodelay(true).expect("a connection");
    stream
}

async fn wire_from(source: &str, port: SocketAddr) -> Wire {
    Wire(tokio::io::BufReader::new(connect_from(source, port).await))
}

fn request(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: lab:10000\r\n{lines}\r\n")
}

/// Values of the headers about the client, as the job got them.
fn told(got: &Received) -> Vec<&str> {
    let value = |name: &str| {
        let lines = got.body.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value).next().unwrap_or("")
    };
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded"]
        .map(value)
        .into()
}

/// Returns whether a connection ends without an answer.
async fn is_ended(wire: &mut Wire) -> bool {
    wire.rest().await.is_empty()
}

#[tokio::test]
async fn job_is_told_what_a_trusted_proxy_says() {
    let (world, _job, port) = behind_proxy(None).await;
    for (lines, expected) in [
        (
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 9443\r\nX-Forwarded-Host: lab.example:9443\r\n",
            ["192.0.2.7", "https", "lab.example:9443", "9443", "192.0.2.7", "for=192.0.2.7;proto=https"],
        ),
        (
            "Forwarded: for=\"[2001:db8::7]:1\";proto=https;host=\"lab.example\"\r\n",
            [
                "2001:db8::7",
                "https",
                "lab.example",
                "443",
                "2001:db8::7",
                "for=\"[2001:db8::7]\";proto=https;host=lab.example",
            ],
        ),
        (
            "X-Real-IP: 192.0.2.7\r\n",
            ["192.0.2.7", "http", "lab:10000", "PORT", "192.0.2.7", "for=192.0.2.7;proto=http"],
        ),
        // Two proxies in a row, and what the client has made up.
        (
            "X-Forwarded-For: 127.0.0.1, 192.0.2.7\r\nX-Forwarded-For: 10.0.0.3\r\nX-Forwarded-Proto: https\r\n",
            ["192.0.2.7", "https", "lab:10000", "10000", "192.0.2.7", "for=192.0.2.7;proto=https"],
        ),
    ] {
        let got = wire_from(PROXY, port).await.ask(request(lines)).await;
        let expected: Vec<String> =
            expected.iter().map(|text| text.replace("PORT", &port.port().to_string())).collect();
        assert_eq!(told(&got), expected, "{lines}");
        // The word of anybody else is taken out.
        let got = wire_from("127.0.0.1", port).await.ask(request(lines)).await;
        let own = port.port().to_string();
        assert_eq!(
            told(&got),
            ["127.0.0.1", "http", "lab:10000", &own, "127.0.0.1", "for=127.0.0.1;proto=http"],
            "{lines}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn external_url_says_what_a_proxy_does_not() {
    let (mut world, _job, port) = behind_proxy(Some("https://lab.example:9443")).await;
    let own = format!("GET / HTTP/1.0\r\nHost: {port}\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    let expected = ["192.0.2.7", "https", "lab.example:9443", "9443", "192.0.2.7", "for=192.0.2.7;proto=https"];
    assert_eq!(told(&wire_from(PROXY, port).await.ask(&own).await), expected);
    let without = "GET / HTTP/1.0\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    assert_eq!(told(&wire_from(PROXY, port).await.ask(without).await), expected);
    // Changes need no restart.
    world.change(|connection| connection.external_url = Some("http://other".parse().unwrap()));
    let expected = ["192.0.2.7", "http", "other", "80", "192.0.2.7", "for=192.0.2.7;proto=http;host=other"];
    assert_eq!(told(&wire_from(PROXY, port).await.ask(&own).await), expected);
    world.stop().await;
}

#[tokio::test]
async fn each_request_of_a_kept_connection_is_judged() {
    let (mut world, job, port) = behind_proxy(None).await;
    let mut kept = wire_from(PROXY, port).await;
    for (client, status) in
        [("192.0.2.7", 200), ("198.51.100.7", 403), ("192.0.2.8", 200), ("192.0.2.7, 198.51.100.7", 403)]
    {
        if status == 403 {
            let mut other = wire_from(PROXY, port).await;
            assert_eq!(
                other.ask(request(&format!("X-Forwarded-For: {client}\r\n"))).await.status(),
                status,
                "{client}"
            );
            continue;
        }
        let got = kept.ask(request(&format!("X-Forwarded-For: {client}\r\n"))).await;
        assert_eq!((got.status(), told(&got)[0]), (status, client));
        let seen = world.gateway.observe().connections[0]
            .clients
            .iter()
            .map(|seen| seen.address.ip().to_string())
            .collect::<Vec<_>>();
        assert!(seen.contains(&client.to_owned()), "{seen:?}");
    }
    // The proxy itself is not admitted.
    assert_eq!(wire_from(PROXY, port).await.ask(GET).await.status(), 403);
    assert_eq!(job.requests(), 2);
    // Without trust it may not even connect.
    world.slice.trusted_proxies.clear();
    world.apply();
    assert!(is_ended(&mut kept).await);
    assert!(is_ended(&mut wire_from(PROXY, port).await).await);
    world.stop().await;
}

#[tokio::test]
async fn proxy_protocol_is_believed_of_trusted_proxies_alone() {
    let (world, job, port) = behind_proxy(None).await;
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let binary = [&signature[..], b"\x21\x11\0\x0c", &[192, 0, 2, 7, 127, 0, 0, 1, 18, 103, 36, 227]].concat();
    for line in [LINE.as_bytes(), &binary] {
        for cut in [0, 3, 11, 13, line.len() - 1] {
            let mut wire = wire_from(PROXY, port).await;
            wire.send(&line[..cut]).await;
            tokio::time::sleep(Duration::from_millis(if cut == 3 { 400 } else { 10 })).await;
            wire.send(&line[cut..]).await;
            // The client's own word is not the proxy's.
            let got = wire.ask(request("X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n")).await;
            let expected = ["192.0.2.7", "http", "lab:10000", "9443", "192.0.2.7", "for=192.0.2.7;proto=http"];
            assert_eq!(told(&got), expected, "cut at {cut}");
        }
        let requests = job.requests();
        for cut in [0, 3, 11, line.len() - 1] {
            let mut stranger = wire_from("127.0.0.1", port).await;
            stranger.send(&line[..cut]).await;
            tokio::time::sleep(Duration::from_millis(if cut == 3 { 400 } else { 10 })).await;
            let _ = stranger.0.write_all(&line[cut..]).await;
            let _ = stranger.0.write_all(request("").as_bytes()).await;
            assert!(is_ended(&mut stranger).await, "cut at {cut}");
        }
        assert_eq!(job.requests(), requests);
    }
    // Who is announced is judged, and a proxy's health check is the proxy's.
    let mut refused = wire_from(PROXY, port).await;
    refused.send(OTHER_LINE).await;
    assert!(is_ended(&mut refused).await);
    for local in [&[&signature[..], b"\x20\0\0\0"].concat()[..], b"PROXY UNKNOWN\r\n"] {
        let mut wire = wire_from(PROXY, port).await;
        wire.send(local).await;
        assert_eq!(wire.ask(GET).await.status(), 403);
    }
    let mut broken = wire_from(PROXY, port).await;
    broken.send("PROXY TCP4 nobody\r\n").await;
    broken.send([b'x'; 200]).await;
    assert!(is_ended(&mut broken).await);
    world.stop().await;
}

/// A job that speaks to the first client with `greeting`, and gives back what it hears.
async fn raw(world: &mut World, greeting: &'static [u8]) -> (TcpListener, SocketAddr, &'static [u8]) {
    world.slice.trusted_proxies = vec![format!("{PROXY}/32").parse().expect("it is written right")];
    world.slice.rules =
        ["tcp:*:127.0.0.1/32", "tcp:*:192.0.2.0/24"].map(|rule| rule.parse().expect("it is written right")).into();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    (listener, port, greeting)
}

#[tokio::test]
async fn raw_port_has_the_proxy_protocol_alone() {
    let mut world = World::new();
    let (listener, port, _) = raw(&mut world, b"").await;
    let mut client = connect_from(PROXY, port).await;
    client.write_all(LINE.as_bytes()).await.unwrap();
    // The job may be the one that speaks first.
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    job.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    timeout(PATIENCE, client.read_exact(&mut heard)).await.unwrap().unwrap();
    client.write_all(b"data").await.unwrap();
    let mut got = [0; 4];
    timeout(PATIENCE, job.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!((&heard, &got), (b"hello", b"data"));
    let seen = world.gateway.observe().connections[0].clients[0].address;
    assert_eq!(seen, "192.0.2.7:4711".parse().unwrap());
    // A rule that goes ends the client that it admitted.
    world.slice.rules.truncate(1);
    world.apply();
    assert!(timeout(PATIENCE, client.read_u8()).await.unwrap().is_err());
    // No byte and no connection reaches the job for whom no rule admits.
    for line in [LINE, ""] {
        let mut refused = connect_from(PROXY, port).await;
        refused.write_all(line.as_bytes()).await.unwrap();
        let _ = refused.write_all(b"data").await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, refused.read_to_end(&mut answer)).await.unwrap();
        assert!(timeout(QUIET, listener.accept()).await.is_err(), "{line}");
    }
    world.stop().await;
}

#[tokio::test]
async fn line_of_a_stranger_reaches_no_raw_port_behind_proxies() {
    let mut world = World::new();
    let (listener, port, _) = raw(&mut world, b"").await;
    let mut stranger = connect_from("127.0.0.1", port).await;
    stranger.write_all(LINE.as_bytes()).await.unwrap();
    assert!(timeout(PATIENCE, stranger.read_u8()).await.unwrap().is_err());
    // Also after the job has spoken.
    let mut stranger = connect_from("127.0.0.1", port).await;
    let mut job = loop {
        let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        if job.write_all(b"hello").await.is_ok() && timeout(QUIET, stranger.readable()).await.is_ok() {
            break job;
        }
    };
    stranger.write_all(LINE.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    assert!(timeout(PATIENCE, job.read_to_end(&mut heard)).await.unwrap().is_err() || heard.is_empty());
    // Where no proxy is trusted, it is any bytes.
    world.slice.trusted_proxies.clear();
    world.apply();
    let mut client = connect_from("127.0.0.1", port).await;
    client.write_all(LINE.as_bytes()).await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut got = vec![0; LINE.len()];
    timeout(PATIENCE, job.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, LINE.as_bytes());
    world.stop().await;
}

#[tokio::test]
async fn rule_that_goes_ends_a_proxied_response() {
    let mut world = World::new();
    world.slice.trusted_proxies = vec![format!("{PROXY}/32").parse().unwrap()];
    world.slice.rules = ["tcp:*:192.0.2.7/32", "tcp:*:192.0.2.8/32"].map(|rule| rule.parse().unwrap()).into();
    let job = world
        .job(async |_| {
            let endless = futures_util::stream::unfold((), async |()| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(hyper::body::Frame::data(bytes::Bytes::from_static(b"tick"))), ()))
            });
            hyper::Response::new(BodyExt::boxed(http_body_util::StreamBody::new(Box::pin(endless))))
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let mut wires = Vec::new();
    for client in ["192.0.2.7", "192.0.2.8"] {
        let mut wire = wire_from(PROXY, port).await;
        wire.send(request(&format!("X-Forwarded-For: {client}\r\n"))).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
        wires.push(wire);
    }
    world.slice.rules.truncate(1);
    world.apply();
    let ended = wires.pop().unwrap().rest().await;
    assert!(!ended.ends_with(b"0\r\n\r\n"));
    let mut more = [0; 64];
    timeout(PATIENCE, wires[0].0.read_exact(&mut more)).await.unwrap().unwrap();
    world.stop().await;
}

#[tokio::test]
async fn limits_are_of_the_clients_and_not_of_the_proxy() {
    let mut world = World::with_budgets(Budgets::new(Limits { connections_of_address: 2, ..Limits::default() }));
    world.slice.trusted_proxies = vec![format!("{PROXY}/32").parse().unwrap()];
    world.slice.rules = vec!["tcp:*:192.0.2.0/24".parse().unwrap()];
    let job = world
        .job(async |request: hyper::Request<hyper::body::Incoming>| {
            if request.uri().path() == "/hangs" {
                std::future::pending::<()>().await;
            }
            text("answer")
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let ask = |path: &str, client: u8| {
        format!("GET {path} HTTP/1.1\r\nHost: lab\r\nX-Forwarded-For: 192.0.2.{client}\r\n\r\n")
    };
    let mut hanging = Vec::new();
    for client in [1, 1, 2, 3] {
        let mut wire = wire_from(PROXY, port).await;
        wire.send(ask("/hangs", client)).await;
        hanging.push(wire);
    }
    let arrived = async {
        while job.requests() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, arrived).await.unwrap();
    assert_eq!(wire_from(PROXY, port).await.ask(ask("/", 1)).await.status(), 503);
    assert_eq!(wire_from(PROXY, port).await.ask(ask("/", 2)).await.status(), 200);
    let mut announced = wire_from(PROXY, port).await;
    announced.send("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n").await;
    assert!(is_ended(&mut announced).await);
    drop(hanging);
    world.stop().await;
}

#[tokio::test]
async fn widget_is_below_the_path_of_the_external_url() {
    let mut world = World::new();
    world.slice.trusted_proxies = vec![format!("{PROXY}/32").parse().unwrap()];
    let job = world
        .job(async |_| {
            let mut page = text("<!doctype html><title>a</title>");
            page.headers_mut().insert("content-type", "text/html".parse().unwrap());
            page
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    world.change(|connection| {
        connection.widget = Widget::Shown;
        connection.external_url = Some("https://lab.example/jobs/7".parse().unwrap());
    });
    let load = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let page = async |source: &str, lines: &str| {
        let mut wire = wire_from(source, port).await;
        wire.send(format!("GET /a HTTP/1.1\r\nHost: lab\r\n{load}{lines}\r\n")).await;
        wire.receive_chunks().await.body
    };
    assert!(page(PROXY, "").await.contains("<script src=\"/jobs/7/.mooring/widget.js\""));
    assert!(page(PROXY, "").await.contains(" data-base=\"/jobs/7\""));
    assert!(page(PROXY, "X-Forwarded-Prefix: /x/\r\n").await.contains("<script src=\"/x/.mooring/widget.js\""));
    assert!(page("127.0.0.1", "X-Forwarded-Prefix: /x/\r\n").await.contains("<script src=\"/.mooring/widget.js\""));
    // The proxy removes the path, or passes it on.
    for path in ["/.mooring/widget.js", "/jobs/7/.mooring/widget.js"] {
        let got = wire_from(PROXY, port).await.ask(format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")).await;
        assert_eq!((got.status(), got.header("content-type")), (200, Some("text/javascript; charset=utf-8")), "{path}");
    }
    // A page at the external URL may watch its job, with any `Host` of the proxy.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (source, origin, lines, status) in [
        (PROXY, "https://lab.example", format!("Host: {port}\r\n"), 101),
        (PROXY, "https://lab.example:9443", "Host: lab.example\r\nX-Forwarded-Port: 9443\r\n".to_owned(), 101),
        (PROXY, "https://evil.example", format!("Host: {port}\r\n"), 403),
        ("127.0.0.1", "https://lab.example", format!("Host: {port}\r\n"), 403),
    ] {
        let mut wire = wire_from(source, port).await;
        wire.send(format!("GET /.mooring/state HTTP/1.1\r\n{lines}Origin: {origin}\r\n{upgrade}\r\n")).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {head}");
    }
    world.stop().await;
}

//! HTTP through the gateway: the request that the job gets, and the response that the client gets.

mod world;

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mooring_api::watch::Flow;
use mooring_types::gateway::{Protocol, Widget};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{Body, GET, Job, PATIENCE, Wire, World, server, text};

/// Responds with the request line, the headers, the length of the body and the trailers.
async fn mirror(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut said = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    said.push_str(&lines(&parts.headers));
    let (mut body, mut length, mut trailers) = (body, 0, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => length += data.len(),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => break,
        }
    }
    said.push_str(&format!("body {length}\n{}", lines(&trailers)));
    text(said)
}

fn lines(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or("?"))).collect()
}

async fn mirrored(protocol: Protocol) -> (World, Job, SocketAddr) {
    let mut world = World::new();
    let job = world.job(mirror).await;
    let port = world.connect(job.address, protocol, Flow::Open).await;
    (world, job, port)
}

#[tokio::test]
async fn requests_share_connection() {
    let (world, job, port) = mirrored(Protocol::Auto).await;
    let mut client = Wire::connect(port).await;
    for round in 0..50 {
        let answer = client.ask(format!("GET /{round} HTTP/1.1\r\nHost: example\r\n\r\n")).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body.starts_with(&format!("GET /{round} HTTP/1.1\n")), "{answer:?}");
    }
    assert_eq!((job.accepted(), job.requests()), (1, 50));
    world.stop().await;
}

#[tokio::test]
async fn forwarded_headers_name_real_client() {
    let (world, _job, port) = mirrored(Protocol::Http).await;
    let mut client = Wire::connect(port).await;
    let answer = client
        .ask(
            "GET /path?q=1 HTTP/1.1\r\nHost: lab.example:8888\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Scheme: https\r\n\
             Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
             TE: gzip\r\nCookie: a=b\r\n\r\n",
        )
        .await;
    let mut got: Vec<&str> = answer.body.lines().collect();
    got.sort_unstable();
    let port_line = format!("x-forwarded-port: {}", port.port());
    let mut expected = [
        "GET /path?q=1 HTTP/1.1",
        "body 0",
        "cookie: a=b",
        "host: lab.example:8888",
        "forwarded: for=127.0.0.1;proto=http",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: lab.example:8888",
        "x-forwarded-proto: http",
        "x-real-ip: 127.0.0.1",
        &port_line,
    ];
    expected.sort_unstable();
    assert_eq!(got, expected);
    world.stop().await;
}

#[tokio::test]
async fn hop_by_hop_headers_are_removed() {
    let mut world = World::new();
    let job = world
        .job(|_| async {
            let mut response = text("answer");
            for (name, value) in
                [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=1"), ("x-end", "1")]
            {
                response.headers_mut().insert(name, value.parse().expect("a value"));
            }
            response
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    for _ in 0..3 {
        let answer = client.ask(GET).await;
        assert_eq!((answer.status(), answer.body.as_str(), answer.header("x-end")), (200, "answer", Some("1")));
        for name in ["connection", "x-hop", "keep-alive"] {
            assert_eq!(answer.header(name), None);
        }
    }
    // The job closed each of its connections; the client's stayed.
    assert_eq!(job.accepted(), 3);
    world.stop().await;
}

#[tokio::test]
async fn closed_idle_connection_is_replaced() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for _ in 0..20 {
        client.send(GET).await;
        let mut job = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0;
        let mut head = [0; 16];
        job.read_exact(&mut head).await.unwrap();
        job.write_all(answer).await.unwrap();
        assert_eq!(client.receive().await.body, "ok");
        // The job closes the idle connection without a notice, as servers do.
        drop(job);
    }
    world.stop().await;
}

#[tokio::test]
async fn trailers_are_forwarded() {
    let mut world = World::new();
    let job = world
        .job(|request| async {
            let mut response = Response::new(request.into_body().boxed());
            response.headers_mut().insert("trailer", "x-sum".parse().expect("a value"));
            response
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let mut client = Wire::connect(port).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: example\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
    let mut body = String::new();
    while !body.ends_with("\r\n\r\n") {
        body.push(timeout(PATIENCE, client.0.read_u8()).await.unwrap().unwrap().into());
    }
    assert_eq!(body.to_lowercase(), "5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n");
    world.stop().await;
}

#[tokio::test]
async fn targets_arrive_as_they_were_sent() {
    let (world, port) = heads("", 0).await;
    let targets: [&[u8]; 12] = [
        b"/?ids=[\"a\"]",
        b"/?q=<b>",
        b"/`x`",
        b"/<x>",
        b"/?q=\xe9",
        b"/x#y",
        b"/#",
        b"/%2F%252F//a/../b?c=%;@~{}|^\\",
        "/ü".as_bytes(),
        b"/.well-known/\"",
        b"http://example/<x>?\"#y",
        b"*",
    ];
    for pieces in [1, 2, 40] {
        let mut client = Wire::connect(port).await;
        // A request of an older connection leaves nothing behind.
        for target in targets {
            let method: &[u8] = if target == b"*" { b"OPTIONS" } else { b"GET" };
            let request = [method, b" ", target, b" HTTP/1.1\r\nHost: example\r\n\r\n"].concat();
            for piece in request.chunks(request.len().div_ceil(pieces)) {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 200"), "{}: {head}", String::from_utf8_lossy(target));
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let mut got = vec![0; length.parse().expect("a number")];
            client.0.read_exact(&mut got).await.expect("a body");
            let path = target.strip_prefix(b"http://example").unwrap_or(target);
            let line = [method, b" ", path, b" HTTP/1.1\r\n"].concat();
            assert!(got.starts_with(&line), "{}", String::from_utf8_lossy(&got));
        }
    }
    for (target, byte) in [("/a b", "0x20"), ("/\t", "0x09"), ("/\u{7F}", "0x7F")] {
        let mut client = Wire::connect(port).await;
        let got = client.ask(format!("GET {target} HTTP/1.1\r\nHost: example\r\n\r\n")).await;
        assert!(got.status() == 400 && got.body.contains(byte), "{got:?}");
        assert_eq!(client.rest().await, b"");
    }
    world.stop().await;
}

#[tokio::test]
async fn trailers_need_no_announcement() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    world.change(|connection| connection.widget = Widget::Shown);
    let asked = "GET / HTTP/1.1\r\nHost: example\r\n";
    let navigation = "Accept: text/html,application/xhtml+xml,*/*\r\n";
    let coded = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n";
    let last = "0\r\nx-checksum: 5d41402a\r\nx-end: 1\r\n\r\n";
    let accept =
        async || Wire(tokio::io::BufReader::new(timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0));
    let until_end = async |wire: &mut Wire| {
        let mut got = String::new();
        while !got.ends_with(last) {
            let byte = timeout(PATIENCE, wire.0.read_u8()).await.unwrap();
            got.push(byte.unwrap_or_else(|_| panic!("only {got}")).into());
        }
        got
    };
    for (request, announced, body) in [
        ("", "", "5\r\nhello\r\n"),
        ("TE: trailers\r\n", "Trailer: x-checksum\r\n", "5\r\nhello\r\n"),
        // What looks like an end within a chunk is none.
        ("", "", "5\r\n0\r\n\r\n\r\n"),
        (navigation, "", "1B\r\n<!doctype html><html><head>\r\n"),
        ("Connection: close\r\n", "", ""),
    ] {
        let mut client = Wire::connect(port).await;
        client.send(format!("{asked}{request}\r\n")).await;
        let mut job = accept().await;
        job.head().await;
        job.send(format!("{coded}{announced}\r\n{body}{last}")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
        let got = until_end(&mut client).await;
        let is_page = request == navigation;
        assert!(if is_page { got.contains("widget.js") } else { got == format!("{body}{last}") }, "{got}");
    }

    // Trailers of a request pass as well.
    let mut client = Wire::connect(port).await;
    let begin = "POST / HTTP/1.1\r\nHost: example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    client.send(format!("{begin}{last}")).await;
    let mut job = accept().await;
    job.head().await;
    let got = until_end(&mut job).await;
    assert_eq!(got, format!("5\r\nhello\r\n{last}"));
    job.send(format!("{coded}\r\n{last}")).await;
    client.head().await;
    world.stop().await;
}

#[tokio::test]
async fn expect_100_continue() {
    let (world, _job, port) = mirrored(Protocol::Auto).await;
    let mut client = Wire::connect(port).await;
    client.send("PUT /x HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 100"));
    let answer = client.ask("hello").await;
    assert!(answer.status() == 200 && answer.body.contains("body 5"), "{answer:?}");
    world.stop().await;
}

#[tokio::test]
async fn http2_is_forwarded_as_http1() {
    let (world, job, port) = mirrored(Protocol::Auto).await;
    let io = TokioIo::new(TcpStream::connect(port).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    world.lifecycle.tasks().spawn("client", connection);
    let ask = |round: usize| {
        let mut sender = sender.clone();
        async move {
            let request = Request::get(format!("http://lab.example/{round}"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body(Empty::<Bytes>::new())
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
            String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
        }
    };
    let answers = timeout(PATIENCE, futures_util::future::join_all((0..60).map(ask))).await.unwrap();
    for (round, answer) in answers.iter().enumerate() {
        assert!(answer.starts_with(&format!("GET /{round} HTTP/1.1\n")), "{answer}");
        assert!(answer.contains("host: lab.example\n") && answer.contains("cookie: a=1; b=2\n"), "{answer}");
    }
    assert_eq!(job.requests(), 60);
    drop(sender);
    world.stop().await;
}

#[tokio::test]
async fn smuggling_is_refused() {
    let (world, job, port) = mirrored(Protocol::Http).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: example\r\n\r\n";
    for (headers, status) in [
        ("Host: a\r\nContent-Length: 5\r\nContent-Length: 6", 400),
        ("Host: a\r\nContent-Length: 5\r\nContent-Length: 5", 400),
        ("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Host: a\r\nContent-Length: +5", 400),
        ("Host: a\r\nTransfer-Encoding: chunked, identity", 400),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked", 501),
        ("Host: a\r\nHost: b", 400),
        ("Host: a\r\nContent-Length : 5", 400),
        ("X-No-Host: a", 400),
    ] {
        let mut client = Wire::connect(port).await;
        let answer = client.ask(format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n0\r\n\r\n{smuggled}")).await;
        assert_eq!(answer.status(), status, "{headers}: {answer:?}");
        assert_eq!(client.rest().await, b"", "{headers}");
    }
    assert_eq!(job.requests(), 0);
    world.stop().await;
}

#[tokio::test]
async fn request_head_limits() {
    let (world, job, port) = mirrored(Protocol::Auto).await;
    let lines = |count: usize| (0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    for (request, status, reason) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), 414, "65534 bytes"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(530_000)), 431, "524288 bytes"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(1000)), 431, "1000 header lines"),
    ] {
        let mut client = Wire::connect(port).await;
        let answer = client.ask(request).await;
        assert!(answer.status() == status && answer.body.contains(reason), "{answer:?}");
        client.rest().await;
    }
    // Heads within the limits are forwarded, one after the other.
    let mut client = Wire::connect(port).await;
    for (round, head) in [
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(60_000)),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(80)),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!((client.ask(head).await.status(), job.requests()), (200, round + 1));
    }
    world.stop().await;
}

/// A job that answers with the head that it got, behind a head of its own.
async fn heads(own: &'static str, count: usize) -> (World, SocketAddr) {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    let stop = world.lifecycle.soft().clone();
    world.lifecycle.tasks().spawn("job", async move {
        while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
            let (mut job, mut head) = (tokio::io::BufReader::new(stream), Vec::new());
            while !head.ends_with(b"\r\n\r\n") && job.read_until(b'\n', &mut head).await.expect("a head") > 0 {}
            let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n", head.len(), own.repeat(count));
            // A head that is too large is not read to its end.
            let _ = job.write_all(&[begin.as_bytes(), &head].concat()).await;
        }
    });
    (world, port)
}

#[tokio::test]
async fn heads_of_a_job_and_of_its_clients_have_one_limit() {
    let many: String = (0..990).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (own, count, request) in [
        ("Server-Timing: a;dur=1\r\n", 999, format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        ("X: 0123456789\r\n", 900, format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(520_000))),
    ] {
        let (world, port) = heads(own, count).await;
        let got = Wire::connect(port).await.ask(&request).await;
        assert_eq!(got.status(), 200, "{}", got.body);
        assert_eq!(got.head.lines().filter(|line| line.eq_ignore_ascii_case(own.trim())).count(), count);
        assert!(got.body.len() > request.len(), "the job has got all lines");
        world.stop().await;
    }
    let long: &str = Box::leak(format!("X-Long: {}\r\n", "x".repeat(500_000)).into_boxed_str());
    for (own, count, fits) in [(long, 1, true), (long, 2, false), ("A: b\r\n", 1000, false)] {
        let (world, port) = heads(own, count).await;
        let navigation = "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n";
        for request in [GET, navigation] {
            let got = Wire::connect(port).await.ask(request).await;
            assert_eq!(got.status(), if fits { 200 } else { 503 });
            if !fits {
                assert!(got.body.contains("head of more than 524288 bytes or 1000 lines"), "{}", got.body);
                assert_eq!(got.header("retry-after"), None);
            }
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn garbage_gets_400() {
    let (world, _job, port) = mirrored(Protocol::Http).await;
    // PROPTEST_CASES sets the number of connections.
    let mut runner = TestRunner::default();
    let noise = prop::collection::vec(any::<u8>(), 1..600);
    let almost = "(GET|POST|[A-Z]{1,9}) [/ -~]{0,30} HTTP/1.1\r\n([ -~]{0,20}:[ -~]{0,20}\r\n){0,5}\r\n[ -~]{0,40}";
    let strategy = prop_oneof![noise, almost.prop_map(String::into_bytes)];
    for _ in 0..runner.config().cases {
        let bytes = strategy.new_tree(&mut runner).unwrap().current();
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("the connection is closed");
        assert!(ended.is_ok() || answer.is_empty());
        let text = String::from_utf8_lossy(&answer);
        let expected = ["HTTP/1.1 2", "HTTP/1.1 4", "HTTP/1.0 2", "HTTP/1.0 4", "HTTP/1.1 501"];
        assert!(text.is_empty() || expected.iter().any(|start| text.starts_with(start)), "{bytes:?}: {text}");
    }
    let mut client = Wire::connect(port).await;
    let answer = client.ask("\x16\x03\x01\x02 no http at all\r\n\r\n").await;
    assert_eq!((answer.status(), client.rest().await.len()), (400, 0));
    assert_eq!(Wire::connect(port).await.ask(GET).await.status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn auto_other_bytes_are_tunnelled() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    for first in [&b"SSH-2.0-client\r\n"[..], b"GET", b"\x00\x01\x02", b"PING\r\n"] {
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_all(first).await.unwrap();
        let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let mut got = vec![0; first.len()];
        timeout(PATIENCE, job.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(got, first);
        job.write_all(b"answer").await.unwrap();
        let mut got = [0; 6];
        timeout(PATIENCE, client.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(&got, b"answer");
    }
    world.stop().await;
}

#[tokio::test]
async fn auto_early_end_is_tunnelled() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    for first in [&b""[..], b"GE", b"GET / HTTP/1.1"] {
        let mut client = TcpStream::connect(port).await.unwrap();
        client.write_all(first).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let mut got = Vec::new();
        timeout(PATIENCE, job.read_to_end(&mut got)).await.unwrap().unwrap();
        assert_eq!(got, first);
    }
    world.stop().await;
}

#[tokio::test]
async fn auto_server_speaks_first() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Auto, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    job.write_all(b"220 ready\r\n").await.unwrap();
    let mut got = [0; 11];
    timeout(PATIENCE, client.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"220 ready\r\n");
    world.stop().await;
}

#[tokio::test]
async fn auto_silent_client_speaks_http() {
    let (world, job, port) = mirrored(Protocol::Auto).await;
    let mut client = Wire::connect(port).await;
    // A browser connects before it has a request; meanwhile the job is connected.
    world.until(|_| job.accepted() == 1).await;
    let answer = client.ask(GET).await;
    assert!(answer.body.contains("x-forwarded-for: 127.0.0.1"), "{answer:?}");
    assert_eq!(job.accepted(), 1);
    // A request line may come in pieces.
    let mut client = Wire::connect(port).await;
    client.send("GE").await;
    tokio::task::yield_now().await;
    client.send("T / HTTP/1").await;
    tokio::task::yield_now().await;
    let answer = client.ask(".1\r\nHost: example\r\n\r\n").await;
    assert!(answer.body.contains("x-forwarded-for: 127.0.0.1"), "{answer:?}");
    world.stop().await;
}

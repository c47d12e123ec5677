//! Which clients of a suspended job are callers, and what the others are told.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use mooring_types::gateway::{Protocol, WakeOn, Widget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use world::{Body, Wire, World, held, text};

/// Longer than a client has to stay to be a caller.
const MOMENT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(10);

const CHROME: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36\r\n";
const PAGE: &str =
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\n";
/// The beginning of a hello of TLS.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

async fn answer(_: Request<Incoming>) -> Response<Body> {
    text("answered")
}

/// A suspended job.
async fn suspended(protocol: Protocol, wake_on: WakeOn) -> (World, SocketAddr) {
    let mut world = World::new();
    let job = world.job(answer).await;
    let port = world.connect(job.address, protocol, held()).await;
    world.change(|connection| connection.wake_on = wake_on);
    world.suspend();
    (world, port)
}

fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: example\r\n{headers}\r\n")
}

/// Waits until there is a caller, or no longer; returns it.
async fn caller(world: &World) -> Option<String> {
    let appears = async {
        loop {
            match world.caller() {
                Some(caller) => return caller,
                None => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(MOMENT, appears).await.ok()
}

async fn nobody_calls(world: &World) {
    timeout(LIMIT, async {
        while world.caller().is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the caller is gone");
}

/// Sends bytes over a connection of its own; returns whether that wakes the job, and whether the
/// client is answered or closed at once.
async fn outcome(world: &World, port: SocketAddr, sent: impl AsRef<[u8]>) -> (bool, bool) {
    nobody_calls(world).await;
    let mut client = Wire::connect(port).await;
    client.send(sent).await;
    let caller = caller(world).await;
    let is_told = !client.is_quiet().await;
    client.reset();
    (caller.is_some(), is_told)
}

#[tokio::test]
async fn kinds_of_clients_are_told_apart() {
    let head = |agent: &str| request("GET /health", &format!("User-Agent: {agent}\r\n"));
    let of_browser = |line: &str, headers: &str| request(line, &format!("{CHROME}{headers}"));
    let kinds = [
        ("silence", String::new(), (false, false)),
        ("half a word", "GE".to_owned(), (false, false)),
        ("half a line", "GET /hea".to_owned(), (false, false)),
        ("half a head", "GET /health HTTP/1.1\r\nHost: a\r\n".to_owned(), (false, false)),
        ("HEAD", request("HEAD /health", ""), (false, true)),
        ("OPTIONS", "OPTIONS / HTTP/1.0\r\n\r\n".to_owned(), (false, true)),
        ("kubelet", head("kube-probe/1.31"), (false, true)),
        ("fetch", of_browser("GET /tick", "Accept: */*\r\n"), (false, true)),
        ("beacon", of_browser("POST /tick", "Accept: */*\r\nContent-Length: 0\r\n"), (false, true)),
        ("events", of_browser("GET /tick", "Accept: text/event-stream\r\n"), (false, true)),
        ("socket", of_browser("GET /ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n"), (false, true)),
        ("page", of_browser("GET /", PAGE), (true, false)),
        ("form", of_browser("POST /", &format!("{PAGE}Content-Length: 0\r\n")), (true, false)),
        ("program", request("GET /api/jobs", "Accept: application/json\r\n"), (true, false)),
        ("upload", request("POST /api/jobs", "Content-Length: 9\r\n"), (true, false)),
    ];
    for protocol in [Protocol::Auto, Protocol::Http] {
        let (world, port) = suspended(protocol, WakeOn::Request).await;
        for (kind, sent, expected) in &kinds {
            assert_eq!(outcome(&world, port, sent).await, *expected, "{kind} at {protocol}");
        }
        world.stop().await;
    }
    let (world, port) = suspended(Protocol::Tcp, WakeOn::Request).await;
    for (kind, sent, _) in &kinds {
        let wakes = !sent.is_empty();
        assert_eq!(outcome(&world, port, sent).await, (wakes, false), "{kind} at a raw port");
    }
    assert_eq!(outcome(&world, port, HELLO).await, (true, false));
    world.stop().await;
}

#[tokio::test]
async fn other_rules_wake_for_fewer_and_for_all() {
    let (world, port) = suspended(Protocol::Auto, WakeOn::Page).await;
    let program = request("GET /api/jobs", "");
    assert_eq!(outcome(&world, port, &program).await, (false, true));
    assert_eq!(outcome(&world, port, "SSH-2.0-client\r\n").await, (false, true));
    assert_eq!(outcome(&world, port, request("GET /", &format!("{CHROME}{PAGE}"))).await, (true, false));
    world.stop().await;
    for protocol in [Protocol::Auto, Protocol::Http, Protocol::Tcp] {
        let (world, port) = suspended(protocol, WakeOn::Connection).await;
        assert_eq!(outcome(&world, port, "").await, (true, false), "silence at {protocol}");
        assert_eq!(outcome(&world, port, request("HEAD /", "")).await, (true, false), "{protocol}");
        world.stop().await;
    }
}

#[tokio::test]
async fn client_that_has_gone_wakes_nothing() {
    let program = request("GET /api/jobs", "");
    for (protocol, wake_on, sent) in [
        (Protocol::Auto, WakeOn::Request, ""),
        (Protocol::Auto, WakeOn::Request, program.as_str()),
        (Protocol::Auto, WakeOn::Request, "SSH-2.0-client\r\n"),
        (Protocol::Http, WakeOn::Request, program.as_str()),
        (Protocol::Tcp, WakeOn::Request, ""),
        (Protocol::Tcp, WakeOn::Request, "hello"),
        (Protocol::Tcp, WakeOn::Connection, ""),
    ] {
        let (world, port) = suspended(protocol, wake_on).await;
        let mut ends = TcpStream::connect(port).await.unwrap();
        ends.write_all(sent.as_bytes()).await.unwrap();
        ends.shutdown().await.unwrap();
        assert_eq!(caller(&world).await, None, "{protocol} {wake_on} {sent:?}");
        let mut resets = Wire::connect(port).await;
        resets.send(sent).await;
        resets.reset();
        assert_eq!(caller(&world).await, None, "{protocol} {wake_on} {sent:?}");
        world.stop().await;
    }
    // One that called is no caller any more.
    let (world, port) = suspended(Protocol::Auto, WakeOn::Request).await;
    let mut client = Wire::connect(port).await;
    client.send(&program).await;
    assert!(caller(&world).await.is_some());
    client.reset();
    nobody_calls(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn caller_is_told_by_method_path_and_address() {
    let (mut world, port) = suspended(Protocol::Auto, WakeOn::Request).await;
    let mut client = Wire::connect(port).await;
    client.send("GET /api/jobs?token=f00 HTTP/1.1\r\n").await;
    assert_eq!(caller(&world).await, None);
    client.send("Host: example\r\n\r\n").await;
    assert_eq!(caller(&world).await.as_deref(), Some("GET /api/jobs from 127.0.0.1"));
    // The request that woke the job is answered by it.
    world.open();
    assert_eq!(client.receive().await.body, "answered");
    assert_eq!(world.caller(), None);
    world.suspend();
    let mut raw = Wire::connect(port).await;
    raw.send("SSH-2.0-client\r\n").await;
    assert_eq!(caller(&world).await.as_deref(), Some("a connection from 127.0.0.1"));
    world.slice.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    world.apply();
    raw.reset();
    nobody_calls(&world).await;
    client.send(request("POST /api/jobs", "Content-Length: 9\r\nX-Forwarded-For: 127.0.0.7\r\n")).await;
    assert_eq!(caller(&world).await.as_deref(), Some("POST /api/jobs from 127.0.0.7"));
    world.stop().await;
}

#[tokio::test]
async fn waiting_request_that_does_not_wake_is_refused_at_the_suspend() {
    let (mut world, port) = suspended(Protocol::Auto, WakeOn::Request).await;
    world.hold();
    let (mut page, mut person) = (Wire::connect(port).await, Wire::connect(port).await);
    page.send(request("GET /tick", &format!("{CHROME}Accept: */*\r\n"))).await;
    person.send(request("GET /", &format!("{CHROME}{PAGE}"))).await;
    assert!(page.is_quiet().await && person.is_quiet().await && world.caller().is_none());
    world.suspend();
    let told = page.receive().await;
    assert_eq!((told.status(), told.header("retry-after")), (503, Some("5")));
    assert!(told.body.contains("is not woken by this request"), "{}", told.body);
    assert_eq!(caller(&world).await.as_deref(), Some("GET / from 127.0.0.1"));
    world.open();
    assert_eq!(person.receive().await.body, "answered");
    world.stop().await;
}

#[tokio::test]
async fn request_that_was_no_use_does_not_wake() {
    let (mut world, port) = suspended(Protocol::Auto, WakeOn::Request).await;
    world.change(|connection| connection.idle_seconds = Some(60));
    world.open();
    let mut client = Wire::connect(port).await;
    let poll = |number: u32| request(&format!("GET /status?n={number}"), "User-Agent: watcher/1\r\n");
    for number in 0..3 {
        assert_eq!(client.ask(poll(number)).await.body, "answered");
    }
    world.change(|connection| connection.is_idle = true);
    world.suspend();
    for number in 3..6 {
        let told = client.ask(poll(number)).await;
        assert_eq!((told.status(), told.header("retry-after")), (503, Some("5")));
    }
    assert_eq!(world.caller(), None);
    for (line, headers) in
        [("GET /status", "User-Agent: other/1\r\n"), ("POST /status", "Content-Length: 0\r\n"), ("GET /other", "")]
    {
        assert_eq!(outcome(&world, port, request(line, headers)).await, (true, false), "{line}");
    }
    // A user has suspended it: the poll is a request like any other.
    nobody_calls(&world).await;
    world.change(|connection| connection.is_idle = false);
    client.send(poll(6)).await;
    assert!(caller(&world).await.is_some());
    world.stop().await;
}

/// Answers a hello with one of its own.
async fn tls_job() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut hello = [0; HELLO.len()];
            if client.read_exact(&mut hello).await.is_ok() && client.write_all(HELLO).await.is_ok() {
                // The client may read it.
                let _ = client.read(&mut hello).await;
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn tls_wakes_a_job_that_was_seen_to_speak_it() {
    let mut world = World::new();
    let (job, _tasks) = tls_job().await;
    let port = world.connect(job, Protocol::Auto, held()).await;
    world.suspend();
    assert_eq!(outcome(&world, port, HELLO).await, (false, true));
    world.open();
    let mut client = Wire::connect(port).await;
    client.send(HELLO).await;
    let mut answer = [0; HELLO.len()];
    client.0.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, HELLO);
    client.reset();
    world.suspend();
    assert_eq!(outcome(&world, port, HELLO).await, (true, false));
    world.stop().await;
}

#[tokio::test]
async fn waiting_page_of_a_suspended_job_does_not_load_itself() {
    for widget in [Widget::Shown, Widget::Hidden] {
        let (mut world, port) = suspended(Protocol::Auto, WakeOn::Request).await;
        world.change(|connection| {
            (connection.widget, connection.hold_limits.page_seconds) = (widget, 0);
        });
        let mut browser = Wire::connect(port).await;
        let page = browser.ask(request("GET /", &format!("{CHROME}{PAGE}"))).await;
        assert_eq!((page.status(), page.header("retry-after")), (503, Some("2")));
        assert!(page.body.contains("data-mooring-waiting=\"Suspended\""), "{}", page.body);
        assert!(!page.body.contains("http-equiv=\"refresh\""), "{}", page.body);
        assert!(page.body.contains("<a href=\"\">Load this page again</a>"), "{}", page.body);
        browser.send(request("HEAD /", "")).await;
        let looks = browser.head().await;
        assert!(looks.starts_with("HTTP/1.1 503") && looks.contains("proxy-status: mooring"), "{looks}");
        world.stop().await;
    }
}

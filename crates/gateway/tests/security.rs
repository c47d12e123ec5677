//! Inbound rules: clients that are allowed, and those that are not any more. Requests for other
//! hosts, and endpoints that no external job may have.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use mooring_api::watch::{Flow, Target};
use mooring_types::gateway::{Protocol, Widget};
use mooring_types::security::InboundRule;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use world::{GET, PATIENCE, QUIET, Wire, World, server, text};

fn rules(texts: &[&str]) -> Vec<InboundRule> {
    texts.iter().map(|text| text.parse().expect("a rule")).collect()
}

async fn connect_from(source: &str, port: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{source}:0").parse().expect("an address")).expect("an address of loopback");
    socket.connect(port).await.expect("a connection")
}

async fn is_reset(client: &mut TcpStream) -> bool {
    let seen = timeout(PATIENCE, client.read_u8()).await.expect("an end in time");
    seen.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn forbidden_client_is_reset() {
    for protocol in [Protocol::Tcp, Protocol::Http, Protocol::Auto] {
        let mut world = World::new();
        world.slice.rules = rules(&["tcp:*:127.0.0.2/32"]);
        let (listener, target) = server().await;
        let port = world.connect(target, protocol, Flow::Open).await;
        let mut client = connect_from("127.0.0.1", port).await;
        let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(is_reset(&mut client).await);
        assert!(timeout(QUIET, listener.accept()).await.is_err());
        assert_eq!(world.clients(), 0);
        let mut allowed = connect_from("127.0.0.2", port).await;
        allowed.write_all(b"\0").await.unwrap();
        if protocol != Protocol::Http {
            timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn no_rule_allows_nobody() {
    let mut world = World::new();
    world.slice.rules.clear();
    let (_listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    assert!(is_reset(&mut TcpStream::connect(port).await.unwrap()).await);
    world.stop().await;
}

#[tokio::test]
async fn removed_rule_resets_its_clients() {
    let mut world = World::new();
    let (first, second, both) = ("tcp:*:127.0.0.1/32", "tcp:*:127.0.0.2/32", "tcp:*:127.0.0.2/31");
    world.slice.rules = rules(&[first, second, both]);
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut pairs = Vec::new();
    for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        let client = connect_from(source, port).await;
        pairs.push((client, timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0));
    }
    async fn goes_on((client, job): &mut (TcpStream, TcpStream)) {
        client.write_u8(7).await.unwrap();
        assert_eq!(timeout(PATIENCE, job.read_u8()).await.unwrap().unwrap(), 7);
        job.write_u8(8).await.unwrap();
        assert_eq!(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap(), 8);
    }
    // Another rule still allows the second client.
    world.slice.rules = rules(&[first, both]);
    world.apply();
    for pair in &mut pairs {
        goes_on(pair).await;
    }
    world.slice.rules = rules(&[first]);
    world.apply();
    goes_on(&mut pairs[0]).await;
    for (client, job) in &mut pairs[1..] {
        assert!(is_reset(client).await);
        assert!(timeout(PATIENCE, job.read_u8()).await.unwrap().is_err());
    }
    world.until(|world| world.clients() == 1).await;
    // A client that is allowed again may connect again; the port stayed open.
    world.slice.rules = rules(&[first, second]);
    world.apply();
    let client = connect_from("127.0.0.2", port).await;
    let mut pair = (client, timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0);
    goes_on(&mut pair).await;
    world.stop().await;
}

#[tokio::test]
async fn reset_of_forbidden_client_is_deferred() {
    let mut world = World::new();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = TcpStream::connect(port).await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    world.hold();
    world.slice.rules.clear();
    world.apply();
    assert!(is_reset(&mut client).await);
    // Nothing is sent while the gate is closed, not even a reset.
    assert!(timeout(Duration::from_millis(300), job.read_u8()).await.is_err());
    world.open();
    assert!(timeout(PATIENCE, job.read_u8()).await.unwrap().is_err());
    world.stop().await;
}

/// Names under which pages of other sites can have the gateway's address.
const SITES: [&str; 4] = ["evil.example", "evil.example:10000", "EVIL.example.", "192.0.2.1.evil.example"];

#[tokio::test]
async fn request_for_another_host_is_refused() {
    let mut world = World::new();
    world.slice.host_names = vec!["lab.example".parse().unwrap()];
    let job = world.job(|_| async { text("answer") }).await;
    let port = world.connect(job.address, Protocol::Auto, Flow::Open).await;
    world.change(|connection| connection.widget = Widget::Shown);
    for site in SITES {
        for request in [
            format!("GET / HTTP/1.1\r\nHost: {site}\r\n\r\n"),
            format!("GET /.mooring/widget.js HTTP/1.1\r\nHost: {site}\r\n\r\n"),
            format!("GET http://{site}/ HTTP/1.1\r\nHost: lab.example\r\n\r\n"),
            format!("GET http://lab.example/ HTTP/1.1\r\nHost: {site}\r\n\r\n"),
        ] {
            let got = Wire::connect(port).await.ask(&request).await;
            assert!(got.status() == 421 && got.body.contains("`--gateway-host`"), "{request}: {got:?}");
        }
    }
    assert_eq!(job.requests(), 0);
    for host in ["lab.example:10000", "127.0.0.1", "[::1]:10000", "localhost:10000", "lab"] {
        let got = Wire::connect(port).await.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(got.status(), 200, "{host}");
    }
    world.stop().await;
}

#[tokio::test]
async fn rules_are_for_the_client_behind_a_trusted_proxy() {
    let mut world = World::new();
    world.slice.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    world.slice.rules = rules(&["tcp:*:127.0.0.1/32", "tcp:*:192.0.2.0/24"]);
    let job = world.job(|_| async { text("answer") }).await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    for (client, status) in [("192.0.2.7", 200), ("198.51.100.7", 403), ("192.0.2.7, 198.51.100.7", 403)] {
        let request = format!("GET / HTTP/1.1\r\nHost: lab\r\nX-Forwarded-For: {client}\r\n\r\n");
        assert_eq!(Wire::connect(port).await.ask(request).await.status(), status, "{client}");
    }
    // Without trust it is the proxy that asks.
    world.slice.trusted_proxies.clear();
    world.apply();
    let request = "GET / HTTP/1.1\r\nHost: lab\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n";
    assert_eq!(Wire::connect(port).await.ask(request).await.status(), 200);
    assert_eq!(job.requests(), 2);
    world.stop().await;
}

#[tokio::test]
async fn endpoints_are_checked_when_they_are_resolved() {
    let mut world = World::new();
    let job = world.job(|_| async { text("answer") }).await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    // Not one of these is an address as a text, so that each is resolved.
    for host in ["localhost", "0x7f000001", "0x0"] {
        let endpoint = format!("{host}:{}", job.address.port()).parse().expect("an endpoint");
        world.change(|connection| connection.target = Target::Endpoints(vec![endpoint]));
        let got = Wire::connect(port).await.ask(GET).await;
        assert_eq!((got.status(), job.requests()), (503, 0), "{host}");
    }
    world.slice.endpoints.allowed = vec!["127.0.0.0/8".parse().expect("a range")];
    world.change(|connection| {
        let endpoint = format!("0x7f000001:{}", job.address.port()).parse().expect("an endpoint");
        connection.target = Target::Endpoints(vec![endpoint]);
    });
    assert_eq!(Wire::connect(port).await.ask(GET).await.status(), 200);
    world.stop().await;
}

//! TLS on the ports of a gateway, with clients of rustls: certificates and ALPN; HTTP, WebSockets
//! and bytes over it. Then refusals, and changes under open connections.

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::{Flow, GivenCertificate, TlsDirective};
use mooring_gateway::budget::{Budgets, Limits};
use mooring_gateway::tls::HANDSHAKE_TIMEOUT;
use mooring_types::gateway::Protocol;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use world::{GET, PATIENCE, QUIET, Wire, World, held, server, text};

type Secured = TlsStream<TcpStream>;

/// A user's certificate for some names.
fn made(names: &[&str]) -> GivenCertificate {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
    GivenCertificate { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn directive(certificates: &[&GivenCertificate]) -> Option<TlsDirective> {
    Some(TlsDirective { names: Vec::new(), certificates: certificates.iter().map(|&one| one.clone()).collect() })
}

/// A world whose ports have a certificate for `127.0.0.1` and `localhost`.
fn world() -> (World, GivenCertificate) {
    let (mut world, certificate) = (World::new(), made(&["127.0.0.1", "localhost"]));
    world.slice.tls = directive(&[&certificate]);
    (world, certificate)
}

fn der(certificate: &GivenCertificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).expect("a certificate")
}

fn config(believed: &[&GivenCertificate], alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in believed {
        roots.add(der(certificate)).expect("a root");
    }
    let mut config = ClientConfig::builder_with_provider(mooring_tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn connect_as(port: SocketAddr, name: &str, config: ClientConfig) -> std::io::Result<Secured> {
    let stream = TcpStream::connect(port).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("a handshake in time")
}

async fn connect(port: SocketAddr, believed: &GivenCertificate) -> Secured {
    connect_as(port, "127.0.0.1", config(&[believed], &[])).await.expect("a connection")
}

/// The head of the next response.
async fn head(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, client.read_u8()).await.expect("a response in time").expect("a response"));
    }
    String::from_utf8(head).expect("text")
}

async fn rest(client: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("an end in time").expect("an end");
    rest
}

/// A job that sends back what it receives, and ends when its client ends.
async fn echo(world: &World) -> SocketAddr {
    let (listener, address) = server().await;
    let (tasks, stop) = (world.lifecycle.tasks().clone(), world.lifecycle.soft().clone());
    world.lifecycle.tasks().spawn("job", async move {
        loop {
            let mut stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted.expect("a connection").0,
            };
            let stop = stop.clone();
            tasks.spawn("echo", async move {
                let (mut read, mut write) = stream.split();
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = tokio::io::copy(&mut read, &mut write) => {
                        let _ = write.shutdown().await;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn job_learns_that_its_client_speaks_tls() {
    let (mut world, certificate) = world();
    let job = world
        .job(|request| async move {
            let of = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
            text(format!("{} {} {}", of("x-forwarded-proto"), of("x-forwarded-port"), of("forwarded")))
        })
        .await;
    for protocol in [Protocol::Http, Protocol::Auto, Protocol::Tcp] {
        let port = world.connect(job.address, protocol, Flow::Open).await;
        let mut client = connect(port, &certificate).await;
        // Two requests on one connection.
        for _ in 0..2 {
            client.write_all(GET.as_bytes()).await.unwrap();
            let head = head(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let expected = format!("https {} for=127.0.0.1;proto=https;host=example", port.port());
            let mut body = vec![0; expected.len()];
            client.read_exact(&mut body).await.unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), expected, "{protocol}");
        }
        client.shutdown().await.unwrap();
        assert!(rest(&mut client).await.is_empty());
    }
    world.stop().await;
}

#[tokio::test]
async fn name_that_a_client_asks_for_selects_the_certificate() {
    let mut world = World::new();
    let (lab, any, address) = (made(&["lab.example.org"]), made(&["*.example.org"]), made(&["127.0.0.1"]));
    world.slice.tls = directive(&[&lab, &any, &address]);
    let target = echo(&world).await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    for (name, expected) in [("lab.example.org", &lab), ("two.example.org", &any), ("127.0.0.1", &address)] {
        let client = connect_as(port, name, config(&[&lab, &any, &address], &[])).await.expect(name);
        assert_eq!(client.get_ref().1.peer_certificates().unwrap(), [der(expected)], "{name}");
    }
    let error = connect_as(port, "elsewhere.net", config(&[&lab, &any, &address], &[])).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn client_chooses_what_the_gateway_can_speak() {
    let (mut world, certificate) = world();
    let job = world.job(|_| async { text("hello") }).await;
    let chosen =
        |client: &Secured| client.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    for protocol in [Protocol::Http, Protocol::Auto, Protocol::Tcp] {
        let port = world.connect(job.address, protocol, Flow::Open).await;
        for (offered, expected) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&["http/0.9", "http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let client = connect_as(port, "localhost", config(&[&certificate], offered)).await.unwrap();
            assert_eq!(chosen(&client).as_deref(), expected, "{protocol} {offered:?}");
        }
        let other = connect_as(port, "localhost", config(&[&certificate], &["postgresql"])).await;
        // A port for HTTP alone knows what its job speaks.
        assert_eq!(other.is_err(), protocol == Protocol::Http, "{protocol}");
        assert!(other.is_err() || chosen(&other.unwrap()).is_none());
    }
    world.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_over_tls() {
    let (mut world, certificate) = world();
    let job = world
        .job(|request| async move {
            let scheme = request.headers().get("x-forwarded-proto").cloned();
            text(scheme.map(|scheme| scheme.as_bytes().to_vec()).unwrap_or_default())
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let client = connect_as(port, "localhost", config(&[&certificate], &["h2"])).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(client);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let serving = world.lifecycle.tasks().spawn("client", async move {
        let _ = connection.await;
    });
    for _ in 0..3 {
        let request = hyper::Request::get(format!("https://localhost:{}/", port.port()));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert_eq!(&body[..], b"https");
    }
    drop(sender);
    let _ = serving.await;
    world.stop().await;
}

#[tokio::test]
async fn tls_1_2_is_spoken_and_nothing_older() {
    let (mut world, certificate) = world();
    let target = echo(&world).await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    for (version, expected) in [
        (&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut roots = RootCertStore::empty();
        roots.add(der(&certificate)).unwrap();
        let config = ClientConfig::builder_with_provider(mooring_tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = connect_as(port, "localhost", config).await.unwrap();
        assert_eq!(client.get_ref().1.protocol_version(), Some(expected));
        client.write_all(b"over it").await.unwrap();
        let mut back = [0; 7];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"over it");
    }
    // The hello of a client of TLS 1.0, with one cipher.
    let mut old = TcpStream::connect(port).await.unwrap();
    let mut hello = vec![0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0, 0, 0]);
    old.write_all(&hello).await.unwrap();
    let answer = rest(&mut old).await;
    // An alert, and the end.
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    world.stop().await;
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_is_carried_over() {
    let (mut world, certificate) = world();
    let target = echo(&world).await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = connect(port, &certificate).await;
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut read, mut write) = tokio::io::split(&mut client);
    let send = async {
        write.write_all(&sent).await.unwrap();
        // The client ends its direction, and goes on to receive.
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let receive = async {
        read.read_to_end(&mut back).await.unwrap();
    };
    timeout(PATIENCE, async { tokio::join!(send, receive) }).await.expect("all bytes in time");
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
    world.until(|world| world.clients() == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn job_that_speaks_first_is_heard_and_its_end_is_one() {
    let (mut world, certificate) = world();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = connect(port, &certificate).await;
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    job.write_all(b"220 ready\r\n").await.unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).await.unwrap();
    // A request of HTTP now may not reach it: it could have cookies.
    job.shutdown().await.unwrap();
    // `read_to_end` of rustls fails without `close_notify`.
    assert!(rest(&mut client).await.is_empty());
    client.write_all(b"after the end").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut job).await, b"after the end");
    world.stop().await;
}

#[tokio::test]
async fn reset_of_a_job_is_one_to_its_client() {
    let (mut world, certificate) = world();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = connect(port, &certificate).await;
    client.write_all(b"hello").await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    job.read_exact(&mut [0; 5]).await.unwrap();
    job.set_zero_linger().unwrap();
    drop(job);
    let seen = timeout(PATIENCE, client.read_u8()).await.expect("an end in time").unwrap_err();
    assert!(matches!(seen.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof), "{seen:?}");
    world.stop().await;
}

#[tokio::test]
async fn open_connection_outlives_a_new_certificate_and_the_end_of_tls() {
    let (mut world, first) = world();
    let target = echo(&world).await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = connect(port, &first).await;
    let mut speaks = async |what: &[u8]| {
        client.write_all(what).await.unwrap();
        let mut back = vec![0; what.len()];
        timeout(PATIENCE, client.read_exact(&mut back)).await.expect("an echo in time").unwrap();
        assert_eq!(back, what);
    };
    speaks(b"first").await;
    let second = made(&["127.0.0.1", "localhost"]);
    world.slice.tls = directive(&[&second]);
    world.apply();
    speaks(b"second").await;
    // New connections have the new certificate at once.
    assert!(connect_as(port, "127.0.0.1", config(&[&first], &[])).await.is_err());
    connect(port, &second).await;
    world.slice.tls = None;
    world.apply();
    speaks(b"third").await;
    let mut plain = Wire::connect(port).await;
    plain.send("plain").await;
    let mut back = [0; 5];
    plain.0.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"plain");
    world.stop().await;
}

#[tokio::test]
async fn bytes_are_held_while_the_job_floats() {
    let (mut world, certificate) = world();
    let target = echo(&world).await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = connect(port, &certificate).await;
    client.write_all(b"a").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    world.hold();
    client.write_all(b"held").await.unwrap();
    let mut back = [0; 4];
    assert!(timeout(QUIET, client.read_u8()).await.is_err());
    world.open();
    timeout(PATIENCE, client.read_exact(&mut back)).await.expect("the bytes in time").unwrap();
    assert_eq!(&back, b"held");
    world.stop().await;
}

#[tokio::test]
async fn websocket_is_closed_in_its_own_way_when_the_job_is_replaced() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let (mut world, certificate) = world();
    let (listener, target) = server().await;
    world.lifecycle.tasks().spawn("job", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let port = world.connect(target, Protocol::Http, Flow::Open).await;
    let client = connect_as(port, "localhost", config(&[&certificate], &["http/1.1"])).await.unwrap();
    let url = format!("wss://localhost:{}/", port.port());
    let (mut socket, _) = tokio_tungstenite::client_async(url, client).await.unwrap();
    for word in ["one", "two"] {
        socket.send(Message::text(word)).await.unwrap();
        assert_eq!(timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap(), Message::text(word));
    }
    world.change(|connection| connection.epoch += 1);
    let close = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(frame)) = close else { panic!("{close:?}") };
    assert_eq!(u16::from(frame.code), 1012);
    drop(socket);
    world.stop().await;
}

#[tokio::test]
async fn plain_http_is_sent_to_https() {
    let (mut world, _certificate) = world();
    world.slice.host_names = vec!["*.example.org".parse().unwrap()];
    world.slice.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
    let job = world.job(|_| async { text("not over plain HTTP") }).await;
    for protocol in [Protocol::Http, Protocol::Auto, Protocol::Tcp] {
        let port = world.connect(job.address, protocol, Flow::Open).await;
        let ask = async |request: String| Wire::connect(port).await.ask(request).await;
        let request =
            |host: &str, target: &str| format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n");
        let there = ask(request("lab.example.org:10000", "/lab?token=a%20b")).await;
        assert_eq!(there.status(), 308, "{there:?}");
        assert_eq!(there.header("location"), Some("https://lab.example.org:10000/lab?token=a%20b"));
        assert_eq!(there.header("cache-control"), Some("no-store"));
        assert_eq!(there.header("connection"), Some("close"));
        let old = ask("GET /a HTTP/1.0\r\n\r\n".to_owned()).await;
        assert_eq!(old.header("location"), Some(format!("https://{port}/a").as_str()));
        assert_eq!(ask(request("evil.example", "/")).await.status(), 421);
        assert_eq!(ask(request("lab@evil", "/")).await.status(), 400);
    }
    assert_eq!(job.accepted(), 0);
    world.stop().await;
}

#[tokio::test]
async fn proxy_that_ends_tls_itself_is_told_instead_of_redirected() {
    let (mut world, _certificate) = world();
    world.slice.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let job = world.job(|_| async { text("hello") }).await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let mut proxy = Wire::connect(port).await;
    let told = proxy.ask("GET / HTTP/1.1\r\nHost: lab\r\nX-Forwarded-Proto: https\r\n\r\n").await;
    assert!(told.status() == 502 && told.body.contains("speaks TLS"), "{told:?}");
    world.stop().await;
}

#[tokio::test]
async fn anything_else_at_a_port_with_tls_is_closed() {
    let (mut world, _certificate) = world();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    for sent in ["SSH-2.0-OpenSSH_9.6\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00\x05GET /"] {
        let mut client = Wire::connect(port).await;
        client.send(sent).await;
        let answer = client.rest().await;
        // No byte of the job: an alert of TLS, or none.
        assert!(answer.is_empty() || answer[0] == 0x15, "{sent:?}: {answer:?}");
    }
    assert!(timeout(QUIET, listener.accept()).await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn slow_handshake_is_ended_and_counts_in_the_budget() {
    let budgets = Budgets::new(Limits { connections_of_address: 2, ..Limits::default() });
    let (mut world, certificate) = (World::with_budgets(budgets), made(&["127.0.0.1"]));
    world.slice.tls = directive(&[&certificate]);
    let target = echo(&world).await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let began = Instant::now();
    let (mut silent, mut slow) = (TcpStream::connect(port).await.unwrap(), TcpStream::connect(port).await.unwrap());
    slow.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    world.until(|world| world.clients() == 2).await;
    // A third one is beyond the budget.
    assert!(connect_as(port, "127.0.0.1", config(&[&certificate], &[])).await.is_err());
    for client in [&mut silent, &mut slow] {
        assert!(rest(client).await.is_empty());
    }
    let waited = began.elapsed();
    assert!(waited >= HANDSHAKE_TIMEOUT && waited < HANDSHAKE_TIMEOUT + Duration::from_secs(5), "{waited:?}");
    world.until(|world| world.clients() == 0).await;
    // One client with TLS is one connection.
    let first = connect(port, &certificate).await;
    let second = connect(port, &certificate).await;
    assert!(connect_as(port, "127.0.0.1", config(&[&certificate], &[])).await.is_err());
    drop((first, second));
    world.stop().await;
}

#[tokio::test]
async fn port_without_a_certificate_says_so_and_lets_nobody_in() {
    let mut world = World::new();
    world.slice.tls = directive(&[]);
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let problem = world.gateway.observe().connections[0].problem.clone().unwrap_or_default();
    assert!(problem.contains("certificate"), "{problem}");
    let other = made(&["127.0.0.1"]);
    assert!(connect_as(port, "127.0.0.1", config(&[&other], &[])).await.is_err());
    assert!(timeout(QUIET, listener.accept()).await.is_err());
    world.slice.tls = directive(&[&other]);
    world.apply();
    assert_eq!(world.gateway.observe().connections[0].problem, None);
    connect(port, &other).await;
    world.stop().await;
}

#[tokio::test]
async fn client_that_closes_without_a_word_has_ended() {
    let (mut world, certificate) = world();
    let (listener, target) = server().await;
    let port = world.connect(target, Protocol::Tcp, Flow::Open).await;
    let mut client = connect(port, &certificate).await;
    client.write_all(b"the last line").await.unwrap();
    client.flush().await.unwrap();
    let (mut job, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    // No `close_notify`.
    let (socket, _) = client.into_inner();
    drop(socket);
    assert_eq!(rest(&mut job).await, b"the last line");
    world.stop().await;
}

#[tokio::test]
async fn strict_transport_security_of_a_job_does_not_reach_other_ports() {
    let (mut world, certificate) = world();
    let job = world
        .job(|_| async {
            let mut answer = text("hello");
            let value = hyper::header::HeaderValue::from_static("max-age=31536000");
            answer.headers_mut().insert("strict-transport-security", value);
            answer
        })
        .await;
    let port = world.connect(job.address, Protocol::Http, Flow::Open).await;
    let mut client = BufReader::new(connect(port, &certificate).await);
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        timeout(PATIENCE, client.read_line(&mut line)).await.unwrap().unwrap();
        assert!(!line.to_ascii_lowercase().starts_with("strict-transport"), "{line}");
    }
    world.stop().await;
}

#[tokio::test]
async fn held_request_is_answered_over_tls_when_the_job_is_back() {
    let (mut world, certificate) = world();
    let job = world.job(|_| async { text("back") }).await;
    let port = world.connect(job.address, Protocol::Http, held()).await;
    let mut client = connect(port, &certificate).await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(timeout(QUIET, client.read_u8()).await.is_err());
    world.open();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    world.stop().await;
}

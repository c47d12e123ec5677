//! A gateway with TLS. Its clients believe OpCenter's authority or a certificate of a user. They
//! lose nothing when the job migrates, or the process or the certificate is replaced.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use mooring_api::{Client, Submission};
use mooring_testkit::session::Session;
use mooring_testkit::streams::{self, Streams};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_testkit::{echo, sequence::Sequence};
use mooring_types::migration::Outcome;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Time limit of a restart, a connection or an answer.
const LIMIT: Duration = Duration::from_secs(60);
/// The bytes that show that a stream flows.
const FLOWS: u64 = 1 << 20;
/// The job's script: it serves streams and WebSockets.
const JOB: &str = "\"$1\" 0.0.0.0:7001 & exec \"$0\" 0.0.0.0:7000";

/// Whom a client believes.
#[derive(Clone)]
struct Believes(TlsConnector);

impl Believes {
    /// The certificates in a text.
    fn of(pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(mooring_tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Connects, and checks the certificate for `name`.
    async fn connect_as(&self, name: &str, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let connecting = self.0.connect(ServerName::try_from(name.to_owned())?, stream);
        timeout(LIMIT, connecting).await.context("no handshake in time")?.context("handshake")
    }

    async fn connect(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        self.connect_as(&address.ip().to_string(), address).await
    }

    async fn streams(&self, address: SocketAddr, connections: usize) -> Result<Streams> {
        Streams::start_over(async || self.connect(address).await, connections).await
    }
}

/// A WebSocket that counts, and hears each number again.
struct Counter {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    sent: u64,
    heard: Sequence,
}

impl Counter {
    async fn open(believes: &Believes, address: SocketAddr) -> Result<Self> {
        let stream = believes.connect(address).await?;
        let (socket, _) = tokio_tungstenite::client_async(format!("wss://{address}/ws"), stream).await?;
        Ok(Self { socket, sent: 0, heard: Sequence::default() })
    }

    /// Counts on until a future has ended and all numbers have come back.
    async fn count_during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        let mut done = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while done.is_none() || self.heard.next() < self.sent {
            tokio::select! {
                outcome = work.as_mut(), if done.is_none() => done = Some(outcome?),
                _ = ticks.tick(), if done.is_none() => {
                    self.socket.send(Message::text(self.sent.to_string())).await.context("send a number")?;
                    self.sent += 1;
                }
                message = self.socket.next() => {
                    let message = message.context("the WebSocket ended")??;
                    self.heard.note(message.to_text()?.parse()?);
                }
                () = tokio::time::sleep(LIMIT) => anyhow::bail!("{} of {} numbers", self.heard.next(), self.sent),
            }
        }
        done.context("an outcome")
    }

    fn is_clean(&self) -> bool {
        self.sent > 0 && (self.heard.next(), self.heard.lost(), self.heard.repeated()) == (self.sent, 0, 0)
    }
}

/// Launches the job behind a gateway with TLS; the addresses of its streams and WebSockets.
async fn launch(world: &World, client: &Client) -> Result<(Session, SocketAddr, SocketAddr)> {
    let [streamer, echo] = [streams::program()?, echo::program()?].map(|program| world.bring(&program));
    let request = Submission {
        name: Some("secured".parse()?),
        image: Some("dir:/".parse()?),
        command: vec![
            "/bin/sh".into(),
            "-c".into(),
            JOB.into(),
            streamer?.display().to_string(),
            echo?.display().to_string(),
        ],
        publish: vec!["7000".parse()?, "7001".parse()?],
        ..Submission::default()
    };
    let session = Session::launch_with_tls(client, request).await?;
    let gateway = client.gateway_get(&session.gateway.clone().into()).await?;
    let port = |target| {
        let found = gateway.connections.iter().find(|known| known.target_port == target);
        let port = found.map(|known| known.gateway_port).context("both ports are connected")?;
        Ok::<_, anyhow::Error>(SocketAddr::new(session.address.ip(), port))
    };
    let (streams, sockets) = (port(7000)?, port(7001)?);
    ensure!(session.access_url.starts_with("https://"), "{}", session.access_url);
    Ok((session, streams, sockets))
}

async fn flow(streams: &Streams) -> Result<()> {
    let seen = || streams.received().into_iter().zip(streams.delivered()).collect::<Vec<_>>();
    let before = seen();
    wait_for("the streams to flow", LIMIT, async || {
        ensure!(!streams.broken(), "a stream broke");
        let more = |((from, to), (old_from, old_to)): (&(u64, u64), &(u64, u64))| {
            *from >= old_from + FLOWS && *to >= old_to + FLOWS
        };
        Ok(seen().iter().zip(&before).all(more).then_some(()))
    })
    .await
}

async fn agree(streams: Streams) -> Result<()> {
    for report in streams.finish().await {
        ensure!(report.hash_ok, "{report:?}");
    }
    Ok(())
}

async fn move_once_more(client: &Client, session: &Session) -> Result<()> {
    let moved = move_once(client, &session.job).await?;
    ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
    Ok(())
}

#[test]
fn clients_with_tls_lose_nothing_when_job_process_and_certificate_change() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let (session, streams_at, sockets_at) = launch(&world, &client).await?;
        let authority = Believes::of(&fs::read_to_string(world.directory().join("opcenter/ca.pem"))?)?;
        wait_for("the WebSockets' server", LIMIT, async || Ok(Counter::open(&authority, sockets_at).await.ok()))
            .await?;

        let old = authority.streams(streams_at, 2).await.context("believe OpCenter's authority")?;
        let mut counter = Counter::open(&authority, sockets_at).await?;
        counter.count_during(flow(&old)).await?;
        for _ in 0..2 {
            counter.count_during(move_once_more(&client, &session)).await.context("move the job")?;
            flow(&old).await.context("the job has moved")?;
        }

        // Another process takes over, with the certificate of the first.
        let before = world.daemons(&["server", "gateway"]);
        let ran = world.float(&["gateway", "restart", "-g", "secured"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        wait_for("another process", LIMIT, async || {
            Ok((world.daemons(&["server", "gateway"]).len() > before.len()).then_some(()))
        })
        .await?;
        let new = wait_for("the other process to serve", LIMIT, async || {
            let streams = authority.streams(streams_at, 1).await?;
            flow(&streams).await?;
            let processes = world.daemons(&["server", "gateway"]);
            let is_new = processes.len() == 2 && before.iter().all(|old| old.runs());
            Ok(is_new.then_some(streams))
        })
        .await?;
        counter.count_during(flow(&old)).await.context("the first process keeps its connections")?;
        counter.count_during(move_once_more(&client, &session)).await.context("move the job behind both")?;
        flow(&old).await?;
        flow(&new).await?;

        // A certificate of a user is in force for new clients alone.
        let key = KeyPair::generate()?;
        let own = CertificateParams::new(vec!["lab.example.org".to_owned()])?.self_signed(&key)?;
        let files = world.files();
        let (certificate, key_file) = (files.join("own.pem"), files.join("own-key.pem"));
        fs::write(&certificate, own.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        let (certificate, key_file) = (certificate.display().to_string(), key_file.display().to_string());
        let set = ["gateway", "certificate", "set", "-g", "secured", "--cert", &certificate, "--key"];
        let refused = world.float(&[&set[..], &[&certificate]].concat())?;
        ensure!(refused.code == Some(1) && refused.stderr.contains("the key is not PEM"), "{refused:?}");
        let given = world.float(&[&set[..], &[&key_file]].concat())?;
        ensure!(given.code == Some(0) && given.stdout.contains("lab.example.org"), "{given:?}");
        let of_user = Believes::of(&own.pem())?;
        let mut named = wait_for("the new certificate", LIMIT, async || {
            Ok(of_user.connect_as("lab.example.org", streams_at).await.ok())
        })
        .await?;
        named.shutdown().await?;
        authority.connect(streams_at).await.context("the address still has the authority's certificate")?;
        counter.count_during(flow(&old)).await.context("a certificate was set")?;

        // Plain HTTP is sent to the same URL.
        let mut plain = TcpStream::connect(sockets_at).await?;
        plain.write_all(format!("GET /a?b HTTP/1.1\r\nHost: {sockets_at}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        plain.read_to_string(&mut answer).await?;
        let there = format!("location: https://{sockets_at}/a?b\r\n");
        ensure!(answer.starts_with("HTTP/1.1 308") && answer.contains(&there), "{answer}");

        ensure!(counter.is_clean(), "sent {}, heard {:?}", counter.sent, counter.heard);
        agree(old).await.context("the connections of the first process")?;
        agree(new).await.context("the connection of the second process")
    });
    outcome.unwrap();
}

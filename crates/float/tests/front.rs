//! Proxies in front of a gateway: nginx, HAProxy and Caddy, as the guide sets them up.
//!
//! ```text
//!  client 127.0.0.9 ── TLS ──► proxy at 127.0.0.1 ──► gateway at 198.18.0.1 ──► job
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::GatewayView;
use mooring_api::{Client, Submission};
use mooring_linux::netns;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const GUIDE: &str = include_str!("../../../docs/guide.md");
const LIMIT: Duration = Duration::from_secs(60);
/// A time in which nothing comes.
const QUIET: Duration = Duration::from_secs(2);
const NAME: &str = "lab.example.org";
/// A client that the rules admit, and one that they don't.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// A job that answers with the head of each request, and on another port greets its clients.
const JOB: &str = r#"
import socketserver, threading

class Heads(socketserver.StreamRequestHandler):
    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

class Greets(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello\n")
        while data := self.request.recv(4096):
            self.request.sendall(data)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

threading.Thread(target=Server(("0.0.0.0", 8081), Greets).serve_forever, daemon=True).start()
Server(("0.0.0.0", 8080), Heads).serve_forever()
"#;

/// A program of Debian's packages, and the directory of its libraries. It is the machine's, or the
/// one that `scripts/setup test` has unpacked.
fn program(name: &str) -> Result<(PathBuf, PathBuf)> {
    let prefix = std::env::var_os("MOORING_PREFIX").map_or_else(|| PathBuf::from("/opt/mooring"), PathBuf::from);
    let unpacked = prefix.join("proxies/usr");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), unpacked.join("sbin"), unpacked.join("bin")]);
    let found = places.map(|place| place.join(name)).find(|file| file.exists());
    let libraries = unpacked.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    Ok((found.with_context(|| format!("no {name}: `scripts/setup test` installs it"))?, libraries))
}

/// The recipe of the guide in a language.
fn recipe(language: &str) -> Result<String> {
    let begin = format!("```{language}\n");
    let (_, rest) = GUIDE.split_once(&begin).with_context(|| format!("no recipe in `{language}`"))?;
    let (recipe, _) = rest.split_once("```").context("a recipe without an end")?;
    Ok(recipe.to_owned())
}

/// A proxy that runs; ended by drop.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The directory of the proxies' files, with a certificate.
struct Setup {
    directory: PathBuf,
    gateway: IpAddr,
    believes: TlsConnector,
}

impl Setup {
    fn new(world: &World, gateway: IpAddr) -> Result<Self> {
        let directory = world.files().join("proxies");
        fs::create_dir(&directory)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([NAME.to_owned(), format!("*.{NAME}")])?.self_signed(&key)?;
        fs::write(directory.join("lab.key"), key.serialize_pem())?;
        fs::write(directory.join("lab.pem"), certificate.pem() + key.serialize_pem().as_str())?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.pem().as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(mooring_tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { directory, gateway, believes: TlsConnector::from(Arc::new(config)) })
    }

    /// A recipe of the guide with the test's addresses and files, and these changes.
    fn adapted(&self, language: &str, changes: &[(&str, &str)]) -> Result<String> {
        let mut recipe = recipe(language)?;
        let directory = self.directory.display().to_string();
        let gateway = self.gateway.to_string();
        for (from, to) in [("/etc/ssl", directory.as_str()), ("10.0.0.5", &gateway)].iter().chain(changes) {
            ensure!(recipe.contains(from), "no `{from}` in the recipe in `{language}`");
            recipe = recipe.replace(from, to);
        }
        Ok(recipe)
    }

    fn start(
        &self,
        world: &World,
        name: &str,
        config: &str,
        arguments: impl Fn(&Path) -> Vec<String>,
    ) -> Result<Proxy> {
        let file = self.directory.join(name).with_extension("conf");
        fs::write(&file, config)?;
        let (program, libraries) = program(name)?;
        let mut command = Command::new(program);
        netns::enter_command(&mut command, &world.namespace())?;
        let log = fs::File::create(self.directory.join(name).with_extension("log"))?;
        command.args(arguments(&file)).env("HOME", &self.directory).env("LD_LIBRARY_PATH", libraries);
        command.current_dir(&self.directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Proxy(command.spawn().with_context(|| format!("start {name}"))?))
    }

    fn nginx(&self, world: &World) -> Result<Proxy> {
        let recipe = self.adapted("nginx", &[("listen 10000-10500", "listen 127.0.0.1:10000-10010")])?;
        let directory = self.directory.display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
            .concat();
        let config = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr;\n\
             events {{}}\nhttp {{\naccess_log off;\n{paths}{recipe}}}\n"
        );
        self.start(world, "nginx", &config, |file| vec!["-c".into(), file.display().to_string()])
    }

    fn haproxy(&self, world: &World) -> Result<Proxy> {
        let changes =
            [("bind :10000-10400", "bind 127.0.0.2:10000-10000"), ("bind :10401-10500", "bind 127.0.0.2:10001-10001")];
        let recipe = self.adapted("haproxy", &changes)?;
        self.start(world, "haproxy", &recipe, |file| vec!["-db".into(), "-f".into(), file.display().to_string()])
    }

    fn caddy(&self, world: &World) -> Result<Proxy> {
        let recipe =
            self.adapted("caddy", &[("*.lab.example.org {", "https://*.lab.example.org:9443 {\n    bind 127.0.0.3")])?;
        let config = format!("{{\n    admin off\n    auto_https off\n}}\n{recipe}");
        self.start(world, "caddy", &config, |file| {
            ["run", "--adapter", "caddyfile", "--config"]
                .map(str::to_owned)
                .into_iter()
                .chain([file.display().to_string()])
                .collect()
        })
    }

    async fn connect(&self, from: Ipv4Addr, proxy: SocketAddr, name: &str) -> Result<TlsStream<TcpStream>> {
        let stream = connect_from(from, proxy).await?;
        let connecting = self.believes.connect(ServerName::try_from(name.to_owned())?, stream);
        timeout(LIMIT, connecting).await.context("no handshake in time")?.context("handshake")
    }

    /// The answer to a request over a new connection.
    async fn ask(&self, from: Ipv4Addr, front: &Front, lines: &str) -> Result<Answer> {
        let mut stream = self.connect(from, front.proxy, &front.name).await?;
        let request = format!("GET /a?b HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{lines}\r\n", front.authority());
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // nginx ends without `close_notify`.
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.context("no answer in time")?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Answer { status, body: body.to_owned() })
    }
}

async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    Ok(timeout(LIMIT, socket.connect(to)).await.context("no connection in time")??)
}

/// A proxy, as browsers see it.
struct Front {
    proxy: SocketAddr,
    /// The name that browsers ask for.
    name: String,
    /// The external URL of the gateway.
    url: &'static str,
}

impl Front {
    fn authority(&self) -> String {
        format!("{}:{}", self.name, self.proxy.port())
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let lines = self.body.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    }
}

fn float(world: &World, line: &[&str]) -> Result<Value> {
    let ran = world.float(&[line, &["-F", "json"]].concat())?;
    ensure!(ran.code == Some(0), "{line:?}: {}", ran.stderr);
    Ok(serde_json::from_str(&ran.stdout)?)
}

async fn gateway(client: &Client) -> Result<GatewayView> {
    client.gateway_list().await?.into_iter().next().context("no gateway")
}

/// The job, the rules and the record of clients see the client behind a proxy.
async fn is_seen_through(world: &World, client: &Client, setup: &Setup, front: &Front, job: &str) -> Result<()> {
    float(world, &["gateway", "modify", "-g", "front", "--externalUrl", front.url])?;
    let expected = format!("https://{}/", front.authority());
    let job = client.job_get(&job.parse()?).await?;
    ensure!(job.access_urls[0] == expected, "{:?} and not {expected}", job.access_urls);
    let spoofed = "X-Forwarded-For: 127.0.0.66\r\nX-Real-IP: 127.0.0.66\r\nForwarded: for=127.0.0.66;proto=http\r\n";
    let answer = wait_for("an answer through the proxy", LIMIT, async || {
        Ok(setup.ask(CLIENT, front, spoofed).await.ok().filter(|answer| answer.status == 200))
    })
    .await?;
    let port = front.proxy.port().to_string();
    for (name, expected) in [
        ("host", front.authority().as_str()),
        ("x-forwarded-for", "127.0.0.9"),
        ("x-real-ip", "127.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", &front.authority()),
        ("x-forwarded-port", &port),
        ("forwarded", "for=127.0.0.9;proto=https"),
    ] {
        ensure!(answer.header(name) == expected, "{name} is `{}` and not `{expected}`", answer.header(name));
    }
    ensure!(answer.body.starts_with("GET /a?b HTTP/1.1\r\n"), "{answer:?}");
    // The proxy's own address is admitted, and its client is not.
    let refused = setup.ask(STRANGER, front, "").await?;
    ensure!(refused.status == 403 && refused.body.contains("no security group"), "{refused:?}");
    watches_its_job(client, setup, front).await
}

/// The widget's WebSocket, at a page of `https:`.
async fn watches_its_job(client: &Client, setup: &Setup, front: &Front) -> Result<()> {
    let mut stream = setup.connect(CLIENT, front.proxy, &front.name).await?;
    let request = format!(
        "GET /.mooring/state HTTP/1.1\r\nHost: {0}\r\nOrigin: https://{0}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        front.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("\"Executing\"") {
        let read = timeout(LIMIT, stream.read_buf(&mut got)).await.context("no state in time")??;
        ensure!(read > 0, "{:?}", String::from_utf8_lossy(&got));
    }
    ensure!(got.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&got));
    wait_for("the client in the gateway's record", LIMIT, async || {
        let clients = gateway(client).await?.connections.into_iter().flat_map(|connection| connection.clients);
        Ok(clients.into_iter().any(|seen| seen.address.ip() == CLIENT).then_some(()))
    })
    .await
}

/// A raw port: who is announced is admitted and shown, or gets no byte.
async fn raw_port_is_seen_through(client: &Client, proxy: SocketAddr) -> Result<()> {
    let mut stream = connect_from(CLIENT, proxy).await?;
    let mut greeting = [0; 6];
    timeout(LIMIT, stream.read_exact(&mut greeting)).await.context("no greeting in time")??;
    stream.write_all(b"again").await?;
    let mut heard = [0; 5];
    timeout(LIMIT, stream.read_exact(&mut heard)).await.context("no echo in time")??;
    ensure!((&greeting, &heard) == (b"hello\n", b"again"));
    let own = stream.local_addr()?;
    wait_for("the client in the gateway's record", LIMIT, async || {
        let mut clients = gateway(client).await?.connections.into_iter().flat_map(|connection| connection.clients);
        Ok(clients.any(|seen| seen.address == own).then_some(()))
    })
    .await?;
    let mut stranger = connect_from(STRANGER, proxy).await?;
    let mut got = Vec::new();
    let _ = timeout(QUIET, stranger.read_to_end(&mut got)).await;
    ensure!(got.is_empty(), "a stranger got {got:?}");
    Ok(())
}

async fn stand_in_front(world: &World, client: &Client) -> Result<()> {
    float(
        world,
        &[
            "securityGroup",
            "create",
            "-n",
            "campus",
            "--rule",
            "tcp:10000-10500:127.0.0.9/32",
            "--rule",
            "tcp:10000-10500:198.18.0.0/15",
        ],
    )?;
    float(
        world,
        &[
            "gateway",
            "create",
            "-n",
            "front",
            "--noPublicIP",
            "--securityGroup",
            "campus",
            "--trustedProxies",
            "198.18.0.0/16,198.19.0.0/16",
        ],
    )?;
    wait_for("the gateway", LIMIT, async || Ok(gateway(client).await?.address.parse::<IpAddr>().is_ok().then_some(())))
        .await?;
    let seen = gateway(client).await?;
    ensure!(seen.trusted_proxies.len() == 2, "{seen:?}");
    let session = Session::launch_behind(
        client,
        &seen.id,
        Submission {
            name: Some("heads".parse()?),
            image: Some("dir:/".parse()?),
            command: ["python3", "-c", JOB].map(str::to_owned).into(),
            publish: vec!["8080".parse()?],
            ..Submission::default()
        },
    )
    .await?;
    let job = session.job.to_string();
    ensure!(session.address.port() == 10_000, "{session:?}");
    let setup = Setup::new(world, session.address.ip())?;
    let _proxies = [setup.nginx(world)?, setup.haproxy(world)?, setup.caddy(world)?];
    for front in [
        Front { proxy: "127.0.0.1:10000".parse()?, name: NAME.to_owned(), url: "https://lab.example.org:{port}" },
        Front { proxy: "127.0.0.2:10000".parse()?, name: NAME.to_owned(), url: "https://lab.example.org:10000" },
        Front {
            proxy: "127.0.0.3:9443".parse()?,
            name: format!("10000.{NAME}"),
            url: "https://{port}.lab.example.org:9443",
        },
    ] {
        let seen = is_seen_through(world, client, &setup, &front, &job).await;
        seen.with_context(|| format!("behind {} at {}", front.url, front.proxy))?;
    }
    let raw = Submission {
        name: Some("greets".parse()?),
        image: Some("dir:/".parse()?),
        command: ["python3", "-c", JOB].map(str::to_owned).into(),
        publish: vec!["8081".parse()?],
        ..Submission::default()
    };
    let raw = client.job_submit(&raw).await?.id;
    mooring_testkit::job::executing(client, &raw, LIMIT).await?;
    float(world, &["gateway", "connect", "-g", "front", "-j", raw.as_str(), "--protocol", "tcp"])?;
    mooring_testkit::job::mapped(client, &raw, LIMIT).await?;
    raw_port_is_seen_through(client, "127.0.0.2:10001".parse()?).await.context("a raw port")?;
    // Nobody is believed any more.
    float(world, &["gateway", "modify", "-g", "front", "--trustedProxies", "none", "--externalUrl", "none"])?;
    let front = Front { proxy: "127.0.0.1:10000".parse()?, name: NAME.to_owned(), url: "" };
    wait_for("the proxy to be anybody", LIMIT, async || {
        let answer = setup.ask(CLIENT, &front, "").await?;
        Ok((answer.status == 421 || answer.header("x-forwarded-proto") == "http").then_some(()))
    })
    .await
}

#[test]
fn proxies_of_the_guide_are_believed() {
    let arguments = ["--image-path", "/"].map(str::to_owned).into();
    let world = World::start(Plan { virtual_hosts: 1, arguments, ..Plan::new(FLOAT) }).unwrap();
    let outcome = world.run_inside(async || stand_in_front(&world, &world.client().await?).await);
    outcome.unwrap();
}

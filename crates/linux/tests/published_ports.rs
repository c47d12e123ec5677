//! A port of a host that leads to a job, from outside the overlay: who is let in, and what becomes
//! of connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_linux::job_net::{JobNet, sysctl};
use mooring_linux::nft::{Forward, Interfaces};
use mooring_linux::{ip, netns, nft};
use tokio::net::TcpSocket;

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const HOST_OVERLAY: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
const FRIEND: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);
const JOB: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
/// Longer than anything takes on one machine.
const DROPPED: Duration = Duration::from_millis(500);
const ARRIVES: Duration = Duration::from_secs(10);

struct Stage {
    outside: PathBuf,
    host: PathBuf,
    listener: TcpListener,
}

/// Runs an asynchronous part of the test inside a namespace.
fn inside<T: Send>(namespace: &Path, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work());
    netns::run_in(namespace, run).expect("the namespace can be entered")
}

impl Stage {
    /// Clients at two addresses, a host, and a job on it that listens.
    fn set(directory: &Path) -> Self {
        let [outside, host, job] = ["outside", "host", "job"].map(|name| directory.join(name));
        netns::create(&outside).expect("a namespace for clients");
        netns::create(&host).expect("a namespace for the host");
        inside(&outside, async || {
            ip::batch(None, &["link add out type veth peer name in".into()]).await.expect("a link");
            netns::move_link("in", &host).expect("the host's end of the link");
            let lines = [
                format!("address add {FRIEND}/24 dev out"),
                format!("address add {STRANGER}/24 dev out"),
                "link set out up".into(),
            ];
            ip::batch(None, &lines).await.expect("addresses");
        });
        let net = JobNet { namespace: job.clone(), host_interface: "mrjob0".into(), address: JOB, mtu: 1450 };
        inside(&host, async || {
            sysctl("net/ipv4/ip_forward", "1").expect("a host that forwards");
            let lines = [
                format!("address add {HOST}/24 dev in"),
                format!("address add {HOST_OVERLAY}/32 dev lo"),
                "link set lo up".into(),
                "link set in up".into(),
            ];
            ip::batch(None, &lines).await.expect("addresses");
            let jobs = Interfaces { prefix: "mrj".into(), present: Vec::new() };
            nft::install("mooring", "100.64.0.0/10", &jobs).await.expect("the host's table");
            net.setup().await.expect("the job's interface");
            nft::admit("mooring", "mrjob0", JOB).expect("the job's address");
            net.route_here().await.expect("the job's route");
        });
        let bound = netns::run_in(&job, || TcpListener::bind((JOB, 7))).expect("the job's namespace");
        let listener = bound.expect("a job that listens");
        Self { outside, host, listener }
    }

    /// Publishes port 8000 of the host for these sources alone.
    fn publish(&self, sources: &[&str]) {
        let sources = sources.iter().map(|source| (*source).to_owned()).collect();
        let forward = Forward { host_port: 8000, job: JOB, job_port: 7, sources };
        self.publish_all(&[forward]);
    }

    fn publish_all(&self, forwards: &[Forward]) {
        inside(&self.host, async || {
            nft::publish("mooring", HOST, HOST_OVERLAY, forwards).await.expect("published ports")
        });
    }

    fn connect(&self, from: Ipv4Addr) -> Result<TcpStream, ErrorKind> {
        let namespace = if from == HOST { &self.host } else { &self.outside };
        inside(namespace, async || {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((from, 0).into()).expect("the client's address");
            let connected = tokio::time::timeout(DROPPED, socket.connect((HOST, 8000).into())).await;
            let stream = connected.map_err(|_| ErrorKind::TimedOut)?.map_err(|error| error.kind())?;
            let stream = stream.into_std().expect("a blocking stream");
            stream.set_nonblocking(false).expect("a blocking stream");
            Ok(stream)
        })
    }

    /// A connection of a client that is let in, at both ends.
    fn connected(&self, from: Ipv4Addr) -> (TcpStream, TcpStream) {
        let client = self.connect(from).expect("a client that is let in");
        let (server, from) = self.listener.accept().expect("its connection");
        assert_eq!(from.ip(), IpAddr::from(HOST_OVERLAY));
        (client, server)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for namespace in [&self.outside, &self.host] {
            let _ = netns::delete(namespace);
        }
    }
}

/// Returns `true` if bytes of one end arrive at the other within `limit`.
fn arrives(from: &mut TcpStream, to: &mut TcpStream, limit: Duration) -> bool {
    from.write_all(b"ping").expect("a connection that is open");
    to.set_read_timeout(Some(limit)).expect("a limit");
    let mut buffer = [0; 4];
    match to.read_exact(&mut buffer) {
        Ok(()) => &buffer == b"ping",
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            false
        }
    }
}

#[test]
fn allowed_sources_reach_the_job_and_others_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set(directory.path());
    assert_eq!(stage.connect(FRIEND).unwrap_err(), ErrorKind::ConnectionRefused);
    stage.publish(&["198.18.0.1/32", "10.0.0.0/8", "10.1.0.0/16"]);
    let (mut client, mut server) = stage.connected(FRIEND);
    assert!(arrives(&mut client, &mut server, ARRIVES) && arrives(&mut server, &mut client, ARRIVES));
    assert_eq!(stage.connect(STRANGER).unwrap_err(), ErrorKind::TimedOut);

    // The same again changes nothing; another rule lets the other one in as well.
    stage.publish(&["198.18.0.1/32"]);
    stage.publish(&["198.18.0.0/24"]);
    assert!(arrives(&mut client, &mut server, ARRIVES));
    assert!(stage.connect(STRANGER).is_ok());

    // A connection does not outlive the rule that allowed it.
    stage.publish(&[]);
    assert!(!arrives(&mut client, &mut server, DROPPED));
    assert_eq!(stage.connect(FRIEND).unwrap_err(), ErrorKind::TimedOut);
}

#[test]
fn the_host_itself_reaches_the_job_like_everybody_else() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set(directory.path());
    stage.publish(&["198.18.0.2/32"]);
    let (mut client, mut server) = stage.connected(HOST);
    assert!(arrives(&mut client, &mut server, ARRIVES) && arrives(&mut server, &mut client, ARRIVES));
    inside(&stage.host, async || nft::hold("mooring", JOB).unwrap());
    assert_eq!(stage.connect(HOST).unwrap_err(), ErrorKind::TimedOut);
    inside(&stage.host, async || nft::release("mooring", JOB).unwrap());
    stage.publish(&["198.18.0.1/32"]);
    assert_eq!(stage.connect(HOST).unwrap_err(), ErrorKind::TimedOut);
    assert_eq!(stage.connect(STRANGER).unwrap_err(), ErrorKind::TimedOut);
}

#[test]
fn a_held_job_is_not_reached_and_its_connections_stay() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set(directory.path());
    stage.publish(&["198.18.0.0/24"]);
    let (mut client, mut server) = stage.connected(FRIEND);
    inside(&stage.host, async || nft::hold("mooring", JOB).unwrap());
    assert!(!arrives(&mut client, &mut server, DROPPED));
    assert_eq!(stage.connect(FRIEND).unwrap_err(), ErrorKind::TimedOut);
    inside(&stage.host, async || nft::release("mooring", JOB).unwrap());
    server.set_read_timeout(Some(ARRIVES)).unwrap();
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ping");
}

#[test]
fn a_port_that_is_published_no_more_keeps_its_connections_and_takes_no_new_ones() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set(directory.path());
    stage.publish(&["198.18.0.0/24"]);
    let (mut client, mut server) = stage.connected(FRIEND);
    stage.publish_all(&[]);
    assert!(arrives(&mut client, &mut server, ARRIVES) && arrives(&mut server, &mut client, ARRIVES));
    assert_eq!(stage.connect(FRIEND).unwrap_err(), ErrorKind::ConnectionRefused);
}

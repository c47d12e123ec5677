//! The packets of jobs: whose source they may have, and where they may go.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_linux::job_net::{JobNet, sysctl};
use mooring_linux::nft::Interfaces;
use mooring_linux::nft_jobs::{self, JobRules};
use mooring_linux::{ip, netns, nft};
use tokio::net::TcpSocket;

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const HOST_OVERLAY: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 200);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const JOBS: [Ipv4Addr; 3] = [Ipv4Addr::new(100, 64, 0, 2), Ipv4Addr::new(100, 64, 0, 3), Ipv4Addr::new(100, 64, 0, 4)];
const ATTACKER: Ipv4Addr = JOBS[0];
const FRIEND: Ipv4Addr = JOBS[1];
const VICTIM: Ipv4Addr = JOBS[2];
const MIGRATION_PORT: u16 = 7443;
const OPCENTER_PORT: u16 = 8443;
const PORT: u16 = 7;
const SOON: Duration = Duration::from_millis(500);

/// Runs an asynchronous part of the test inside a namespace.
fn inside<T: Send>(namespace: &Path, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work());
    netns::run_in(namespace, run).expect("the namespace can be entered")
}

/// A host with three jobs, and a machine outside.
struct Stage {
    host: PathBuf,
    outside: PathBuf,
    jobs: Vec<PathBuf>,
    _listeners: Vec<TcpListener>,
}

impl Stage {
    fn set(directory: &Path) -> Self {
        let [outside, host] = ["outside", "host"].map(|name| directory.join(name));
        netns::create(&outside).expect("a namespace for the machine outside");
        netns::create(&host).expect("a namespace for the host");
        inside(&outside, async || {
            ip::batch(None, &["link add out type veth peer name in".into()]).await.expect("a link");
            netns::move_link("in", &host).expect("the host's end of the link");
            let lines = [
                format!("address add {OUTSIDE}/24 dev out"),
                format!("address add {METADATA}/32 dev out"),
                "link set out up".into(),
                format!("route add 100.64.0.0/10 via {HOST}"),
            ];
            ip::batch(None, &lines).await.expect("addresses");
        });
        let jobs: Vec<PathBuf> = JOBS.iter().map(|job| directory.join(job.to_string())).collect();
        inside(&host, async || {
            sysctl("net/ipv4/ip_forward", "1").expect("a host that forwards");
            let lines = [
                format!("address add {HOST}/24 dev in"),
                format!("address add {HOST_OVERLAY}/32 dev lo"),
                "link set lo up".into(),
                "link set in up".into(),
                format!("route add {METADATA} dev in"),
            ];
            ip::batch(None, &lines).await.expect("addresses");
            let interfaces = Interfaces { prefix: "mrj".into(), present: Vec::new() };
            nft::install("mooring", "100.64.0.0/10", &interfaces).await.expect("the host's table");
            for (number, (address, namespace)) in JOBS.into_iter().zip(&jobs).enumerate() {
                let host_interface = format!("mrjob{number}");
                nft::admit("mooring", &host_interface, address).expect("the job's address");
                let net = JobNet { namespace: namespace.clone(), host_interface, address, mtu: 1450 };
                net.setup().await.expect("the job's interface");
                net.route_here().await.expect("the job's route");
            }
        });
        let listen = |namespace: &Path, port: u16| {
            let bound = netns::run_in(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
            bound.expect("a namespace").expect("a port")
        };
        let mut listeners: Vec<TcpListener> = jobs.iter().map(|job| listen(job, PORT)).collect();
        listeners.extend([PORT, MIGRATION_PORT, OPCENTER_PORT].map(|port| listen(&host, port)));
        listeners.push(listen(&outside, PORT));
        Self { host, outside, jobs, _listeners: listeners }
    }

    fn rule(&self, allowed: &[&str]) {
        let rules = JobRules {
            interfaces: "mrj".into(),
            overlay: "100.64.0.0/10".into(),
            hosts: vec![HOST],
            migration_port: MIGRATION_PORT,
            opcenter: vec![(HOST, OPCENTER_PORT)],
            neighbours: vec![vec![ATTACKER, FRIEND]],
            allowed: allowed.iter().map(|range| (*range).to_owned()).collect(),
        };
        inside(&self.host, async || nft_jobs::put_in_force("mooring_jobs", &rules).await.expect("rules"));
    }

    fn attacker(&self) -> &Path {
        &self.jobs[0]
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for namespace in self.jobs.iter().chain([&self.outside, &self.host]) {
            let _ = netns::delete(namespace);
        }
    }
}

fn reaches(from: &Path, address: Ipv4Addr, port: u16) -> bool {
    inside(from, async || {
        let connecting = TcpSocket::new_v4().expect("a socket").connect((address, port).into());
        tokio::time::timeout(SOON, connecting).await.is_ok_and(|connected| connected.is_ok())
    })
}

#[test]
fn job_reaches_what_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set(directory.path());
    let denied = [(VICTIM, PORT), (HOST, PORT), (HOST, MIGRATION_PORT), (HOST_OVERLAY, PORT), (METADATA, PORT)];
    let allowed = [(FRIEND, PORT), (HOST, OPCENTER_PORT), (OUTSIDE, PORT)];
    for (address, port) in denied.into_iter().chain(allowed) {
        assert!(reaches(stage.attacker(), address, port), "{address}:{port} is there");
    }
    // A connection that is there goes on.
    let connected = || std::net::TcpStream::connect((VICTIM, PORT)).expect("a connection");
    let mut earlier = netns::run_in(stage.attacker(), connected).unwrap();
    stage.rule(&[]);
    for (address, port) in denied {
        assert!(!reaches(stage.attacker(), address, port), "{address}:{port}");
    }
    for (address, port) in allowed {
        assert!(reaches(stage.attacker(), address, port), "{address}:{port}");
    }
    assert!(reaches(&stage.host, VICTIM, PORT), "a gateway reaches the job");
    assert!(!reaches(&stage.outside, HOST, MIGRATION_PORT), "a stranger is no host");
    std::io::Write::write_all(&mut earlier, b"on").expect("a connection that goes on");
    earlier.set_nonblocking(true).unwrap();
    let read = std::io::Read::read(&mut earlier, &mut [0]);
    assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));

    stage.rule(&["100.64.0.0/10", "169.254.169.254/32"]);
    for (address, port) in [(VICTIM, PORT), (METADATA, PORT)] {
        assert!(reaches(stage.attacker(), address, port), "{address}:{port} is allowed");
    }
    inside(&stage.host, async || nft_jobs::remove("mooring_jobs").await.unwrap());
}

/// Sends a datagram from a job to the machine outside, and returns whether it arrives.
fn arrives(stage: &Stage, source: Ipv4Addr) -> bool {
    let receive = || UdpSocket::bind((OUTSIDE, 9)).expect("a port");
    let receiver = netns::run_in(&stage.outside, receive).expect("a namespace");
    receiver.set_read_timeout(Some(SOON)).expect("a time limit");
    netns::run_in(stage.attacker(), || {
        let sender = UdpSocket::bind((source, 0)).expect("the source");
        sender.send_to(b"forged", (OUTSIDE, 9)).expect("a datagram");
    })
    .expect("a namespace");
    receiver.recv(&mut [0; 16]).is_ok()
}

#[test]
fn job_sends_in_no_other_name() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::set(directory.path());
    stage.rule(&[]);
    inside(stage.attacker(), async || {
        let lines = [VICTIM, Ipv4Addr::new(8, 8, 8, 8)].map(|address| format!("address add {address}/32 dev eth0"));
        ip::batch(None, &lines).await.expect("addresses of others");
    });
    assert!(arrives(&stage, ATTACKER));
    assert!(!arrives(&stage, VICTIM));
    assert!(!arrives(&stage, Ipv4Addr::new(8, 8, 8, 8)));
    // What is there already is admitted when the table is made again.
    inside(&stage.host, async || {
        let present = vec![("mrjob0".to_owned(), ATTACKER)];
        nft::install("mooring", "100.64.0.0/10", &Interfaces { prefix: "mrj".into(), present }).await.expect("a table");
    });
    assert!(arrives(&stage, ATTACKER));
    assert!(!arrives(&stage, VICTIM));
}

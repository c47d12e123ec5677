//! Three hosts on a bridge, each a network namespace with a [`HostNetwork`] of its own, and a job
//! that one of two of them carries. Over each backend the third host, a gateway's, reaches the job
//! where the table says.

#![expect(clippy::unwrap_used, reason = "a test's world fails by panicking")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mooring_agent::network::{HostNetwork, NetworkConfig};
use mooring_api::watch::{Backend, JobRoute, Network, Peer};
use mooring_linux::job_net::JobNet;
use mooring_linux::{ip, netns, nft};
use mooring_ops::Lifecycle;
use mooring_types::HostId;
use mooring_types::address::Overlay;

const JOB: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const PORT: u16 = 8888;
const PATIENCE: Duration = Duration::from_secs(10);
const PREFIX: &str = "mt";

type Work = Box<dyn FnOnce(&tokio::runtime::Runtime, &mut Option<HostNetwork>) + Send>;

/// A host: its namespace, and the thread inside it on which its part of the agent lives.
struct Host {
    namespace: PathBuf,
    state_dir: PathBuf,
    peer: Peer,
    work: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Host {
    fn new(world: &Path, number: u8) -> Self {
        let namespace = world.join(format!("host{number}"));
        netns::create(&namespace).unwrap();
        let (work, inbox) = mpsc::channel::<Work>();
        let place = namespace.clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let mut network = None;
            for work in inbox {
                work(&runtime, &mut network);
            }
        };
        let thread = thread::spawn(move || netns::run_in(&place, serve).unwrap());
        let id = format!("{}{}", HostId::PREFIX, number.to_string().repeat(21));
        let peer = Peer {
            host: id.parse().unwrap(),
            underlay: Ipv4Addr::new(198, 18, 0, number),
            overlay: Ipv4Addr::new(100, 127, 0, number),
            wireguard_key: String::new(),
        };
        let state_dir = world.join(format!("state{number}"));
        Self { namespace, state_dir, peer, work: Some(work), thread: Some(thread) }
    }

    /// Does something on the host's thread and waits for it.
    fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Runtime, &mut Option<HostNetwork>) -> T + Send + 'static,
    ) -> T {
        let (done, outcome) = mpsc::channel();
        let work: Work = Box::new(move |runtime, network| done.send(work(runtime, network)).unwrap());
        self.work.as_ref().unwrap().send(work).unwrap();
        outcome.recv().expect("the host's thread has panicked")
    }

    fn with<T: Send + 'static>(&self, work: impl AsyncFnOnce(&mut HostNetwork) -> T + Send + 'static) -> T {
        self.on_thread(move |runtime, network| runtime.block_on(work(network.as_mut().unwrap())))
    }

    fn open(&mut self) {
        let config = NetworkConfig {
            device_prefix: PREFIX.into(),
            underlay: self.peer.underlay,
            state_dir: self.state_dir.clone(),
        };
        self.peer.wireguard_key = self.on_thread(move |runtime, network| {
            let lifecycle = Lifecycle::new();
            let open = HostNetwork::open(config, lifecycle.tasks().clone(), lifecycle.hard().clone());
            let opened = runtime.block_on(open).unwrap();
            let key = opened.wireguard_public_key().to_owned();
            *network = Some(opened);
            key
        });
    }

    /// The process ends, without a word.
    fn crash(&self) {
        self.on_thread(|runtime, network| runtime.block_on(network.take().unwrap().release()));
    }

    fn apply(&self, network: &Network) {
        let (own, slice) = (self.peer.host.clone(), network.clone());
        self.with(async move |host| host.apply(&own, &slice).await.unwrap());
    }

    fn routes(&self) -> String {
        self.on_thread(|runtime, _| runtime.block_on(ip::query(None, &["-4", "route", "show"])).unwrap())
    }

    /// The route to the job; empty when there is none.
    fn job_route(&self) -> String {
        self.routes().lines().find(|line| line.starts_with(&format!("{JOB} "))).unwrap_or_default().to_owned()
    }

    fn close(&mut self) {
        self.on_thread(|runtime, network| runtime.block_on(network.take().unwrap().close()).unwrap());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = netns::delete(&self.namespace);
    }
}

/// A job on a host: its interface, and a server that greets each client with the job's name and
/// then echoes.
struct Job {
    net: JobNet,
    _namespace: Namespace,
}

impl Job {
    fn new(host: &Host, world: &Path, name: &'static str) -> Self {
        let namespace = world.join(format!("job-{name}"));
        let mtu = host.with(async |network| network.mtu());
        let guard = Namespace(namespace.clone());
        let net = JobNet { namespace, host_interface: format!("{PREFIX}j{name}"), address: JOB, mtu };
        let made = net.clone();
        host.on_thread(move |runtime, _| {
            runtime.block_on(made.setup()).unwrap();
            nft::admit(&format!("mooring_{PREFIX}"), &made.host_interface, JOB).unwrap();
        });
        let listener = netns::run_in(&net.namespace, || TcpListener::bind((JOB, PORT)).unwrap()).unwrap();
        // Ends with the test's process: nobody waits for it.
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                thread::spawn(move || {
                    let _ = client.write_all(name.as_bytes());
                    let mut reader = client.try_clone().unwrap();
                    let _ = std::io::copy(&mut reader, &mut client);
                });
            }
        });
        Self { net, _namespace: guard }
    }

    fn end(&self, host: &Host) {
        let net = self.net.clone();
        host.on_thread(move |runtime, _| runtime.block_on(net.teardown()).unwrap());
    }
}

fn run(namespace: &Path, arguments: &[&str]) {
    let mut command = Command::new("ip");
    command.args(arguments);
    netns::enter_command(&mut command, namespace).unwrap();
    assert!(command.status().unwrap().success(), "ip {arguments:?}");
}

/// A namespace that goes when the test ends, however that is.
struct Namespace(PathBuf);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::delete(&self.0);
    }
}

/// Joins the hosts with a bridge in a namespace of its own.
fn join(world: &Path, hosts: &[&Host]) -> Namespace {
    let namespace = Namespace(world.join("switch"));
    let switch = &namespace.0;
    netns::create(switch).unwrap();
    run(switch, &["link", "add", "name", "bridge0", "type", "bridge"]);
    run(switch, &["link", "set", "bridge0", "up"]);
    for (number, host) in hosts.iter().enumerate() {
        let port = format!("port{number}");
        // `ip` takes another namespace by the id of a process in it.
        let mut anchor = Command::new("cat");
        anchor.stdin(std::process::Stdio::piped());
        netns::enter_command(&mut anchor, &host.namespace).unwrap();
        let mut anchor = anchor.spawn().unwrap();
        let pid = anchor.id().to_string();
        run(switch, &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        drop(anchor.stdin.take());
        anchor.wait().unwrap();
        run(switch, &["link", "set", &port, "master", "bridge0", "up"]);
        run(&host.namespace, &["address", "add", &format!("{}/24", host.peer.underlay), "dev", "eth0"]);
        run(&host.namespace, &["link", "set", "eth0", "up"]);
    }
    namespace
}

fn connect(from: &Host) -> Option<TcpStream> {
    let to = SocketAddr::from((JOB, PORT));
    let stream = netns::run_in(&from.namespace, move || TcpStream::connect_timeout(&to, Duration::from_secs(1)))
        .unwrap()
        .ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

fn read_exactly(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A connection to the job, which has said where it is.
fn reach(from: &Host, expected: &str) -> TcpStream {
    let started = Instant::now();
    loop {
        if let Some(mut stream) = connect(from) {
            assert_eq!(read_exactly(&mut stream, 1), expected);
            return stream;
        }
        assert!(started.elapsed() < PATIENCE, "the job can't be reached\n{}", from.routes());
    }
}

fn echo(stream: &mut TcpStream, bytes: usize) {
    let sent: String = "0123456789".chars().cycle().take(bytes).collect();
    let mut writer = stream.try_clone().unwrap();
    let text = sent.clone();
    let writing = thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
    assert!(read_exactly(stream, bytes) == sent, "the bytes that came back are others");
    writing.join().unwrap();
}

/// A source, a destination and a gateway's host, joined by a switch.
struct Cluster {
    a: Host,
    b: Host,
    g: Host,
    peers: Vec<Peer>,
    backend: Backend,
    _switch: Namespace,
}

impl Cluster {
    fn new(world: &Path, backend: Backend, mtu: u32) -> Self {
        let [mut a, mut b, mut g] = [2, 3, 4].map(|number| Host::new(world, number));
        let switch = join(world, &[&a, &b, &g]);
        for host in [&mut a, &mut b, &mut g] {
            host.open();
        }
        let peers = [&a, &b, &g].map(|host| host.peer.clone()).to_vec();
        let cluster = Self { a, b, g, peers, backend, _switch: switch };
        for host in cluster.hosts() {
            host.apply(&cluster.carried_by(&cluster.a));
            assert_eq!(host.with(async |network| network.mtu()), mtu);
        }
        cluster
    }

    fn hosts(&self) -> [&Host; 3] {
        [&self.a, &self.b, &self.g]
    }

    fn hosts_mut(&mut self) -> [&mut Host; 3] {
        [&mut self.a, &mut self.b, &mut self.g]
    }

    fn carried_by(&self, host: &Host) -> Network {
        carried_by(&host.peer, &self.peers, self.backend)
    }
}

fn job_is_reached_where_the_table_says(backend: Backend, mtu: u32) {
    let world = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(world.path(), backend, mtu);
    let [on_a, on_b] = [(&cluster.a, "a"), (&cluster.b, "b")].map(|(host, name)| Job::new(host, world.path(), name));
    let mut stream = source_carries(&cluster);
    restarts_keep_connections(&mut cluster, &mut stream);
    drop(stream);
    destination_overrides_the_table(&cluster);
    destination_carries(&cluster);
    end_leaves_nothing(&mut cluster, &on_a, &on_b);
}

fn source_carries(Cluster { a, g, .. }: &Cluster) -> TcpStream {
    assert_eq!(a.job_route(), "", "a line that names the host itself sets nothing");
    a.with(async |network| network.carried_here(JOB, "mtja").await.unwrap());
    assert!(a.job_route().contains("dev mtja scope link src 100.127.0.2"), "{}", a.job_route());
    let mut stream = reach(g, "a");
    assert_eq!(stream.local_addr().unwrap().ip(), g.peer.overlay);
    echo(&mut stream, 3_000_000);
    assert_eq!(connect(a).unwrap().local_addr().unwrap().ip(), a.peer.overlay);
    stream
}

/// A table that is applied again, by the same agents and by new ones, changes nothing.
fn restarts_keep_connections(cluster: &mut Cluster, stream: &mut TcpStream) {
    let (before, network) = (cluster.hosts().map(Host::routes), cluster.carried_by(&cluster.a));
    for host in cluster.hosts_mut() {
        host.apply(&network);
        host.crash();
        host.open();
        host.apply(&network);
    }
    assert_eq!(cluster.hosts().map(Host::routes), before);
    echo(stream, 100_000);
}

/// The destination has its interface in place before the table knows, and a stale table leaves the
/// interface alone.
fn destination_overrides_the_table(cluster: &Cluster) {
    let (b, by_a) = (&cluster.b, cluster.carried_by(&cluster.a));
    b.with(async |network| network.carried_here(JOB, "mtjb").await.unwrap());
    b.apply(&Network { peers: cluster.peers[1..].to_vec(), ..by_a.clone() });
    b.apply(&by_a);
    assert!(b.job_route().contains("dev mtjb"), "{}", b.job_route());
    // The table counts again once the job is given back.
    b.with(async |network| network.carried_elsewhere(JOB).await.unwrap());
    assert!(b.job_route().contains("proto 77"), "{}", b.job_route());
    drop(reach(b, "a"));
    b.with(async |network| network.carried_here(JOB, "mtjb").await.unwrap());
}

fn destination_carries(cluster: &Cluster) {
    let Cluster { a, b, g, .. } = cluster;
    for host in cluster.hosts() {
        host.apply(&cluster.carried_by(b));
    }
    assert!(a.job_route().contains("dev mtja"), "the source keeps its interface until it lets go");
    a.with(async |network| network.carried_elsewhere(JOB).await.unwrap());
    assert!(a.job_route().contains("proto 77"), "{}", a.job_route());
    let mut stream = reach(g, "b");
    echo(&mut stream, 100_000);
    drop(reach(a, "b"));
}

fn end_leaves_nothing(cluster: &mut Cluster, on_a: &Job, on_b: &Job) {
    cluster.b.with(async |network| network.carried_elsewhere(JOB).await.unwrap());
    for host in cluster.hosts() {
        host.apply(&Network { routes: Vec::new(), ..cluster.carried_by(&cluster.b) });
        assert_eq!(host.job_route(), "");
    }
    on_a.end(&cluster.a);
    on_b.end(&cluster.b);
    for host in cluster.hosts_mut() {
        host.close();
        let left = host.routes();
        assert_eq!(left.lines().count(), 1, "only the subnet is left: {left}");
        let links = host.on_thread(|runtime, _| runtime.block_on(ip::query(None, &["-br", "link"])).unwrap());
        assert!(!links.contains(PREFIX), "{links}");
    }
}

fn carried_by(carrier: &Peer, peers: &[Peer], backend: Backend) -> Network {
    let routes = vec![JobRoute { address: JOB, host: carrier.host.clone() }];
    Network {
        overlay: Overlay::default(),
        backend,
        peers: peers.to_vec(),
        routes,
        egress: Vec::new(),
        neighbours: Vec::new(),
    }
}

#[test]
fn over_vxlan() {
    job_is_reached_where_the_table_says(Backend::Vxlan, 1450);
}

#[test]
fn over_plain_routes() {
    job_is_reached_where_the_table_says(Backend::Direct, 1500);
}

#[test]
fn over_wireguard() {
    job_is_reached_where_the_table_says(Backend::Wireguard, 1420);
}

/// Two hosts, with a job on the first that the second reaches.
struct Pair {
    a: Host,
    g: Host,
    peers: Vec<Peer>,
    job: Job,
    _switch: Namespace,
}

impl Pair {
    fn new(world: &Path, backend: Backend) -> Self {
        let [mut a, mut g] = [2, 4].map(|number| Host::new(world, number));
        let switch = join(world, &[&a, &g]);
        for host in [&mut a, &mut g] {
            host.open();
        }
        let peers = [&a, &g].map(|host| host.peer.clone()).to_vec();
        for host in [&a, &g] {
            host.apply(&carried_by(&a.peer, &peers, backend));
        }
        let job = Job::new(&a, world, "a");
        a.with(async |network| network.carried_here(JOB, "mtja").await.unwrap());
        drop(reach(&g, "a"));
        Self { a, g, peers, job, _switch: switch }
    }

    fn network(&self, backend: Backend) -> Network {
        carried_by(&self.a.peer, &self.peers, backend)
    }

    fn close(mut self) {
        self.job.end(&self.a);
        for host in [&mut self.a, &mut self.g] {
            host.close();
        }
    }
}

#[test]
fn backend_changes() {
    let world = tempfile::tempdir().unwrap();
    let pair = Pair::new(world.path(), Backend::Wireguard);
    for backend in [Backend::Direct, Backend::Vxlan, Backend::Wireguard] {
        for host in [&pair.a, &pair.g] {
            host.apply(&pair.network(backend));
        }
        drop(reach(&pair.g, "a"));
    }
    pair.close();
}

/// A missing device is made again when the slice is applied again, also one that has not changed.
#[test]
fn deleted_device_is_made_again() {
    let world = tempfile::tempdir().unwrap();
    let pair = Pair::new(world.path(), Backend::Wireguard);
    let g = &pair.g;
    run(&g.namespace, &["link", "delete", "mtwg"]);
    assert!(connect(g).is_none());
    let started = Instant::now();
    while g.job_route().is_empty() {
        assert!(started.elapsed() < PATIENCE);
        g.apply(&pair.network(Backend::Wireguard));
    }
    drop(reach(g, "a"));
    pair.close();
}

/// Without a route, a packet for a job does not leave the host unencrypted.
#[test]
fn packets_without_a_route_are_dropped() {
    let world = tempfile::tempdir().unwrap();
    let pair = Pair::new(world.path(), Backend::Wireguard);
    let g = &pair.g;
    run(&g.namespace, &["route", "add", "default", "via", "198.18.0.2"]);
    g.apply(&Network { routes: Vec::new(), ..pair.network(Backend::Wireguard) });
    assert_eq!(g.job_route(), "");
    assert!(connect(g).is_none());
    let fenced = Command::new("nft").args(["list", "chain", "inet", "mooring_mt", "fence"]).in_namespace(&g.namespace);
    assert!(fenced.contains("drop"), "{fenced}");
    run(&g.namespace, &["route", "delete", "default"]);
    pair.close();
}

/// Plain routes don't reach a host on another subnet: that is an error, and other hosts are
/// reached.
#[test]
fn unreachable_host_leaves_the_others() {
    let world = tempfile::tempdir().unwrap();
    let pair = Pair::new(world.path(), Backend::Direct);
    let mut network = pair.network(Backend::Direct);
    let stranger: HostId = format!("{}{}", HostId::PREFIX, "9".repeat(21)).parse().unwrap();
    network.peers.insert(
        0,
        Peer {
            host: stranger,
            underlay: Ipv4Addr::new(203, 0, 113, 9),
            overlay: Ipv4Addr::new(100, 64, 0, 1),
            wireguard_key: String::new(),
        },
    );
    for host in [&pair.a, &pair.g] {
        let (own, slice) = (host.peer.host.clone(), network.clone());
        host.with(async move |host| host.apply(&own, &slice).await.unwrap_err());
    }
    drop(reach(&pair.g, "a"));
    pair.close();
}

trait InNamespace {
    /// Runs the command in a namespace and returns what it prints.
    fn in_namespace(&mut self, namespace: &Path) -> String;
}

impl InNamespace for Command {
    fn in_namespace(&mut self, namespace: &Path) -> String {
        netns::enter_command(self, namespace).unwrap();
        String::from_utf8(self.output().unwrap().stdout).unwrap()
    }
}

//! `float up`: everything on this machine, in one process tree.
//!
//! ```text
//!  float up ─┬─ float server opcenter                   127.0.0.1 and 198.18.0.1
//!            ├─ float server agent  (gateways)          198.18.0.1, this network namespace
//!            ├─ float server agent  host-1              198.18.0.2, a network namespace of its own
//!            └─ float server agent  host-2 …            198.18.0.3
//! ```
//!
//! Virtual hosts hang on a private bridge; each has an address and a clock offset of its own. A daemon that dies is started again. A
//! stop parks what runs, the next start brings it back: jobs are checkpointed into the state directory, connections are in the database.

mod network;
mod supervise;

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use mooring_api::view::LoginRequest;
use mooring_api::watch::Backend;
use mooring_api::{Client, ErrorCode};
use mooring_linux::cgroup::Cgroup;
use mooring_types::duration::format_duration;
use mooring_types::host::Readiness;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::network::Network;
use self::supervise::{Daemon, Supervisor};
use crate::server::{
    Cloud, DRAIN_AT_ONCE, ImageArgs, JUPYTER, METRICS_INTERVAL, PurchaseName, SpotArgs, backends, interval,
};
use crate::store::StoreArgs;

/// How long everything may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// By how much the clocks of one virtual host are ahead of those of the one before it.
const CLOCK_STEP_SECONDS: i64 = 100_000;
/// Virtual hosts are for trying things out: on a small machine they share its cores.
const CORES_MIN: u32 = 4;
/// The statuses of a host that has started as it should.
const UP: [&str; 3] = ["ready", "draining", "drained"];
/// The control group above everything.
const CGROUP: &str = "mooring";

/// Everything on this machine, in the foreground, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  float up --dir ~/mooring --virtual-hosts 2\n  float login -u admin -p \"$(cat ~/mooring/opcenter/admin-password)\"\n  float submit --template jupyter --gateway my-gateway"
)]
pub(crate) struct Args {
    /// Where all state is kept; the same directory brings back what was there
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mooring/up")]
    dir: PathBuf,
    /// Where OpCenter listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// How many hosts to make, each in a network namespace of its own
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    virtual_hosts: u8,
    /// How many cores each of them offers to jobs, which share this machine's; these, and at least 4, when absent
    #[arg(long, value_name = "N")]
    cores: Option<NonZeroU32>,
    /// How the hosts reach each other's jobs
    #[arg(long, value_parser = backends(), default_value_t)]
    backend: Backend,
    /// The address by which clients reach gateways; that of --listen when absent
    #[arg(long, value_name = "ADDRESS")]
    public_address: Option<IpAddr>,
    /// A registry of images that is spoken to without TLS; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// JupyterLab's virtual environment, for the template `jupyter`
    #[arg(long, value_name = "DIR", default_value = JUPYTER)]
    jupyter: PathBuf,
    /// How often the hosts measure what their jobs use, like 20s
    #[arg(long, value_name = "TIME", default_value = METRICS_INTERVAL, value_parser = interval)]
    metrics_interval: Duration,
    /// How a host counts as paid for, like host-1=spot; on demand when not said, or as the cloud of --spot says. Repeatable
    #[arg(long, value_name = "HOST=spot|onDemand", value_parser = purchase)]
    purchase: Vec<(String, PurchaseName)>,
    /// How many jobs at once leave a host that is drained or reclaimed
    #[arg(long, value_name = "N", default_value = DRAIN_AT_ONCE)]
    drain_at_once: NonZeroUsize,
    #[command(flatten)]
    spot: SpotArgs,
}

fn purchase(text: &str) -> Result<(String, PurchaseName), String> {
    let read = text.split_once('=').and_then(|(host, how)| Some((host, PurchaseName::from_str(how, false).ok()?)));
    read.map(|(host, how)| (host.to_owned(), how)).ok_or_else(|| "write `host-1=spot` or `host-1=onDemand`".into())
}

/// Runs everything until it is asked to stop.
pub(crate) async fn run(up: Args) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (up, _locks) = check(up).await?;
    let network = Network::new(&up.dir, up.virtual_hosts);
    network.make().await.context("can't make the virtual hosts' network")?;
    let mut supervisor = Supervisor::new(&up.dir.join("log"))?;
    let outcome = tokio::select! {
        outcome = serve(&up, &network, &mut supervisor) => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    note("stopping: jobs are kept in the state directory");
    let failed = supervisor.stop().await;
    // What still has a process in it stays.
    let _ = Cgroup::open(&format!("{CGROUP}/{}", world(&up.dir))).remove();
    network.remove().await.context("can't remove the virtual hosts' network")?;
    outcome?;
    ensure!(failed.is_empty(), "{} did not stop well: {} says why", failed.join(", "), up.dir.join("log").display());
    Ok(())
}

/// Held for as long as it runs: the virtual hosts' names and addresses, and the state directory, are its alone.
struct Locks {
    _machine: UnixListener,
    _directory: Flock<File>,
}

/// Starts everything in its order, says so when it is ready, and keeps it running.
async fn serve(up: &Args, network: &Network, supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let state = up.dir.join("opcenter");
    let inner = SocketAddr::from((network::BRIDGE, up.listen.port()));
    supervisor.start(opcenter(up, &state, inner))?;
    let url = format!("http://{}", up.listen);
    let client = Client::new(&url)?;
    let started = Instant::now();
    while client.version_get().await.is_err() {
        supervisor.watch_until(POLL).await?;
        ensure!(
            started.elapsed() < READY_LIMIT,
            "OpCenter does not answer at {url}: {} says why",
            up.dir.join("log").display()
        );
    }
    let token = state.join("join-token");
    supervisor.start(agent(up, "gateways", "gateways", network::BRIDGE, "mg", None, inner, &token)?)?;
    for number in 1..=up.virtual_hosts {
        let name = virtual_host(number);
        let prefix = format!("mh{number}");
        let namespace = Some((network.namespace(number), number));
        supervisor.start(agent(up, &name, "jobs", network::host(number), &prefix, namespace, inner, &token)?)?;
    }
    let logged_in = login(client, &state).await?;
    while let Some(client) = &logged_in {
        let hosts = client.host_list().await?;
        let ready = hosts.iter().filter(|host| UP.contains(&host.status.as_str())).count();
        if ready > usize::from(up.virtual_hosts) {
            break;
        }
        ensure!(started.elapsed() < READY_LIMIT, "the hosts are not ready: {} says why", up.dir.join("log").display());
        supervisor.watch_until(POLL).await?;
    }
    writeln!(io::stdout(), "ready {url}").context("can't write to stdout")?;
    if logged_in.is_some() {
        note(&format!("the password of `admin` is in {}", state.join("admin-password").display()));
    }
    loop {
        supervisor.watch_until(Duration::from_millis(200)).await?;
    }
}

/// A client that may ask how the hosts are, for as long as the first password of `admin` is in force.
async fn login(client: Client, state: &Path) -> anyhow::Result<Option<Client>> {
    let password = fs::read_to_string(state.join("admin-password")).context("can't read the password of `admin`")?;
    let credentials = LoginRequest { username: "admin".into(), password: password.trim().to_owned() };
    match client.login(&credentials).await {
        Ok(session) => Ok(Some(client.with_token(session.token))),
        Err(error) if error.code() == Some(ErrorCode::Unauthenticated) => {
            note("the first password of `admin` is in force no more: `float hosts` tells when the hosts are ready");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells whoever watches; that nobody does is no reason to stop.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Finds out early, and in one clear line, what would keep it from running.
async fn check(mut up: Args) -> anyhow::Result<(Args, Locks)> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "`float up` needs root: it makes network namespaces and containers; try `sudo float up`"
    );
    mooring_ops::file::private_dir(&up.dir)
        .with_context(|| format!("can't make state directory {}", up.dir.display()))?;
    up.dir = fs::canonicalize(&up.dir).with_context(|| format!("can't find state directory {}", up.dir.display()))?;
    // An abstract socket belongs to the network namespace, as the bridge does, and ends with the process.
    let alone = UnixListener::bind_addr(&UnixAddress::from_abstract_name("mooring-up")?)
        .context("another `float up` runs on this machine: stop it first")?;
    let path = up.dir.join("lock");
    let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
    let directory = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        anyhow!("another `float up` uses {}: stop it first, or choose another `--dir`", up.dir.display())
    })?;
    if let Some((host, _)) = up.purchase.iter().find(|(host, _)| !names(&up).any(|name| name == *host)) {
        let all: Vec<String> = names(&up).collect();
        bail!("no host is named `{host}`: there are {}", all.join(", "));
    }
    if let Readiness::NotReady { reason } = mooring_agent::readiness(None).await {
        bail!("this machine can't move jobs: {reason}");
    }
    mooring_opcenter::check_state(&up.dir.join("opcenter"))
        .await
        .with_context(|| format!("can't use state directory {}", up.dir.display()))?;
    let listener = TcpListener::bind(up.listen)
        .with_context(|| format!("can't listen at {}: choose another port with `--listen`", up.listen))?;
    up.listen = listener.local_addr()?;
    Ok((up, Locks { _machine: alone, _directory: directory }))
}

/// The names of the virtual hosts.
fn names(up: &Args) -> impl Iterator<Item = String> {
    (1..=up.virtual_hosts).map(virtual_host)
}

fn virtual_host(number: u8) -> String {
    format!("host-{number}")
}

fn opcenter(up: &Args, state: &Path, inner: SocketAddr) -> Daemon {
    let mut daemon = Daemon::new("opcenter", &["server", "opcenter"]);
    daemon.path("--state-dir", state).option("--listen", &up.listen.to_string());
    if !up.listen.ip().is_unspecified() {
        daemon.option("--listen", &inner.to_string());
    }
    daemon.option("--backend", up.backend.name()).path("--jupyter", &up.jupyter);
    daemon.option("--drain-at-once", &up.drain_at_once.to_string());
    let store = &up.store;
    match &store.capsule_store {
        Some(location) => daemon.option("--capsule-store", location),
        None => daemon.option("--capsule-store", &format!("dir:{}", up.dir.join("capsules").display())),
    };
    // Keys are in its environment, as in this process's.
    for (name, value) in [
        ("--capsule-store-endpoint", &store.capsule_store_endpoint),
        ("--capsule-store-region", &store.capsule_store_region),
    ] {
        if let Some(value) = value {
            daemon.option(name, value);
        }
    }
    daemon
}

#[expect(clippy::too_many_arguments, reason = "each is a different property of the one host that is described")]
fn agent(
    up: &Args,
    name: &str,
    role: &str,
    underlay: Ipv4Addr,
    prefix: &str,
    namespace: Option<(PathBuf, u8)>,
    opcenter: SocketAddr,
    token: &Path,
) -> anyhow::Result<Daemon> {
    let cores = match up.cores {
        Some(cores) => cores.get(),
        None => u32::try_from(std::thread::available_parallelism()?.get())?.max(CORES_MIN),
    };
    let public = up.public_address.unwrap_or_else(|| match up.listen.ip() {
        address if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        address => address,
    });
    let mut daemon = Daemon::new(name, &["server", "agent"]);
    daemon
        .option("--opcenter", &format!("http://{opcenter}"))
        .path("--join-token-file", token)
        .option("--name", name)
        .option("--role", role)
        .option("--underlay", &underlay.to_string())
        .option("--public-address", &public.to_string())
        .path("--state-dir", &up.dir.join("hosts").join(name))
        .option("--device-prefix", prefix)
        .option("--cgroup-parent", &format!("{CGROUP}/{}/{name}", world(&up.dir)))
        .option("--cores", &cores.to_string())
        .option("--metrics-interval", &format_duration(up.metrics_interval))
        .option("--image-max-age", &format_duration(up.images.image_max_age))
        .option("--image-gc-high", &up.images.image_gc_high.to_string())
        .option("--image-gc-low", &up.images.image_gc_low.to_string())
        .path("--hide", &up.dir)
        .flag("--park");
    for registry in &up.insecure_registry {
        daemon.option("--insecure-registry", registry);
    }
    if let Some((_, how)) = up.purchase.iter().rfind(|(host, _)| host == name) {
        daemon.option("--purchase", how.to_possible_value().as_ref().map_or("", PossibleValue::get_name));
    }
    if let Some(Cloud::Aws) = up.spot.spot {
        daemon.option("--spot", "aws").option("--metadata-endpoint", &up.spot.metadata_endpoint);
    }
    if let Some((path, number)) = namespace {
        daemon.option("--clock-offset", &(CLOCK_STEP_SECONDS * i64::from(number)).to_string()).inside(path);
    }
    Ok(daemon)
}

/// What tells this state directory's control groups from those of another one.
fn world(dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("{:08x}", hasher.finish() as u32)
}

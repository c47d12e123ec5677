//! `float up`: everything on this machine, in one process tree.
//!
//! ```text
//!  float up ─┬─ float server opcenter                   127.0.0.1 and 198.18.0.1
//!            ├─ float server agent  (gateways)          198.18.0.1, this network namespace
//!            ├─ float server agent  host-1              198.18.0.2, a network namespace of its own
//!            └─ float server agent  host-2 …            198.18.0.3
//! ```
//!
//! Virtual hosts are attached to a private bridge; each has an address and a clock offset of its
//! own. A daemon that dies is restarted. A stop parks all jobs and the next start restores them:
//! jobs are checkpointed into the state directory, and connections are in the database.

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
use ipnet::{IpNet, Ipv4Net};
use mooring_api::view::LoginRequest;
use mooring_api::watch::Backend;
use mooring_api::{Client, ErrorCode};
use mooring_linux::cgroup::Cgroup;
use mooring_tls::Trust;
use mooring_types::duration::format_duration;
use mooring_types::host::{Purchase, Readiness};
use mooring_types::host_name::HostPattern;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::network::Network;
use self::supervise::{Daemon, Supervisor};
use crate::certificate::TlsArgs;
use crate::oidc::OidcArgs;
use crate::parse::{self, from_wire_name};
use crate::server::{
    Cloud, DRAIN_CONCURRENCY, ImageArgs, JUPYTER_DIR, METRICS_INTERVAL, NewFiles, SpotArgs, backends, interval,
};
use crate::store::StoreArgs;
use crate::table::wire_name;

/// The time limit for the start of OpCenter and all hosts.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval between two looks at what starts.
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The clock offset between one virtual host and the next.
const CLOCK_OFFSET_STEP_SECONDS: i64 = 100_000;
/// The fewest cores of a virtual host; on a small machine virtual hosts share its cores.
const HOST_CORES_MIN: u32 = 4;
/// The control group of everything that `float up` starts.
const CGROUP_ROOT: &str = "mooring";

/// run a complete Mooring on this machine, in the foreground until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  float up --dir ~/mooring --virtual-hosts 2\n  float login -u admin -p \"$(cat ~/mooring/opcenter/admin-password)\"\n  float gateway create -n lab\n  float submit --template jupyter --gateway lab"
)]
pub(crate) struct Args {
    /// state directory; a later start with the same directory restores all jobs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mooring/up")]
    dir: PathBuf,
    /// address of OpCenter; port 0 for a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// number of virtual hosts, each in a network namespace of its own
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    virtual_hosts: u8,
    /// cores that each virtual host offers; they share this machine's [default: all, at least 4]
    #[arg(long, value_name = "N")]
    cores: Option<NonZeroU32>,
    /// network backend between hosts
    #[arg(long, value_parser = backends(), default_value_t)]
    backend: Backend,
    /// address of gateways for clients [default: the address of --listen]
    #[arg(long, value_name = "ADDRESS")]
    public_address: Option<IpAddr>,
    /// image registry to use without TLS; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    oidc: OidcArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// virtual environment with JupyterLab for the template `jupyter`
    #[arg(long, value_name = "DIR", default_value = JUPYTER_DIR)]
    jupyter: PathBuf,
    /// directory of this machine below which jobs of all users may have their image; jobs of admins
    /// may use any path; repeatable
    #[arg(long = "image-path", value_name = "DIR")]
    image_paths: Vec<PathBuf>,
    /// address range that endpoints of external jobs may have although it is of a gateway's host,
    /// link-local or of the overlay; repeatable
    #[arg(long = "external-range", value_name = "RANGE", value_parser = parse::address_range)]
    external_ranges: Vec<IpNet>,
    /// address range that jobs may reach although it is of other users' jobs, of hosts, link-local
    /// or of cloud metadata; repeatable
    #[arg(long = "job-range", value_name = "RANGE", value_parser = parse::address_range_v4)]
    job_ranges: Vec<Ipv4Net>,
    /// name by which browsers may reach gateways, like lab.example.org or *.example.org, or * for
    /// any; repeatable [default: addresses and names without a dot]
    #[arg(long = "gateway-host", value_name = "NAME")]
    gateway_hosts: Vec<HostPattern>,
    /// address range of proxies before OpCenter and gateways, whose `X-Forwarded-For` and
    /// `X-Forwarded-Proto` are believed; repeatable [default: none]
    #[arg(long = "trusted-proxy", value_name = "RANGE", value_parser = parse::address_range)]
    trusted_proxies: Vec<IpNet>,
    /// word in the user agents of clients that only look whether a job answers, and wake none;
    /// repeatable [default: those of usual monitors, health checks and scanners]
    #[arg(long = "checker", value_name = "WORD", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    checkers: Vec<String>,
    /// interval between usage measurements, for example 20s
    #[arg(long, value_name = "TIME", default_value = METRICS_INTERVAL, value_parser = interval)]
    metrics_interval: Duration,
    /// purchase option of a host, for example host-1=spot; repeatable [default: from the cloud of
    /// --spot, else onDemand]
    #[arg(long, value_name = "HOST=spot|onDemand", value_parser = purchase)]
    purchase: Vec<(String, Purchase)>,
    /// number of concurrent migrations off a drained or reclaimed host
    #[arg(long, value_name = "N", default_value = DRAIN_CONCURRENCY)]
    drain_at_once: NonZeroUsize,
    #[command(flatten)]
    spot: SpotArgs,
}

fn purchase(text: &str) -> Result<(String, Purchase), String> {
    let pair = text.split_once('=').and_then(|(host, name)| Some((host.to_owned(), from_wire_name(name)?)));
    pair.ok_or_else(|| "write `host-1=spot` or `host-1=onDemand`".into())
}

/// Runs everything until it is stopped.
pub(crate) async fn run(up: Args) -> anyhow::Result<()> {
    NewFiles::Private.begin();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (up, _locks) = check(up).await?;
    let network = Network::new(&up.dir, up.virtual_hosts);
    network.create().await.context("can't create the network of the virtual hosts")?;
    let mut supervisor = Supervisor::new(&up.dir.join("log"))?;
    let outcome = tokio::select! {
        outcome = serve(&up, &network, &mut supervisor) => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    note("stopping; jobs are kept in the state directory");
    let failed = supervisor.stop().await;
    // A control group with a process in it stays.
    let _ = Cgroup::open(&format!("{CGROUP_ROOT}/{}", world(&up.dir))).remove();
    network.remove().await.context("can't remove the network of the virtual hosts")?;
    outcome?;
    ensure!(
        failed.is_empty(),
        "{} failed to stop; see the logs in {}",
        failed.join(", "),
        up.dir.join("log").display()
    );
    Ok(())
}

/// The locks of a running `float up`: on the virtual hosts' names and addresses, and on the state
/// directory.
struct Locks {
    _machine: UnixListener,
    _directory: Flock<File>,
}

/// Starts the daemons in order, prints `ready`, and restarts daemons that die.
async fn serve(up: &Args, network: &Network, supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let state = up.dir.join("opcenter");
    let inner = SocketAddr::from((network::BRIDGE, up.listen.port()));
    supervisor.start(opcenter(up, &state, inner))?;
    let (started, authority) = (Instant::now(), state.join("ca.pem"));
    let client = loop {
        if let Some(client) = answering(up.listen, &authority).await {
            break client;
        }
        supervisor.restart_after(START_POLL_INTERVAL).await?;
        ensure!(
            started.elapsed() < START_TIMEOUT,
            "OpCenter does not answer at {}; see the logs in {}",
            up.listen,
            up.dir.join("log").display()
        );
    };
    let url = client.address().to_owned();
    supervisor.start(agent(up, "gateways", "gateways", network::BRIDGE, "mg", None, inner, &state)?)?;
    for number in 1..=up.virtual_hosts {
        let name = virtual_host(number);
        let prefix = format!("mh{number}");
        let namespace = Some((network.namespace(number), number));
        supervisor.start(agent(up, &name, "jobs", network::host(number), &prefix, namespace, inner, &state)?)?;
    }
    let logged_in = login(client, &state).await?;
    while let Some(client) = &logged_in {
        let hosts = client.host_list().await?;
        let ready = hosts.iter().filter(|host| host.status.is_up()).count();
        if ready > usize::from(up.virtual_hosts) {
            break;
        }
        ensure!(
            started.elapsed() < START_TIMEOUT,
            "the hosts are not ready; see the logs in {}",
            up.dir.join("log").display()
        );
        supervisor.restart_after(START_POLL_INTERVAL).await?;
    }
    writeln!(io::stdout(), "ready {url}").context("can't write to stdout")?;
    if logged_in.is_some() {
        note(&format!("the password of `admin` is in {}", state.join("admin-password").display()));
    }
    loop {
        supervisor.restart_after(Duration::from_millis(200)).await?;
    }
}

/// A client of OpCenter, once it answers.
async fn answering(listen: SocketAddr, authority: &Path) -> Option<Client> {
    let trust = Trust::read(authority.to_str()?).ok()?;
    let client = Client::connect(&listen.to_string(), trust).ok()?;
    client.version_get().await.ok().map(|_| client)
}

/// A client that may list the hosts; `None` when the first password of `admin` was changed.
async fn login(client: Client, state: &Path) -> anyhow::Result<Option<Client>> {
    let password = fs::read_to_string(state.join("admin-password")).context("can't read the password of `admin`")?;
    let credentials = LoginRequest { username: "admin".into(), password: password.trim().to_owned() };
    match client.login(&credentials).await {
        Ok(session) => Ok(Some(client.with_token(session.token))),
        Err(error) if error.code() == Some(ErrorCode::Unauthenticated) => {
            note("the first password of `admin` was changed: `float hosts` shows when the hosts are ready");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints a line on stderr; a missing stderr is ignored.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Checks everything that would prevent a start, and takes the locks.
async fn check(mut up: Args) -> anyhow::Result<(Args, Locks)> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "`float up` needs root: it creates network namespaces and containers; try `sudo float up`"
    );
    mooring_ops::file::private_dir(&up.dir)
        .with_context(|| format!("can't create state directory {}", up.dir.display()))?;
    up.dir = fs::canonicalize(&up.dir).with_context(|| format!("can't find state directory {}", up.dir.display()))?;
    // An abstract socket belongs to the network namespace, as the bridge does, and ends with the
    // process.
    let alone = UnixListener::bind_addr(&UnixAddress::from_abstract_name("mooring-up")?)
        .context("another `float up` runs on this machine; stop it first")?;
    let path = up.dir.join("lock");
    let file = File::create(&path).with_context(|| format!("can't create {}", path.display()))?;
    let directory = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
        anyhow!("another `float up` uses {}; stop it first, or choose another `--dir`", up.dir.display())
    })?;
    if let Some((host, _)) = up.purchase.iter().find(|(host, _)| !names(&up).any(|name| name == *host)) {
        let all: Vec<String> = names(&up).collect();
        bail!("no host `{host}`; the hosts are {}", all.join(", "));
    }
    if let Readiness::NotReady { reason } = mooring_agent::readiness(None).await {
        bail!("this machine can't migrate jobs: {reason}");
    }
    mooring_opcenter::check_state(&up.dir.join("opcenter"))
        .await
        .with_context(|| format!("can't use state directory {}", up.dir.display()))?;
    let listener = TcpListener::bind(up.listen)
        .with_context(|| format!("can't listen at {}; choose another port with `--listen`", up.listen))?;
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

/// Returns the URL by which browsers reach OpCenter, if the options tell it. On the loopback of
/// this machine that takes no TLS.
fn url_for_browsers(up: &Args) -> Option<String> {
    let listen = up.listen.ip();
    let address = if listen.is_unspecified() { up.public_address? } else { listen };
    let scheme = if address.is_loopback() { "http" } else { "https" };
    Some(format!("{scheme}://{}", SocketAddr::new(address, up.listen.port())))
}

fn opcenter(up: &Args, state: &Path, inner: SocketAddr) -> Daemon {
    let mut daemon = Daemon::new("opcenter", &["server", "opcenter"]);
    daemon.path("--state-dir", state).option("--listen", &up.listen.to_string());
    if !up.listen.ip().is_unspecified() {
        daemon.option("--listen", &inner.to_string());
    }
    if let Some(url) = url_for_browsers(up) {
        daemon.option("--external-url", &url);
    }
    daemon.option("--backend", up.backend.name()).path("--jupyter", &up.jupyter);
    daemon.option("--drain-at-once", &up.drain_at_once.to_string()).flag("--shared-join-token");
    for path in &up.image_paths {
        daemon.path("--image-path", path);
    }
    for range in &up.external_ranges {
        daemon.option("--external-range", &range.to_string());
    }
    for name in &up.gateway_hosts {
        daemon.option("--gateway-host", &name.to_string());
    }
    for range in &up.trusted_proxies {
        daemon.option("--trusted-proxy", &range.to_string());
    }
    for word in &up.checkers {
        daemon.option("--checker", word);
    }
    for (name, value) in up.tls.options().into_iter().chain(up.oidc.options()) {
        daemon.option(name, &value);
    }
    let store = &up.store;
    match &store.capsule_store {
        Some(location) => daemon.option("--capsule-store", location),
        None => daemon.option("--capsule-store", &format!("dir:{}", up.dir.join("capsules").display())),
    };
    // The keys are in the environment, which the daemon inherits.
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
    opcenter_state: &Path,
) -> anyhow::Result<Daemon> {
    let cores = match up.cores {
        Some(cores) => cores.get(),
        None => u32::try_from(std::thread::available_parallelism()?.get())?.max(HOST_CORES_MIN),
    };
    let public = up.public_address.unwrap_or_else(|| match up.listen.ip() {
        address if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        address => address,
    });
    let mut daemon = Daemon::new(name, &["server", "agent"]);
    daemon
        .option("--opcenter", &format!("https://{opcenter}"))
        .path("--ca", &opcenter_state.join("ca.pem"))
        .path("--join-token-file", &opcenter_state.join("join-token"))
        .option("--name", name)
        .option("--role", role)
        .option("--underlay", &underlay.to_string())
        .option("--public-address", &public.to_string())
        .path("--state-dir", &up.dir.join("hosts").join(name))
        .option("--device-prefix", prefix)
        .option("--cgroup-parent", &format!("{CGROUP_ROOT}/{}/{name}", world(&up.dir)))
        .option("--cores", &cores.to_string())
        .option("--metrics-interval", &format_duration(up.metrics_interval))
        .option("--image-max-age", &format_duration(up.images.image_max_age))
        .option("--image-gc-high", &up.images.image_gc_high.to_string())
        .option("--image-gc-low", &up.images.image_gc_low.to_string())
        .option("--image-max-size", &up.images.image_max_size.to_string())
        .option("--image-max-files", &up.images.image_max_files.to_string())
        .option("--disk-reserve", &up.images.disk_reserve.to_string())
        .path("--hide", &up.dir)
        .flag("--park");
    for registry in &up.insecure_registry {
        daemon.option("--insecure-registry", registry);
    }
    for range in &up.job_ranges {
        daemon.option("--job-range", &range.to_string());
    }
    if let Some((_, purchase)) = up.purchase.iter().rfind(|(host, _)| host == name) {
        daemon.option("--purchase", &wire_name(purchase));
    }
    if let Some(Cloud::Aws) = up.spot.spot {
        daemon.option("--spot", "aws").option("--metadata-endpoint", &up.spot.metadata_endpoint);
    }
    if let Some((path, number)) = namespace {
        daemon.option("--clock-offset", &(CLOCK_OFFSET_STEP_SECONDS * i64::from(number)).to_string()).inside(path);
    }
    Ok(daemon)
}

/// A name for this state directory's control groups.
fn world(dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("{:08x}", hasher.finish() as u32)
}

//! `float server`: the daemons.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net};
use mooring_api::watch::Backend;
use mooring_gateway::Start;
use mooring_ops::Lifecycle;
use mooring_tls::Trust;
use mooring_types::address::Overlay;
use mooring_types::duration::parse_duration;
use mooring_types::gateway::usual_checkers;
use mooring_types::host::{HostRole, Purchase};
use mooring_types::host_name::HostPattern;
use mooring_types::{GatewayId, Name, SystemClock};
use nix::sys::stat::{Mode, umask};

use crate::certificate::TlsArgs;
use crate::global::Global;
use crate::oidc::OidcArgs;
use crate::parse::{self, one_of};
use crate::store::StoreArgs;

/// The directory of JupyterLab as installed by `scripts/setup`.
pub(crate) const JUPYTER_DIR: &str = "/opt/mooring/jupyter";
/// The number of concurrent migrations off a drained host. They share the network, so each job is
/// frozen longer: with two at once clients wait half as long again as with one (`bench drain`).
pub(crate) const DRAIN_CONCURRENCY: &str = "1";
/// The interval between two measurements of resource usage.
pub(crate) const METRICS_INTERVAL: &str = "20s";

/// The arguments of `float server`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    server: Server,
}

/// The daemons.
#[derive(Debug, Subcommand)]
enum Server {
    /// the control plane: API, placement, reconciler
    Opcenter(Box<OpCenter>),
    /// the agent of a host: runs and migrates jobs, starts gateways (needs root)
    Agent(Box<Agent>),
    /// a gateway; started by the agent of its host
    Gateway(Gateway),
}

/// The arguments of `float server opcenter`.
#[derive(Debug, clap::Args)]
struct OpCenter {
    /// state directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mooring/opcenter")]
    state_dir: PathBuf,
    /// address to listen at; repeatable
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: Vec<SocketAddr>,
    /// URL by which browsers reach OpCenter behind a proxy; with `https://` the session cookie is
    /// for TLS alone [default: the address that the browser used]
    #[arg(long, value_name = "URL", value_parser = external_url)]
    external_url: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    oidc: OidcArgs,
    /// network backend between hosts
    #[arg(long, value_parser = backends(), default_value_t)]
    backend: Backend,
    /// overlay network for the addresses of jobs and hosts; prefix /15 or shorter
    #[arg(long, value_name = "CIDR", default_value = "100.64.0.0/10")]
    overlay: Ipv4Net,
    #[command(flatten)]
    store: StoreArgs,
    /// virtual environment with JupyterLab for the template `jupyter`
    #[arg(long, value_name = "DIR", default_value = JUPYTER_DIR)]
    jupyter: PathBuf,
    /// image with JupyterLab for the template `jupyter`, instead of the virtual environment
    #[arg(long, value_name = "IMAGE")]
    jupyter_image: Option<String>,
    /// directory of the hosts that jobs of all users may mount with `--dataVolume`, with its
    /// subdirectories; jobs of admins may mount any directory; repeatable
    #[arg(long = "volume-path", value_name = "DIR")]
    volume_paths: Vec<PathBuf>,
    /// directory of the hosts below which jobs of all users may have their image (`dir:`, `oci:`,
    /// `oci-archive:`); jobs of admins may use any path; repeatable
    #[arg(long = "image-path", value_name = "DIR")]
    image_paths: Vec<PathBuf>,
    /// address range that endpoints of external jobs may have although it is of a gateway's host,
    /// link-local or of the overlay; repeatable
    #[arg(long = "external-range", value_name = "RANGE", value_parser = parse::address_range)]
    external_ranges: Vec<IpNet>,
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
    /// number of concurrent migrations off a drained or reclaimed host
    #[arg(long, value_name = "N", default_value = DRAIN_CONCURRENCY)]
    drain_at_once: NonZeroUsize,
    /// let every host join that has the token in the file `join-token` of the state directory;
    /// without it, hosts join with tokens of `float hosts token create`
    #[arg(long)]
    shared_join_token: bool,
}

/// The most open files of OpCenter: its connections and some.
const OPEN_FILES_MAX: u64 = 65_536;

/// Parses the URL by which browsers reach OpCenter.
fn external_url(text: &str) -> Result<String, String> {
    let is_url =
        ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if is_url {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("a URL begins with `https://` or `http://`".into())
    }
}

/// The arguments of `float server agent`.
#[derive(Debug, clap::Args)]
struct Agent {
    /// address of OpCenter; `--ca` says by which authority it is believed
    #[arg(long, value_name = "URL")]
    opcenter: String,
    /// file with a join token, as `float hosts token create` makes it; needed for the first join
    /// alone
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// host name
    #[arg(long)]
    name: Name,
    /// role of the host
    #[arg(long, value_parser = role(), default_value = "jobs")]
    role: HostRole,
    /// same as `--role both`
    #[arg(long, conflicts_with = "role")]
    gateway_host: bool,
    /// address of this host for other hosts
    #[arg(long, value_name = "ADDRESS")]
    underlay: Ipv4Addr,
    /// address of this host's gateways for clients [default: --underlay]
    #[arg(long, value_name = "ADDRESS")]
    public_address: Option<IpAddr>,
    /// port for incoming migrations; 0 for any
    #[arg(long, alias = "move-port", value_name = "PORT", default_value_t = 7443)]
    migration_port: u16,
    /// state directory, also for the files of jobs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mooring/agent")]
    state_dir: PathBuf,
    /// prefix of network device names
    #[arg(long, value_name = "PREFIX", default_value = "mr")]
    device_prefix: String,
    /// parent control group of jobs and gateways
    #[arg(long, value_name = "PATH", default_value = "mooring")]
    cgroup_parent: String,
    /// cores to offer [default: all]
    #[arg(long)]
    cores: Option<u32>,
    /// memory to offer, in GB [default: all]
    #[arg(long, value_name = "GB")]
    mem: Option<f64>,
    /// directory with bin/runc and bin/criu [default: /opt/mooring, else PATH]
    #[arg(long, value_name = "DIR", env = "MOORING_PREFIX")]
    tools: Option<PathBuf>,
    /// clock offset of new jobs to this machine, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    clock_offset: i64,
    /// checkpoint jobs and stop gateways when the agent stops, instead of leaving them running
    #[arg(long)]
    park: bool,
    /// image registry to use without TLS; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    images: ImageArgs,
    /// directory to hide from jobs with a `dir:` image; repeatable
    #[arg(long, value_name = "DIR")]
    hide: Vec<PathBuf>,
    /// address range that jobs may reach although it is of other users' jobs, of hosts, link-local
    /// or of cloud metadata; repeatable
    #[arg(long = "job-range", value_name = "RANGE", value_parser = parse::address_range_v4)]
    job_ranges: Vec<Ipv4Net>,
    /// interval between usage measurements, for example 20s
    #[arg(long, value_name = "TIME", default_value = METRICS_INTERVAL, value_parser = interval)]
    metrics_interval: Duration,
    /// purchase option of the machine [default: from the cloud of --spot, else onDemand]
    #[arg(long, value_parser = purchase())]
    purchase: Option<Purchase>,
    #[command(flatten)]
    spot: SpotArgs,
}

/// The options for the removal of unused images.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImageArgs {
    /// how long to keep unused images
    #[arg(long, value_name = "TIME", default_value = "2w", value_parser = interval)]
    pub(crate) image_max_age: Duration,
    /// disk usage in percent above which the least recently used images are removed
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) image_gc_high: u8,
    /// disk usage in percent at which the removal stops
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_low: u8,
    /// size in GB that a layer of an image may have unpacked
    #[arg(long, value_name = "GB", default_value = "100")]
    pub(crate) image_max_size: NonZeroU32,
    /// number of files that a layer of an image may have
    #[arg(long, value_name = "N", default_value = "2000000")]
    pub(crate) image_max_files: NonZeroU32,
    /// free disk space in GB below which no job starts and no image is unpacked
    #[arg(long, value_name = "GB", default_value_t = 2)]
    pub(crate) disk_reserve: u32,
}

impl ImageArgs {
    fn limits(&self) -> anyhow::Result<mooring_agent::ImageLimits> {
        let (high, low) = (self.image_gc_high, self.image_gc_low);
        anyhow::ensure!(low <= high, "`--image-gc-low {low}` is above `--image-gc-high {high}`");
        Ok(mooring_agent::ImageLimits { age: self.image_max_age, high, low })
    }

    fn bounds(&self) -> mooring_agent::ImageBounds {
        const GB: u64 = 1_000_000_000;
        mooring_agent::ImageBounds {
            bytes: u64::from(self.image_max_size.get()) * GB,
            files: self.image_max_files.get().into(),
            reserve: u64::from(self.disk_reserve) * GB,
        }
    }
}

/// The options for spot reclaim notices.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SpotArgs {
    /// cloud with reclaim notices: jobs migrate before the machine is taken away
    #[arg(long, value_enum, value_name = "CLOUD")]
    pub(crate) spot: Option<Cloud>,
    /// URL of the cloud's instance metadata service
    #[arg(long, value_name = "URL", requires = "spot", default_value = "http://169.254.169.254")]
    pub(crate) metadata_endpoint: String,
}

/// The clouds with reclaim notices.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Cloud {
    /// EC2 spot instances
    Aws,
}

impl SpotArgs {
    fn metadata(self) -> Option<String> {
        self.spot.map(|Cloud::Aws| self.metadata_endpoint)
    }
}

/// The arguments of `float server gateway`.
#[derive(Debug, clap::Args)]
struct Gateway {
    /// address of OpCenter
    #[arg(long, value_name = "URL")]
    opcenter: String,
    /// id of the gateway
    #[arg(long, value_name = "ID")]
    gateway: GatewayId,
    /// directory for the last good configuration, and for key and certificate
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// take over the ports from the running process of this gateway
    #[arg(long)]
    take_over: bool,
    /// address of /healthz, /readyz and /metrics; the file `admin-address` in the state directory
    /// has the chosen port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    admin: SocketAddr,
}

/// A parser of network backends.
pub(crate) fn backends() -> impl TypedValueParser<Value = Backend> {
    one_of(Backend::ALL.map(|backend| {
        PossibleValue::new(backend.name()).help(match backend {
            Backend::Vxlan => "VXLAN: any trusted IP network",
            Backend::Direct => "plain routes: hosts on one subnet",
            Backend::Wireguard => "WireGuard: encrypted",
        })
    }))
}

fn role() -> impl TypedValueParser<Value = HostRole> {
    one_of(["jobs", "gateways", "both"])
}

/// A parser of purchase options.
pub(crate) fn purchase() -> impl TypedValueParser<Value = Purchase> {
    one_of([
        PossibleValue::new("spot").help("the cloud may reclaim the machine"),
        PossibleValue::new("onDemand").help("the machine is not reclaimed"),
    ])
}

/// Parses the interval of a repeated action.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval.is_zero() { Err("must be longer than 0s".into()) } else { Ok(interval) }
}

/// The umask of a daemon.
pub(crate) enum NewFiles {
    /// Files that nobody has said otherwise of are for their owner alone.
    Private,
    /// The files are those of jobs as well, whose users have to read them. The directory that they
    /// are in is for root alone.
    OfJobs,
}

impl NewFiles {
    /// Sets the umask of this process.
    pub(crate) fn begin(self) {
        let mask = match self {
            Self::Private => Mode::S_IRWXG | Mode::S_IRWXO,
            Self::OfJobs => Mode::S_IWGRP | Mode::S_IWOTH,
        };
        umask(mask);
    }
}

/// Runs a daemon until it is stopped.
pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    mooring_ops::log::init("info,boringtun=off");
    match &args.server {
        Server::Opcenter(_) | Server::Gateway(_) => NewFiles::Private.begin(),
        Server::Agent(_) => NewFiles::OfJobs.begin(),
    }
    let lifecycle = Lifecycle::new();
    let is_clean = match args.server {
        Server::Opcenter(arguments) => {
            let allowed = mooring_linux::process::allow_descriptors(std::process::id().cast_signed(), OPEN_FILES_MAX);
            if let Err(error) = allowed {
                tracing::warn!(%error, "the limit of open files can't be raised: OpCenter has room for fewer connections");
            }
            let config = mooring_opcenter::Config {
                state_dir: arguments.state_dir,
                listen: arguments.listen,
                external_url: arguments.external_url,
                tls_files: arguments.tls.files(),
                tls_names: arguments.tls.names(),
                acme: arguments.tls.acme(),
                oidc: arguments.oidc.config(),
                overlay: Overlay::new(arguments.overlay)?,
                backend: arguments.backend,
                store: arguments.store.access()?,
                jupyter: arguments.jupyter,
                jupyter_image: arguments.jupyter_image,
                volume_paths: arguments.volume_paths,
                image_paths: arguments.image_paths,
                external_ranges: arguments.external_ranges,
                gateway_hosts: arguments.gateway_hosts,
                trusted_proxies: arguments.trusted_proxies,
                checkers: if arguments.checkers.is_empty() { usual_checkers() } else { arguments.checkers },
                drain_at_once: arguments.drain_at_once,
                shared_join_token: arguments.shared_join_token,
            };
            serve(&lifecycle, mooring_opcenter::run(config, Arc::new(SystemClock), lifecycle.clone())).await?
        }
        Server::Agent(arguments) => {
            let config = agent(*arguments, global.trust()?.unwrap_or_default())?;
            serve(&lifecycle, mooring_agent::run(config, lifecycle.clone())).await?
        }
        Server::Gateway(arguments) => {
            let config = mooring_gateway::Config {
                opcenter: arguments.opcenter,
                gateway: arguments.gateway,
                trust: global.trust()?.unwrap_or_default(),
                state_dir: arguments.state_dir,
                start: if arguments.take_over { Start::TakeOver } else { Start::Alone },
                admin: arguments.admin,
            };
            serve(&lifecycle, mooring_gateway::run(config, lifecycle.clone())).await?
        }
    };
    anyhow::ensure!(is_clean, "a task panicked; see the log");
    Ok(())
}

fn agent(arguments: Agent, trust: Trust) -> anyhow::Result<mooring_agent::Config> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "an agent needs root: it creates network namespaces and containers"
    );
    let join_token = match &arguments.join_token_file {
        // A host that has joined before proves it by its key.
        Some(path) if !path.exists() && arguments.state_dir.exists() => String::new(),
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("can't read the join token from {}", path.display()))?,
        None => String::new(),
    };
    let mut hidden = arguments.hide;
    hidden.push(arguments.state_dir.clone());
    Ok(mooring_agent::Config {
        opcenter: arguments.opcenter,
        trust,
        join_token: join_token.trim().to_owned(),
        name: arguments.name,
        role: if arguments.gateway_host { HostRole::Both } else { arguments.role },
        underlay: arguments.underlay,
        public_address: arguments.public_address.unwrap_or_else(|| arguments.underlay.into()),
        migration_port: arguments.migration_port,
        state_dir: arguments.state_dir,
        device_prefix: arguments.device_prefix,
        cgroup_parent: arguments.cgroup_parent,
        cores: arguments.cores,
        mem_gb: arguments.mem,
        float: std::env::current_exe().context("can't find this program's own file")?,
        tools: arguments.tools,
        clock_offset_seconds: arguments.clock_offset,
        park: arguments.park,
        image_limits: arguments.images.limits()?,
        image_bounds: arguments.images.bounds(),
        insecure_registries: arguments.insecure_registry,
        hidden,
        metrics_interval: arguments.metrics_interval,
        job_ranges: arguments.job_ranges,
        metadata: arguments.spot.metadata(),
        purchase: arguments.purchase,
    })
}

/// Runs a daemon and waits for signals; when either ends, the other is stopped. Returns whether no
/// task panicked.
async fn serve<E>(lifecycle: &Lifecycle, daemon: impl Future<Output = Result<(), E>>) -> anyhow::Result<bool>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let daemon = async {
        let outcome = daemon.await;
        lifecycle.stop();
        outcome
    };
    let (outcome, stopped) = tokio::join!(daemon, lifecycle.run_until_stopped());
    outcome?;
    Ok(stopped?)
}

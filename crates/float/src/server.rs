//! `float server`: the daemons.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Subcommand, ValueEnum};
use mooring_api::watch::Backend;
use mooring_gateway::Start;
use mooring_ops::Lifecycle;
use mooring_types::address::Overlay;
use mooring_types::duration::parse_duration;
use mooring_types::host::{HostRole, Purchase};
use mooring_types::{GatewayId, Name, SystemClock};

use crate::parse::one_of;
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
    Opcenter(OpCenter),
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
    /// network backend between hosts
    #[arg(long, value_parser = backends(), default_value_t)]
    backend: Backend,
    /// overlay network for the addresses of jobs and hosts; prefix /15 or shorter
    #[arg(long, value_name = "CIDR", default_value = "100.64.0.0/10")]
    overlay: ipnet::Ipv4Net,
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
    /// number of concurrent migrations off a drained or reclaimed host
    #[arg(long, value_name = "N", default_value = DRAIN_CONCURRENCY)]
    drain_at_once: NonZeroUsize,
}

/// The arguments of `float server agent`.
#[derive(Debug, clap::Args)]
struct Agent {
    /// address of OpCenter
    #[arg(long, value_name = "URL")]
    opcenter: String,
    /// file with the cluster's join token: `join-token` in OpCenter's state directory
    #[arg(long, value_name = "FILE")]
    join_token_file: PathBuf,
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
}

impl ImageArgs {
    fn limits(&self) -> anyhow::Result<mooring_agent::ImageLimits> {
        let (high, low) = (self.image_gc_high, self.image_gc_low);
        anyhow::ensure!(low <= high, "`--image-gc-low {low}` is above `--image-gc-high {high}`");
        Ok(mooring_agent::ImageLimits { age: self.image_max_age, high, low })
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
    /// token of the gateway
    #[arg(long, env = mooring_agent::TOKEN_VARIABLE, hide_env_values = true)]
    token: String,
    /// directory for the last good configuration
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

/// Runs a daemon until it is stopped.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    mooring_ops::log::init("info,boringtun=off");
    let lifecycle = Lifecycle::new();
    let is_clean = match args.server {
        Server::Opcenter(arguments) => {
            let config = mooring_opcenter::Config {
                state_dir: arguments.state_dir,
                listen: arguments.listen,
                overlay: Overlay::new(arguments.overlay)?,
                backend: arguments.backend,
                store: arguments.store.access()?,
                jupyter: arguments.jupyter,
                jupyter_image: arguments.jupyter_image,
                volume_paths: arguments.volume_paths,
                image_paths: arguments.image_paths,
                drain_at_once: arguments.drain_at_once,
            };
            serve(&lifecycle, mooring_opcenter::run(config, Arc::new(SystemClock), lifecycle.clone())).await?
        }
        Server::Agent(arguments) => {
            let config = agent(*arguments)?;
            serve(&lifecycle, mooring_agent::run(config, lifecycle.clone())).await?
        }
        Server::Gateway(arguments) => {
            let config = mooring_gateway::Config {
                opcenter: arguments.opcenter,
                gateway: arguments.gateway,
                token: arguments.token,
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

fn agent(arguments: Agent) -> anyhow::Result<mooring_agent::Config> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "an agent needs root: it creates network namespaces and containers"
    );
    let token = std::fs::read_to_string(&arguments.join_token_file)
        .with_context(|| format!("can't read the join token from {}", arguments.join_token_file.display()))?;
    let mut hidden = arguments.hide;
    hidden.push(arguments.state_dir.clone());
    Ok(mooring_agent::Config {
        opcenter: arguments.opcenter,
        join_token: token.trim().to_owned(),
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
        insecure_registries: arguments.insecure_registry,
        hidden,
        metrics_interval: arguments.metrics_interval,
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

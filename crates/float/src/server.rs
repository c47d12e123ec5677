//! `float server`: the daemons.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Subcommand, ValueEnum};
use mooring_api::watch::Backend;
use mooring_gateway::Start;
use mooring_ops::Lifecycle;
use mooring_types::address::Overlay;
use mooring_types::duration::parse_duration;
use mooring_types::host::{HostRole, Purchase};
use mooring_types::{GatewayId, Name, SystemClock};

use crate::store::StoreArgs;

/// Where `scripts/setup` puts JupyterLab.
pub(crate) const JUPYTER: &str = "/opt/mooring/jupyter";
/// How many jobs leave a drained host at once: each stands still for as long as those take that leave with it, so that of two the clients
/// wait half as long again as of one (`bench drain`).
pub(crate) const DRAIN_AT_ONCE: &str = "1";
/// How often hosts measure what their jobs use.
pub(crate) const METRICS_INTERVAL: &str = "20s";

/// A daemon to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    server: Server,
}

/// A daemon.
#[derive(Debug, Subcommand)]
enum Server {
    /// The control plane: API, placement, reconciler
    Opcenter(OpCenter),
    /// The agent of a host: runs and moves jobs, starts gateways (needs root)
    Agent(Box<Agent>),
    /// A gateway; agents start it for the gateways placed on their host
    Gateway(Gateway),
}

/// Reads a network backend, and explains each one in the help.
pub(crate) fn backends() -> impl TypedValueParser<Value = Backend> {
    let explained = Backend::ALL.map(|backend| {
        PossibleValue::new(backend.name()).help(match backend {
            Backend::Vxlan => "VXLAN: any trusted IP network",
            Backend::Direct => "Plain routes: hosts on one subnet",
            Backend::Wireguard => "WireGuard: encrypted",
        })
    });
    PossibleValuesParser::new(explained).try_map(|text| text.parse())
}

/// What a host offers itself for.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum RoleName {
    /// Jobs
    #[default]
    Jobs,
    /// Gateways
    Gateways,
    /// Both
    Both,
}

impl From<RoleName> for HostRole {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Jobs => Self::Jobs,
            RoleName::Gateways => Self::Gateways,
            RoleName::Both => Self::Both,
        }
    }
}

/// What OpCenter is started with.
#[derive(Debug, clap::Args)]
struct OpCenter {
    /// Where its state is kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mooring/opcenter")]
    state_dir: PathBuf,
    /// Where it listens; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: Vec<SocketAddr>,
    /// How hosts reach each other's jobs
    #[arg(long, value_parser = backends(), default_value_t)]
    backend: Backend,
    /// The addresses of jobs and hosts in the overlay, a prefix of /15 or shorter
    #[arg(long, value_name = "CIDR", default_value = "100.64.0.0/10")]
    overlay: ipnet::Ipv4Net,
    #[command(flatten)]
    store: StoreArgs,
    /// JupyterLab's virtual environment, for the template `jupyter`
    #[arg(long, value_name = "DIR", default_value = JUPYTER)]
    jupyter: PathBuf,
    /// An image with JupyterLab for the template `jupyter`, in place of the virtual environment
    #[arg(long, value_name = "IMAGE")]
    jupyter_image: Option<String>,
    /// A directory of the hosts that the jobs of everybody may mount with `--dataVolume`, and what is below it; those of
    /// admins may mount any. Repeatable
    #[arg(long = "volume-path", value_name = "DIR")]
    volume_paths: Vec<PathBuf>,
    /// How many jobs at once leave a host that is drained or reclaimed
    #[arg(long, value_name = "N", default_value = DRAIN_AT_ONCE)]
    drain_at_once: NonZeroUsize,
}

/// What an agent is started with.
#[derive(Debug, clap::Args)]
struct Agent {
    /// OpCenter's address
    #[arg(long, value_name = "URL")]
    opcenter: String,
    /// A file with the cluster's join token: `join-token` of OpCenter's state directory
    #[arg(long, value_name = "FILE")]
    join_token_file: PathBuf,
    /// The host's name
    #[arg(long)]
    name: Name,
    /// What it offers itself for
    #[arg(long, value_enum, default_value_t)]
    role: RoleName,
    /// Offer it for gateways beside jobs, the same as `--role both`
    #[arg(long, conflicts_with = "role")]
    gateway_host: bool,
    /// The address by which other hosts reach it
    #[arg(long, value_name = "ADDRESS")]
    underlay: Ipv4Addr,
    /// The address by which clients reach its gateways; that of --underlay when absent
    #[arg(long, value_name = "ADDRESS")]
    public_address: Option<IpAddr>,
    /// The port on which it takes capsules; 0 for any
    #[arg(long, alias = "move-port", value_name = "PORT", default_value_t = 7443)]
    migration_port: u16,
    /// Where its state and its jobs are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mooring/agent")]
    state_dir: PathBuf,
    /// What its network devices are named after
    #[arg(long, value_name = "PREFIX", default_value = "mr")]
    device_prefix: String,
    /// The control group above those of its jobs and gateways
    #[arg(long, value_name = "PATH", default_value = "mooring")]
    cgroup_parent: String,
    /// How many cores it offers; all when absent
    #[arg(long)]
    cores: Option<u32>,
    /// How much memory in GB it offers; all when absent
    #[arg(long, value_name = "GB")]
    mem: Option<f64>,
    /// Where bin/runc and bin/criu are; /opt/mooring or PATH when absent
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// By how many seconds the clocks of new jobs are ahead of this machine's
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    clock_offset: i64,
    /// Checkpoint the jobs and stop the gateways when the agent is stopped, instead of leaving them running
    #[arg(long)]
    park: bool,
    /// A registry of images that is spoken to without TLS; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    images: ImageArgs,
    /// A directory that jobs on a `dir:` image do not see; may be given several times
    #[arg(long, value_name = "DIR")]
    hide: Vec<PathBuf>,
    /// How often it measures what its jobs use, like 20s
    #[arg(long, value_name = "TIME", default_value = METRICS_INTERVAL, value_parser = interval)]
    metrics_interval: Duration,
    /// How the machine is paid for; as the cloud of --spot says when absent, and on demand without one
    #[arg(long, value_enum)]
    purchase: Option<PurchaseName>,
    #[command(flatten)]
    spot: SpotArgs,
}

/// How a host is paid for.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "camelCase")]
pub(crate) enum PurchaseName {
    /// What its cloud may take away
    Spot,
    /// What stays for as long as it is wanted
    OnDemand,
}

impl From<PurchaseName> for Purchase {
    fn from(name: PurchaseName) -> Self {
        match name {
            PurchaseName::Spot => Self::Spot,
            PurchaseName::OnDemand => Self::OnDemand,
        }
    }
}

/// How much of the images a host keeps that none of its jobs needs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImageArgs {
    /// For how long images are kept that no job needs
    #[arg(long, value_name = "TIME", default_value = "2w", value_parser = interval)]
    pub(crate) image_max_age: Duration,
    /// How full the disk may be, in percent, until the longest unused images are removed
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) image_gc_high: u8,
    /// How full it is afterwards
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

/// How a host hears that its cloud takes it away.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SpotArgs {
    /// The cloud that may take the machine away, and says so: its jobs are moved in time
    #[arg(long, value_enum, value_name = "CLOUD")]
    pub(crate) spot: Option<Cloud>,
    /// Where the cloud's instance metadata service answers
    #[arg(long, value_name = "URL", requires = "spot", default_value = "http://169.254.169.254")]
    pub(crate) metadata_endpoint: String,
}

/// A cloud that takes machines away.
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

/// What a gateway is started with.
#[derive(Debug, clap::Args)]
struct Gateway {
    /// OpCenter's address
    #[arg(long, value_name = "URL")]
    opcenter: String,
    /// Which gateway this is
    #[arg(long, value_name = "ID")]
    gateway: GatewayId,
    /// Its token
    #[arg(long, env = mooring_agent::TOKEN_VARIABLE, hide_env_values = true)]
    token: String,
    /// Where the last good configuration is kept
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Take the ports over from the process of this gateway that serves
    #[arg(long)]
    take_over: bool,
    /// Where it answers /healthz, /readyz and /metrics; `admin-address` in the state directory says which port it got
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    admin: SocketAddr,
}

/// A time after which something is done again.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval.is_zero() { Err("it has to be longer than 0s".into()) } else { Ok(interval) }
}

/// Runs a daemon until it is asked to stop.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    mooring_ops::log::init("info,boringtun=off");
    let lifecycle = Lifecycle::new();
    let well = match args.server {
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
    anyhow::ensure!(well, "a task panicked: the log says where");
    Ok(())
}

fn agent(arguments: Agent) -> anyhow::Result<mooring_agent::Config> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "an agent needs root: it makes network namespaces and containers"
    );
    let token = std::fs::read_to_string(&arguments.join_token_file)
        .with_context(|| format!("can't read the join token from {}", arguments.join_token_file.display()))?;
    let mut hidden = arguments.hide;
    hidden.push(arguments.state_dir.clone());
    Ok(mooring_agent::Config {
        opcenter: arguments.opcenter,
        join_token: token.trim().to_owned(),
        name: arguments.name,
        role: if arguments.gateway_host { HostRole::Both } else { arguments.role.into() },
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
        purchase: arguments.purchase.map(Into::into),
    })
}

/// Runs a daemon beside the wait for signals: when either ends, the other is asked to.
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

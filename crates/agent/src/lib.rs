//! The agent: one per machine, for jobs, for gateways or for both.
//!
//! ```text
//!  OpCenter ──watch──► link ──► network   which host carries which job
//!      ▲                 ├────► jobs      a driver for each: runtime (runc), migrate
//!      │                 └────► gateways  a process for each
//!      └────reports──────┘
//! ```
//!
//! * [`network`] keeps the overlay's table true.
//! * `job` has every job follow its directive; what it holds it keeps on disk before it acts, so that jobs outlive the agent.
//! * `runtime` makes containers, `migrate` moves them from host to host.
//! * `gateways` starts the gateways placed here.
//! * `usage` measures what jobs use.
//! * `spot` hears when the cloud takes the machine away.
//! * `link` joins, watches and reports.
//!
//! Nobody calls an agent but the source of a job that it expects, and CRIU's hooks on this machine.

#![forbid(unsafe_code)]

mod capsules;
mod error;
mod facts;
mod gateways;
mod host;
mod job;
mod link;
mod migrate;
pub mod network;
mod runtime;
mod spot;
mod tools;
mod usage;

pub use error::Error;
use mooring_ops::log::chain;

use crate::capsules::Capsules;
pub use gateways::TOKEN_VARIABLE;
pub use migrate::criu::hooks::ask as ask_agent;
pub use runtime::image::Limits as ImageLimits;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_ops::{Lifecycle, file};
use mooring_types::Name;
use mooring_types::host::{HostRole, Purchase, Readiness};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::gateways::Gateways;
use crate::host::Host;
use crate::job::Jobs;
use crate::link::Link;
use crate::migrate::criu::hooks::Hooks;
use crate::migrate::stream::listener::MigrationListener;
use crate::migrate::stream::tls::Identity;
use crate::network::filter::PacketFilter;
use crate::network::published::Publisher;
use crate::network::{HostNetwork, NetworkConfig};
use crate::runtime::container::Runtime;
use crate::runtime::image::Images;
use crate::spot::{Heard, Watcher};
use crate::tools::Tools;
use crate::usage::Sampler;

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// OpCenter's address.
    pub opcenter: String,
    /// The cluster's join token.
    pub join_token: String,
    /// The host's name.
    pub name: Name,
    /// What it offers itself for.
    pub role: HostRole,
    /// The address by which other hosts reach it.
    pub underlay: Ipv4Addr,
    /// The address by which clients reach its gateways.
    pub public_address: IpAddr,
    /// Where it takes capsules; 0 for any free port.
    pub migration_port: u16,
    /// Where its state and its jobs are kept.
    pub state_dir: PathBuf,
    /// What its network devices are named after: 1 to 5 letters or digits, another one for each agent in one network namespace.
    pub device_prefix: String,
    /// The control group above those of its jobs and gateways.
    pub cgroup_parent: String,
    /// How many cores it offers; all when absent.
    pub cores: Option<u32>,
    /// How much memory in GB it offers; all when absent.
    pub mem_gb: Option<f64>,
    /// The `float` program, for hooks and gateways.
    pub float: PathBuf,
    /// Where `bin/runc` and `bin/criu` are; the usual prefix or PATH when absent.
    pub tools: Option<PathBuf>,
    /// By how much the clocks of new jobs are ahead of this machine's monotonic clock.
    pub clock_offset_seconds: i64,
    /// Whether a stop of the agent is a stop of the host: running jobs are checkpointed, gateways stopped, devices removed.
    pub park: bool,
    /// The registries that are spoken to without TLS, as `HOST` or `HOST:PORT`.
    pub insecure_registries: Vec<String>,
    /// How much of the images is kept that no job needs.
    pub image_limits: ImageLimits,
    /// Directories that jobs on a `dir:` image do not see.
    pub hidden: Vec<PathBuf>,
    /// How often what its jobs use is measured.
    pub metrics_interval: Duration,
    /// Where the cloud says that it takes this machine away, on one that it may.
    pub metadata: Option<String>,
    /// How this machine is paid for; when absent, as the cloud says, and where none is asked, on demand.
    pub purchase: Option<Purchase>,
}

/// Whether this machine can run and move jobs.
pub async fn readiness(tools: Option<&Path>) -> Readiness {
    Tools::find(tools).facts().await.readiness
}

/// Runs until the lifecycle is asked to stop.
///
/// # Errors
/// The state directory or the port for capsules can't be used. That OpCenter is away is no error.
pub async fn run(config: Config, lifecycle: Lifecycle) -> Result<(), Error> {
    file::private_dir(&config.state_dir)
        .map_err(Error::system(format!("make state directory {}", config.state_dir.display())))?;
    let tools = Tools::find(config.tools.as_deref()).with_run(&config.state_dir.join("run"));
    let facts = facts::measure(&config, &tools).await;
    match &facts.readiness {
        Readiness::Ready => tracing::info!(criu = facts.criu, runc = facts.runc, "host {} is ready", config.name),
        Readiness::NotReady { reason } => tracing::warn!("host {} takes no jobs: {reason}", config.name),
    }
    let network = HostNetwork::open(
        NetworkConfig {
            device_prefix: config.device_prefix.clone(),
            underlay: config.underlay,
            state_dir: config.state_dir.clone(),
        },
        lifecycle.tasks().clone(),
        lifecycle.hard().clone(),
    )
    .await?;
    let address = (config.underlay, config.migration_port);
    let door = TcpListener::bind(address)
        .await
        .map_err(Error::system(format!("listen for capsules at {}:{}", address.0, address.1)))?;
    let nft_table = network.nft_table().to_owned();
    let filter = PacketFilter::new(&nft_table);
    let migration_port = door.local_addr().map_err(Error::system("name the port for capsules"))?.port();
    let (membership, _) = watch::channel(None);
    let host = Arc::new(Host {
        runtime: Runtime::new(tools.clone(), config.state_dir.join("runc")),
        images: Images::new(config.state_dir.join("images"), &config.insecure_registries),
        identity: Identity::open(&config.state_dir)?,
        hooks: Hooks::new(filter.clone()),
        filter,
        network: Mutex::new(network),
        migrations: MigrationListener::default(),
        capsules: Capsules::default(),
        membership,
        tasks: lifecycle.tasks().clone(),
        stop: lifecycle.soft().clone(),
        observed: Arc::default(),
        config,
    });
    let hook_door = Hooks::listen(&host.hook_socket())?;
    let jobs = Jobs::open(host.clone()).await?;
    let (gateways, wanted) = watch::channel(Vec::new());
    let gateway_task = lifecycle.tasks().spawn("gateways", Gateways::open(host.clone(), wanted).run());
    let ((published, wanted), (problems, unpublished)) = (watch::channel(None), watch::channel(Vec::new()));
    let (table, underlay, observed) = (nft_table, host.config.underlay, host.observed.clone());
    let publisher = Publisher { table, underlay, wanted, problems, observed };
    let publisher_task = lifecycle.tasks().spawn("published ports", publisher.run(lifecycle.soft().clone()));
    let sampler = Sampler::new(host.clone(), jobs.clone()).run(lifecycle.soft().clone());
    let sampler_task = lifecycle.tasks().spawn("usage", sampler);
    let collector = host.images.cache().run(host.jobs(), host.config.image_limits, lifecycle.soft().clone());
    let collector_task = lifecycle.tasks().spawn("images", collector);
    let (hears, heard) = watch::channel(Heard::without_a_cloud(host.config.purchase, host.config.metadata.as_deref()));
    let spot = host.config.metadata.clone().map(|endpoint| Watcher::new(endpoint, hears, host.observed.clone()));
    let spot_task = spot.map(|watcher| lifecycle.tasks().spawn("spot", watcher.run(lifecycle.soft().clone())));
    let link = Link {
        host: host.clone(),
        jobs: jobs.clone(),
        tools: tools.clone(),
        gateways,
        published,
        unpublished,
        facts: watch::Sender::new(facts),
        migration_port,
        taken_in: watch::Sender::new(0),
        problems: Mutex::default(),
        heard,
    };
    let closing = host.clone();
    let outcome = tokio::select! {
        outcome = link.run() => outcome,
        outcome = host.migrations.serve(door, &host.identity, &host.tasks) => outcome,
        // Hooks are answered until every job has been parked.
        () = host.hooks.serve(hook_door, &host.tasks) => Ok(()),
        outcome = async {
            host.stop.cancelled().await;
            jobs.closed().await
        } => outcome,
    };
    // A task that could not be awaited has panicked, and the lifecycle knows.
    let _ = gateway_task.await;
    let _ = publisher_task.await;
    let _ = sampler_task.await;
    let _ = collector_task.await;
    if let Some(task) = spot_task {
        let _ = task.await;
    }
    close(&closing, &tools).await;
    outcome
}

/// Removes what only a host that is up needs.
async fn close(host: &Host, tools: &Tools) {
    if !host.config.park {
        return;
    }
    tools.close();
    if let Err(error) = host.network.lock().await.close().await {
        tracing::warn!(error = %chain(&error), "some of the overlay stays");
    }
    if let Err(error) = host.cgroup().remove() {
        tracing::debug!(error = %chain(&error), "the control group stays");
    }
}

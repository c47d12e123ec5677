//! The agent: one per machine, for jobs, for gateways or for both.
//!
//! ```text
//!  OpCenter ──watch──► link ──► network   routes to the jobs of all hosts
//!      ▲                 ├────► jobs      a driver for each: runtime (runc), migrate (CRIU)
//!      │                 └────► gateways  a process for each
//!      └────reports──────┘
//! ```
//!
//! * [`network`] applies the overlay's table of jobs and hosts.
//! * `job` drives each job by its directive. Each state is on disk before it is acted on, so that
//!   jobs outlive the agent.
//! * `runtime` makes containers; `migrate` moves jobs between hosts and the capsule store.
//! * `gateways` runs the gateways placed on this host.
//! * `look` finds what hinders a migration while the job executes.
//! * `usage` measures the jobs; `port_check` finds the published ports that they don't serve;
//!   `spot` watches for the notice that the cloud reclaims the machine.
//! * `store_look` tells when this host can't reach the capsule store.
//! * `link` joins, watches and reports; `lease` is what an answered report gives.
//!
//! An agent is called only by the sources of the migrations that it expects and by CRIU's hooks on
//! this machine.

#![forbid(unsafe_code)]

mod activity;
mod capsules;
mod config;
mod disk;
mod error;
mod facts;
mod gateways;
mod host;
mod job;
mod lease;
mod link;
mod look;
mod migrate;
pub mod network;
mod port_check;
mod runtime;
mod spot;
mod store_look;
mod tool_text;
mod tools;
mod usage;

pub use config::Config;
pub use error::{CriuError, Error, StreamError};
pub use migrate::criu::hooks::ask as ask_agent;
pub use runtime::image::{Bounds as ImageBounds, Limits as ImageLimits};
pub use runtime::monitor::watch as watch_container;
pub use tool_text::ToolText;

use std::path::Path;
use std::sync::Arc;

use mooring_api::watch::{GatewayPlacement, Network, StorePlace};
use mooring_ops::log::chain;
use mooring_ops::{Lifecycle, file};
use mooring_types::host::{HostFacts, Readiness};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::activity::ActivityLook;
use crate::capsules::Capsules;
use crate::gateways::Gateways;
use crate::host::Host;
use crate::job::Jobs;
use crate::job::disk_guard::{self, DiskGuard};
use crate::lease::Lease;
use crate::link::Link;
use crate::migrate::criu::hooks::Hooks;
use crate::migrate::stream::listener::MigrationListener;
use crate::migrate::stream::tls::Identity;
use crate::network::filter::PacketFilter;
use crate::network::isolation::Isolation;
use crate::network::published::{Publisher, Wanted};
use crate::network::{HostNetwork, NetworkConfig};
use crate::port_check::PortCheck;
use crate::runtime::container::Runtime;
use crate::runtime::image::Images;
use crate::runtime::program;
use crate::spot::{CloudFacts, Watcher};
use crate::store_look::StoreLook;
use crate::tools::Tools;
use crate::usage::Sampler;

/// An agent with its sockets open and the jobs of its host found again.
#[derive(Debug)]
pub struct Agent {
    host: Arc<Host>,
    tools: Tools,
    jobs: Jobs,
    link: Link,
    /// The port for capsules from other hosts.
    migrations: TcpListener,
    /// The socket of CRIU's hooks.
    hooks: UnixListener,
    background: Vec<JoinHandle<Option<()>>>,
}

/// Returns whether this machine can run and migrate jobs.
pub async fn readiness(tools: Option<&Path>) -> Readiness {
    Tools::find(tools).facts().await.readiness
}

/// Opens an agent and runs it until the lifecycle is asked to stop.
///
/// # Errors
/// As [`Agent::open`] and [`Agent::run`].
pub async fn run(config: Config, lifecycle: Lifecycle) -> Result<(), Error> {
    Agent::open(config, &lifecycle).await?.run().await
}

impl Agent {
    /// Opens the agent's sockets, takes up the jobs of this host, and starts the background tasks.
    ///
    /// # Errors
    /// The state directory, a socket or the port for capsules can't be used.
    pub async fn open(config: Config, lifecycle: &Lifecycle) -> Result<Self, Error> {
        file::private_dir(&config.state_dir)
            .map_err(Error::system(format!("make state directory {}", config.state_dir.display())))?;
        let tools = Tools::find(config.tools.as_deref()).with_run(&config.state_dir.join("run"));
        let facts = measure(&config, &tools).await;
        let migrations = listen(&config).await?;
        let migration_port = migrations.local_addr().map_err(Error::system("name the port for capsules"))?.port();
        let host = Arc::new(open_host(config, &tools, lifecycle).await?);
        let hooks = Hooks::listen(&host.hook_socket())?;
        let jobs = Jobs::open(host.clone()).await?;
        let (background, channels) = start_background(&host, &jobs, migration_port, lifecycle.soft()).await;
        let link = Link {
            host: host.clone(),
            jobs: jobs.clone(),
            tools: tools.clone(),
            gateways: channels.gateways,
            published: channels.published,
            network: channels.network,
            unpublished: channels.unpublished,
            facts: watch::Sender::new(facts),
            migration_port,
            applied: watch::Sender::new(0),
            problems: Mutex::default(),
            cloud: channels.cloud,
            store: channels.store,
            store_problem: channels.store_problem,
        };
        Ok(Self { host, tools, jobs, link, migrations, hooks, background })
    }

    /// Runs until the lifecycle is asked to stop. An unreachable OpCenter is no error.
    ///
    /// # Errors
    /// Jobs should be parked, and could not be.
    pub async fn run(self) -> Result<(), Error> {
        let Self { host, tools, jobs, link, migrations, hooks, background } = self;
        let outcome = tokio::select! {
            outcome = link.run() => outcome,
            outcome = host.migrations.serve(migrations, &host.identity, &host.tasks) => outcome,
            // Hooks are answered until every job is parked.
            () = host.hooks.serve(hooks, &host.tasks) => Ok(()),
            outcome = async {
                host.stop.cancelled().await;
                jobs.closed().await
            } => outcome,
        };
        if outcome.is_err() {
            // The tasks beside it end as well.
            host.stop.cancel();
        }
        for task in background {
            // A task that can't be awaited has panicked, which the lifecycle reports.
            let _ = task.await;
        }
        close(&host, &tools).await;
        outcome
    }
}

async fn measure(config: &Config, tools: &Tools) -> HostFacts {
    let facts = facts::measure(config, tools).await;
    match &facts.readiness {
        Readiness::Ready => tracing::info!(criu = facts.criu, runc = facts.runc, "host {} can run jobs", config.name),
        Readiness::NotReady { reason } => tracing::warn!("host {} takes no jobs: {reason}", config.name),
    }
    for capability in &facts.lacks {
        tracing::warn!("the agent of host {} lacks {capability}: {}", config.name, capability.prevents());
    }
    facts
}

async fn listen(config: &Config) -> Result<TcpListener, Error> {
    let (address, port) = (config.underlay, config.migration_port);
    let listener = TcpListener::bind((address, port)).await;
    listener.map_err(Error::system(format!("listen for capsules at {address}:{port}")))
}

async fn open_host(config: Config, tools: &Tools, lifecycle: &Lifecycle) -> Result<Host, Error> {
    let network = NetworkConfig {
        device_prefix: config.device_prefix.clone(),
        underlay: config.underlay,
        state_dir: config.state_dir.clone(),
    };
    let network = HostNetwork::open(network, lifecycle.tasks().clone(), lifecycle.hard().clone()).await?;
    let filter = PacketFilter::new(network.nft_table());
    let (membership, _) = watch::channel(None);
    if let Err(error) = program::prepare(&config.float, &config.state_dir) {
        tracing::warn!(%error, "new jobs on host {} have no `float`: {error}", config.name);
    }
    Ok(Host {
        runtime: Runtime::new(tools.clone(), config.float.clone(), config.state_dir.join("runc")),
        images: Images::new(
            config.state_dir.join("images"),
            &config.insecure_registries,
            config.image_bounds,
            &config.hidden,
        ),
        identity: Identity::open(&config.state_dir)?,
        lease: Lease::open(&config.state_dir),
        hooks: Hooks::new(filter.clone(), config.name.as_str()),
        filter,
        network: Mutex::new(network),
        migrations: MigrationListener::default(),
        capsules: Capsules::default(),
        membership,
        tasks: lifecycle.tasks().clone(),
        stop: lifecycle.soft().clone(),
        observed: Arc::default(),
        disk_is_short: watch::Sender::new(disk_guard::is_short(&config)),
        config,
    })
}

/// The link's ends of the channels to the background tasks.
struct Channels {
    gateways: watch::Sender<Vec<GatewayPlacement>>,
    published: watch::Sender<Option<Wanted>>,
    network: watch::Sender<Option<Network>>,
    unpublished: watch::Receiver<Vec<String>>,
    cloud: watch::Receiver<CloudFacts>,
    store: watch::Sender<Option<StorePlace>>,
    store_problem: watch::Receiver<Option<String>>,
}

/// Starts the tasks that run beside the link: gateways, published ports, usage, images, and the
/// cloud's notices.
async fn start_background(
    host: &Arc<Host>,
    jobs: &Jobs,
    migration_port: u16,
    stop: &CancellationToken,
) -> (Vec<JoinHandle<Option<()>>>, Channels) {
    let tasks = &host.tasks;
    let (gateways, placements) = watch::channel(Vec::new());
    let (published, wanted) = watch::channel(None);
    let (network, in_slices) = watch::channel(None);
    let (problems, unpublished) = watch::channel(Vec::new());
    let (learned, cloud) =
        watch::channel(CloudFacts::before_asking(host.config.purchase, host.config.metadata.as_deref()));
    let publisher = Publisher {
        table: host.filter.table().to_owned(),
        underlay: host.config.underlay,
        wanted,
        problems,
        observed: host.observed.clone(),
    };
    let isolation = {
        let devices = host.network.lock().await;
        Isolation {
            table: devices.jobs_table(),
            interfaces: devices.job_interface_prefix(),
            opcenter: host.config.opcenter.clone(),
            migration_port,
            allowed: host.config.job_ranges.iter().map(ToString::to_string).collect(),
            network: in_slices,
        }
    };
    let sampler = Sampler::new(host.clone(), jobs.clone());
    let mut background = vec![
        tasks.spawn("gateways", Gateways::open(host.clone(), placements).run()),
        tasks.spawn("published ports", publisher.run(stop.clone())),
        tasks.spawn("isolation", isolation.run(stop.clone())),
        tasks.spawn("usage", sampler.run(stop.clone())),
        tasks.spawn("disk guard", DiskGuard::new(host.clone(), jobs.clone()).run(stop.clone())),
        tasks.spawn("activity", ActivityLook::new(host.clone(), jobs.clone()).run(stop.clone())),
        tasks.spawn("port check", PortCheck::new(host.clone(), jobs.clone()).run(stop.clone())),
        tasks.spawn("look", look::run(host.clone(), jobs.clone(), stop.clone())),
        tasks.spawn("images", host.images.cache().run(host.jobs(), host.config.image_limits, stop.clone())),
    ];
    let (store, place) = watch::channel(None);
    let (problem, store_problem) = watch::channel(None);
    if host.config.role.takes_jobs() {
        let look = StoreLook { place, problem, observed: host.observed.clone() };
        background.push(tasks.spawn("capsule store", look.run(stop.clone())));
    }
    if let Some(endpoint) = host.config.metadata.clone() {
        let watcher = Watcher::new(endpoint, learned, host.observed.clone());
        background.push(tasks.spawn("spot", watcher.run(stop.clone())));
    }
    (background, Channels { gateways, published, network, unpublished, cloud, store, store_problem })
}

/// Removes the devices and groups of a host that is shut down.
async fn close(host: &Host, tools: &Tools) {
    if !host.config.park {
        return;
    }
    tools.close();
    if let Err(error) = host.network.lock().await.close().await {
        tracing::warn!(error = %chain(&error), "parts of the overlay network stay");
    }
    if let Err(error) = host.cgroup().remove() {
        tracing::debug!(error = %chain(&error), "the agent's control group stays");
    }
}

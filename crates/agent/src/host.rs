//! The parts of the agent that the drivers of all jobs on this host share.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use mooring_api::Client;
use mooring_linux::cgroup::Cgroup;
use mooring_ops::Tasks;
use mooring_types::{Generation, HostId, JobId};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::capsules::Capsules;
use crate::config::Config;
use crate::lease::Lease;
use crate::migrate::criu::hooks::Hooks;
use crate::migrate::stream::listener::MigrationListener;
use crate::migrate::stream::tls::Identity;
use crate::network::HostNetwork;
use crate::network::filter::PacketFilter;
use crate::runtime::container::Runtime;
use crate::runtime::hidden::Hidden;
use crate::runtime::image::Images;
use crate::runtime::job_dir::JobDir;

/// This host as OpCenter knows it, once it has joined.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) id: HostId,
    /// A client that shows this host's certificate.
    pub(crate) client: Client,
}

/// The parts of the agent that the drivers of all jobs share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) runtime: Runtime,
    pub(crate) images: Images,
    pub(crate) identity: Identity,
    pub(crate) lease: Lease,
    pub(crate) network: Mutex<HostNetwork>,
    pub(crate) filter: PacketFilter,
    pub(crate) hooks: Hooks,
    pub(crate) migrations: MigrationListener,
    pub(crate) capsules: Capsules,
    pub(crate) membership: watch::Sender<Option<Membership>>,
    pub(crate) tasks: Tasks,
    pub(crate) stop: CancellationToken,
    /// Notified of an observation that is worth a report at once.
    pub(crate) observed: Arc<Notify>,
    /// True while the disk of the state directory lacks room.
    pub(crate) disk_is_short: watch::Sender<bool>,
}

impl Host {
    /// The directory with the directories of all jobs.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.config.state_dir.join("jobs")
    }

    /// The socket at which CRIU's hooks find this agent.
    pub(crate) fn hook_socket(&self) -> PathBuf {
        self.config.state_dir.join("hook.sock")
    }

    /// The directory of a generation of a job.
    pub(crate) fn job_dir(&self, job: &JobId, generation: Generation, address: Ipv4Addr) -> JobDir {
        let config = &self.config;
        JobDir::new(&self.jobs(), &config.cgroup_parent, &config.device_prefix, job, generation, address)
    }

    /// The paths that no job sees.
    pub(crate) fn hidden(&self) -> Hidden<'_> {
        Hidden(&self.config.hidden)
    }

    /// The control group above those of this host's jobs and gateways.
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.config.cgroup_parent)
    }
}

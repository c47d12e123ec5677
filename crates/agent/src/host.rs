//! What the drivers of all jobs on this host share.

use std::path::PathBuf;
use std::sync::Arc;

use mooring_api::Client;
use mooring_linux::cgroup::Cgroup;
use mooring_ops::Tasks;
use mooring_types::{Generation, HostId, JobId};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::capsules::Capsules;
use crate::migrate::criu::hooks::Hooks;
use crate::migrate::stream::listener::MigrationListener;
use crate::migrate::stream::tls::Identity;
use crate::network::HostNetwork;
use crate::network::filter::PacketFilter;
use crate::runtime::container::Runtime;
use crate::runtime::image::Images;
use crate::runtime::job_dir::JobDir;

/// How this host is known to OpCenter, once it has joined.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) id: HostId,
    /// With this host's token.
    pub(crate) client: Client,
}

/// What the drivers of all jobs on this host share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) runtime: Runtime,
    pub(crate) images: Images,
    pub(crate) identity: Identity,
    pub(crate) network: Mutex<HostNetwork>,
    pub(crate) filter: PacketFilter,
    pub(crate) hooks: Hooks,
    pub(crate) migrations: MigrationListener,
    pub(crate) capsules: Capsules,
    pub(crate) membership: watch::Sender<Option<Membership>>,
    pub(crate) tasks: Tasks,
    pub(crate) stop: CancellationToken,
    /// Something worth an immediate report was observed.
    pub(crate) observed: Arc<Notify>,
}

impl Host {
    /// Where jobs are kept.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.config.state_dir.join("jobs")
    }

    /// Where CRIU's hooks find this agent.
    pub(crate) fn hook_socket(&self) -> PathBuf {
        self.config.state_dir.join("hook.sock")
    }

    /// The place of a generation of a job.
    pub(crate) fn job_dir(&self, job: &JobId, generation: Generation, address: std::net::Ipv4Addr) -> JobDir {
        let config = &self.config;
        JobDir::new(&self.jobs(), &config.cgroup_parent, &config.device_prefix, job, generation, address)
    }

    /// The group above those of this host's jobs and gateways.
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.config.cgroup_parent)
    }
}

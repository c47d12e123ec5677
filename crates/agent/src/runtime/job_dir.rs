//! The job directory: the paths and kernel names of one generation of a job on a host.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mooring_linux::cgroup::Cgroup;
use mooring_linux::job_net::JobNet;
use mooring_types::{Generation, JobId, MigrationId};

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The file with the id of the first process.
pub(super) const PID_FILE: &str = "pid";
/// The file that says how the first process has ended.
pub(super) const END: &str = "end";

/// The file that puts the job under its host's lease; see [`fence`](super::fence).
pub(super) const FENCE: &str = "fence";
/// The file that says that the job was frozen for lack of a lease.
pub(super) const FENCED: &str = "fenced";
/// The file that says that the job was frozen for lack of disk.
const SHORT_OF_DISK: &str = "short-of-disk";

/// The directory of one generation of a job on this host.
#[derive(Debug, Clone)]
pub(crate) struct JobDir {
    directory: PathBuf,
    container: String,
    cgroup: String,
    interface: String,
    address: Ipv4Addr,
}

impl JobDir {
    /// Names the directory of a generation below `jobs`, the agent's directory of jobs. `prefix`
    /// begins the names of the agent's interfaces.
    pub(crate) fn new(
        jobs: &Path,
        cgroup_parent: &str,
        prefix: &str,
        job: &JobId,
        generation: Generation,
        address: Ipv4Addr,
    ) -> Self {
        let [_, b, c, d] = address.octets();
        Self {
            directory: jobs.join(job.as_str()).join(format!("g{generation}")),
            container: format!("{job}-{generation}"),
            cgroup: format!("{}/{job}-{generation}", cgroup_parent.trim_matches('/')),
            interface: format!("{prefix}j{b:02x}{c:02x}{d:02x}"),
            address,
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The container id for runc.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }

    pub(crate) fn cgroup_path(&self) -> String {
        format!("/{}", self.cgroup)
    }

    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.cgroup)
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The host's end of the job's veth pair.
    pub(crate) fn interface(&self) -> &str {
        &self.interface
    }

    pub(crate) fn net(&self, mtu: u32) -> JobNet {
        JobNet { namespace: self.namespace(), host_interface: self.interface.clone(), address: self.address, mtu }
    }

    pub(crate) fn namespace(&self) -> PathBuf {
        self.directory.join("netns")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.join("bundle")
    }

    /// The mount point of the container's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// The upper layer: the job's changed files.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// The mount point of a directory of the host that is the job's image.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("image")
    }

    /// An empty directory, which takes the place of directories that a job must not see.
    pub(crate) fn empty(&self) -> PathBuf {
        self.directory.join("empty")
    }

    /// The directory with `float` and what it needs.
    pub(crate) fn program(&self) -> PathBuf {
        self.directory.join("program")
    }

    /// Creates the upper layer.
    pub(crate) fn make_upper(&self) -> Result<()> {
        let upper = self.upper();
        std::fs::create_dir_all(&upper).map_err(Error::system(format!("make {}", upper.display())))
    }

    /// The overlay's work directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// The mount point of the inode file system; its image is beside it.
    pub(crate) fn inodes(&self) -> PathBuf {
        self.directory.join("inodes")
    }

    /// The directory of the job's volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.directory.join("volumes")
    }

    /// The control group of the processes that serve the job's volumes; it is never frozen.
    pub(crate) fn volumes_cgroup(&self) -> Cgroup {
        Cgroup::open(&format!("{}-volumes", self.cgroup))
    }

    /// The checkpoint of one migration.
    pub(crate) fn checkpoint(&self, migration: &MigrationId) -> Checkpoint {
        Checkpoint::new(&self.directory, migration.as_str())
    }

    /// The checkpoint of a parked job.
    pub(crate) fn parked(&self) -> Checkpoint {
        Checkpoint::new(&self.directory, "parked")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join(PID_FILE)
    }

    /// The command that the monitor runs. The monitor has it locked as long as it lives.
    pub(crate) fn monitor(&self) -> PathBuf {
        self.directory.join("monitor")
    }

    /// The record of how the first process ended.
    pub(crate) fn end(&self) -> PathBuf {
        self.directory.join(END)
    }

    /// The file that puts the job under its host's lease.
    pub(crate) fn fence(&self) -> PathBuf {
        self.directory.join(FENCE)
    }

    /// The file that says that the job was frozen for lack of a lease.
    pub(crate) fn fenced(&self) -> PathBuf {
        self.directory.join(FENCED)
    }

    /// The file that says that the job was frozen for lack of disk.
    pub(crate) fn short_of_disk(&self) -> PathBuf {
        self.directory.join(SHORT_OF_DISK)
    }

    /// The record of what was taken out of the job's terminals.
    pub(crate) fn terminals(&self) -> PathBuf {
        self.directory.join("terminals")
    }

    /// The record of names of sockets that are there for a checkpoint alone.
    pub(crate) fn socket_names(&self) -> PathBuf {
        self.directory.join("socket-names")
    }

    /// The record of the watches that were taken from the job.
    pub(crate) fn watches(&self) -> PathBuf {
        self.directory.join("watches")
    }

    /// The record of the targets that were taken from the job's epoll sets.
    pub(crate) fn epoll_targets(&self) -> PathBuf {
        self.directory.join("epoll-targets")
    }

    /// The record of the message queues that were removed from the job.
    pub(crate) fn message_queues(&self) -> PathBuf {
        self.directory.join("message-queues")
    }

    pub(crate) fn criu_config(&self) -> PathBuf {
        self.directory.join("criu.conf")
    }

    pub(crate) fn criu_hook(&self) -> PathBuf {
        self.directory.join("criu-hook")
    }

    /// The links that CRIU has made for open files. Its existence makes CRIU ask after a dump.
    pub(crate) fn criu_links(&self) -> PathBuf {
        self.directory.join("criu-links")
    }

    /// The file whose existence makes CRIU ask when it has seized the job, which is not frozen.
    pub(crate) fn criu_unfrozen(&self) -> PathBuf {
        self.directory.join("criu-unfrozen")
    }

    /// The file that CRIU's hook creates when all processes are seized.
    pub(crate) fn criu_seized(&self) -> PathBuf {
        self.directory.join("criu-seized")
    }

    /// The copy of runc's state directory for a checkpoint without a freezer.
    pub(crate) fn runc_without_freezer(&self) -> PathBuf {
        self.directory.join("runc")
    }

    /// The file whose existence makes CRIU ask before it reads memory.
    pub(crate) fn criu_gate(&self) -> PathBuf {
        self.directory.join("criu-gate")
    }
}

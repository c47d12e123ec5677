//! Where everything of one generation of a job lies, and under which names the kernel knows it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mooring_linux::cgroup::Cgroup;
use mooring_linux::job_net::JobNet;
use mooring_types::{Generation, JobId, MigrationId};

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The place of one generation of a job on this host.
#[derive(Debug, Clone)]
pub(crate) struct JobDir {
    directory: PathBuf,
    container: String,
    cgroup: String,
    interface: String,
    address: Ipv4Addr,
}

impl JobDir {
    /// The place of a generation of a job. `jobs` is where this agent keeps its jobs; `prefix` tells its interfaces from other agents'.
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

    /// The container's id for runc.
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

    /// The host's end of the job's interface.
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

    /// The container's root as it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// The files that the job has changed.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Makes the directory of the changed files.
    ///
    /// # Errors
    /// It could not be made.
    pub(crate) fn make_upper(&self) -> Result<()> {
        let upper = self.upper();
        std::fs::create_dir_all(&upper).map_err(Error::system(format!("make {}", upper.display())))
    }

    /// The kernel's own part of the overlay.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// The file system with the inode numbers that the job's files have kept, and where it is mounted beside it.
    pub(crate) fn inodes(&self) -> PathBuf {
        self.directory.join("inodes")
    }

    /// Where what the job's volumes need is kept.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.directory.join("volumes")
    }

    /// The control group of the processes that carry the job's volumes, which stand still with nobody.
    pub(crate) fn volumes_cgroup(&self) -> Cgroup {
        Cgroup::open(&format!("{}-volumes", self.cgroup))
    }

    /// The checkpoint of one attempt.
    pub(crate) fn checkpoint(&self, migration: &MigrationId) -> Checkpoint {
        Checkpoint::new(&self.directory, migration.as_str())
    }

    /// The checkpoint of a job that is parked.
    pub(crate) fn parked(&self) -> Checkpoint {
        Checkpoint::new(&self.directory, "parked")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    pub(crate) fn criu_config(&self) -> PathBuf {
        self.directory.join("criu.conf")
    }

    pub(crate) fn criu_hook(&self) -> PathBuf {
        self.directory.join("criu-hook")
    }

    /// A file that is there when CRIU is to ask before it reads memory.
    pub(crate) fn criu_gate(&self) -> PathBuf {
        self.directory.join("criu-gate")
    }
}

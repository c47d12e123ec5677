//! Hosts: their resources, and whether they take jobs.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::mounts::Scheme;

/// The facts about a machine, as its agent measured them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    pub cores: u32,
    pub mem_gb: f64,
    /// The kernel's release.
    pub kernel: String,
    /// The version of CRIU; empty where it is missing.
    pub criu: String,
    /// The version of runc; empty where it is missing.
    pub runc: String,
    /// The remote file systems that it can mount.
    #[serde(default)]
    pub mounts: Vec<Scheme>,
    /// The capabilities that some jobs need to migrate from here, and that the agent lacks.
    #[serde(default)]
    pub lacks: Vec<Capability>,
    /// The readiness for jobs that migrate.
    pub readiness: Readiness,
    /// The purchase option; absent until its cloud has answered.
    #[serde(default)]
    pub purchase: Option<Purchase>,
}

impl HostFacts {
    /// Returns these facts, with the purchase of `before` where it is unknown: it never changes.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.purchase = self.purchase.or(before.purchase);
        self
    }

    /// Returns how it is paid for. Without an answer of its cloud it counts as on demand.
    #[must_use]
    pub fn purchase(&self) -> Purchase {
        self.purchase.unwrap_or_default()
    }
}

/// A capability that an agent may lack: root has not all of them in a container or a small VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capability {
    /// The limits of processes of other users can be read.
    #[serde(rename = "CAP_SYS_RESOURCE")]
    SysResource,
}

impl Capability {
    /// Returns what can't be done without it.
    #[must_use]
    pub fn prevents(self) -> &'static str {
        match self {
            Self::SysResource => "jobs with processes of users other than root can't migrate from there",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SysResource => f.write_str("CAP_SYS_RESOURCE"),
        }
    }
}

/// The purchase option of a machine, which decides whether its cloud may reclaim it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purchase {
    /// Spare capacity: the cloud may reclaim it.
    Spot,
    /// Kept until it is released.
    #[default]
    OnDemand,
}

impl fmt::Display for Purchase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        })
    }
}

/// The readiness of a host for jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Readiness {
    Ready,
    NotReady {
        /// The reason, as a user reads it.
        reason: String,
    },
}

/// The role of a host in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostRole {
    Jobs,
    Gateways,
    Both,
}

impl HostRole {
    /// Says whether jobs are placed on such a host.
    #[must_use]
    pub fn takes_jobs(self) -> bool {
        matches!(self, Self::Jobs | Self::Both)
    }

    /// Says whether gateways are placed on such a host.
    #[must_use]
    pub fn takes_gateways(self) -> bool {
        matches!(self, Self::Gateways | Self::Both)
    }
}

/// Processor and memory, requested or offered.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The number of cores.
    pub cpu: u32,
    /// The memory in GB.
    pub mem_gb: f64,
}

impl Resources {
    /// The range of cores that a job may request.
    pub const CPU_RANGE: RangeInclusive<u32> = 1..=4096;
    /// The range of memory that a job may request, in GB.
    pub const MEM_GB_RANGE: RangeInclusive<f64> = 0.1..=65_536.0;

    /// Says whether `asked` fits into `self` beside `used`.
    #[must_use]
    pub fn fits(self, used: Self, asked: Self) -> bool {
        used.cpu + asked.cpu <= self.cpu && used.mem_gb + asked.mem_gb <= self.mem_gb
    }
}

impl fmt::Display for Resources {
    /// Like `1 core and 2.5 GB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = if self.cpu == 1 { "core" } else { "cores" };
        // One digit is enough, and none of a whole number.
        write!(f, "{} {cores} and {} GB", self.cpu, (self.mem_gb * 10.0).floor() / 10.0)
    }
}

impl std::ops::Add for Resources {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, mem_gb: self.mem_gb + other.mem_gb }
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self { cpu: 0, mem_gb: 0.0 }, |sum, item| sum + item)
    }
}

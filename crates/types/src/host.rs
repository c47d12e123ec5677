//! Machines: what a host offers, and whether it may take jobs.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::mounts::Scheme;

/// What a machine has, as its agent measured it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    /// Processor cores.
    pub cores: u32,
    /// Memory in GB.
    pub mem_gb: f64,
    /// The kernel's release.
    pub kernel: String,
    /// CRIU's version; empty where there is none.
    pub criu: String,
    /// runc's version; empty where there is none.
    pub runc: String,
    /// What it can mount of other machines.
    #[serde(default)]
    pub mounts: Vec<Scheme>,
    /// Whether jobs that may move can run here.
    pub readiness: Readiness,
    /// How it is paid for; absent while its cloud was not heard yet.
    #[serde(default)]
    pub purchase: Option<Purchase>,
}

impl HostFacts {
    /// These, with what is not known of the machine as it was known before: how it is paid for does
    /// not change in its life.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.purchase = self.purchase.or(before.purchase);
        self
    }

    /// How it is paid for: what its cloud does not say it takes away stays.
    #[must_use]
    pub fn purchase(&self) -> Purchase {
        self.purchase.unwrap_or_default()
    }
}

/// How a machine is paid for, which decides whether its cloud may take it away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purchase {
    /// At the price of what is left over: it can be reclaimed.
    Spot,
    /// For as long as it is wanted.
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

/// Whether a host takes jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Readiness {
    /// It takes jobs.
    Ready,
    /// It takes none.
    NotReady {
        /// Why, as a user reads it.
        reason: String,
    },
}

/// What a host offers itself for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostRole {
    /// Runs jobs.
    Jobs,
    /// Runs gateways.
    Gateways,
    /// Runs both.
    Both,
}

impl HostRole {
    /// Whether jobs are placed on such a host.
    #[must_use]
    pub fn takes_jobs(self) -> bool {
        matches!(self, Self::Jobs | Self::Both)
    }

    /// Whether gateways are placed on such a host.
    #[must_use]
    pub fn takes_gateways(self) -> bool {
        matches!(self, Self::Gateways | Self::Both)
    }
}

/// Processor and memory, asked for or offered.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processor cores.
    pub cpu: u32,
    /// Memory in GB.
    pub mem_gb: f64,
}

impl Resources {
    /// The cores that a job may ask for.
    pub const CPU_RANGE: RangeInclusive<u32> = 1..=4096;
    /// The memory that a job may ask for, in GB.
    pub const MEM_GB_RANGE: RangeInclusive<f64> = 0.1..=65_536.0;

    /// Whether `asked` fits into what is left of `self` after `used`.
    #[must_use]
    pub fn fits(self, used: Self, asked: Self) -> bool {
        used.cpu + asked.cpu <= self.cpu && used.mem_gb + asked.mem_gb <= self.mem_gb
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

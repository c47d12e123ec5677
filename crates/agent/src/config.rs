//! The configuration of an agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use mooring_tls::Trust;
use mooring_types::Name;
use mooring_types::host::{HostRole, Purchase};

use crate::runtime::image::{Bounds, Limits};

/// The configuration of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// OpCenter's address.
    pub opcenter: String,
    /// The certificates by which this host believes OpCenter.
    pub trust: Trust,
    /// The cluster's join token.
    pub join_token: String,
    /// The host's name.
    pub name: Name,
    /// Jobs, gateways or both.
    pub role: HostRole,
    /// The address by which other hosts reach this one.
    pub underlay: Ipv4Addr,
    /// The address by which clients reach the gateways of this host.
    pub public_address: IpAddr,
    /// The port for capsules from other hosts; 0 for any free port.
    pub migration_port: u16,
    /// The directory of the agent's state and of its jobs.
    pub state_dir: PathBuf,
    /// The prefix of this agent's network devices: 1 to 5 letters or digits, unique among the
    /// agents in one network namespace.
    pub device_prefix: String,
    /// The control group above those of the jobs and gateways.
    pub cgroup_parent: String,
    /// The number of cores to offer; all when absent.
    pub cores: Option<u32>,
    /// The memory to offer, in GB; all when absent.
    pub mem_gb: Option<f64>,
    /// The `float` program, for hooks and gateways.
    pub float: PathBuf,
    /// The directory with `bin/runc` and `bin/criu`; the usual prefix or PATH when absent.
    pub tools: Option<PathBuf>,
    /// The seconds by which the monotonic clock of new jobs is ahead of this machine's.
    pub clock_offset_seconds: i64,
    /// A stop of the agent stops the host: running jobs are parked, gateways stopped, devices
    /// removed. Otherwise everything runs on.
    pub park: bool,
    /// The registries that are reached without TLS, as `HOST` or `HOST:PORT`.
    pub insecure_registries: Vec<String>,
    /// The limits of image data that no job needs.
    pub image_limits: Limits,
    /// The most that is unpacked for images, and what stays free on the disk.
    pub image_bounds: Bounds,
    /// Directories that jobs on a `dir:` image do not see.
    pub hidden: Vec<PathBuf>,
    /// The ranges of addresses that jobs may reach in spite of the usual rules.
    pub job_ranges: Vec<Ipv4Net>,
    /// The interval at which the usage of jobs is measured.
    pub metrics_interval: Duration,
    /// The cloud's metadata service, on machines that the cloud may reclaim.
    pub metadata: Option<String>,
    /// The machine's kind of payment. When absent, the cloud is asked; without a cloud, it is on
    /// demand.
    pub purchase: Option<Purchase>,
}

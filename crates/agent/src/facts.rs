//! The facts of this machine that a host reports.

use mooring_linux::process::has_sys_resource;
use mooring_types::host::{Capability, HostFacts, HostRole, Readiness};

use crate::config::Config;
use crate::disk;
use crate::runtime::volume;
use crate::tools::Tools;

const GB: f64 = 1e9;

/// Measures the machine and its tools. A host for gateways alone needs no CRIU. The purchase is
/// left to [`spot`](crate::spot).
pub(crate) async fn measure(config: &Config, tools: &Tools) -> HostFacts {
    let tools = tools.facts().await;
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    HostFacts {
        cores: config.cores.unwrap_or(cores),
        mem_gb: config.mem_gb.unwrap_or_else(memory_gb),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        criu: tools.criu,
        runc: tools.runc,
        purchase: None,
        mounts: volume::mountable(),
        lacks: lacks(config.role),
        readiness: match (config.role, tools.readiness) {
            (HostRole::Gateways, _) => Readiness::Ready,
            (_, Readiness::Ready) => {
                disk::shortage(config).map_or(Readiness::Ready, |reason| Readiness::NotReady { reason })
            }
            (_, not_ready) => not_ready,
        },
    }
}

fn lacks(role: HostRole) -> Vec<Capability> {
    let is_lacking = role != HostRole::Gateways && !has_sys_resource();
    is_lacking.then_some(Capability::SysResource).into_iter().collect()
}

fn memory_gb() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    // Rounded down to a tenth, so that no more is offered than there is.
    (kib.unwrap_or(0.0) * 1024.0 / GB * 10.0).floor() / 10.0
}

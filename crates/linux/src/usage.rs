//! The resource usage of control groups, from the statistics of both versions, and the traffic of
//! interfaces.
//!
//! The page cache counts towards the limit of a group, but the kernel reclaims it at the limit. So
//! it is reported apart from used memory. Counters start at zero with the group.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::cgroup::{Cgroup, Version};
use crate::{Error, Result};

/// The least limit of version 1 that means none: its largest limit depends on the page size.
const UNLIMITED: u64 = 1 << 60;

/// The usage of a group, since it was made and now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counters {
    /// The processor time since the group was made.
    pub cpu: Duration,
    /// The limit in cores; none where absent.
    pub cores: Option<f64>,
    pub memory: Memory,
    /// The number of processes and threads.
    pub processes: u32,
}

/// The memory of a group, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Used memory: all that counts towards the limit except reclaimable page cache.
    pub used: u64,
    /// The limit; none where absent.
    pub limit: Option<u64>,
    /// The page cache.
    pub page_cache: u64,
    /// Swapped memory.
    pub swap: u64,
    /// The number of times that the limit was reached.
    pub limit_hits: u64,
}

/// Returns the bytes that a process has written to files on disks, less those that it took back by
/// truncating. `None` where it is gone.
#[must_use]
pub fn written(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let counter = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        line.trim().parse::<u64>().ok()
    };
    Some(counter("write_bytes")?.saturating_sub(counter("cancelled_write_bytes")?))
}

impl Cgroup {
    /// Returns the usage of the group. Fails where the group does not exist.
    pub fn counters(&self) -> Result<Counters> {
        let (cpu, cores) = match self.version() {
            Version::V1 => {
                let number = |file| Ok(self.read("cpu", file)?.trim().parse::<f64>().unwrap_or(-1.0));
                let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
                let nanos = whole(&self.read("cpuacct", "cpuacct.usage")?);
                (Duration::from_nanos(nanos), (quota > 0.0 && period > 0.0).then(|| quota / period))
            }
            Version::V2 => {
                let text = self.read("", "cpu.stat")?;
                let stat = keyed(&text);
                (Duration::from_micros(value(&stat, "usage_usec")), cores(&self.read("", "cpu.max")?))
            }
        };
        let pids = match self.version() {
            Version::V1 => "pids",
            Version::V2 => "",
        };
        // The controller that counts processes may be off.
        let processes = self.read(pids, "pids.current").map(|text| whole(&text)).unwrap_or_default();
        Ok(Counters { cpu, cores, memory: self.memory()?, processes: u32::try_from(processes).unwrap_or(u32::MAX) })
    }

    /// Returns the memory of the group. Fails where the group does not exist or has no memory
    /// controller.
    pub fn memory(&self) -> Result<Memory> {
        Ok(match self.version() {
            Version::V1 => memory_v1(
                &self.read("memory", "memory.stat")?,
                &self.read("memory", "memory.usage_in_bytes")?,
                &self.read("memory", "memory.limit_in_bytes")?,
                &self.read("memory", "memory.failcnt")?,
            ),
            Version::V2 => memory_v2(
                &self.read("", "memory.stat")?,
                &self.read("", "memory.current")?,
                &self.read("", "memory.max")?,
                &self.read("", "memory.events")?,
                // A kernel without swap has no such statistics.
                &self.read("", "memory.swap.current").unwrap_or_default(),
            ),
        })
    }

    /// Returns how many processes of the group the kernel has killed for lack of memory, since the
    /// group was made. Returns 0 where the group does not exist.
    #[must_use]
    pub fn memory_kills(&self) -> u64 {
        let (controller, file) = match self.version() {
            Version::V1 => ("memory", "memory.oom_control"),
            Version::V2 => ("", "memory.events"),
        };
        value(&keyed(&self.read(controller, file).unwrap_or_default()), "oom_kill")
    }

    fn read(&self, controller: &str, file: &str) -> Result<String> {
        let path = self.directory(controller).join(file);
        fs::read_to_string(&path).map_err(Error::system(format!("read {}", path.display())))
    }
}

/// Returns the bytes that an interface of this network namespace has received and sent. Returns
/// `None` where the interface does not exist.
#[must_use]
pub fn interface_bytes(name: &str) -> Option<(u64, u64)> {
    carried(&fs::read_to_string("/proc/thread-self/net/dev").ok()?, name)
}

fn carried(devices: &str, name: &str) -> Option<(u64, u64)> {
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let mut numbers = line.split_whitespace().map(whole);
    // The first eight numbers are for received packets, the others for sent ones.
    Some((numbers.next()?, numbers.nth(7)?))
}

fn memory_v1(stat: &str, usage: &str, limit: &str, hits: &str) -> Memory {
    let stat = keyed(stat);
    let page_cache = value(&stat, "total_active_file") + value(&stat, "total_inactive_file");
    Memory {
        used: whole(usage).saturating_sub(page_cache),
        limit: Some(whole(limit)).filter(|limit| *limit < UNLIMITED),
        page_cache,
        swap: value(&stat, "total_swap"),
        limit_hits: whole(hits),
    }
}

fn memory_v2(stat: &str, usage: &str, limit: &str, events: &str, swap: &str) -> Memory {
    let stat = keyed(stat);
    let page_cache = value(&stat, "active_file") + value(&stat, "inactive_file");
    Memory {
        used: whole(usage).saturating_sub(page_cache),
        limit: limit.trim().parse().ok(),
        page_cache,
        swap: whole(swap),
        limit_hits: value(&keyed(events), "max"),
    }
}

/// Reads a limit: `400000 100000` is four cores, `max 100000` is none.
fn cores(max: &str) -> Option<f64> {
    let (quota, period) = max.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|period| *period > 0.0)?)
}

fn keyed(text: &str) -> HashMap<&str, u64> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(key, number)| (key, whole(number))).collect()
}

fn value(keyed: &HashMap<&str, u64>, key: &str) -> u64 {
    keyed.get(key).copied().unwrap_or_default()
}

fn whole(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_give_way_are_not_in_use() {
        let stat = "cache 5000\nrss 900\ntotal_swap 7\ntotal_inactive_file 3000\ntotal_active_file 1000\n";
        let memory = memory_v1(stat, "6000\n", "9223372036854771712\n", "3\n");
        assert_eq!(memory, Memory { used: 2000, limit: None, page_cache: 4000, swap: 7, limit_hits: 3 });
        let stat = "anon 900\nactive_file 1000\ninactive_file 3000\n";
        let memory = memory_v2(stat, "6000\n", "8000\n", "low 0\nhigh 1\nmax 3\noom 0\n", "7\n");
        assert_eq!(memory, Memory { used: 2000, limit: Some(8000), page_cache: 4000, swap: 7, limit_hits: 3 });
        assert_eq!(memory_v2(stat, "1", "max\n", "", ""), Memory { page_cache: 4000, ..Memory::default() });
    }

    #[test]
    fn a_quota_is_a_number_of_cores() {
        assert_eq!(cores("250000 100000\n"), Some(2.5));
        assert_eq!(cores("max 100000\n"), None);
    }

    #[test]
    fn an_interface_is_found_by_its_whole_name() {
        let devices = "Inter-|   Receive\n face |bytes\n  mh1j40: 5 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n mh1j4:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        assert_eq!(carried(devices, "mh1j4"), Some((10, 20)));
        assert_eq!(carried(devices, "mh1j40"), Some((5, 9)));
        assert_eq!(carried(devices, "mh1"), None);
        assert!(interface_bytes("lo").is_some());
    }
}

//! The resource usage of a job, as its host measures it.

use serde::{Deserialize, Serialize};

/// The memory usage in percent above which a job lacks memory.
pub const NEARLY_ALL: f64 = 95.0;
/// The memory usage in percent above which a job that reaches its limit lacks memory. Below it, the
/// kernel has only reclaimed page cache.
pub const MOST: f64 = 80.0;

/// The usage of a job: present amounts, and rates over the interval before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// The length of the interval in seconds.
    pub seconds: f64,
    /// The average number of busy cores.
    pub cpu_used: f64,
    /// The limit in cores.
    pub cpu: f64,
    /// Used memory in bytes, without reclaimable page cache.
    pub mem_used: u64,
    /// The memory limit in bytes.
    pub mem: u64,
    /// Page cache in bytes.
    pub page_cache: u64,
    /// Swapped memory in bytes.
    pub swap: u64,
    /// The number of times that the memory limit was reached in the interval.
    pub limit_hits: u64,
    /// The number of processes and threads.
    pub processes: u32,
    /// Bytes received in the interval.
    pub received: u64,
    /// Bytes sent in the interval.
    pub sent: u64,
    /// The size of the changed files in bytes; absent where there are too many to count.
    pub disk: Option<u64>,
}

impl Usage {
    /// Returns the processor usage in percent of the limit.
    #[must_use]
    pub fn cpu_ratio(&self) -> f64 {
        if self.cpu > 0.0 { self.cpu_used / self.cpu * 100.0 } else { 0.0 }
    }

    /// Returns the memory usage in percent of the limit.
    #[must_use]
    pub fn mem_ratio(&self) -> f64 {
        if self.mem > 0 { self.mem_used as f64 / self.mem as f64 * 100.0 } else { 0.0 }
    }

    /// Returns why the job lacks memory, if it does: the kernel is about to kill a process, or to
    /// swap.
    #[must_use]
    pub fn lacks_memory(&self) -> Option<&'static str> {
        match self.mem_ratio() {
            _ if self.swap > 0 => Some("some of its memory lies in the swap area"),
            ratio if ratio >= NEARLY_ALL => Some("nearly all of its memory is in use"),
            ratio if ratio >= MOST && self.limit_hits > 0 => Some("it runs into its limit of memory"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_reads_files_up_to_its_limit_lacks_no_memory() {
        let usage = Usage { mem: 1000, mem_used: 700, page_cache: 300, limit_hits: 50, ..Usage::default() };
        assert_eq!(usage.lacks_memory(), None);
        for lacking in [
            Usage { mem_used: 950, ..Usage { mem: 1000, ..Usage::default() } },
            Usage { mem_used: 810, ..usage },
            Usage { swap: 1, ..Usage::default() },
        ] {
            assert!(lacking.lacks_memory().is_some(), "{lacking:?}");
        }
        assert_eq!(Usage::default().lacks_memory(), None);
    }
}

//! What a job uses, as its host measures it.

use serde::{Deserialize, Serialize};

/// Use of its memory in percent from which on a job lacks some.
pub const NEARLY_ALL: f64 = 95.0;
/// Use of its memory in percent from which on a job that runs into its limit lacks some. Below,
/// what gave way were files that can be read again.
pub const MOST: f64 = 80.0;

/// What a job uses: amounts of a moment, and rates of the time before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// How long that time was, in seconds.
    pub seconds: f64,
    /// Cores that were at work, on average.
    pub cpu_used: f64,
    /// Cores that it may use.
    pub cpu: f64,
    /// Bytes of memory in use, without files that can be read again.
    pub mem_used: u64,
    /// Bytes of memory that it may use.
    pub mem: u64,
    /// Bytes of files that are kept in memory for it.
    pub page_cache: u64,
    /// Bytes of it that lie in the swap area.
    pub swap: u64,
    /// How often it ran into its limit of memory in that time.
    pub limit_hits: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Bytes that it received in that time.
    pub received: u64,
    /// Bytes that it sent in that time.
    pub sent: u64,
    /// Bytes of files that it has changed; absent where there are too many to be counted.
    pub disk: Option<u64>,
}

impl Usage {
    /// Cores at work, in percent of those that it may use.
    #[must_use]
    pub fn cpu_ratio(&self) -> f64 {
        if self.cpu > 0.0 { self.cpu_used / self.cpu * 100.0 } else { 0.0 }
    }

    /// Memory in use, in percent of what it may use.
    #[must_use]
    pub fn mem_ratio(&self) -> f64 {
        if self.mem > 0 { self.mem_used as f64 / self.mem as f64 * 100.0 } else { 0.0 }
    }

    /// Why it lacks memory, if it does: the kernel is about to end it, or to have it wait for a
    /// disk.
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

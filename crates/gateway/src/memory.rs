//! Returns memory to the kernel after bursts of clients.
//!
//! The allocator keeps freed memory, and returns only what lies at the end of its heap. After a
//! burst of clients that is next to nothing: 2,000 held requests leave some 150 MB. So the
//! allocator is told to trim, which takes some milliseconds:
//!
//! * when [`BURST_CLIENTS`] clients have left since the last peak. There is less load than before.
//! * when the process has grown by [`GROWTH_BYTES`] since the last trim. Clients that come and go
//!   within milliseconds leave memory too, and no look sees many of them.

use std::fs;
use std::time::{Duration, Instant};

use crate::state::Gateway;

/// The time between two looks at load and memory.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The number of clients whose memory is worth returning.
const BURST_CLIENTS: usize = 256;
/// The growth that is worth a trim, in bytes.
const GROWTH_BYTES: u64 = 8 << 20;
/// The least time between two trims for growth. Memory that is in use stays.
const GROWTH_INTERVAL: Duration = Duration::from_secs(10);

/// The peaks of a process's load and memory.
#[derive(Debug, Default)]
pub struct Bursts {
    /// The most clients and held requests since the last trim.
    most: usize,
    /// The bytes after the last trim.
    base: u64,
    trimmed: Option<Instant>,
}

impl Bursts {
    /// Records the current load and bytes; returns whether a trim is worth its time.
    pub fn is_over(&mut self, load: usize, bytes: u64, now: Instant) -> bool {
        let has_left = self.most.saturating_sub(load) >= BURST_CLIENTS;
        let is_rested = self.trimmed.is_none_or(|trimmed| now.saturating_duration_since(trimmed) >= GROWTH_INTERVAL);
        let has_grown = is_rested && bytes >= self.base.saturating_add(GROWTH_BYTES);
        self.most = if has_left { load } else { self.most.max(load) };
        has_left || has_grown
    }

    /// Records the bytes that a trim has left.
    pub fn trimmed(&mut self, bytes: u64, now: Instant) {
        (self.base, self.trimmed) = (bytes, Some(now));
    }
}

/// Trims the allocator's memory after each burst, for ever.
pub async fn trim_after_bursts(gateway: &Gateway) {
    let mut bursts = Bursts::default();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let before = resident().unwrap_or_default();
        if bursts.is_over(gateway.load(), before, Instant::now()) {
            // Allocations wait meanwhile; the event loop does not.
            let _ = tokio::task::spawn_blocking(mooring_linux::memory::give_back).await;
            let after = resident().unwrap_or_default();
            bursts.trimmed(after, Instant::now());
            tracing::debug!(before, after, "returned memory to the kernel after a burst of clients");
        }
    }
}

/// Returns the bytes of this process that are in memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_ends_once() {
        let mut bursts = Bursts::default();
        let now = Instant::now();
        let looks =
            [(10, false), (2000, false), (1900, false), (1500, true), (1400, false), (1000, true), (1000, false)];
        for (load, over) in looks {
            assert_eq!(bursts.is_over(load, 0, now), over, "{load}");
        }
        assert!(!bursts.is_over(1200, 0, now) && bursts.is_over(0, 0, now));
    }

    #[test]
    fn growth_is_measured_from_what_the_last_trim_left() {
        let (began, mib) = (Instant::now(), |count: u64| count << 20);
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut bursts = Bursts::default();
        assert!(bursts.is_over(10, mib(30), began));
        bursts.trimmed(mib(25), began);
        assert!(!bursts.is_over(10, mib(32), after(60)));
        assert!(bursts.is_over(10, mib(33), after(60)));
        assert!(!bursts.is_over(10, mib(200), after(9)), "the last trim was just before");
        bursts.trimmed(mib(190), after(60));
        assert!(!bursts.is_over(10, mib(195), after(120)));
    }

    #[test]
    fn memory_of_the_process_is_known() {
        assert!(resident().unwrap() > 1 << 20);
    }
}

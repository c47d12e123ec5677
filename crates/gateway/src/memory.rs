//! Returns memory to the kernel after a burst of clients.
//!
//! The allocator keeps freed memory, and returns only what lies at the end of its heap. After a
//! burst of clients that is next to nothing: 2,000 held requests leave some 150 MB. So when
//! [`BURST_CLIENTS`] clients have left since the last peak, the allocator is told to trim. That
//! takes some milliseconds, at a time with less load than before.

use std::time::Duration;

use crate::state::Gateway;

/// The time between two reads of the number of clients.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The number of clients whose memory is worth returning.
const BURST_CLIENTS: usize = 256;

/// The peak of a process's load.
#[derive(Debug, Default)]
pub struct Bursts {
    /// The most clients and held requests since the last trim.
    most: usize,
}

impl Bursts {
    /// Records the current load; returns whether a burst is over.
    pub fn is_over(&mut self, now: usize) -> bool {
        let over = self.most.saturating_sub(now) >= BURST_CLIENTS;
        self.most = if over { now } else { self.most.max(now) };
        over
    }
}

/// Trims the allocator's memory after each burst, for ever.
pub async fn trim_after_bursts(gateway: &Gateway) {
    let mut bursts = Bursts::default();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if bursts.is_over(gateway.load()) {
            // Allocations wait meanwhile; the event loop does not.
            let _ = tokio::task::spawn_blocking(mooring_linux::memory::give_back).await;
            tracing::debug!("returned memory to the kernel after a burst of clients");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_ends_once() {
        let mut bursts = Bursts::default();
        let looks =
            [(10, false), (2000, false), (1900, false), (1500, true), (1400, false), (1000, true), (1000, false)];
        for (now, over) in looks {
            assert_eq!(bursts.is_over(now), over, "{now}");
        }
        assert!(!bursts.is_over(1200) && bursts.is_over(0));
    }
}

//! Memory after a burst: what many clients took is given back once most of them have gone.
//!
//! The allocator keeps what was freed for later, and gives it back by itself only where nothing in use lies behind it, which after a burst of clients is
//! nearly nowhere: 2,000 requests that waited for a job leave some 150 MB. So whenever [`BURST_CLIENTS`] have gone since the last look at which
//! there were most, it is told to. That takes some milliseconds, and happens when there is less to do than before.

use std::time::Duration;

use crate::state::Gateway;

/// How often the number of clients is looked at.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// So many clients take enough memory for it to be worth giving back.
const BURST_CLIENTS: usize = 256;

/// What is known of a process's bursts.
#[derive(Debug, Default)]
pub struct Bursts {
    /// The most clients and held requests since memory was last given back.
    most: usize,
}

impl Bursts {
    /// Takes note of how many there are; says whether a burst is over.
    pub fn is_over(&mut self, now: usize) -> bool {
        let over = self.most.saturating_sub(now) >= BURST_CLIENTS;
        self.most = if over { now } else { self.most.max(now) };
        over
    }
}

/// Gives memory back after each burst, for ever.
pub async fn trim_after_bursts(gateway: &Gateway) {
    let mut bursts = Bursts::default();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if bursts.is_over(gateway.load()) {
            // Whoever allocates meanwhile waits a little; the loop does not.
            let _ = tokio::task::spawn_blocking(mooring_linux::memory::give_back).await;
            tracing::debug!("memory is given back after a burst of clients");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_over_once() {
        let mut bursts = Bursts::default();
        let looks =
            [(10, false), (2000, false), (1900, false), (1500, true), (1400, false), (1000, true), (1000, false)];
        for (now, over) in looks {
            assert_eq!(bursts.is_over(now), over, "{now}");
        }
        assert!(!bursts.is_over(1200) && bursts.is_over(0));
    }
}

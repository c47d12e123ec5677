//! The pulse of the reconciler, which tells a stall of OpCenter from silent hosts.
//!
//! A process that was stopped, or a database that did not answer, takes in no report meanwhile. All
//! hosts look silent afterwards, though each of them may have reported all the time.

use std::time::{Duration, Instant};

use super::TICK;

/// The shortest stall that counts.
const STALL_MIN: Duration = Duration::from_secs(3);

/// The time of the last look at the observed state.
///
/// It is the machine's time, also where OpCenter's clock is another one.
#[derive(Debug)]
pub(super) struct Pulse(Instant);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Notes a look at the observed state. Returns the time since the last one beyond a pause, if
    /// that is a stall.
    pub(super) fn beat(&mut self) -> Option<Duration> {
        let last = std::mem::replace(&mut self.0, Instant::now());
        last.elapsed().checked_sub(TICK).filter(|stall| *stall >= STALL_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_no_stall() {
        let ago = |seconds| Pulse(Instant::now().checked_sub(Duration::from_secs(seconds)).expect("an early instant"));
        assert_eq!(ago(3).beat(), None);
        let mut stalled = ago(12);
        assert!(stalled.beat().is_some_and(|stall| stall >= Duration::from_secs(11)));
        assert_eq!(stalled.beat(), None);
    }
}

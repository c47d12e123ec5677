//! Requests that are repeated whether a job is used or not.
//!
//! A request is a *poll* once the same has come [`POLLS_MIN`] times before. The pause between two
//! of them, from the end of one to the next, is always shorter than the job's idle time. The same
//! request has the same sender, user agent, method and path.
//!
//! Requests of a time of use don't make a poll. A job is suspended only when it was not used for
//! the idle time, and the first request after that has paused for longer.
//!
//! A poll of any interval below the idle time is known after some suspends at most. One that stops
//! for the idle time is forgotten. So are all when the process of the gateway ends.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The number of requests that make the next one a poll.
const POLLS_MIN: u32 = 3;
/// The most requests that are remembered. The older half gives way at once, so that a flood of
/// requests does not look through all of them each time.
const REMEMBERED_MAX: usize = 4096;

/// The requests of the clients of a port.
#[derive(Debug, Default)]
pub struct Polls {
    hasher: RandomState,
    seen: Mutex<HashMap<u64, Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    count: u32,
    last: Instant,
}

/// A request of which note was taken, until it has its answer.
#[derive(Debug)]
pub struct Noted {
    polls: Arc<Polls>,
    key: u64,
    is_poll: bool,
}

impl Polls {
    /// Takes note of a request that begins, and of its end when the returned value is dropped.
    #[must_use]
    pub fn note(self: &Arc<Self>, request: impl Hash, idle: Duration) -> Noted {
        let key = self.hasher.hash_one(request);
        let is_poll = self.begin(key, Instant::now(), idle);
        Noted { polls: self.clone(), key, is_poll }
    }

    fn begin(&self, key: u64, now: Instant, idle: Duration) -> bool {
        let mut seen = self.seen.lock();
        let of_request = seen.entry(key).or_insert(Seen { count: 0, last: now });
        if now.saturating_duration_since(of_request.last) >= idle {
            of_request.count = 0;
        }
        let is_poll = of_request.count >= POLLS_MIN;
        *of_request = Seen { count: of_request.count.saturating_add(1), last: now };
        if seen.len() > REMEMBERED_MAX {
            let mut last: Vec<Instant> = seen.values().map(|seen| seen.last).collect();
            let (_, median, _) = last.select_nth_unstable(REMEMBERED_MAX / 2);
            seen.retain(|_, seen| seen.last > *median);
        }
        is_poll
    }

    fn end(&self, key: u64, now: Instant) {
        if let Some(of_request) = self.seen.lock().get_mut(&key) {
            of_request.last = now;
        }
    }
}

impl Noted {
    /// Returns whether the request is a poll.
    #[must_use]
    pub fn is_poll(&self) -> bool {
        self.is_poll
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.polls.end(self.key, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// Returns which of the requests at these seconds are polls.
    fn polls(seconds: &[u64]) -> Vec<bool> {
        let (polls, began) = (Polls::default(), Instant::now());
        let at = |second: &u64| began + Duration::from_secs(*second);
        seconds.iter().map(|second| polls.begin(1, at(second), IDLE)).collect()
    }

    #[test]
    fn request_that_never_pauses_is_a_poll() {
        assert_eq!(polls(&[0, 2, 4, 6, 8]), [false, false, false, true, true]);
        assert_eq!(polls(&[0, 59, 118, 177]), [false, false, false, true]);
    }

    #[test]
    fn pause_of_the_idle_time_ends_a_poll() {
        assert_eq!(polls(&[0, 2, 4, 6, 66, 67]), [false, false, false, true, false, false]);
        // A client that has used the job comes back after its suspend.
        let mut used: Vec<u64> = (0..100).collect();
        used.push(99 + 60);
        assert_eq!(polls(&used).last(), Some(&false));
    }

    #[test]
    fn each_request_has_its_own_count() {
        let polls = Arc::<Polls>::default();
        for _ in 0..10 {
            drop(polls.note("poll", IDLE));
        }
        assert!(polls.note("poll", IDLE).is_poll() && !polls.note("other", IDLE).is_poll());
    }

    #[test]
    fn request_that_is_held_for_long_is_no_pause() {
        let (polls, began) = (Polls::default(), Instant::now());
        for second in [0, 2, 4] {
            polls.begin(1, began + Duration::from_secs(second), IDLE);
        }
        polls.end(1, began + Duration::from_secs(600));
        assert!(polls.begin(1, began + Duration::from_secs(602), IDLE));
    }

    #[test]
    fn memory_is_bounded() {
        let (polls, now) = (Polls::default(), Instant::now());
        for number in 0..2 * REMEMBERED_MAX as u64 {
            polls.begin(number, now + Duration::from_millis(number), IDLE);
        }
        assert!(polls.seen.lock().len() <= REMEMBERED_MAX);
        // The newest are remembered.
        let newest = 2 * REMEMBERED_MAX as u64 - 1;
        assert_eq!(polls.seen.lock().get(&newest).map(|seen| seen.count), Some(1));
    }
}

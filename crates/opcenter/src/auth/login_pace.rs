//! The pace of logins at OpCenter: slower after each failure, never shut.
//!
//! Failures are counted by address and name together, and by address. Each beyond the free ones
//! doubles the wait before the next attempt of the same kind, up to [`DELAY_MAX`]. Nothing is
//! counted by name alone. A stranger who guesses the password of a user slows down one address, and
//! the user gets in from another one. A right password forgives the failures of its address and
//! name. Those of the address stay, so that one account does not help to guess others. Sign-ins at
//! the OpenID provider are counted in the same way, under a name that is no user's.
//!
//! Passwords are hashed by a few tasks at a time, with a queue of [`QUEUE_MAX`]: logins can't take
//! all cores.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_types::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{ApiError, ApiResult};

/// The failures of an address and a name that cost no wait.
const FREE_OF_PAIR: u32 = 4;
/// The failures of an address that cost no wait: many users may share one.
const FREE_OF_SOURCE: u32 = 20;
/// The wait after the first failure that costs one; it doubles with each further one.
const DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// The time after the last failure from which it is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// The most keys to remember.
const KEYS_MAX: usize = 20_000;
/// The longest name of a user; longer ones are no user's.
const NAME_MAX: usize = 63;
/// The passwords that are hashed at the same time.
const HASHED_AT_ONCE: usize = 2;
/// The most logins that wait for it.
const QUEUE_MAX: usize = 64;

/// The pace of logins.
#[derive(Debug)]
pub(crate) struct LoginPace {
    failures: Mutex<HashMap<Key, Failures>>,
    hashing: Semaphore,
    queue: Semaphore,
}

impl Default for LoginPace {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            queue: Semaphore::new(QUEUE_MAX + HASHED_AT_ONCE),
        }
    }
}

/// The network that an attempt comes from: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(Option<IpAddr>);

impl From<Option<IpAddr>> for Source {
    fn from(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        }))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(Source, String),
    Source(Source),
}

impl Key {
    fn free(&self) -> u32 {
        match self {
            Self::Pair(..) => FREE_OF_PAIR,
            Self::Source(_) => FREE_OF_SOURCE,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    times: u32,
    last: Timestamp,
    /// The end of the wait.
    until: Timestamp,
}

/// An attempt under way. It counts as failed until [`LoginPace::succeeded`].
#[derive(Debug)]
pub(crate) struct Attempt {
    pair: Key,
    source: Key,
    /// The failures of the address before this attempt.
    before: Option<Failures>,
}

/// The right to hash a password.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _queue: SemaphorePermit<'a>,
    _hashing: SemaphorePermit<'a>,
}

impl LoginPace {
    /// Begins an attempt, or returns the time until which the address has to wait.
    pub(crate) fn begin(&self, address: Option<IpAddr>, name: &str, now: Timestamp) -> Result<Attempt, Timestamp> {
        let source = Source::from(address);
        let name = if name.len() > NAME_MAX { "" } else { name };
        let (pair, source) = (Key::Pair(source, name.to_owned()), Key::Source(source));
        let mut failures = self.failures.lock();
        let mut wait: Option<Timestamp> = None;
        for key in [&pair, &source] {
            if failures.get(key).is_some_and(|known| known.last + MEMORY <= now) {
                failures.remove(key);
            }
            wait = wait.max(failures.get(key).map(|known| known.until).filter(|until| *until > now));
        }
        if let Some(until) = wait {
            return Err(until);
        }
        make_room(&mut failures, now);
        let before = failures.get(&source).copied();
        for key in [&pair, &source] {
            let known = failures.entry(key.clone()).or_insert(Failures { times: 0, last: now, until: now });
            known.times = known.times.saturating_add(1);
            known.last = now;
            known.until = now + delay(known.times, key.free());
        }
        Ok(Attempt { pair, source, before })
    }

    /// Forgives an attempt whose password was right.
    pub(crate) fn succeeded(&self, attempt: Attempt) {
        let Attempt { pair, source, before } = attempt;
        let mut failures = self.failures.lock();
        failures.remove(&pair);
        match before {
            None => failures.remove(&source),
            Some(before) => failures.insert(source, before),
        };
    }

    /// Waits for the turn to hash a password.
    pub(crate) async fn turn(&self) -> ApiResult<Turn<'_>> {
        let busy = || ApiError::new(ErrorCode::Unavailable, "too many logins at once").hint("try again in a moment");
        let queue = self.queue.try_acquire().map_err(|_| busy())?;
        let hashing = self.hashing.acquire().await.map_err(|_| busy())?;
        Ok(Turn { _queue: queue, _hashing: hashing })
    }
}

/// Returns the wait after a number of failures.
fn delay(times: u32, free: u32) -> Duration {
    match times.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(doublings) => DELAY_FIRST.saturating_mul(1 << doublings.min(16)).min(DELAY_MAX),
    }
}

/// Forgets old failures, and the oldest ones, before the memory is full.
fn make_room(failures: &mut HashMap<Key, Failures>, now: Timestamp) {
    if failures.len() < KEYS_MAX {
        return;
    }
    failures.retain(|_, known| known.last + MEMORY > now);
    if failures.len() < KEYS_MAX {
        return;
    }
    let mut times: Vec<Timestamp> = failures.values().map(|known| known.last).collect();
    times.sort_unstable();
    let oldest = times[times.len() / 4];
    failures.retain(|_, known| known.last > oldest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn after(seconds: u64) -> Timestamp {
        begun() + Duration::from_secs(seconds)
    }

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn waits_grow_and_end() {
        let pace = LoginPace::default();
        let ada = from("192.0.2.1");
        for _ in 0..FREE_OF_PAIR {
            pace.begin(ada, "ada", begun()).unwrap();
        }
        let mut now = begun();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            pace.begin(ada, "ada", now).unwrap();
            let until = now + Duration::from_secs(seconds);
            assert_eq!(pace.begin(ada, "ada", now).unwrap_err(), until);
            now = until;
        }
        pace.begin(ada, "ada", now + MEMORY).unwrap();
        pace.begin(ada, "ada", now + MEMORY).unwrap();
    }

    #[test]
    fn strangers_lock_nobody_out() {
        let pace = LoginPace::default();
        let stranger = from("198.51.100.7");
        for _ in 0..FREE_OF_PAIR + 1 {
            pace.begin(stranger, "ada", begun()).unwrap();
        }
        pace.begin(stranger, "ada", begun()).unwrap_err();
        for _ in 0..10 * FREE_OF_SOURCE {
            let own = pace.begin(from("192.0.2.1"), "ada", begun()).unwrap();
            pace.succeeded(own);
        }
        // Another user behind the stranger's address.
        pace.begin(stranger, "bob", begun()).unwrap();
    }

    #[test]
    fn guesses_of_many_names_slow_the_address() {
        let pace = LoginPace::default();
        let stranger = from("198.51.100.7");
        for number in 0..=FREE_OF_SOURCE {
            // The own account does not help to guess others.
            if let Ok(own) = pace.begin(stranger, "own", begun()) {
                pace.succeeded(own);
            }
            pace.begin(stranger, &format!("user-{number}"), begun()).unwrap();
        }
        assert_eq!(pace.begin(stranger, "one-more", begun()).unwrap_err(), after(1));
        assert_eq!(pace.begin(stranger, "own", begun()).unwrap_err(), after(1));
        pace.begin(from("198.51.100.8"), "one-more", begun()).unwrap();
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let pace = LoginPace::default();
        for number in 0..=FREE_OF_PAIR {
            pace.begin(from(&format!("2001:db8::{number}")), "ada", begun()).unwrap();
        }
        pace.begin(from("2001:db8::ffff"), "ada", begun()).unwrap_err();
        pace.begin(from("2001:db8:0:1::"), "ada", begun()).unwrap();
        assert_eq!(Source::from(from("::ffff:192.0.2.1")), Source::from(from("192.0.2.1")));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let pace = LoginPace::default();
        for number in 0..2 * KEYS_MAX {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap()));
            // Their times differ by a millisecond each.
            let _ = pace.begin(Some(address), "ada", begun() + Duration::from_millis(number as u64));
        }
        let failures = pace.failures.lock();
        assert!(failures.len() <= KEYS_MAX + 1, "{}", failures.len());
    }

    #[tokio::test]
    async fn queue_is_bounded() {
        let pace = LoginPace::default();
        let mut turns = Vec::new();
        for _ in 0..HASHED_AT_ONCE {
            turns.push(pace.turn().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..QUEUE_MAX).map(|_| Box::pin(pace.turn())).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(pace.turn().await.is_err());
        turns.pop();
        assert!(waiting.remove(0).await.is_ok());
    }
}

//! Limits password attempts where strangers reach the login: on the pages of jobs, through
//! gateways.
//!
//! After [`ATTEMPTS_MAX`] failed attempts within [`ATTEMPTS_WINDOW`] a name is refused until the
//! window is over. A success resets it. Logins at OpCenter itself are slowed by
//! [`super::login_pace`], which locks nobody out.

use std::collections::HashMap;
use std::time::Duration;

use mooring_types::Timestamp;
use parking_lot::Mutex;

/// The most failed attempts of a name within the window.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPTS_WINDOW: Duration = Duration::from_secs(60);
/// The most names to remember. Beyond it expired names are forgotten; if none has expired, no new
/// name may try.
const NAMES_MAX: usize = 10_000;

/// Failed attempts by name.
#[derive(Debug, Default)]
pub(crate) struct LoginThrottle(Mutex<HashMap<String, Failed>>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    first: Timestamp,
}

impl LoginThrottle {
    /// Counts an attempt that is about to be made, as a failed one.
    ///
    /// A name with too many attempts is refused with the time at which it may try again.
    pub(crate) fn begin(&self, name: &str, now: Timestamp) -> Result<(), Timestamp> {
        let mut names = self.0.lock();
        let is_over = |failed: &Failed| failed.first + ATTEMPTS_WINDOW <= now;
        if names.len() >= NAMES_MAX && !names.contains_key(name) {
            names.retain(|_, failed| !is_over(failed));
            if names.len() >= NAMES_MAX {
                return Err(now + ATTEMPTS_WINDOW);
            }
        }
        let failed = names.entry(name.to_owned()).or_insert(Failed { times: 0, first: now });
        if is_over(failed) {
            *failed = Failed { times: 0, first: now };
        }
        if failed.times >= ATTEMPTS_MAX {
            return Err(failed.first + ATTEMPTS_WINDOW);
        }
        failed.times += 1;
        Ok(())
    }

    /// Resets a name after a success.
    pub(crate) fn succeeded(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_attempts_are_limited_per_name() {
        let attempts = LoginThrottle::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..ATTEMPTS_MAX {
            attempts.begin("alice", begun).unwrap();
        }
        let later = begun + Duration::from_secs(59);
        assert_eq!(attempts.begin("alice", later), Err(begun + ATTEMPTS_WINDOW));
        attempts.begin("bob", later).unwrap();
        attempts.begin("alice", begun + ATTEMPTS_WINDOW).unwrap();
        for _ in 0..3 * ATTEMPTS_MAX {
            attempts.begin("bob", later).unwrap();
            attempts.succeeded("bob");
        }
    }

    #[test]
    fn invented_names_do_not_fill_the_memory() {
        let attempts = LoginThrottle::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for number in 0..NAMES_MAX {
            attempts.begin(&number.to_string(), begun).unwrap();
        }
        assert!(attempts.begin("one more", begun).is_err());
        attempts.begin("one more", begun + ATTEMPTS_WINDOW).unwrap();
        assert_eq!(attempts.0.lock().len(), 1);
    }
}

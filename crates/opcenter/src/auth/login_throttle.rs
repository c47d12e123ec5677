//! How often a password may be tried where strangers can reach the login: on the pages of jobs, through gateways.
//!
//! A name that was tried [`TRIES`] times in vain within [`WITHIN`] is not tried again until the first of these is that long ago. A success
//! forgets them. Logins at OpCenter itself are not counted: nobody is kept out of there by what strangers try elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mooring_types::Timestamp;

/// How often a name may be tried in vain.
const TRIES: u32 = 10;
/// Within how long.
const WITHIN: Duration = Duration::from_secs(60);
/// How many names are kept in mind. Beyond it, those whose time is over are forgotten; if none is, no other name may be tried.
const NAMES: usize = 10_000;

/// What was tried in vain, by name.
#[derive(Debug, Default)]
pub(crate) struct LoginThrottle(Mutex<HashMap<String, Failed>>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    first: Timestamp,
}

impl LoginThrottle {
    /// Takes note of a try that is about to be made, as one in vain.
    ///
    /// # Errors
    /// There were too many: it may not be made before the time that is given back.
    pub(crate) fn begin(&self, name: &str, now: Timestamp) -> Result<(), Timestamp> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failed: &Failed| failed.first + WITHIN <= now;
        if names.len() >= NAMES && !names.contains_key(name) {
            names.retain(|_, failed| !is_over(failed));
            if names.len() >= NAMES {
                return Err(now + WITHIN);
            }
        }
        let failed = names.entry(name.to_owned()).or_insert(Failed { times: 0, first: now });
        if is_over(failed) {
            *failed = Failed { times: 0, first: now };
        }
        if failed.times >= TRIES {
            return Err(failed.first + WITHIN);
        }
        failed.times += 1;
        Ok(())
    }

    /// The last try was a success.
    pub(crate) fn succeeded(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_tried_so_often_within_a_minute_and_others_are_not_concerned() {
        let attempts = LoginThrottle::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..TRIES {
            attempts.begin("alice", begun).unwrap();
        }
        let later = begun + Duration::from_secs(59);
        assert_eq!(attempts.begin("alice", later), Err(begun + WITHIN));
        attempts.begin("bob", later).unwrap();
        attempts.begin("alice", begun + WITHIN).unwrap();
        for _ in 0..3 * TRIES {
            attempts.begin("bob", later).unwrap();
            attempts.succeeded("bob");
        }
    }

    #[test]
    fn names_that_are_made_up_do_not_fill_the_memory() {
        let attempts = LoginThrottle::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for number in 0..NAMES {
            attempts.begin(&number.to_string(), begun).unwrap();
        }
        assert!(attempts.begin("one more", begun).is_err());
        attempts.begin("one more", begun + WITHIN).unwrap();
        assert_eq!(attempts.0.lock().unwrap().len(), 1);
    }
}

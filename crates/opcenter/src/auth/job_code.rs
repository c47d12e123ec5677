//! Codes by which a user's permission comes from OpCenter's own page to where it is used: each is
//! good for [`LIFE`] and once. Only a hash is kept, in memory.
//!
//! A code is the permission of one user's session, for one place and one origin. Its use takes more
//! than the code: the verifier whose hash the page of a job has asked with, or the certificate of
//! the gateway.

use std::collections::HashMap;
use std::time::Duration;

use mooring_types::{ConnectionId, JobId, Timestamp};
use parking_lot::Mutex;

use crate::audit::Origin;
use crate::state::token::{hash_token, new_token};

/// The time for which a code is good.
const LIFE: Duration = Duration::from_secs(60);
/// The most codes that are good at the same time.
const CODES_MAX: usize = 1000;

/// A permission of a user: a page of a job gets a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    /// The hash of the token of the user's session.
    pub(crate) session: String,
    pub(crate) job: JobId,
    /// The origin of the page, like `http://192.0.2.1:10000`.
    pub(crate) origin: String,
    /// The SHA-256 of the verifier, in hex.
    pub(crate) challenge: String,
    /// The browser in which it was allowed.
    pub(crate) browser: Origin,
}

/// A user's browser on its way to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The hash of the token of the user's session.
    pub(crate) session: String,
    pub(crate) connection: ConnectionId,
    /// The origin at which the browser asked.
    pub(crate) origin: String,
}

/// The permissions that have not been used, by the hash of their code.
#[derive(Debug)]
pub(crate) struct Codes<P>(Mutex<HashMap<String, (P, Timestamp)>>);

impl<P> Default for Codes<P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<P> Codes<P> {
    /// Makes a code; `None` if there are too many.
    pub(crate) fn make(&self, permission: P, now: Timestamp) -> Option<String> {
        let mut codes = self.0.lock();
        codes.retain(|_, (_, expires_at)| *expires_at > now);
        if codes.len() >= CODES_MAX {
            return None;
        }
        let code = new_token();
        codes.insert(hash_token(&code), (permission, now + LIFE));
        Some(code)
    }

    /// Uses a code up, whether what comes with it is right or not.
    pub(crate) fn take(&self, code: &str, now: Timestamp) -> Option<P> {
        let (permission, expires_at) = self.0.lock().remove(&hash_token(code))?;
        (expires_at > now).then_some(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_good_once_and_for_a_minute() {
        let codes = Codes::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let code = codes.make("allowed", begun).unwrap();
        assert_eq!(codes.take("another", begun), None);
        assert_eq!(codes.take(&code, begun), Some("allowed"));
        assert_eq!(codes.take(&code, begun), None);
        let late = codes.make("allowed", begun).unwrap();
        assert!(!format!("{codes:?}").contains(&late));
        assert_eq!(codes.take(&late, begun + LIFE), None);
    }

    #[test]
    fn codes_are_bounded() {
        let codes = Codes::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..CODES_MAX {
            codes.make((), begun).unwrap();
        }
        assert!(codes.make((), begun).is_none());
        assert!(codes.make((), begun + LIFE).is_some());
    }
}

//! Links that log a browser in, once: a code that is good for [`LIFE`], of which only a hash is
//! kept, in memory.
//!
//! A link belongs to the session that asked for it, and dies with it. The session that it begins
//! ends when that one would: links do not prolong a login.

use std::collections::HashMap;
use std::time::Duration;

use mooring_types::Timestamp;
use parking_lot::Mutex;

use crate::state::token::{hash_token, new_token};

/// The time for which a link is good.
const LIFE: Duration = Duration::from_secs(60);
/// The most links that are good at the same time.
const LINKS_MAX: usize = 1000;

/// The links that have not been used, by the hash of their code.
#[derive(Debug, Default)]
pub(crate) struct LoginLinks(Mutex<HashMap<String, Link>>);

#[derive(Debug)]
struct Link {
    /// The hash of the token of the session that asked for the link.
    session: String,
    expires_at: Timestamp,
}

impl LoginLinks {
    /// Makes a link of a session. Returns its code and its end; `None` if there are too many.
    pub(crate) fn make(&self, session: &str, now: Timestamp) -> Option<(String, Timestamp)> {
        let mut links = self.0.lock();
        links.retain(|_, link| link.expires_at > now);
        if links.len() >= LINKS_MAX {
            return None;
        }
        let (code, expires_at) = (new_token(), now + LIFE);
        links.insert(hash_token(&code), Link { session: session.to_owned(), expires_at });
        Some((code, expires_at))
    }

    /// Uses a link up. Returns the hash of the token of the session that asked for it.
    pub(crate) fn take(&self, code: &str, now: Timestamp) -> Option<String> {
        let link = self.0.lock().remove(&hash_token(code))?;
        (link.expires_at > now).then_some(link.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_good_once_and_for_a_minute() {
        let links = LoginLinks::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (code, expires_at) = links.make("one", begun).unwrap();
        assert_eq!(expires_at, begun + LIFE);
        assert_eq!(links.take("another", begun), None);
        assert_eq!(links.take(&code, begun).as_deref(), Some("one"));
        assert_eq!(links.take(&code, begun), None);
        let (late, _) = links.make("one", begun).unwrap();
        assert_eq!(links.take(&late, begun + LIFE), None);
        assert!(!format!("{links:?}").contains(&late));
    }

    #[test]
    fn links_are_bounded() {
        let links = LoginLinks::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..LINKS_MAX {
            links.make("one", begun).unwrap();
        }
        assert!(links.make("one", begun).is_none());
        assert!(links.make("one", begun + LIFE).is_some());
    }
}

//! Requests of programs for a session that a user confirms in a browser, as `float login --sso`
//! makes them.
//!
//! A request has a *secret*, which the program keeps; only its hash is here. It has a *code* as
//! well, which people compare: the page shows the one that the program shows. With the confirmation
//! the secret becomes the token of a session. A request is good once and for [`LIFE`]. All are in
//! memory, and end with OpCenter.

use std::collections::HashMap;
use std::time::Duration;

use mooring_types::Timestamp;
use parking_lot::Mutex;
use rand::Rng;

use super::login_pace::Source;
use crate::audit::Origin;
use crate::state::token::{hash_token, new_token};

/// The time for which a request is good.
const LIFE: Duration = Duration::from_secs(300);
/// The most requests at the same time.
const REQUESTS_MAX: usize = 1000;
/// The most of them from one address.
const REQUESTS_OF_SOURCE_MAX: usize = 10;
/// The letters of a code: none that is taken for another, and no vowel, so that no word comes up.
const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
/// The letters in each half of a code.
const HALF: usize = 4;

/// The requests that nobody has confirmed yet, by the hash of their secret.
#[derive(Debug, Default)]
pub(crate) struct LoginRequests(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    code: String,
    asked: Asked,
    is_refused: bool,
}

/// A program that asks for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The name of its machine, by its own word.
    pub(crate) machine: String,
    pub(crate) origin: Origin,
    pub(crate) expires_at: Timestamp,
}

/// A request that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) secret: String,
    pub(crate) code: String,
    pub(crate) expires_at: Timestamp,
}

/// The fate of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Waiting,
    Refused,
    /// It was confirmed, is too old, or never was.
    Gone,
}

impl LoginRequests {
    /// Makes a request; `None` if there are too many.
    pub(crate) fn make(&self, machine: &str, origin: Origin, now: Timestamp) -> Option<Made> {
        let mut requests = self.0.lock();
        requests.retain(|_, kept| kept.asked.expires_at > now);
        let source = Source::from(origin.address);
        let of_source = requests.values().filter(|kept| Source::from(kept.asked.origin.address) == source).count();
        if requests.len() >= REQUESTS_MAX || of_source >= REQUESTS_OF_SOURCE_MAX {
            return None;
        }
        let (secret, expires_at) = (new_token(), now + LIFE);
        let code = loop {
            let code = draw();
            if !requests.values().any(|kept| kept.code == code) {
                break code;
            }
        };
        let asked = Asked { machine: machine.to_owned(), origin, expires_at };
        requests.insert(hash_token(&secret), Kept { code: code.clone(), asked, is_refused: false });
        Some(Made { secret, code, expires_at })
    }

    /// Returns the request with that code, if it waits.
    pub(crate) fn find(&self, code: &str, now: Timestamp) -> Option<Asked> {
        let requests = self.0.lock();
        requests.values().find(|kept| kept.waits_under(code, now)).map(|kept| kept.asked.clone())
    }

    /// Uses a request up. Returns the hash of its secret as well.
    pub(crate) fn take(&self, code: &str, now: Timestamp) -> Option<(String, Asked)> {
        let mut requests = self.0.lock();
        let hash = requests.iter().find(|(_, kept)| kept.waits_under(code, now)).map(|(hash, _)| hash.clone())?;
        let kept = requests.remove(&hash)?;
        Some((hash, kept.asked))
    }

    /// Refuses a request. Returns what was known of it.
    pub(crate) fn refuse(&self, code: &str, now: Timestamp) -> Option<Asked> {
        let mut requests = self.0.lock();
        let kept = requests.values_mut().find(|kept| kept.waits_under(code, now))?;
        kept.is_refused = true;
        Some(kept.asked.clone())
    }

    /// Tells the program that has the secret what has become of its request.
    pub(crate) fn fate(&self, secret: &str, now: Timestamp) -> Fate {
        match self.0.lock().get(&hash_token(secret)) {
            Some(kept) if kept.asked.expires_at <= now => Fate::Gone,
            Some(kept) if kept.is_refused => Fate::Refused,
            Some(_) => Fate::Waiting,
            None => Fate::Gone,
        }
    }
}

impl Kept {
    fn waits_under(&self, code: &str, now: Timestamp) -> bool {
        self.code == code && !self.is_refused && self.asked.expires_at > now
    }
}

fn draw() -> String {
    let mut rng = rand::rng();
    let mut half = || (0..HALF).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect::<String>();
    format!("{}-{}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn from(number: u8) -> Origin {
        Origin { address: Some([192, 0, 2, number].into()), client: "float".into() }
    }

    #[test]
    fn request_is_good_once_and_for_five_minutes() {
        let requests = LoginRequests::default();
        let made = requests.make("rhine", from(1), begun()).unwrap();
        assert_eq!((made.code.len(), made.expires_at), (2 * HALF + 1, begun() + LIFE));
        assert_eq!(requests.fate(&made.secret, begun()), Fate::Waiting);
        assert_eq!(requests.find(&made.code, begun()).unwrap().machine, "rhine");
        let (hash, asked) = requests.take(&made.code, begun()).unwrap();
        assert_eq!((hash, asked.origin), (hash_token(&made.secret), from(1)));
        assert_eq!(requests.take(&made.code, begun()), None);
        assert_eq!(requests.fate(&made.secret, begun()), Fate::Gone);

        let late = requests.make("rhine", from(1), begun()).unwrap();
        assert_eq!(requests.take(&late.code, begun() + LIFE), None);
        assert_eq!(requests.fate(&late.secret, begun() + LIFE), Fate::Gone);
        assert!(!format!("{requests:?}").contains(&late.secret));
    }

    #[test]
    fn refused_request_stays_refused() {
        let requests = LoginRequests::default();
        let made = requests.make("rhine", from(1), begun()).unwrap();
        assert!(requests.refuse(&made.code, begun()).is_some());
        assert_eq!(requests.fate(&made.secret, begun()), Fate::Refused);
        assert_eq!((requests.take(&made.code, begun()), requests.find(&made.code, begun())), (None, None));
    }

    #[test]
    fn requests_are_bounded_by_address_and_in_all() {
        let requests = LoginRequests::default();
        for _ in 0..REQUESTS_OF_SOURCE_MAX {
            requests.make("rhine", from(1), begun()).unwrap();
        }
        assert!(requests.make("rhine", from(1), begun()).is_none());
        for number in 2..=u8::MAX {
            for _ in 0..REQUESTS_OF_SOURCE_MAX {
                let _ = requests.make("rhine", from(number), begun());
            }
        }
        assert_eq!(requests.0.lock().len(), REQUESTS_MAX);
        assert!(requests.make("rhine", from(1), begun() + LIFE).is_some());
    }
}

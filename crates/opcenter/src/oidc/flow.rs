//! A sign-in under way, in a cookie of the browser that began it.
//!
//! The cookie is sealed with a key of this process, by AES-256-GCM: nobody else can make or read
//! one. After a restart of OpCenter a sign-in has to begin again.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use mooring_types::Timestamp;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::new_token;
use crate::error::Error;

/// The time in which a person has to sign in at the provider.
pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// The longest path to come back to, in bytes: a browser keeps cookies of 4 kB.
const NEXT_MAX: usize = 1500;
/// The purpose of a seal, which is bound to it.
const PURPOSE: &[u8] = b"mooring oidc";

/// A sign-in under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// The text that the callback has to bring back.
    pub(super) state: String,
    /// The text that the ID token has to contain.
    pub(super) nonce: String,
    /// The secret that the code is redeemed with.
    pub(super) verifier: String,
    /// The URL of the callback.
    pub(super) redirect: String,
    /// The path of the page to open afterwards.
    pub(crate) next: String,
    begun: Timestamp,
}

impl Flow {
    pub(super) fn new(redirect: String, next: &str, begun: Timestamp) -> Self {
        let next = if next.len() > NEXT_MAX { "/" } else { next };
        Self { state: new_token(), nonce: new_token(), verifier: new_token(), redirect, next: next.to_owned(), begun }
    }

    /// Returns whether a callback is the answer to this sign-in.
    pub(super) fn has_state(&self, state: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.state.as_bytes(), state.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("next", &self.next).field("begun", &self.begun).finish_non_exhaustive()
    }
}

/// Seals and opens cookies.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    /// Draws a key.
    pub(super) fn new() -> Result<Self, Error> {
        let key = rand::rng().random::<[u8; 32]>();
        Ok(Self(RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| Error::Seal)?))
    }

    /// Returns a cookie that holds a sign-in.
    pub(super) fn close(&self, flow: &Flow) -> Option<String> {
        let mut sealed = serde_json::to_vec(flow).ok()?;
        let nonce = self.0.seal_in_place_append_tag(Aad::from(PURPOSE), &mut sealed).ok()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &sealed].concat()))
    }

    /// Returns the sign-in of a cookie, unless it is too old.
    pub(super) fn open(&self, cookie: &str, now: Timestamp) -> Option<Flow> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(PURPOSE), &mut sealed).ok()?;
        let flow: Flow = serde_json::from_slice(opened).ok()?;
        (now < flow.begun + LIFE).then_some(flow)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn cookie_opens_here_and_in_time() {
        let seal = Seal::new().unwrap();
        let flow = Flow::new("https://a/login/oidc/callback".into(), "/jobs?a=b", begun());
        let cookie = seal.close(&flow).unwrap();
        assert_eq!(seal.open(&cookie, begun()), Some(flow.clone()));
        assert_eq!(seal.open(&cookie, begun() + LIFE), None);
        assert_eq!(Seal::new().unwrap().open(&cookie, begun()), None);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&cookie).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(&BASE64_URL_SAFE_NO_PAD.encode(&changed), begun()), None, "byte {at}");
        }
        assert_eq!(seal.open("", begun()), None);
        assert!(flow.has_state(&flow.state) && !flow.has_state("") && !flow.has_state(&flow.nonce));
        assert!(!format!("{flow:?}").contains(&flow.verifier));
    }

    #[test]
    fn cookie_fits_into_a_browser() {
        let flow =
            Flow::new("https://mooring.example.org:8443/login/oidc/callback".into(), &"\"".repeat(1500), begun());
        let longest = Seal::new().unwrap().close(&Flow { next: "/".repeat(NEXT_MAX), ..flow.clone() }).unwrap();
        assert!(longest.len() < 3000, "{}", longest.len());
        assert_eq!(Flow::new(String::new(), &"/a".repeat(NEXT_MAX), begun()).next, "/");
    }
}

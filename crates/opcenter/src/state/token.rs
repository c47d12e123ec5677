//! Tokens: random secrets by which hosts, gateways and sessions are known.

use rand::Rng;
use sha2::{Digest, Sha256};

/// Returns a new token: 32 random bytes in hex.
pub(crate) fn new_token() -> String {
    hex::encode(rand::rng().random::<[u8; 32]>())
}

/// Returns the hash of a token, which is all that the database keeps of it.
pub(crate) fn hash_token(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

//! The ids of all objects, in one list.
//!
//! An id is the prefix of its kind and 21 random characters of `[0-9a-z]`, the form that users'
//! scripts know. Job ids have no prefix. 21 such characters are 108 bits, so that ids never
//! collide.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of characters of an id after its prefix.
pub const ID_LENGTH: usize = 21;

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A text that is no id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} ID")]
pub struct InvalidId {
    /// The expected kind, in the words of users.
    pub kind: &'static str,
}

fn draw(prefix: &str, rng: &mut impl Rng) -> String {
    let mut text = String::with_capacity(prefix.len() + ID_LENGTH);
    text.push_str(prefix);
    text.extend((0..ID_LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])));
    text
}

fn is_id(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == ID_LENGTH && rest.bytes().all(|byte| ALPHABET.contains(&byte)))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The prefix of this kind.
            pub const PREFIX: &'static str = $prefix;

            /// Draws a random id.
            pub fn random(rng: &mut impl Rng) -> Self {
                Self(draw($prefix, rng))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_id($prefix, text) { Ok(Self(text.to_owned())) } else { Err(InvalidId { kind: $kind }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// An API token of a user. The id is no secret, unlike the token.
    ApiTokenId, "a-", "API token";
    /// A target port of a job, connected to a port of a gateway.
    ConnectionId, "c-", "connection";
    /// A gateway.
    GatewayId, "g-", "gateway";
    /// A machine with an agent.
    HostId, "h-", "host";
    /// A token with which one host may join. The id is no secret, unlike the token.
    JoinTokenId, "t-", "join token";
    /// A job.
    JobId, "", "job";
    /// One attempt to migrate a job.
    MigrationId, "m-", "migration";
    /// A session of a user. It is no secret, unlike the session's token.
    SessionId, "s-", "session";
    /// A security group.
    SecurityGroupId, "sg-", "security group";
    /// A user.
    UserId, "u-", "user";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn a_drawn_id_reads_back(seed: u64) {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let id = GatewayId::random(&mut rng);
            prop_assert_eq!(id.as_str().len(), 2 + ID_LENGTH);
            prop_assert_eq!(id.as_str().parse::<GatewayId>(), Ok(id.clone()));
            prop_assert!(id.as_str().parse::<JobId>().is_err());
        }

        #[test]
        fn any_text_is_an_id_or_refused(text in ".{0,30}") {
            let fits = text.len() == ID_LENGTH && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
            prop_assert_eq!(text.parse::<JobId>().is_ok(), fits);
        }
    }
}

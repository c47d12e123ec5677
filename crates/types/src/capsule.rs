//! The names of capsules.
//!
//! A capsule has only its name in the capsule store. So a name is used once: it consists of the
//! job, its generation and the number of the capsule within that generation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Generation, JobId};

/// The longest name, in characters.
pub const CAPSULE_NAME_LENGTH_MAX: usize = 100;

/// The name of a capsule: 1 to 100 characters of `[A-Za-z0-9_-]`, starting with a letter or a
/// digit.
///
/// It has no dot and no slash, so that it can be part of a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CapsuleName(String);

/// A text that is no name of a capsule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid capsule name `{text}`: it has 1 to 100 letters, digits, `_` or `-` and starts with a letter or digit")]
pub struct InvalidCapsuleName {
    text: String,
}

impl CapsuleName {
    /// Returns the name of capsule `number` of this generation of a job.
    #[must_use]
    pub fn of_job(job: &JobId, generation: Generation, number: u64) -> Self {
        Self(format!("{job}-g{generation}-{number}"))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CapsuleName {
    type Err = InvalidCapsuleName;

    fn from_str(text: &str) -> Result<Self, InvalidCapsuleName> {
        let fits = text.len() <= CAPSULE_NAME_LENGTH_MAX
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidCapsuleName { text: text.chars().take(120).collect() })
        }
    }
}

impl TryFrom<String> for CapsuleName {
    type Error = InvalidCapsuleName;

    fn try_from(text: String) -> Result<Self, InvalidCapsuleName> {
        text.parse()
    }
}

impl From<CapsuleName> for String {
    fn from(name: CapsuleName) -> Self {
        name.0
    }
}

impl fmt::Display for CapsuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn the_name_of_a_jobs_capsule_reads_back_and_is_that_of_no_other(seed: u64, generation: u64, number: u64) {
            let job = JobId::random(&mut rand::rngs::StdRng::seed_from_u64(seed));
            let name = CapsuleName::of_job(&job, Generation(generation), number);
            prop_assert_eq!(name.as_str().parse(), Ok(name.clone()));
            let next = CapsuleName::of_job(&job, Generation(generation), number.wrapping_add(1));
            prop_assert_ne!(name, next);
        }

        #[test]
        fn a_name_is_safe_as_a_part_of_a_path_or_refused(text in "[a-zA-Z0-9_./ #-]{0,8}") {
            let taken = text.parse::<CapsuleName>().is_ok();
            prop_assert_eq!(taken, !text.is_empty() && !text.starts_with(['_', '-']) && !text.contains(['.', '/', ' ', '#']));
        }
    }
}

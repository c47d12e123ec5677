//! The generation number of a job: which of its lives is the current one.
//!
//! A job's first start is generation 1 and every move takes the next number. Whoever acts for a job
//! says for which generation; what was said for an older one is ignored, so a host that comes back
//! late can do no harm.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How often a job has been placed, the first time counting as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation of a job that was never moved.
    pub const FIRST: Self = Self(1);

    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

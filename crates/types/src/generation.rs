//! The generation of a job, which fences stale hosts.
//!
//! A job starts with generation 1, and each commit of a migration counts it up. Orders and reports
//! name their generation. Those of an older generation are ignored, so that a host that returns
//! late does no harm.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of times that a job was placed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation of a job that has never migrated.
    pub const FIRST: Self = Self(1);

    /// Returns the next generation.
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

//! The move of a job, phase by phase.
//!
//! `Plan → Prepare → PreCopy → Quiesce → Freeze → Transfer → Restore → Verify → Commit → Retire`
//!
//! Until the end of [`Phase::Verify`] the job belongs to its source, and whatever goes wrong ends with the source executing it. The
//! destination then puts on record that the job is here, before the job takes its first step there, and from that record on it belongs
//! to the destination. [`Phase::Commit`] is OpCenter's taking note of that. Before OpCenter tells a source to go on, it makes sure that
//! the destination has nothing left, so there is never a moment in which two hosts may execute the job.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A phase of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The destination is chosen, the job becomes Floating.
    Plan,
    /// The destination makes ready: image, root file system, namespaces.
    Prepare,
    /// Changed files go ahead while the job still executes.
    PreCopy,
    /// Gateways stop writing to the job and wait until the kernel has nothing unacknowledged.
    Quiesce,
    /// The checkpoint; the job stands still from here on.
    Freeze,
    /// The capsule streams from source to destination.
    Transfer,
    /// The destination restores the job.
    Restore,
    /// The destination shows that the job lives.
    Verify,
    /// The generation is committed: the destination owns the job, gateways go on.
    Commit,
    /// The source lets go of what it still holds.
    Retire,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 10] = [
        Self::Plan,
        Self::Prepare,
        Self::PreCopy,
        Self::Quiesce,
        Self::Freeze,
        Self::Transfer,
        Self::Restore,
        Self::Verify,
        Self::Commit,
        Self::Retire,
    ];

    /// The name of the phase's failpoint.
    #[must_use]
    pub fn failpoint(self) -> String {
        format!("move-{self}").to_lowercase()
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a move stands or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Outcome {
    /// It is under way.
    Running,
    /// It failed and is being undone: the destination first, then the source goes on.
    Undoing {
        /// The phase that failed.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// The destination executes the job.
    Succeeded,
    /// The source executes the job, as before.
    Failed {
        /// The phase that failed.
        phase: Phase,
        /// Why.
        reason: String,
    },
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub name: Phase,
    /// Its duration in seconds.
    pub seconds: f64,
}

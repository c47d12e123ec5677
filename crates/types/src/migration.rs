//! The move of a job, phase by phase.
//!
//! `Plan → Prepare → PreCopy → Quiesce → Freeze → Transfer → Restore → Verify → Commit → Retire`
//!
//! A move has two ends, and either may be the capsule store instead of a host: a suspend is a move
//! into the store, a resume one out of it, and a capsule of a running job is a suspend after which
//! the job goes on where it was. [`MigrationKind`] says which.
//!
//! Until the end of [`Phase::Verify`] the job belongs to its source, and whatever goes wrong ends
//! with the source executing it. The destination then puts on record that the job is here, before
//! the job takes its first step there, and from that record on it belongs to the destination.
//! [`Phase::Commit`] is OpCenter's taking note of that. Before OpCenter tells a source to go on, it
//! makes sure that the destination has nothing left, so there is never a moment in which two hosts
//! may execute the job.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which ends a move has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationKind {
    /// From a host to another.
    Migrate,
    /// From a host into the capsule store; no host runs the job afterwards.
    Suspend,
    /// From a host into the capsule store, while the job stays where it is.
    Snapshot,
    /// From the capsule store to a host, with every connection that the job had.
    Resume,
    /// From the capsule store to a host after the one that ran it was lost: what the job did since
    /// then is undone, so that its connections can't go on.
    Recover,
}

impl MigrationKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Migrate, Self::Suspend, Self::Snapshot, Self::Resume, Self::Recover];

    /// The noun for a migration of that kind.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Migrate => "migration",
            Self::Suspend => "suspend",
            Self::Snapshot => "snapshot",
            Self::Resume => "resume",
            Self::Recover => "recovery",
        }
    }

    /// Whether the job comes out of the capsule store.
    #[must_use]
    pub fn is_out_of_store(self) -> bool {
        matches!(self, Self::Resume | Self::Recover)
    }

    /// Whether a capsule is made.
    #[must_use]
    pub fn is_into_store(self) -> bool {
        matches!(self, Self::Suspend | Self::Snapshot)
    }
}

impl fmt::Display for MigrationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Migrate => "migrate",
            Self::Suspend => "suspend",
            Self::Snapshot => "snapshot",
            Self::Resume => "resume",
            Self::Recover => "recover",
        })
    }
}

impl std::str::FromStr for MigrationKind {
    type Err = UnknownMigrationKind;

    fn from_str(text: &str) -> Result<Self, UnknownMigrationKind> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == text).ok_or_else(|| UnknownMigrationKind(text.to_owned()))
    }
}

/// A text that is no kind of migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of migration `{0}`")]
pub struct UnknownMigrationKind(String);

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

/// The outcome of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Outcome {
    /// The migration is in progress.
    Running,
    /// The migration failed: first the destination stops, then the source continues the job.
    #[serde(alias = "undoing")]
    RollingBack {
        /// The phase that failed.
        phase: Phase,
        /// The reason.
        reason: String,
    },
    /// The destination executes the job, or its capsule is stored.
    Succeeded,
    /// The source executes the job as before.
    Failed {
        /// The phase that failed.
        phase: Phase,
        /// The reason.
        reason: String,
    },
}

impl Outcome {
    /// Whether the migration has succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Succeeded
    }

    /// Whether the migration has ended.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed { .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::RollingBack { phase, reason } => write!(f, "rolling back: {phase}: {reason}"),
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed { phase, reason } => write!(f, "failed: {phase}: {reason}"),
        }
    }
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub name: Phase,
    /// Its duration in seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_earlier_versions_is_read() {
        let stored = r#"{"state": "undoing", "phase": "Restore", "reason": "no room"}"#;
        let outcome = Outcome::RollingBack { phase: Phase::Restore, reason: "no room".into() };
        assert_eq!(serde_json::from_str::<Outcome>(stored).unwrap(), outcome);
        assert_eq!(outcome.to_string(), "rolling back: Restore: no room");
    }
}

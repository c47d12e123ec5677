//! The migration of a job, phase by phase.
//!
//! `Plan → Prepare → PreCopy → Quiesce → Freeze → Transfer → Restore → Verify → Commit → Retire`
//!
//! Each end of a migration is a host or the capsule store. A suspend is a migration into the store,
//! and a resume is one out of it. A snapshot is a suspend after which the job continues on its
//! host. [`MigrationKind`] names the ends.
//!
//! Until the end of [`Phase::Verify`] the job belongs to its source: after a failure the source
//! executes it. The destination then records that it has the job, before the job takes its first
//! step there. From that record on the job belongs to the destination; [`Phase::Commit`] is
//! OpCenter's record of that. OpCenter lets a source continue only when the destination has nothing
//! left of the job. So there is never a moment in which two hosts may execute it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ends of a migration.
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
    /// From the capsule store to a host, after the job's host was lost. The job's work since the
    /// snapshot is lost, and its connections can't continue.
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

    /// Returns `true` for a migration out of the capsule store.
    #[must_use]
    pub fn is_out_of_store(self) -> bool {
        matches!(self, Self::Resume | Self::Recover)
    }

    /// Returns `true` for a migration that makes a capsule.
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
    /// The destination prepares image, root file system and namespaces.
    Prepare,
    /// The source sends changed files while the job executes.
    PreCopy,
    /// Gateways stop writing to the job and wait until the kernel has nothing unacknowledged.
    Quiesce,
    /// The source freezes and checkpoints the job.
    Freeze,
    /// The capsule streams from source to destination.
    Transfer,
    /// The destination restores the job.
    Restore,
    /// The destination checks that the restored job is alive.
    Verify,
    /// OpCenter commits the generation: the destination owns the job, gateways open their gates.
    Commit,
    /// The source removes what it still has of the job.
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
        format!("migration-{self}").to_lowercase()
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
    /// Returns `true` after a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Succeeded
    }

    /// Returns `true` once the migration has ended.
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

/// The duration of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub name: Phase,
    /// The duration in seconds.
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

//! The 19 statuses of a job, and who may do what when.
//!
//! ```text
//!  Submitted ─► Initializing ─► Starting ─► Executing ◄──────────────► Floating     (a move; back to Executing either way)
//!      │                            │           │  ▲
//!      ▼                            ▼           │  └─ Resuming ◄─ Suspended ◄─ Suspending
//!  NoAvailableHost           FailToExecute      ├─► Completed · FailToComplete · Timedout · CheckpointFailed
//!                                               └─► Cancelling ─► Cancelled      (from every status that is not final)
//! ```
//!
//! A final status is never left. [`JobStatus::may_become`] is the whole diagram; the store refuses
//! every other change.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The status of a job, by the names that users' scripts know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Accepted, no host yet.
    Submitted,
    /// A host is being prepared.
    Initializing,
    /// The container is being made and started.
    Starting,
    /// Its process runs.
    Executing,
    /// It is being moved to another host.
    Floating,
    /// It is being checkpointed to be suspended.
    Suspending,
    /// Its state is in the capsule store and no host runs it.
    Suspended,
    /// It is being restored from the capsule store.
    Resuming,
    /// A capsule is being taken while it runs.
    Capturing,
    /// It ended with exit code 0.
    Completed,
    /// It is being cancelled.
    Cancelling,
    /// A user ended it.
    Cancelled,
    /// It ran, and ended with another exit code than 0 or was lost.
    FailToComplete,
    /// It could not be started.
    FailToExecute,
    /// A checkpoint failed and the job could not go on.
    CheckpointFailed,
    /// It ran longer than its time limit.
    Timedout,
    /// No host could be had for it.
    NoAvailableHost,
    /// A licence is missing; kept for compatibility, never given.
    WaitingForLicense,
    /// Its host is not heard from.
    Unknown,
}

/// The groups in which statuses are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// It has yet to run.
    Pending,
    /// It runs, or will again without anyone's asking for it anew.
    Running,
    /// It ended well.
    Success,
    /// It ended otherwise.
    Failed,
}

/// What a user can ask of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Move it to another host.
    Migrate,
    /// Checkpoint it to the capsule store and free its host.
    Suspend,
    /// Have it execute again from the capsule store.
    Resume,
    /// Take a capsule of it while it goes on.
    Snapshot,
    /// End it.
    Cancel,
    /// Connect it to a gateway.
    Connect,
}

/// A request that the job's status does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {status} can't {action}")]
pub struct Refused {
    /// The status.
    pub status: JobStatus,
    /// What was asked for.
    pub action: Action,
}

impl Refused {
    /// What can be done instead.
    #[must_use]
    pub fn possible(&self) -> &'static str {
        match (self.action, self.status) {
            (_, status) if status.is_final() => "the job has ended; submit it again",
            (Action::Migrate, JobStatus::Floating) => "wait for the move under way to end: `float show` tells",
            (Action::Migrate | Action::Snapshot, JobStatus::Suspended) => "resume it first: `float resume`",
            (Action::Suspend, JobStatus::Suspended) => "nothing is left to do: `float resume` has it go on",
            (Action::Resume, JobStatus::Executing) => "nothing is left to do: it executes",
            (Action::Resume, JobStatus::Suspending) => "wait until it is Suspended: `float show` tells",
            (Action::Resume, JobStatus::Resuming) => "it is on its way: `float show` tells",
            _ => "wait until it is Executing: `float show` tells",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Migrate => "be migrated",
            Self::Suspend => "be suspended",
            Self::Resume => "be resumed",
            Self::Snapshot => "have a capsule taken",
            Self::Cancel => "be cancelled",
            Self::Connect => "be connected to a gateway",
        })
    }
}

impl JobStatus {
    /// All statuses.
    pub const ALL: [Self; 19] = [
        Self::Submitted,
        Self::Initializing,
        Self::Starting,
        Self::Executing,
        Self::Floating,
        Self::Suspending,
        Self::Suspended,
        Self::Resuming,
        Self::Capturing,
        Self::Completed,
        Self::Cancelling,
        Self::Cancelled,
        Self::FailToComplete,
        Self::FailToExecute,
        Self::CheckpointFailed,
        Self::Timedout,
        Self::NoAvailableHost,
        Self::WaitingForLicense,
        Self::Unknown,
    ];

    /// The group it is shown in.
    #[must_use]
    pub fn category(self) -> Category {
        match self {
            Self::Submitted | Self::Initializing | Self::WaitingForLicense => Category::Pending,
            Self::Starting
            | Self::Executing
            | Self::Floating
            | Self::Suspending
            | Self::Suspended
            | Self::Resuming
            | Self::Capturing
            | Self::Cancelling
            | Self::Unknown => Category::Running,
            Self::Completed => Category::Success,
            Self::Cancelled
            | Self::FailToComplete
            | Self::FailToExecute
            | Self::CheckpointFailed
            | Self::Timedout
            | Self::NoAvailableHost => Category::Failed,
        }
    }

    /// Whether the job has ended and stays so.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self.category(), Category::Success | Category::Failed)
    }

    /// Whether a job may go from this status to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use JobStatus as S;
        if self == next || self.is_final() {
            return false;
        }
        match next {
            S::Submitted | S::WaitingForLicense => false,
            S::Initializing | S::NoAvailableHost => matches!(self, S::Submitted | S::WaitingForLicense | S::Resuming),
            S::Starting => matches!(self, S::Initializing),
            S::Executing => {
                matches!(self, S::Starting | S::Floating | S::Suspending | S::Resuming | S::Capturing | S::Unknown)
            }
            S::Floating | S::Suspending | S::Capturing => matches!(self, S::Executing),
            S::Suspended => matches!(self, S::Suspending | S::Resuming),
            S::Resuming => matches!(self, S::Suspended | S::Unknown),
            S::FailToExecute => matches!(self, S::Submitted | S::Initializing | S::Starting),
            S::Cancelling => true,
            S::Cancelled => matches!(self, S::Cancelling),
            S::Completed | S::FailToComplete | S::Timedout | S::Unknown => {
                !matches!(self, S::Submitted | S::Initializing | S::Cancelling | S::WaitingForLicense)
            }
            S::CheckpointFailed => matches!(self, S::Floating | S::Suspending | S::Capturing),
        }
    }

    /// Whether whoever runs a job elsewhere may declare it to be so.
    #[must_use]
    pub fn may_be_declared(self) -> bool {
        use JobStatus as S;
        matches!(
            self,
            S::Submitted
                | S::Starting
                | S::Executing
                | S::Floating
                | S::Suspended
                | S::Resuming
                | S::Completed
                | S::Cancelled
                | S::FailToComplete
        )
    }

    /// Whether a user may ask for `action`.
    ///
    /// # Errors
    /// The status does not allow it.
    pub fn allows(self, action: Action) -> Result<(), Refused> {
        let allowed = match action {
            Action::Migrate | Action::Suspend | Action::Snapshot => self == Self::Executing,
            Action::Resume => self == Self::Suspended,
            Action::Cancel => !self.is_final() && self != Self::Cancelling,
            Action::Connect => !self.is_final() && self != Self::Cancelling,
        };
        if allowed { Ok(()) } else { Err(Refused { status: self, action }) }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for JobStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let found = Self::ALL.into_iter().find(|status| status.to_string() == text);
        found.ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// A text that is none of the 19 statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown job status `{0}`")]
pub struct UnknownStatus(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status() -> impl Strategy<Value = JobStatus> {
        prop::sample::select(JobStatus::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_final_status_is_never_left(from in status(), to in status()) {
            if from.is_final() {
                prop_assert!(!from.may_become(to));
                prop_assert!(from.allows(Action::Cancel).is_err());
            }
        }

        #[test]
        fn every_walk_ends_or_can_be_cancelled(steps in prop::collection::vec(status(), 0..30)) {
            let mut now = JobStatus::Submitted;
            for next in steps {
                if now.may_become(next) {
                    now = next;
                }
            }
            let cancellable = now.allows(Action::Cancel).is_ok() && now.may_become(JobStatus::Cancelling);
            prop_assert!(now.is_final() || now == JobStatus::Cancelling || cancellable);
        }

        #[test]
        fn a_move_starts_from_executing_and_returns_there(from in status()) {
            prop_assert_eq!(from.may_become(JobStatus::Floating), from.allows(Action::Migrate).is_ok());
            prop_assert!(JobStatus::Floating.may_become(JobStatus::Executing));
        }

        #[test]
        fn what_is_allowed_can_be_begun(from in status()) {
            for (action, next) in [
                (Action::Suspend, JobStatus::Suspending),
                (Action::Resume, JobStatus::Resuming),
                (Action::Snapshot, JobStatus::Capturing),
                (Action::Cancel, JobStatus::Cancelling),
            ] {
                match from.allows(action) {
                    Ok(()) => prop_assert!(from.may_become(next)),
                    Err(refused) => prop_assert!(!refused.possible().is_empty()),
                }
            }
        }

        #[test]
        fn a_status_reads_back(status in status()) {
            prop_assert_eq!(status.to_string().parse::<JobStatus>(), Ok(status));
            prop_assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }

    #[test]
    fn every_status_can_be_reached() {
        let mut reached = vec![JobStatus::Submitted, JobStatus::WaitingForLicense];
        loop {
            let more: Vec<JobStatus> = JobStatus::ALL
                .into_iter()
                .filter(|next| !reached.contains(next) && reached.iter().any(|from| from.may_become(*next)))
                .collect();
            if more.is_empty() {
                break;
            }
            reached.extend(more);
        }
        assert_eq!(reached.len(), JobStatus::ALL.len());
    }
}

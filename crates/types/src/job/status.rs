//! The 19 statuses of a job, the changes between them, and the actions that each allows.
//!
//! ```text
//! Submitted ─► Initializing ─► Starting ─► Executing ◄─► Floating (between hosts)
//!     │                            │          │  ▲
//!     ▼                            ▼          │  └─ Resuming ◄─ Suspended ◄─ Suspending
//! NoAvailableHost          FailToExecute      ├─► Completed · FailToComplete · Timedout
//!                                             └─► Cancelling ─► Cancelled
//! ```
//!
//! Every status that is not final may become Cancelling. A final status never changes.
//! [`JobStatus::may_become`] is the whole diagram, and the store refuses every other change.
//!
//! The list is a part of the compatible interface that users' scripts know. `CheckpointFailed` and
//! `WaitingForLicense` are on it and never occur: a job whose checkpoint fails continues, and
//! Mooring has no licences.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Accepted, without a host.
    Submitted,
    /// Assigned to a host, which prepares for it.
    Initializing,
    /// The host makes and starts the container.
    Starting,
    /// Its processes execute.
    Executing,
    /// It migrates to another host.
    Floating,
    /// It migrates into the capsule store.
    Suspending,
    /// It is in the capsule store, on no host.
    Suspended,
    /// It migrates out of the capsule store.
    Resuming,
    /// A snapshot is made.
    Capturing,
    /// It ended with exit code 0.
    Completed,
    /// Its processes are being ended.
    Cancelling,
    /// A user ended it.
    Cancelled,
    /// It ended with another exit code than 0, or was lost.
    FailToComplete,
    /// It could not be started.
    FailToExecute,
    /// Never occurs: a job whose checkpoint fails continues.
    CheckpointFailed,
    /// It ran longer than its time limit.
    Timedout,
    /// No host had room for it.
    NoAvailableHost,
    /// Never occurs: there are no licences.
    WaitingForLicense,
    /// Its host is unreachable.
    Unknown,
}

/// The category of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// The job has not started.
    Pending,
    /// The job executes, or may execute again.
    Running,
    /// The job has ended successfully.
    Success,
    /// The job has ended in another way.
    Failed,
}

impl Category {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Running, Self::Success, Self::Failed];
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        })
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;

    /// Parses a name in any case.
    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        let found = Self::ALL.into_iter().find(|category| category.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| UnknownCategory(text.chars().take(80).collect()))
    }
}

/// A text that is none of the categories.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown category `{0}`")]
pub struct UnknownCategory(String);

impl UnknownCategory {
    /// Returns what to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("the categories are {}", Category::ALL.map(|category| category.to_string()).join(", "))
    }
}

/// An action that a user requests for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Migrate it to another host.
    Migrate,
    /// Migrate it into the capsule store.
    Suspend,
    /// Migrate it out of the capsule store.
    Resume,
    /// Make a snapshot.
    Snapshot,
    /// End it.
    Cancel,
    /// Connect it to a gateway.
    Connect,
}

/// An action that the status of a job does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {status} can't {action}")]
pub struct Refused {
    pub status: JobStatus,
    pub action: Action,
}

impl Refused {
    /// Returns what the user can do instead.
    #[must_use]
    pub fn possible(&self) -> &'static str {
        match (self.action, self.status) {
            (_, status) if status.is_final() => "the job has ended; submit it again",
            (Action::Migrate, JobStatus::Floating) => "wait until the present migration has ended: see `float show`",
            (Action::Migrate | Action::Snapshot, JobStatus::Suspended) => "resume it first: `float resume`",
            (Action::Suspend, JobStatus::Suspended) => "it is suspended already; `float resume` continues it",
            (Action::Resume, JobStatus::Executing) => "it executes already",
            (Action::Resume, JobStatus::Suspending) => "wait until it is Suspended: see `float show`",
            (Action::Resume, JobStatus::Resuming) => "it is being resumed: see `float show`",
            _ => "wait until it is Executing: see `float show`",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Migrate => "be migrated",
            Self::Suspend => "be suspended",
            Self::Resume => "be resumed",
            Self::Snapshot => "have a snapshot made",
            Self::Cancel => "be cancelled",
            Self::Connect => "be connected to a gateway",
        })
    }
}

impl JobStatus {
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

    /// Returns the category of the status.
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

    /// Says whether the status is final.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self.category(), Category::Success | Category::Failed)
    }

    /// Says whether a job may change from this status to `next`.
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

    /// Says whether the system that runs an external job may report this status.
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

    /// Checks that the status allows an action.
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

//! What a job is, the 19 statuses it can have, and who may do what when.
//!
//! ```text
//!  Submitted ─► Initializing ─► Starting ─► Executing ◄──────────────► Floating     (a move; back to Executing either way)
//!      │                            │           │  ▲
//!      ▼                            ▼           │  └─ Resuming ◄─ Suspended ◄─ Suspending
//!  NoAvailableHost           FailToExecute      ├─► Completed · FailToComplete · Timedout · CheckpointFailed
//!                                               └─► Cancelling ─► Cancelled      (from every status that is not final)
//! ```
//!
//! A final status is never left. [`JobStatus::may_become`] is the whole diagram; the store refuses every other change.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::host::Resources;
use crate::port::{InvalidPort, parse_port};
use crate::{Name, Port};

/// What a user asked to have run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// The name that its users see.
    pub name: Name,
    /// Where its root file system comes from.
    pub image: Image,
    /// The command and its arguments; empty for the image's own.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The working directory inside the container.
    pub working_dir: PathBuf,
    /// Its share of a host.
    pub resources: Resources,
    /// The ports it publishes.
    pub publish: Vec<Publish>,
    /// What follows `http://address:port` in an access URL, with path and token; `/` where nothing is known.
    pub access_path: String,
}

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Image {
    /// `dir:/path`: a directory of the host, read-only under the job's own upper layer.
    Directory(PathBuf),
    /// `oci:/path`: an OCI image layout in a directory.
    Layout(PathBuf),
    /// `oci-archive:/path`: an OCI image layout in a tar file.
    Archive(PathBuf),
    /// `external`: somebody else's, whom the job belongs to.
    External,
}

/// How [`Image::External`] is written.
const EXTERNAL: &str = "external";

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image `{text}`: write it as dir:/path, oci:/path or oci-archive:/path.tar")]
pub struct InvalidImage {
    text: String,
}

impl FromStr for Image {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        if text == EXTERNAL {
            return Ok(Self::External);
        }
        let refused = || InvalidImage { text: text.chars().take(200).collect() };
        let (scheme, path) = text.split_once(':').ok_or_else(refused)?;
        let path = PathBuf::from(path);
        let stays = !path.components().any(|part| part == std::path::Component::ParentDir);
        match scheme {
            _ if !path.is_absolute() || !stays => Err(refused()),
            "dir" => Ok(Self::Directory(path)),
            "oci" => Ok(Self::Layout(path)),
            "oci-archive" => Ok(Self::Archive(path)),
            _ => Err(refused()),
        }
    }
}

impl TryFrom<String> for Image {
    type Error = InvalidImage;

    fn try_from(text: String) -> Result<Self, InvalidImage> {
        text.parse()
    }
}

impl From<Image> for String {
    fn from(image: Image) -> Self {
        image.to_string()
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::Archive(path) => write!(f, "oci-archive:{}", path.display()),
            Self::External => f.write_str(EXTERNAL),
        }
    }
}

/// A port of the container that others may reach, written `host:container` or as one number for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The port of the host that carries the job, by which gateways know it as well.
    pub host: Port,
    /// The port that the job listens on.
    pub container: Port,
}

impl FromStr for Publish {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        let (host, container) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { host: parse_port(host)?, container: parse_port(container)? })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.container)
    }
}

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
            (Action::Migrate, JobStatus::Suspended) => "resume it first",
            _ => "wait until it is Executing: `float show` tells",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Migrate => "be migrated",
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
            S::Resuming => matches!(self, S::Suspended),
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
            Action::Migrate => self == Self::Executing,
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

    #[test]
    fn images_are_checked() {
        for good in ["dir:/", "oci:/images/x", "oci-archive:/x.tar", "external"] {
            assert_eq!(good.parse::<Image>().unwrap().to_string(), good);
        }
        for bad in ["", "ubuntu", "dir:", "dir:relative", "dir:/a/../b", "docker://x"] {
            assert!(bad.parse::<Image>().is_err(), "{bad}");
        }
    }
}

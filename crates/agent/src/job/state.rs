//! The state of a job on this host, with the handles that only a running agent has.
//!
//! [`LocalState::recorded`] is the part that is written to disk; the diagram is in
//! [`record`](super::record).

use mooring_linux::process::ProcessId;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, MigrationId};
use nix::libc::SIGKILL;

use super::record::{RecordedOutbound, RecordedState, Release};
use crate::migrate::memory::encoder::BaseSnapshot;
use crate::migrate::stream::listener::ExpectedConnection;
use crate::migrate::stream::sender::CapsuleSender;
use crate::runtime::job_dir::JobDir;
use crate::runtime::monitor::{self, End};
use crate::runtime::own;

/// The state of a job on this host.
#[derive(Debug)]
pub(crate) enum LocalState {
    /// Nothing is held, and nothing is on disk.
    Absent,
    Starting,
    Running(Running),
    Exited {
        code: i32,
    },
    FailedToStart {
        reason: String,
    },
    Lost {
        reason: String,
    },
    Freezing {
        process: ProcessId,
        migration: MigrationId,
        base: Option<BaseSnapshot>,
    },
    Frozen {
        /// The first process, where the processes are still here.
        process: Option<ProcessId>,
        migration: MigrationId,
        release: Release,
        base: Option<BaseSnapshot>,
    },
    Receiving {
        migration: MigrationId,
        inbound: Inbound,
    },
    ReceiveFailed {
        migration: MigrationId,
        phase: Phase,
        reason: String,
    },
    Restored {
        migration: MigrationId,
        process: ProcessId,
    },
    Parked,
    Gone,
}

/// A job that executes.
#[derive(Debug)]
pub(crate) struct Running {
    /// The first process of the job.
    pub(crate) process: ProcessId,
    pub(crate) outbound: Outbound,
    /// The snapshot that the next one may build on. It is lost with the agent: the next snapshot is
    /// full then.
    pub(crate) base: Option<BaseSnapshot>,
}

/// A migration away from this host while the job executes.
#[derive(Debug)]
pub(crate) enum Outbound {
    None,
    /// The files are sent, over a connection on which the checkpoint follows.
    PreCopied {
        migration: MigrationId,
        sender: Box<CapsuleSender>,
    },
    SnapshotTaken(MigrationId),
    Stored {
        migration: MigrationId,
        stored_bytes: u64,
        base: Option<CapsuleName>,
    },
    Failed {
        migration: MigrationId,
        phase: Phase,
        reason: String,
    },
}

/// A migration to this host before the job is restored.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// Image, job directory and network are made ready; from the store, the capsule is read as
    /// well.
    Preparing,
    /// The source may connect.
    Expected(ExpectedConnection),
    /// The job is restored.
    Restoring,
}

impl Running {
    /// A job that no migration concerns.
    pub(crate) fn new(process: ProcessId, base: Option<BaseSnapshot>) -> Self {
        Self { process, outbound: Outbound::None, base }
    }
}

impl LocalState {
    /// The part of the state that is written to disk.
    pub(crate) fn recorded(&self) -> RecordedState {
        match self {
            Self::Absent => RecordedState::Absent,
            Self::Starting => RecordedState::Starting,
            Self::Running(running) => {
                RecordedState::Running { process: running.process, outbound: running.outbound.recorded() }
            }
            Self::Exited { code } => RecordedState::Exited { code: *code },
            Self::FailedToStart { reason } => RecordedState::FailedToStart { reason: reason.clone() },
            Self::Lost { reason } => RecordedState::Lost { reason: reason.clone() },
            Self::Freezing { process, migration, base: _ } => {
                RecordedState::Freezing { process: *process, migration: migration.clone() }
            }
            Self::Frozen { process, migration, release, base: _ } => {
                RecordedState::Frozen { process: *process, migration: migration.clone(), release: release.clone() }
            }
            Self::Receiving { migration, inbound: _ } => RecordedState::Receiving { migration: migration.clone() },
            Self::ReceiveFailed { migration, phase, reason } => {
                RecordedState::ReceiveFailed { migration: migration.clone(), phase: *phase, reason: reason.clone() }
            }
            Self::Restored { migration, process } => {
                RecordedState::Restored { migration: migration.clone(), process: *process }
            }
            Self::Parked => RecordedState::Parked,
            Self::Gone => RecordedState::Gone,
        }
    }

    /// The first process of a job that is being frozen or is frozen, where it lives.
    pub(crate) fn frozen_process(&self) -> Option<ProcessId> {
        match self {
            Self::Freezing { process, .. } => Some(*process).filter(ProcessId::lives),
            Self::Frozen { process, .. } => *process,
            Self::Absent
            | Self::Starting
            | Self::Running(_)
            | Self::Exited { .. }
            | Self::FailedToStart { .. }
            | Self::Lost { .. }
            | Self::Receiving { .. }
            | Self::ReceiveFailed { .. }
            | Self::Restored { .. }
            | Self::Parked
            | Self::Gone => None,
        }
    }

    /// Takes the snapshot that the next one may build on, where the state has one.
    pub(crate) fn take_base(&mut self) -> Option<BaseSnapshot> {
        match self {
            Self::Running(Running { base, .. }) | Self::Freezing { base, .. } | Self::Frozen { base, .. } => {
                base.take()
            }
            Self::Absent
            | Self::Starting
            | Self::Exited { .. }
            | Self::FailedToStart { .. }
            | Self::Lost { .. }
            | Self::Receiving { .. }
            | Self::ReceiveFailed { .. }
            | Self::Restored { .. }
            | Self::Parked
            | Self::Gone => None,
        }
    }
}

impl Outbound {
    /// The part of it that is written to disk.
    pub(crate) fn recorded(&self) -> RecordedOutbound {
        match self {
            Self::None => RecordedOutbound::None,
            Self::PreCopied { migration, sender: _ } => RecordedOutbound::PreCopied(migration.clone()),
            Self::SnapshotTaken(migration) => RecordedOutbound::SnapshotTaken(migration.clone()),
            Self::Stored { migration, stored_bytes, base } => RecordedOutbound::Stored {
                migration: migration.clone(),
                stored_bytes: *stored_bytes,
                base: base.clone(),
            },
            Self::Failed { migration, phase, reason } => {
                RecordedOutbound::Failed { migration: migration.clone(), phase: *phase, reason: reason.clone() }
            }
        }
    }
}

/// The agent's part in the end of a job whose first process is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentsPart {
    /// Nothing.
    None,
    /// A checkpoint, at whose end CRIU kills the processes.
    Checkpoint,
}

/// Returns the exit code of a job whose first process is gone; `None` where it was not the job that
/// ended.
pub(crate) async fn exit_code(job_dir: &JobDir, part: AgentsPart) -> Option<i32> {
    match (monitor::end(job_dir).await, part) {
        (Some(End::Killed(SIGKILL)), AgentsPart::Checkpoint) => None,
        (Some(end), _) => Some(end.code()),
        (None, _) => own::exit_code(job_dir),
    }
}

/// Returns the state of a job whose first process is gone.
pub(crate) async fn end_of(job_dir: &JobDir, part: AgentsPart) -> LocalState {
    match exit_code(job_dir, part).await {
        Some(code) => LocalState::Exited { code },
        None => LocalState::Lost {
            reason: "its first process is gone without an exit code: it was killed, or its host was restarted".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use mooring_types::{Generation, JobId};

    use super::*;

    #[tokio::test]
    async fn exit_codes_come_from_the_monitor_or_from_the_shell_of_an_earlier_agent() {
        let world = tempfile::tempdir().unwrap();
        let job = JobId::random(&mut rand::rng());
        let job_dir = JobDir::new(world.path(), "mooring", "m", &job, Generation(1), Ipv4Addr::LOCALHOST);
        assert_eq!(exit_code(&job_dir, AgentsPart::None).await, None);
        fs::create_dir_all(job_dir.upper().join(".mooring")).unwrap();
        fs::write(job_dir.upper().join(".mooring/rc"), "3\n").unwrap();
        assert_eq!(exit_code(&job_dir, AgentsPart::None).await, Some(3));
        fs::write(job_dir.end(), "exited 5\n").unwrap();
        assert_eq!(exit_code(&job_dir, AgentsPart::Checkpoint).await, Some(5));
        fs::write(job_dir.end(), "killed 9\n").unwrap();
        assert_eq!(exit_code(&job_dir, AgentsPart::None).await, Some(137));
        assert_eq!(exit_code(&job_dir, AgentsPart::Checkpoint).await, None, "CRIU has killed it");
    }
}

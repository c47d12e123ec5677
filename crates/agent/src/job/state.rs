//! The state of a job on this host, with the handles that only a running agent has.
//!
//! [`LocalState::recorded`] is the part that is written to disk; the diagram is in
//! [`record`](super::record).

use mooring_linux::process::ProcessId;
use mooring_types::migration::Phase;
use mooring_types::{CapsuleName, MigrationId};

use super::record::{RecordedOutbound, RecordedState, Release};
use crate::migrate::memory::encoder::BaseSnapshot;
use crate::migrate::stream::listener::ExpectedConnection;
use crate::migrate::stream::sender::CapsuleSender;
use crate::runtime::job_dir::JobDir;
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

/// Returns the state of a job whose first process is gone.
pub(crate) fn end_of(job_dir: &JobDir) -> LocalState {
    match own::exit_code(job_dir) {
        Some(code) => LocalState::Exited { code },
        None => LocalState::Lost {
            reason: "its first process is gone without an exit code: it was killed, or its host was restarted".into(),
        },
    }
}

//! The record of a job on disk: the part of its state that outlives the agent.
//!
//! ```text
//!  Absent ─► Starting ─► Running ─► Exited
//!                          │ ▲
//!                          ▼ │ rolled back
//!                       Freezing ─► Frozen ─► (retired) Gone
//!
//!  Absent ─► Receiving ─► Restored ─► Running
//!                └─► ReceiveFailed ─► (aborted) Gone
//!
//!  Running ─► Parked (the host was stopped) ─► Running
//! ```
//!
//! The record is written before each step, so after a crash it may lag by one step;
//! [`recovery`](super::recovery) finds out whether that step completed. `Restored` is the point of
//! no return of a migration: it is on disk before the job takes its first step here.
//!
//! The names in the file are those that agents have written from the first version on.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mooring_api::watch::{JobObservation, JobState, Unaccepted};
use mooring_linux::process::ProcessId;
use mooring_ops::file::{self, Durability, Mode};
use mooring_types::job::JobSpec;
use mooring_types::migration::{Phase, PhaseTime};
use mooring_types::{CapsuleName, Generation, JobId, MigrationId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A job on this host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) job: JobId,
    pub(crate) generation: Generation,
    pub(crate) address: Ipv4Addr,
    pub(crate) spec: JobSpec,
    #[serde(rename = "held")]
    pub(crate) state: RecordedState,
    /// The time that each phase of the current migration took on this host.
    pub(crate) phases: Vec<PhaseTime>,
    pub(crate) bytes_moved: u64,
    /// The connections that the job lacks since it was restored here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unaccepted: Option<Unaccepted>,
    /// The differences that the last restore has made, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<String>,
    /// OpCenter's proof that the job was given to this host; empty until then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) grant: String,
}

/// The state of a job, without the handles of a running agent: the projection of
/// [`LocalState`](super::state::LocalState) that is written to disk and decided upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub(crate) enum RecordedState {
    /// There is no record: this state is never written.
    #[serde(skip)]
    Absent,
    Starting,
    Running {
        #[serde(rename = "init")]
        process: ProcessId,
        #[serde(rename = "attempt")]
        outbound: RecordedOutbound,
    },
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
        #[serde(rename = "init")]
        process: ProcessId,
        migration: MigrationId,
    },
    Frozen {
        /// The first process, where the checkpoint left the processes frozen; those of an earlier
        /// agent's checkpoint have ended.
        #[serde(rename = "init", default)]
        process: Option<ProcessId>,
        migration: MigrationId,
        release: Release,
    },
    #[serde(rename = "arriving")]
    Receiving {
        migration: MigrationId,
    },
    #[serde(rename = "arrivalFailed")]
    ReceiveFailed {
        migration: MigrationId,
        phase: Phase,
        reason: String,
    },
    Restored {
        migration: MigrationId,
        #[serde(rename = "init")]
        process: ProcessId,
    },
    /// Checkpointed on disk because the host was stopped; executes again when it is started.
    Parked,
    Gone,
}

/// The progress of a migration away from this host while the job executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RecordedOutbound {
    /// No migration is under way.
    None,
    /// The files of the job are at the destination.
    PreCopied(MigrationId),
    /// The job was checkpointed and executes again; its capsule is being stored.
    SnapshotTaken(MigrationId),
    /// The capsule is in the store.
    Stored {
        migration: MigrationId,
        stored_bytes: u64,
        /// The snapshot that the capsule builds on.
        #[serde(default)]
        base: Option<CapsuleName>,
    },
    /// The migration failed, and the job executes.
    Failed { migration: MigrationId, phase: Phase, reason: String },
}

/// The progress of a frozen job's capsule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Release {
    /// The destination lacks the seal, without which it can restore nothing.
    Withheld,
    /// The seal will never be sent.
    Refused { phase: Phase, reason: String },
    /// The seal is being sent, or was.
    Given,
    /// The destination has confirmed the whole capsule.
    Confirmed,
    /// The capsule is in the store.
    Stored { stored_bytes: u64 },
}

impl RecordedState {
    /// The state in the words of a log line: "a job that is …".
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "at its end",
            Self::FailedToStart { .. } => "not started",
            Self::Lost { .. } => "lost",
            Self::Freezing { .. } => "being frozen",
            Self::Frozen { .. } => "frozen",
            Self::Receiving { .. } => "being received",
            Self::ReceiveFailed { .. } => "not received",
            Self::Restored { .. } => "restored",
            Self::Parked => "parked",
            Self::Gone => "gone",
        }
    }

    /// The state as OpCenter is told it; `None` when nothing is held.
    fn observed(&self) -> Option<JobState> {
        Some(match self.clone() {
            Self::Absent => return None,
            Self::Starting | Self::Parked => JobState::Starting,
            Self::Running { outbound: RecordedOutbound::None, .. } => JobState::Running,
            Self::Running { outbound: RecordedOutbound::PreCopied(migration), .. }
            | Self::Freezing { migration, .. } => JobState::PreCopied { migration },
            Self::Running { outbound: RecordedOutbound::SnapshotTaken(migration), .. } => {
                JobState::SnapshotTaken { migration }
            }
            Self::Running { outbound: RecordedOutbound::Stored { migration, stored_bytes, base }, .. } => {
                JobState::Stored { migration, stored_bytes, base }
            }
            Self::Running { outbound: RecordedOutbound::Failed { migration, phase, reason }, .. } => {
                JobState::MigrateOutFailed { migration, phase, reason }
            }
            Self::Exited { code } => JobState::Exited { code },
            Self::FailedToStart { reason } => JobState::FailedToStart { reason },
            Self::Lost { reason } => JobState::Lost { reason },
            Self::Frozen { migration, release: Release::Withheld | Release::Given, .. } => {
                JobState::Frozen { migration }
            }
            Self::Frozen { migration, release: Release::Refused { phase, reason }, .. } => {
                JobState::MigrateOutFailed { migration, phase, reason }
            }
            Self::Frozen { migration, release: Release::Confirmed, .. } => JobState::Sent { migration },
            Self::Frozen { migration, release: Release::Stored { stored_bytes }, .. } => {
                JobState::Stored { migration, stored_bytes, base: None }
            }
            Self::Receiving { migration } => JobState::Prepared { migration },
            Self::ReceiveFailed { migration, phase, reason } => JobState::MigrateInFailed { migration, phase, reason },
            Self::Restored { migration, .. } => JobState::Restored { migration },
            Self::Gone => JobState::Gone,
        })
    }
}

impl Record {
    /// The record as OpCenter is told it; `None` when nothing is held.
    pub(crate) fn observe(&self) -> Option<JobObservation> {
        Some(JobObservation {
            job: self.job.clone(),
            generation: self.generation,
            grant: self.grant.clone(),
            state: self.state.observed()?,
            phases: self.phases.clone(),
            bytes_moved: self.bytes_moved,
            progress: String::new(),
            image_digest: self.spec.image.digest().unwrap_or_default().to_owned(),
            usage: None,
            unserved: None,
            activity: None,
            out_of_memory: None,
            is_short_of_disk: false,
            findings: Vec::new(),
            unaccepted: self.unaccepted.clone(),
            differences: self.differences.clone(),
        })
    }

    /// Writes the record into a job's directory. A reader finds the old record or the new one.
    ///
    /// The record has to survive the end of this process, not that of the machine, which ends the
    /// job as well.
    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        let path = path(directory);
        let write = || {
            fs::create_dir_all(directory)?;
            file::replace(&path, Durability::Renamed, Mode::Private, &serde_json::to_vec_pretty(self)?)
        };
        write().map_err(Error::system(format!("write record {}", path.display())))
    }

    /// Reads the record in a job's directory, if there is one.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        read.map_err(Error::system(format!("read record {}", path.display())))
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("record.json")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::policy::tests::{directive, every_state};
    use super::*;

    fn record(state: RecordedState) -> Record {
        let directive = directive(3, mooring_api::watch::JobOrder::Stop);
        Record {
            job: directive.job,
            generation: directive.generation,
            address: directive.address,
            spec: directive.spec,
            state,
            phases: Vec::new(),
            bytes_moved: 7,
            unaccepted: None,
            differences: Vec::new(),
            grant: "granted".to_owned(),
        }
    }

    #[test]
    fn record_reads_back_in_every_state() {
        let world = tempfile::tempdir().unwrap();
        let directory = world.path().join("job");
        assert!(Record::load(&directory).unwrap().is_none());
        for state in every_state(&MigrationId::random(&mut rand::rng())) {
            let saved = record(state.clone()).save(&directory);
            if state == RecordedState::Absent {
                assert!(saved.is_err(), "nothing held has no record");
                continue;
            }
            saved.unwrap();
            assert_eq!(Record::load(&directory).unwrap().unwrap().state, state);
        }
        fs::write(path(&directory), "{").unwrap();
        assert!(Record::load(&directory).is_err());
    }

    /// Records that agents have written so far.
    #[test]
    fn earlier_records_are_read() {
        let migration = MigrationId::random(&mut rand::rng());
        let process = ProcessId { pid: 5, started: 6 };
        let init = json!({ "pid": 5, "started": 6 });
        let read = |state: Value| serde_json::from_value::<RecordedState>(state).unwrap();
        assert_eq!(
            read(json!({ "is": "running", "init": init, "attempt": "none" })),
            RecordedState::Running { process, outbound: RecordedOutbound::None }
        );
        assert_eq!(
            read(
                json!({ "is": "running", "init": init, "attempt": { "stored": { "migration": migration, "stored_bytes": 9 } } })
            ),
            RecordedState::Running {
                process,
                outbound: RecordedOutbound::Stored { migration: migration.clone(), stored_bytes: 9, base: None }
            }
        );
        assert_eq!(
            read(json!({ "is": "freezing", "init": init, "migration": migration })),
            RecordedState::Freezing { process, migration: migration.clone() }
        );
        assert_eq!(
            read(json!({ "is": "frozen", "migration": migration, "release": "given" })),
            RecordedState::Frozen { process: None, migration: migration.clone(), release: Release::Given }
        );
        assert_eq!(
            read(json!({ "is": "arriving", "migration": migration })),
            RecordedState::Receiving { migration: migration.clone() }
        );
        assert_eq!(
            read(json!({ "is": "arrivalFailed", "migration": migration, "phase": "Restore", "reason": "" })),
            RecordedState::ReceiveFailed { migration: migration.clone(), phase: Phase::Restore, reason: String::new() }
        );
        assert_eq!(
            read(json!({ "is": "restored", "migration": migration, "init": init })),
            RecordedState::Restored { migration, process }
        );
        assert_eq!(read(json!({ "is": "gone" })), RecordedState::Gone);
    }
}

//! What this host holds of a job, kept on disk before anything is done about it.
//!
//! ```text
//!  (nothing) ─► Starting ─► Running ─► Exited
//!                             │ ▲
//!                             ▼ │ rolled back
//!                          Freezing ─► Frozen ─► (retired) Gone
//!
//!  (nothing) ─► Arriving ─► Restored ─► Running
//!                   └─► ArrivalFailed ─► (aborted) Gone
//!
//!  Running ─► Parked (the host was stopped) ─► Running
//! ```
//!
//! A record says at most one step too little: an agent that was killed looks at the machine and finds out whether the step was done.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mooring_api::watch::{JobDirective, JobObservation, JobState};
use mooring_linux::process::ProcessId;
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
    pub(crate) state: LocalState,
    /// What the phases took that this host did for the attempt under way.
    pub(crate) phases: Vec<PhaseTime>,
    pub(crate) bytes_moved: u64,
}

/// How far a source has come with an attempt while its job still executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Attempt {
    /// There is none.
    None,
    /// Files are ahead.
    PreCopied(MigrationId),
    /// Its state is taken and it goes on; the capsule is on its way to the store.
    SnapshotTaken(MigrationId),
    /// The capsule is in the store.
    Stored {
        migration: MigrationId,
        stored_bytes: u64,
        /// The capsule that it builds on.
        #[serde(default)]
        base: Option<CapsuleName>,
    },
    /// It failed, and the job executes.
    Failed { migration: MigrationId, phase: Phase, reason: String },
}

/// How far the capsule of a frozen job has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Release {
    /// The destination lacks the last piece, without which it can restore nothing.
    Withheld,
    /// It will never be given the last piece.
    Refused { phase: Phase, reason: String },
    /// The last piece is on its way or there.
    Given,
    /// The destination has confirmed the whole capsule.
    Confirmed,
    /// The capsule is in the store.
    Stored { stored_bytes: u64 },
}

/// What this host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub(crate) enum LocalState {
    Starting,
    Running {
        init: ProcessId,
        attempt: Attempt,
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
        init: ProcessId,
        migration: MigrationId,
    },
    Frozen {
        migration: MigrationId,
        release: Release,
    },
    Arriving {
        migration: MigrationId,
    },
    ArrivalFailed {
        migration: MigrationId,
        phase: Phase,
        reason: String,
    },
    Restored {
        migration: MigrationId,
        init: ProcessId,
    },
    /// Checkpointed because the host was stopped, to go on when it is started again.
    Parked,
    Gone,
}

impl Record {
    /// The record of a job that a directive speaks of for the first time.
    pub(crate) fn new(directive: &JobDirective, state: LocalState) -> Self {
        Self {
            job: directive.job.clone(),
            generation: directive.generation,
            address: directive.address,
            spec: directive.spec.clone(),
            state,
            phases: Vec::new(),
            bytes_moved: 0,
        }
    }

    /// Adds what a phase took.
    pub(crate) fn took(&mut self, name: Phase, time: std::time::Duration) {
        self.phases.retain(|known| known.name != name);
        self.phases.push(PhaseTime { name, seconds: time.as_secs_f64() });
    }

    /// The record as OpCenter is told it.
    pub(crate) fn observe(&self) -> JobObservation {
        let state = match self.state.clone() {
            LocalState::Starting | LocalState::Parked => JobState::Starting,
            LocalState::Running { attempt: Attempt::None, .. } => JobState::Running,
            LocalState::Running { attempt: Attempt::PreCopied(migration), .. }
            | LocalState::Freezing { migration, .. } => JobState::PreCopied { migration },
            LocalState::Running { attempt: Attempt::Failed { migration, phase, reason }, .. } => {
                JobState::MigrateOutFailed { migration, phase, reason }
            }
            LocalState::Exited { code } => JobState::Exited { code },
            LocalState::FailedToStart { reason } => JobState::FailedToStart { reason },
            LocalState::Lost { reason } => JobState::Lost { reason },
            LocalState::Frozen { migration, release: Release::Withheld | Release::Given } => {
                JobState::Frozen { migration }
            }
            LocalState::Frozen { migration, release: Release::Refused { phase, reason } } => {
                JobState::MigrateOutFailed { migration, phase, reason }
            }
            LocalState::Frozen { migration, release: Release::Confirmed } => JobState::Sent { migration },
            LocalState::Frozen { migration, release: Release::Stored { stored_bytes } } => {
                JobState::Stored { migration, stored_bytes, base: None }
            }
            LocalState::Running { attempt: Attempt::Stored { migration, stored_bytes, base }, .. } => {
                JobState::Stored { migration, stored_bytes, base }
            }
            LocalState::Running { attempt: Attempt::SnapshotTaken(migration), .. } => {
                JobState::SnapshotTaken { migration }
            }
            LocalState::Arriving { migration } => JobState::Prepared { migration },
            LocalState::ArrivalFailed { migration, phase, reason } => {
                JobState::MigrateInFailed { migration, phase, reason }
            }
            LocalState::Restored { migration, .. } => JobState::Restored { migration },
            LocalState::Gone => JobState::Gone,
        };
        JobObservation {
            job: self.job.clone(),
            generation: self.generation,
            state,
            phases: self.phases.clone(),
            bytes_moved: self.bytes_moved,
            progress: String::new(),
            image_digest: self.spec.image.digest().unwrap_or_default().to_owned(),
            usage: None,
        }
    }

    /// Keeps the record in a job's directory: a reader finds the old one or the new one, never a part. What is kept has to survive the
    /// end of this process, not that of the machine, which ends the job as well.
    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        let path = file(directory);
        let failed = |error: io::Error| Error::system(format!("keep record {}", path.display()))(error);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let replace = || {
            fs::create_dir_all(directory)?;
            let new = path.with_extension("new");
            fs::File::create(&new)?.write_all(&bytes)?;
            fs::rename(&new, &path)
        };
        replace().map_err(failed)
    }

    /// The record in a job's directory, if there is one.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>> {
        let path = file(directory);
        let failed = |error: io::Error| Error::system(format!("read record {}", path.display()))(error);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("record.json")
}

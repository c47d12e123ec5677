//! The events of a job: what happened to it, as data.
//!
//! An event has a stable kind and data for scripts, and a sentence ([`Display`](fmt::Display)) for
//! people. A new event is a variant here with its sentence and a sample in the tests, and a line
//! where it happens.
//!
//! In JSON an event is `{"kind": …, "data": …}`; `data` is absent where there is none. Kinds and
//! keys never change once they were released: they are in databases and in users' scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::job::JobStatus;
use crate::migration::{MigrationKind, Phase};
use crate::{Generation, JobId, MigrationId};

/// An event of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The status changed.
    StatusChanged {
        /// The new status.
        status: JobStatus,
        /// The reason; empty for the usual course of a job.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The job was submitted again with `float rerun`.
    Rerun {
        /// The job that was submitted first.
        original: JobId,
    },
    /// A user modified the job.
    Modified {
        /// The user.
        user: String,
        /// The new values, like `time limit 2h0m0s`.
        changes: Vec<String>,
    },
    /// An external job has new endpoints.
    EndpointsChanged {
        /// The endpoints, `port=host:port` each.
        endpoints: Vec<String>,
    },
    /// A migration started.
    MigrationStarted {
        /// The migration.
        migration: MigrationId,
        /// The kind of the migration.
        migration_kind: MigrationKind,
        /// The reason.
        reason: String,
    },
    /// A phase of a migration ended.
    PhaseEnded {
        /// The migration.
        migration: MigrationId,
        /// The phase.
        phase: Phase,
        /// Its duration.
        seconds: f64,
    },
    /// A migration failed and was rolled back.
    MigrationFailed {
        /// The migration.
        migration: MigrationId,
        /// The kind of the migration.
        migration_kind: MigrationKind,
        /// The phase that failed.
        phase: Phase,
        /// The reason.
        reason: String,
    },
    /// The destination of a migration was lost after it may have restored the job.
    DestinationLost {
        /// The host's name.
        host: String,
    },
    /// The job was found on a host to which the database had not given it: an older one was put
    /// back.
    FoundAgain {
        /// The host's name.
        host: String,
    },
    /// The job migrated to another host.
    Migrated {
        /// The source's name.
        from: String,
        /// The destination's name.
        to: String,
        /// For how long the job was frozen.
        pause_seconds: f64,
    },
    /// The job was suspended into the capsule store.
    Suspended {
        /// The name of the host that it left.
        from: String,
        /// The size of its capsule.
        capsule: CapsuleSize,
    },
    /// A snapshot of the running job is in the capsule store.
    SnapshotTaken {
        /// For how long the job was frozen.
        pause_seconds: f64,
        /// The size of its capsule.
        capsule: CapsuleSize,
    },
    /// The job was resumed from the capsule store.
    Resumed {
        /// The host's name.
        to: String,
    },
    /// The job was recovered from its newest snapshot.
    Recovered {
        /// The host's name.
        to: String,
    },
    /// The job was restored, and something is otherwise than before its checkpoint.
    RestoredWithDifferences {
        /// The differences, a sentence each.
        differences: Vec<String>,
    },
    /// The job needs another size, which no host has.
    ResizePostponed {
        /// The reason for another size.
        reason: String,
        /// The cores that it needs.
        cpu: u32,
        /// The memory in GB that it needs.
        #[serde(rename = "memGB")]
        mem_gb: f64,
        /// The reason why no host has it.
        refusal: String,
    },
    /// The kernel has killed processes of the job for lack of memory.
    OutOfMemory {
        /// The id of the last one as the job saw it; absent where it is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
        /// The name of the last one's program; empty where it is unknown.
        program: String,
        /// The job's limit of memory in GB.
        #[serde(rename = "limitGB")]
        limit_gb: f64,
        /// The number of processes since the last event of this kind.
        kills: u64,
        /// The number of processes in this generation of the job.
        total: u64,
        /// The generation of the job.
        generation: Generation,
    },
    /// The disk of the job's host lacks room: the job is frozen, or goes on.
    ShortOfDisk {
        /// The name of the host.
        host: String,
        /// True for the event that the job goes on.
        is_over: bool,
        /// The generation of the job.
        generation: Generation,
    },
    /// Another program listens at the gateway's port that a connection of the job was given.
    PortTaken {
        /// The name of the gateway.
        gateway: String,
        /// The port.
        port: u16,
        /// The port that the connection has instead; absent where none is free.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead: Option<u16>,
    },
    /// The job was to be resumed automatically, and stays suspended until a user resumes it.
    StaysSuspended {
        /// The reason.
        reason: String,
    },
    /// Text without data: an event of an older or a newer version.
    Note {
        /// The text.
        text: String,
    },
}

/// The size of a capsule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapsuleSize {
    /// Bytes before compression.
    pub bytes: u64,
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// `true` if the snapshot has only the changes since an earlier one.
    pub is_incremental: bool,
}

impl Event {
    /// The event of a stored or received kind with its data. Unknown kinds become a note with the
    /// sentence.
    #[must_use]
    pub fn read(kind: &str, data: Option<serde_json::Value>, sentence: &str) -> Self {
        let mut tagged = serde_json::Map::from_iter([("kind".to_owned(), kind.into())]);
        tagged.extend(data.map(|data| ("data".to_owned(), data)));
        serde_json::from_value(tagged.into()).unwrap_or_else(|_| Self::Note { text: sentence.to_owned() })
    }

    /// The stable kind, and the data.
    #[must_use]
    pub fn to_parts(&self) -> (String, Option<serde_json::Value>) {
        let tagged = serde_json::to_value(self).unwrap_or_default();
        let kind = tagged.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        (kind, tagged.get("data").cloned())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusChanged { status, reason } if reason.is_empty() => write!(f, "{status}"),
            Self::StatusChanged { status, reason } => write!(f, "{status}: {reason}"),
            Self::Rerun { original } => write!(f, "submitted again, as a rerun of job {original}"),
            Self::Modified { user, changes } if changes.is_empty() => write!(f, "modified by {user}: no change"),
            Self::Modified { user, changes } => write!(f, "modified by {user}: {}", changes.join(", ")),
            Self::EndpointsChanged { endpoints } => write!(f, "listens at {}", endpoints.join(", ")),
            Self::MigrationStarted { migration, migration_kind, reason } => {
                write!(f, "{} started: {reason} ({migration})", migration_kind.noun())
            }
            Self::PhaseEnded { migration, phase, seconds } => write!(f, "{phase} took {seconds:.3} s ({migration})"),
            Self::MigrationFailed { migration, migration_kind, phase, reason } => {
                write!(f, "{} failed in {phase}: {reason} ({migration})", migration_kind.noun())
            }
            Self::DestinationLost { host } => {
                write!(f, "host {host} is unreachable and given up; open connections of the job end")
            }
            Self::FoundAgain { host } => {
                write!(f, "found on host {host}, to which it had migrated after the time of OpCenter's database")
            }
            Self::Migrated { from, to, pause_seconds } => {
                write!(f, "migrated from {from} to {to}; frozen for {pause_seconds:.3} s")
            }
            Self::Suspended { from, capsule } => write!(f, "suspended from {from} into the capsule store ({capsule})"),
            Self::SnapshotTaken { pause_seconds, capsule } => {
                write!(f, "snapshot taken ({capsule}); frozen for {pause_seconds:.3} s")
            }
            Self::Resumed { to } => write!(f, "resumed on {to}"),
            Self::Recovered { to } => write!(f, "recovered on {to}"),
            Self::RestoredWithDifferences { differences } => {
                write!(f, "restored with differences: {}", differences.join("; "))
            }
            Self::ResizePostponed { reason, cpu, mem_gb, refusal } => {
                write!(f, "{reason}: needs {cpu} cores and {mem_gb} GB, but {refusal}; the job stays on its host")
            }
            Self::OutOfMemory { pid, program, limit_gb, kills, .. } => {
                f.write_str("out of memory: the kernel ended ")?;
                match (pid, program.as_str()) {
                    (Some(pid), program) => write!(f, "process {pid} ({program})")?,
                    (None, "") => f.write_str("a process")?,
                    (None, program) => f.write_str(program)?,
                }
                write!(f, " at the job's limit of {limit_gb} GB")?;
                if *kills > 1 { write!(f, ", and {} more before", kills - 1) } else { Ok(()) }
            }
            Self::ShortOfDisk { host, is_over: false, .. } => {
                write!(f, "frozen: the disk of {host} is nearly full, and this job wrote most to it")
            }
            Self::ShortOfDisk { host, is_over: true, .. } => write!(f, "goes on: the disk of {host} has room again"),
            Self::PortTaken { gateway, port, instead } => {
                write!(f, "port {port} of gateway {gateway} is held by another program")?;
                match instead {
                    Some(port) => write!(f, ": the connection has port {port} instead"),
                    None => f.write_str(", and no port above it is free"),
                }
            }
            Self::StaysSuspended { reason } => write!(f, "stays suspended: {reason}"),
            Self::Note { text } => f.write_str(text),
        }
    }
}

impl fmt::Display for CapsuleSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(f, "{:.1} MB, stored as {:.1} MB", megabytes(self.bytes), megabytes(self.stored_bytes))?;
        if self.is_incremental { f.write_str(", changes since an earlier one") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An event of each kind.
    fn samples() -> Vec<Event> {
        let migration: MigrationId = "m-a407u88v0106oluqaj8l6".parse().unwrap();
        let capsule = CapsuleSize { bytes: 2_500_000, stored_bytes: 1_000_000, is_incremental: true };
        let text = |text: &str| text.to_owned();
        vec![
            Event::StatusChanged { status: JobStatus::Floating, reason: text("requested by admin") },
            Event::Rerun { original: "uqaj8l6a407u88v0106ol".parse().unwrap() },
            Event::Modified { user: text("admin"), changes: vec![text("idle time 5m0s")] },
            Event::EndpointsChanged { endpoints: vec![text("8888=node18:8888")] },
            Event::MigrationStarted {
                migration: migration.clone(),
                migration_kind: MigrationKind::Suspend,
                reason: text("requested by admin"),
            },
            Event::PhaseEnded { migration: migration.clone(), phase: Phase::Freeze, seconds: 0.061 },
            Event::MigrationFailed {
                migration,
                migration_kind: MigrationKind::Migrate,
                phase: Phase::Restore,
                reason: text("no room"),
            },
            Event::DestinationLost { host: text("host-2") },
            Event::FoundAgain { host: text("host-2") },
            Event::Migrated { from: text("host-1"), to: text("host-2"), pause_seconds: 0.21 },
            Event::Suspended { from: text("host-1"), capsule },
            Event::SnapshotTaken { pause_seconds: 0.21, capsule },
            Event::Resumed { to: text("host-1") },
            Event::Recovered { to: text("host-1") },
            Event::RestoredWithDifferences { differences: vec![text("process 7 (sh) is stopped")] },
            Event::ResizePostponed {
                reason: text("CPU at 95 %"),
                cpu: 4,
                mem_gb: 8.0,
                refusal: text("no host has it"),
            },
            Event::OutOfMemory {
                pid: Some(7),
                program: text("python3"),
                limit_gb: 0.5,
                kills: 2,
                total: 3,
                generation: Generation(1),
            },
            Event::ShortOfDisk { host: text("host-1"), is_over: false, generation: Generation(1) },
            Event::PortTaken { gateway: text("lab"), port: 10_000, instead: Some(10_001) },
            Event::StaysSuspended { reason: text("no host") },
            Event::Note { text: text("a note") },
        ]
    }

    /// The kinds that serde knows, from its error for an unknown one.
    fn known_kinds() -> BTreeSet<String> {
        let error = serde_json::from_str::<Event>(r#"{"kind": "?"}"#).unwrap_err().to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_event_has_a_stable_kind() {
        let kinds: Vec<String> = samples().iter().map(|event| event.to_parts().0).collect();
        assert_eq!(kinds.iter().cloned().collect::<BTreeSet<_>>(), known_kinds());
        assert_eq!(kinds.len(), known_kinds().len());
    }

    #[test]
    fn every_event_round_trips() {
        for event in samples() {
            let (kind, data) = event.to_parts();
            assert_eq!(Event::read(&kind, data, ""), event);
            assert!(!event.to_string().is_empty() && !event.to_string().contains('\n'), "{event}");
        }
    }

    #[test]
    fn unknown_events_become_notes() {
        for kind in ["status", "note", "tomorrow"] {
            assert_eq!(Event::read(kind, None, "Executing"), Event::Note { text: "Executing".to_owned() });
        }
    }
}

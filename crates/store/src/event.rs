//! The event log of each job. It is append-only, which the schema enforces.

use std::fmt;

use mooring_types::{JobId, Timestamp};
use sqlx::Row;

use crate::{Result, Tx, parsed};

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A change of status.
    Status,
    /// A phase of a migration.
    Phase,
    /// Anything else.
    Note,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "status",
            Self::Phase => "phase",
            Self::Note => "note",
        })
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    pub time: Timestamp,
    /// An [`EventKind`] in words.
    pub kind: String,
    pub message: String,
}

impl Tx {
    /// Appends an event.
    pub async fn event_append(&mut self, job: &JobId, kind: EventKind, message: &str, now: Timestamp) -> Result<()> {
        sqlx::query("INSERT INTO event (job_id, time, kind, message) VALUES (?, ?, ?, ?)")
            .bind(job.as_str())
            .bind(now.to_string())
            .bind(kind.to_string())
            .bind(message)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists a job's events, oldest first.
    pub async fn event_list(&mut self, job: &JobId) -> Result<Vec<EventRow>> {
        let rows = sqlx::query("SELECT time, kind, message FROM event WHERE job_id = ? ORDER BY sequence")
            .bind(job.as_str())
            .fetch_all(&mut *self.inner)
            .await?;
        let read = |row| {
            Ok(EventRow { time: parsed(row, "time")?, kind: row.try_get("kind")?, message: row.try_get("message")? })
        };
        rows.iter().map(read).collect()
    }
}

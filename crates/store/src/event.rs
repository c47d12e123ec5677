//! The event log of each job: append-only, which the schema itself enforces.
//!
//! A row has the event's stable kind and data for programs, and its sentence for people and for
//! later versions. A kind that this version does not know is read as a note with that sentence.

use mooring_types::{Event, JobId, Timestamp};
use sqlx::Row;

use crate::{Result, Tx, parsed};

/// An event of a job with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// The time of the event.
    pub time: Timestamp,
    /// The event.
    pub event: Event,
}

impl Tx {
    /// Appends an event.
    pub async fn event_append(&mut self, job: &JobId, event: &Event, now: Timestamp) -> Result<()> {
        let (kind, data) = event.to_parts();
        sqlx::query("INSERT INTO event (job_id, time, kind, message, data) VALUES (?, ?, ?, ?, ?)")
            .bind(job.as_str())
            .bind(now.to_string())
            .bind(kind)
            .bind(event.to_string())
            .bind(data.map(|data| data.to_string()))
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Reads a job's events, oldest first.
    pub async fn event_list(&mut self, job: &JobId) -> Result<Vec<EventRow>> {
        let rows = sqlx::query("SELECT time, kind, message, data FROM event WHERE job_id = ? ORDER BY sequence")
            .bind(job.as_str())
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Reads the latest event of a kind, by its stable name.
    pub async fn event_latest(&mut self, job: &JobId, kind: &str) -> Result<Option<EventRow>> {
        let row = sqlx::query(
            "SELECT time, kind, message, data FROM event WHERE job_id = ? AND kind = ?
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(job.as_str())
        .bind(kind)
        .fetch_optional(&mut *self.inner)
        .await?;
        row.as_ref().map(read).transpose()
    }
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<EventRow> {
    let (kind, message): (String, String) = (row.try_get("kind")?, row.try_get("message")?);
    let data = row.try_get::<Option<String>, _>("data")?.and_then(|data| serde_json::from_str(&data).ok());
    Ok(EventRow { time: parsed(row, "time")?, event: Event::read(&kind, data, &message) })
}

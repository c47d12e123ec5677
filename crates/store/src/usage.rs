//! Measurements of jobs: a history that is dense for the last day and thin before, with the
//! idleness and the submitted size.

use std::time::Duration;

use mooring_types::host::Resources;
use mooring_types::job::JobStatus;
use mooring_types::usage::Usage;
use mooring_types::{Generation, JobId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, StoreError, Tx, parsed, unsigned};

/// A measurement of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRow {
    pub job: JobId,
    /// The time by the host's clock.
    pub time: Timestamp,
    /// The generation that was measured.
    pub generation: Generation,
    /// The job's status at that time.
    pub status: JobStatus,
    pub usage: Usage,
}

/// The times for which a job was not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unused {
    /// The time for which it was idle.
    pub idle: Duration,
    /// The time for which only what it does on its own kept it awake, since it was last used.
    pub held: Duration,
}

impl Tx {
    /// Adds a measurement, unless it is known.
    pub async fn usage_insert(&mut self, row: &UsageRow) -> Result<()> {
        let usage = &row.usage;
        sqlx::query(
            "INSERT OR IGNORE INTO usage (job_id, time, generation, status, seconds, cpu_used, cpu, mem_used, mem,
                page_cache, swap, limit_hits, processes, received, sent, disk)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.job.as_str())
        .bind(row.time.as_millisecond())
        .bind(row.generation.0.cast_signed())
        .bind(row.status.to_string())
        .bind(usage.seconds)
        .bind(usage.cpu_used)
        .bind(usage.cpu)
        .bind(usage.mem_used.cast_signed())
        .bind(usage.mem.cast_signed())
        .bind(usage.page_cache.cast_signed())
        .bind(usage.swap.cast_signed())
        .bind(usage.limit_hits.cast_signed())
        .bind(usage.processes)
        .bind(usage.received.cast_signed())
        .bind(usage.sent.cast_signed())
        .bind(usage.disk.map(u64::cast_signed))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists a job's measurements from a time on, oldest first.
    pub async fn usage_list(&mut self, job: &JobId, since: Timestamp) -> Result<Vec<UsageRow>> {
        let rows = sqlx::query("SELECT * FROM usage WHERE job_id = ? AND time >= ? ORDER BY time")
            .bind(job.as_str())
            .bind(since.as_millisecond())
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes all but the first measurement of each `step`, of those older than a time.
    pub async fn usage_thin(&mut self, before: Timestamp, step: Duration) -> Result<u64> {
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        let done = sqlx::query(
            "DELETE FROM usage WHERE time < ?1 AND EXISTS (SELECT 1 FROM usage AS other WHERE other.job_id = usage.job_id
                AND other.time >= usage.time / ?2 * ?2 AND other.time < usage.time)",
        )
        .bind(before.as_millisecond())
        .bind(step)
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected())
    }

    /// Removes all measurements older than a time, and all of jobs that ended before another.
    pub async fn usage_forget(&mut self, before: Timestamp, ended_before: Timestamp) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM usage WHERE time < ?
                OR job_id IN (SELECT id FROM job WHERE end_time IS NOT NULL AND end_time < ?)",
        )
        .bind(before.as_millisecond())
        .bind(ended_before.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(done.rows_affected())
    }

    /// Returns the times for which a job was last known not to be used.
    pub async fn idleness_get(&mut self, job: &JobId) -> Result<Unused> {
        let row = sqlx::query("SELECT idle_ms, held_ms FROM idleness WHERE job_id = ?")
            .bind(job.as_str())
            .fetch_optional(&mut *self.inner)
            .await?;
        let Some(row) = row else { return Ok(Unused::default()) };
        let time = |column| unsigned(&row, column).map(Duration::from_millis);
        Ok(Unused { idle: time("idle_ms")?, held: time("held_ms")? })
    }

    /// Sets the times for which a job is known not to be used.
    pub async fn idleness_set(&mut self, job: &JobId, unused: Unused) -> Result<()> {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(
            "INSERT INTO idleness (job_id, idle_ms, held_ms) VALUES (?, ?, ?)
             ON CONFLICT (job_id) DO UPDATE SET idle_ms = excluded.idle_ms, held_ms = excluded.held_ms",
        )
        .bind(job.as_str())
        .bind(millis(unused.idle))
        .bind(millis(unused.held))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Keeps the size of a job's submission before its first change.
    pub(crate) async fn size_submitted_keep(&mut self, job: &JobId, size: Resources) -> Result<()> {
        sqlx::query("INSERT OR IGNORE INTO size_submitted (job_id, cpu, mem_gb) VALUES (?, ?, ?)")
            .bind(job.as_str())
            .bind(size.cpu)
            .bind(size.mem_gb)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<UsageRow> {
    let unreadable = |source| StoreError::Unreadable { column: "time", source };
    Ok(UsageRow {
        job: parsed(row, "job_id")?,
        time: Timestamp::from_millisecond(row.try_get("time")?).map_err(|error| unreadable(Box::new(error)))?,
        generation: Generation(unsigned(row, "generation")?),
        status: parsed(row, "status")?,
        usage: Usage {
            seconds: row.try_get("seconds")?,
            cpu_used: row.try_get("cpu_used")?,
            cpu: row.try_get("cpu")?,
            mem_used: unsigned(row, "mem_used")?,
            mem: unsigned(row, "mem")?,
            page_cache: unsigned(row, "page_cache")?,
            swap: unsigned(row, "swap")?,
            limit_hits: unsigned(row, "limit_hits")?,
            processes: unsigned(row, "processes")?,
            received: unsigned(row, "received")?,
            sent: unsigned(row, "sent")?,
            disk: row.try_get::<Option<i64>, _>("disk")?.and_then(|disk| disk.try_into().ok()),
        },
    })
}

//! Out of memory: an event and the status's reason for processes that the kernel has killed.
//!
//! A host reports the number of kills of a generation, again and again. The latest event has the
//! number that was told. A job that runs into its limit every second gets an event a minute.

use std::time::Duration;

use mooring_store::{JobRow, StoreError};
use mooring_types::Event;
use mooring_types::job::JobStatus;

use super::{Round, elapsed};

/// The time between two events.
const EVENT_INTERVAL: Duration = Duration::from_secs(60);
/// The age up to which a kill may be the reason for the end of a job.
const REASON_AGE_MAX: Duration = Duration::from_secs(10);
const KIND: &str = "outOfMemory";
const HINT: &str =
    "submit it with more (`-m`), or with a range (`-m MIN:MAX`), so that it can be moved in time (`evadeOOM`)";

impl Round<'_> {
    /// Tells of processes that were killed since the last event.
    pub(super) async fn tell_out_of_memory(&mut self, job: &JobRow) -> Result<(), StoreError> {
        let Some(host) = job.host.as_ref().filter(|_| !job.status.is_final()) else { return Ok(()) };
        let report = self.observed.job(host, &job.id, job.generation);
        let Some(killed) = report.and_then(|report| report.out_of_memory.clone()) else { return Ok(()) };
        let latest = self.tx.event_latest(&job.id, KIND).await?;
        let told = match &latest {
            Some(row) if elapsed(row.time, self.now) < EVENT_INTERVAL && !is_new(&row.event, job) => return Ok(()),
            Some(row) => told(&row.event, job),
            None => 0,
        };
        if killed.kills <= told {
            return Ok(());
        }
        let event = Event::OutOfMemory {
            pid: killed.pid,
            program: killed.program,
            limit_gb: job.spec.resources.mem_gb,
            kills: killed.kills - told,
            total: killed.kills,
            generation: job.generation,
        };
        tracing::warn!(job = %job.id, "job {}: {event}", job.id);
        self.changed = true;
        self.tx.event_append(&job.id, &event, self.now).await?;
        match job.status {
            JobStatus::Executing => self.tx.job_status_reason_set(&job.id, &format!("{event}: {HINT}"), self.now).await,
            _ => Ok(()),
        }
    }

    /// Returns why a job has ended, where it ended just after a kill for lack of memory.
    pub(super) async fn ended_out_of_memory(&mut self, job: &JobRow) -> Result<Option<String>, StoreError> {
        let latest = self.tx.event_latest(&job.id, KIND).await?;
        let recent = latest.filter(|row| !is_new(&row.event, job) && elapsed(row.time, self.now) < REASON_AGE_MAX);
        Ok(recent.map(|row| format!("{}: {HINT}", row.event)))
    }
}

/// Says whether an event is of another generation of the job.
fn is_new(event: &Event, job: &JobRow) -> bool {
    !matches!(event, Event::OutOfMemory { generation, .. } if *generation == job.generation)
}

/// Returns the number of kills that an event has told of a job's generation.
fn told(event: &Event, job: &JobRow) -> u64 {
    match event {
        Event::OutOfMemory { total, generation, .. } if *generation == job.generation => *total,
        _ => 0,
    }
}

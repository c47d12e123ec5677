//! Jobs that are frozen for lack of disk: an event when one stops, and one when it goes on.

use mooring_store::{JobRow, StoreError};
use mooring_types::Event;
use mooring_types::job::JobStatus;

use super::Round;
use crate::state::db_state::DbState;

const KIND: &str = "shortOfDisk";
/// The beginning of the reason of such a job.
const FROZEN: &str = "frozen: the disk";
const HINT: &str =
    "migrate it to another host (`float migrate`), suspend or cancel jobs there, or remove files of that host";

impl Round<'_> {
    /// Tells that a job is frozen for lack of disk, or goes on.
    pub(super) async fn tell_short_of_disk(&mut self, state: &DbState, job: &JobRow) -> Result<(), StoreError> {
        let Some(host) = job.host.as_ref().filter(|_| !job.status.is_final()) else { return Ok(()) };
        let Some(report) = self.observed.job(host, &job.id, job.generation) else { return Ok(()) };
        let is_frozen = report.is_short_of_disk;
        // The events of a job are read only where there may be news.
        if !is_frozen && !job.status_reason.starts_with(FROZEN) {
            return Ok(());
        }
        let latest = self.tx.event_latest(&job.id, KIND).await?;
        let was_told = latest.is_some_and(|row| is_frozen_by(&row.event, job));
        if is_frozen == was_told {
            return Ok(());
        }
        let host = state.hosts.iter().find(|row| row.id == *host);
        let host = host.map(|row| row.name.to_string()).unwrap_or_default();
        let event = Event::ShortOfDisk { host, is_over: !is_frozen, generation: job.generation };
        tracing::warn!(job = %job.id, "job {}: {event}", job.id);
        self.changed = true;
        self.tx.event_append(&job.id, &event, self.now).await?;
        let reason = if is_frozen { format!("{event}: {HINT}") } else { String::new() };
        match job.status {
            JobStatus::Executing => self.tx.job_status_reason_set(&job.id, &reason, self.now).await,
            _ => Ok(()),
        }
    }
}

/// Says whether the job is frozen by its latest event of this kind.
fn is_frozen_by(event: &Event, job: &JobRow) -> bool {
    matches!(event, Event::ShortOfDisk { is_over: false, generation, .. } if *generation == job.generation)
}

//! Finds the owners of jobs again after an older database was put back.
//!
//! Since the time of that database a job may have migrated. Its owner then holds a newer generation
//! than the database knows, with OpCenter's grant for it. The key of grants is not in the database.
//! What a host says without a grant changes nothing.

use mooring_api::watch::{JobObservation, JobState};
use mooring_store::{JobRow, StoreError};
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use mooring_types::{Event, HostId};

use super::Round;
use crate::decide::migration;
use crate::state::db_state::DbState;

impl Round<'_> {
    /// Gives a job to the host that has a grant for a newer generation of it. Returns whether there
    /// was one.
    pub(super) async fn find_owner(&mut self, state: &DbState, job: &JobRow) -> Result<bool, StoreError> {
        if job.status.is_final() || state.externals.contains_key(&job.id) {
            return Ok(false);
        }
        let granted = |(host, report): &(&HostId, &JobObservation)| {
            report.generation > job.generation
                && executes(&report.state)
                && self.vault.has_granted(host, &job.id, report.generation, &report.grant)
        };
        let newest = self.observed.holders(&job.id).filter(granted).max_by_key(|(_, report)| report.generation);
        let Some((host, generation)) = newest.map(|(host, report)| (host.clone(), report.generation)) else {
            return Ok(false);
        };
        let name = state.host_name(&host);
        tracing::warn!(job = %job.id, %host, %generation, "job {} is found on host {name}: the database is older than that", job.id);
        self.changed = true;
        if let Some(row) = state.migrations.get(&job.id) {
            let reason = "an older database was put back".to_owned();
            self.end(row.clone(), Outcome::Failed { phase: migration::phase_of(row.stage), reason }).await?;
        }
        self.tx.job_own(&job.id, &host, generation, self.now).await?;
        self.tx.event_append(&job.id, &Event::FoundAgain { host: name }, self.now).await?;
        // The status follows from the host's reports where it may.
        let before = match job.status {
            JobStatus::Submitted => Some(JobStatus::Initializing),
            JobStatus::Suspended => Some(JobStatus::Resuming),
            _ => None,
        };
        if let Some(before) = before {
            self.status(job, before, "").await?;
        }
        let now = JobRow { status: before.unwrap_or(job.status), ..job.clone() };
        if now.status.may_become(JobStatus::Executing) {
            self.status(&now, JobStatus::Executing, "").await?;
        }
        Ok(true)
    }
}

/// Returns whether a job in this state executes at no other host, or has ended at this one.
fn executes(state: &JobState) -> bool {
    matches!(
        state,
        JobState::Running
            | JobState::PreCopied { .. }
            | JobState::SnapshotTaken { .. }
            | JobState::Stored { .. }
            | JobState::Exited { .. }
    )
}

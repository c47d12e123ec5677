//! Finds the owners of jobs again after an older database was put back.
//!
//! Since the time of that database a job may have migrated. Its owner then holds a newer generation
//! than the database knows, with OpCenter's grant for it. The key of grants is not in the database.
//! What a host says without a grant changes nothing.

use std::collections::HashMap;

use mooring_api::watch::JobState;
use mooring_store::{JobRow, StoreError};
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use mooring_types::{Event, Generation, HostId, JobId};

use super::Round;
use crate::decide::migration;
use crate::state::db_state::DbState;

/// The owners that the database does not know, each with the generation that it was given.
pub(super) type Owners = HashMap<JobId, (HostId, Generation)>;

impl Round<'_> {
    /// Returns the hosts that have grants for newer generations than the database knows.
    pub(super) fn unknown_owners(&self, state: &DbState) -> Owners {
        let mut owners = Owners::new();
        for (host, report) in self.observed.observations() {
            let generation = report.generation;
            let is_newer = state.jobs.get(&report.job).is_some_and(|job| {
                generation > job.generation && !job.status.is_final() && !state.externals.contains_key(&job.id)
            });
            let is_first = owners.get(&report.job).is_none_or(|(_, known)| generation > *known);
            if is_newer
                && is_first
                && executes(&report.state)
                && self.vault.has_granted(host, &report.job, generation, &report.grant)
            {
                owners.insert(report.job.clone(), (host.clone(), generation));
            }
        }
        owners
    }

    /// Gives a job to the owner that was found.
    pub(super) async fn give_back(
        &mut self,
        state: &DbState,
        job: &JobRow,
        (host, generation): (HostId, Generation),
    ) -> Result<(), StoreError> {
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
        Ok(())
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

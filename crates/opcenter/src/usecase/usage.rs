//! The measurements of jobs, taken from the reports of their hosts.

use mooring_api::watch::{HostReport, JobObservation};
use mooring_store::{StoreError, UsageRow};

use crate::state::context::Context;

/// Stores the new measurements of a host's report.
pub(crate) async fn take_in(
    context: &Context,
    last: Option<&HostReport>,
    report: &HostReport,
) -> Result<(), StoreError> {
    let is_known = |seen: &JobObservation| {
        let same = |known: &&JobObservation| known.job == seen.job && known.generation == seen.generation;
        last.and_then(|last| last.jobs.iter().find(same)).is_some_and(|known| known.usage == seen.usage)
    };
    let new: Vec<&JobObservation> = report.jobs.iter().filter(|seen| seen.usage.is_some() && !is_known(seen)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut tx = context.store.begin().await?;
    for seen in new {
        // The host may hold a job of a database that is lost.
        if let Some(sample) = seen.usage
            && let Some(job) = tx.job_get(&seen.job).await?
        {
            let (generation, status) = (seen.generation, job.status);
            tx.usage_insert(&UsageRow { job: job.id, time: sample.time, generation, status, usage: sample.usage })
                .await?;
        }
    }
    tx.commit().await
}

//! The measurements of jobs, taken from the reports of their hosts.

use mooring_api::watch::{HostReport, JobObservation};
use mooring_store::{StoreError, UsageRow};
use mooring_types::HostId;

use crate::state::context::Context;

/// Stores the new measurements of a host's report, of the jobs that it owns.
pub(crate) async fn take_in(
    context: &Context,
    host: &HostId,
    last: Option<&HostReport>,
    report: &HostReport,
) -> Result<(), StoreError> {
    let is_known = |observation: &JobObservation| {
        let same = |previous: &&JobObservation| {
            previous.job == observation.job && previous.generation == observation.generation
        };
        last.and_then(|last| last.jobs.iter().find(same)).is_some_and(|previous| previous.usage == observation.usage)
    };
    let new: Vec<&JobObservation> =
        report.jobs.iter().filter(|observation| observation.usage.is_some() && !is_known(observation)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut tx = context.store.begin().await?;
    for observation in new {
        // The host may hold a job of a database that is lost.
        if let Some(sample) = observation.usage
            && let Some(job) = tx.job_get(&observation.job).await?
            && job.host.as_ref() == Some(host)
        {
            let (generation, status) = (observation.generation, job.status);
            tx.usage_insert(&UsageRow { job: job.id, time: sample.time, generation, status, usage: sample.usage })
                .await?;
        }
    }
    tx.commit().await
}

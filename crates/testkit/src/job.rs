//! Waiting for the status of a job.

use std::time::Duration;

use anyhow::{Result, bail};
use mooring_api::Client;
use mooring_api::view::JobView;
use mooring_types::JobId;
use mooring_types::job::JobStatus;

use crate::wait::wait_for;

/// Waits until a job executes.
pub async fn executing(client: &Client, job: &JobId, limit: Duration) -> Result<JobView> {
    wait_for(&format!("job {job} to execute"), limit, async || {
        let view = client.job_get(job).await?;
        match view.status {
            JobStatus::Executing => Ok(Some(view)),
            status if status.is_final() => bail!("job {job} is {status}: {}", view.status_reason),
            _ => Ok(None),
        }
    })
    .await
}

/// Waits until a job has ended, however.
pub async fn ended(client: &Client, job: &JobId, limit: Duration) -> Result<JobView> {
    wait_for(&format!("the end of job {job}"), limit, async || {
        let view = client.job_get(job).await?;
        Ok(view.status.is_final().then_some(view))
    })
    .await
}

/// Waits until a gateway listens for a job. Returns the first of its port mappings.
///
/// # Errors
/// It does not within the limit.
pub async fn mapped(client: &Client, job: &JobId, limit: Duration) -> Result<String> {
    wait_for("the port of the job", limit, async || Ok(client.job_get(job).await?.port_mappings.into_iter().next()))
        .await
}

//! A JupyterLab job behind a gateway.

use std::time::Duration;

use anyhow::{Result, bail};
use mooring_api::Client;
use mooring_api::view::{JobView, SubmitRequest};
use mooring_types::job::JobStatus;

use crate::session::Session;
use crate::wait::wait_for;

/// A JupyterLab job that executes, and how one reaches it.
#[derive(Debug, Clone)]
pub struct Notebook {
    /// The job.
    pub job: String,
    /// The gateway.
    pub gateway: String,
    /// What one pastes into a browser.
    pub access_url: String,
}

impl Notebook {
    /// Creates a gateway called `name`, submits the `jupyter` template to it under the same name, and waits until it is connected.
    ///
    /// # Errors
    /// OpCenter refuses, or something does not become ready in time.
    pub async fn launch(client: &Client, name: &str) -> Result<Self> {
        let job = SubmitRequest { name: name.to_owned(), template: "jupyter".into(), ..SubmitRequest::default() };
        let Session { job, gateway, access_url, .. } = Session::launch(client, job).await?;
        Ok(Self { job, gateway, access_url })
    }
}

/// Waits until a job executes.
///
/// # Errors
/// It ends, or does not execute within `limit`.
pub async fn executing(client: &Client, job: &str, limit: Duration) -> Result<JobView> {
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
///
/// # Errors
/// It does not within `limit`.
pub async fn ended(client: &Client, job: &str, limit: Duration) -> Result<JobView> {
    wait_for(&format!("the end of job {job}"), limit, async || {
        let view = client.job_get(job).await?;
        Ok(view.status.is_final().then_some(view))
    })
    .await
}

//! A JupyterLab job behind a gateway.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use mooring_api::Client;
use mooring_api::view::{GatewayCreateRequest, JobView, SubmitRequest};
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::JobStatus;

use crate::wait::wait_for;

/// How long a gateway, a job and their connection may each take.
const READY_WITHIN: Duration = Duration::from_secs(90);

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
        let request = GatewayCreateRequest { name: name.to_owned(), ..GatewayCreateRequest::default() };
        let gateway = client.gateway_create(&request).await.context("create a gateway")?.id.to_string();
        wait_for("the gateway", READY_WITHIN, async || {
            let status = client.gateway_get(&gateway).await?.status;
            Ok((status == GatewayStatus::Running).then_some(()))
        })
        .await?;
        let request = SubmitRequest {
            name: name.to_owned(),
            template: "jupyter".into(),
            gateway: gateway.clone(),
            ..SubmitRequest::default()
        };
        let job = client.job_submit(&request).await.context("submit a JupyterLab")?.id.to_string();
        executing(client, &job, READY_WITHIN).await?;
        let access_url = wait_for("the connection", READY_WITHIN, async || {
            let connections = client.gateway_get(&gateway).await?.connections;
            let ours = connections.into_iter().find(|connection| connection.job_id.as_str() == job);
            Ok(ours.filter(|connection| connection.state == "open").map(|connection| connection.access_url))
        })
        .await?;
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

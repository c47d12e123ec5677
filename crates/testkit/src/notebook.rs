//! A JupyterLab job behind a gateway.

use anyhow::Result;
use mooring_api::{Client, Submission};
use mooring_types::{GatewayId, JobId};

use crate::session::Session;

/// A JupyterLab job that executes, and how one reaches it.
#[derive(Debug, Clone)]
pub struct Notebook {
    /// The job.
    pub job: JobId,
    /// The gateway.
    pub gateway: GatewayId,
    /// The URL for a browser.
    pub access_url: String,
}

impl Notebook {
    /// Creates a gateway called `name`, submits the `jupyter` template to it under the same name,
    /// and waits until it is connected.
    pub async fn launch(client: &Client, name: &str) -> Result<Self> {
        let job = Submission { name: Some(name.parse()?), template: Some("jupyter".parse()?), ..Submission::default() };
        let Session { job, gateway, access_url, .. } = Session::launch(client, job).await?;
        Ok(Self { job, gateway, access_url })
    }
}

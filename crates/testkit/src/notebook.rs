//! A JupyterLab job behind a gateway.

use anyhow::Result;
use mooring_api::Client;
use mooring_api::view::SubmitRequest;

use crate::session::Session;

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

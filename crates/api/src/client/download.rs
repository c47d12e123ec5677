//! Downloads of a job's output files.

use bytes::Bytes;
use mooring_types::JobId;
use mooring_types::job::OutputFile;
use reqwest::{Method, Response};

use super::{Answer, Client, ClientError};
use crate::paths::{self, fill};

/// A file or an export that arrives in pieces.
#[derive(Debug)]
pub struct Download {
    pub(super) response: Response,
    pub(super) address: String,
}

impl Download {
    /// Returns the next piece; `None` at the end.
    pub async fn piece(&mut self) -> Answer<Option<Bytes>> {
        let piece = self.response.chunk().await;
        piece.map_err(|source| ClientError::Unreachable { address: self.address.clone(), source })
    }
}

impl Client {
    /// Downloads an output file of a job, or both streams in the order of the writes.
    pub async fn job_file(&self, id: &JobId, file: Option<&OutputFile>) -> Answer<Download> {
        let name = file.map_or_else(|| "output".to_owned(), ToString::to_string);
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", &name).finish();
        let path = format!("{}?{query}", fill(paths::JOB_FILES, &[id.as_str()]));
        self.download(&path).await
    }

    pub(super) async fn download(&self, path: &str) -> Answer<Download> {
        let response = self.send(self.request(Method::GET, path)).await?;
        Ok(Download { response, address: self.address().to_owned() })
    }
}

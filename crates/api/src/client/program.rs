//! The program that runs OpCenter.

use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};

use super::{Answer, Client, ClientError, Download};
use crate::paths;

impl Client {
    /// Downloads the program that runs OpCenter, unless it has the hash `known`. The answer has the
    /// hash: SHA-256, in hexadecimal digits.
    pub async fn program(&self, known: &str) -> Answer<Option<(String, Download)>> {
        let request = self.request(Method::GET, paths::PROGRAM).header(IF_NONE_MATCH, format!("\"{known}\""));
        let answered = request.send().await;
        let response =
            answered.map_err(|source| ClientError::Unreachable { address: self.address().to_owned(), source })?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let response = self.success(response).await?;
        let hash = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        let hash = hash.trim_matches('"').to_owned();
        Ok(Some((hash, Download { response, address: self.address().to_owned() })))
    }
}

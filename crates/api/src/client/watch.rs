//! Streams that OpCenter pushes: slices to agents and gateways, views to users.
//!
//! Slices are lines of JSON. Views are server-sent events: each event named `changed` has the whole
//! view, and an event named `ended` has the error that ended the watch. Both carry a sign of life
//! every [`KEEPALIVE`], so that a dead peer is noticed.

use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt, TryStreamExt};
use mooring_types::job::OutputFile;
use mooring_types::{GatewayId, HostId, JobId, Reference};
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::{Answer, Client, ClientError, unreadable};
use crate::error::ErrorBody;
use crate::paths::{self, fill};
use crate::view::{GatewayView, HostView, JobView, LogPiece};
use crate::watch::{KEEPALIVE, WATCH_CHANGED, WATCH_ENDED};

/// The silence of a stream after which its peer counts as dead.
const SILENCE_LIMIT: Duration = KEEPALIVE.saturating_mul(3);

/// A stream of slices; it ends with the connection.
pub type Slices<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;
/// A stream of an object's views, the present one first; it ends with the connection.
pub type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;

impl Client {
    /// Watches a job: its view now, and again after each change.
    pub async fn job_watch(&self, id: &JobId) -> Answer<Watch<JobView>> {
        self.views(&fill(paths::JOB_WATCH, &[id.as_str()])).await
    }

    /// Watches a gateway: its view now, and again after each change.
    pub async fn gateway_watch(&self, gateway: &Reference<GatewayId>) -> Answer<Watch<GatewayView>> {
        self.views(&fill(paths::GATEWAY_WATCH, &[&gateway.to_string()])).await
    }

    /// Watches a host: its view now, and again after each change.
    pub async fn host_watch(&self, host: &Reference<HostId>) -> Answer<Watch<HostView>> {
        self.views(&fill(paths::HOST_WATCH, &[&host.to_string()])).await
    }

    /// Watches an output file of a job from an offset: each piece as it is written. Without a file,
    /// both streams in the order of the writes.
    pub async fn job_log_watch(&self, id: &JobId, file: Option<&OutputFile>, offset: u64) -> Answer<Watch<LogPiece>> {
        let file = file.map(|file| format!("file={file}&")).unwrap_or_default();
        self.views(&format!("{}?{file}offset={offset}", fill(paths::JOB_LOG_WATCH, &[id.as_str()]))).await
    }

    async fn views<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> Answer<Watch<T>> {
        let chunks = self.chunks(path).await?;
        let what = path.to_owned();
        let views = chunks.eventsource().map(move |event| match event {
            Ok(event) => view(&what, &event),
            Err(EventStreamError::Transport(error)) => Err(error),
            Err(error) => Err(ClientError::Unreadable { what: what.clone(), source: error.to_string().into() }),
        });
        Ok(Box::pin(views))
    }

    /// Streams the lines of JSON that an agent or a gateway gets.
    pub(super) async fn slices<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> Answer<Slices<T>> {
        let chunks = self.chunks(path).await?;
        let what = path.to_owned();
        let lines = futures_util::stream::try_unfold((chunks, Vec::new()), move |(mut chunks, mut held)| {
            let what = what.clone();
            async move {
                loop {
                    if let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                        let rest = held.split_off(end + 1);
                        let line = std::mem::replace(&mut held, rest);
                        if line.len() > 1 {
                            let slice = serde_json::from_slice(&line).map_err(|source| unreadable(&what, source))?;
                            return Ok(Some((slice, (chunks, held))));
                        }
                        continue;
                    }
                    match chunks.try_next().await? {
                        None => return Ok(None),
                        Some(chunk) => held.extend_from_slice(&chunk),
                    }
                }
            }
        });
        Ok(Box::pin(lines))
    }

    /// Streams a response's bytes; silence for longer than [`SILENCE_LIMIT`] is an error.
    async fn chunks(&self, path: &str) -> Answer<Slices<Vec<u8>>> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let address = self.address().to_owned();
        let chunks = futures_util::stream::try_unfold(response.bytes_stream(), move |mut chunks| {
            let address = address.clone();
            async move {
                match tokio::time::timeout(SILENCE_LIMIT, chunks.next()).await {
                    Err(_) => Err(ClientError::Silent { address }),
                    Ok(None) => Ok(None),
                    Ok(Some(Err(source))) => Err(ClientError::Unreachable { address, source }),
                    Ok(Some(Ok(chunk))) => Ok(Some((chunk.to_vec(), chunks))),
                }
            }
        });
        Ok(Box::pin(chunks))
    }
}

fn view<T: DeserializeOwned>(what: &str, event: &Event) -> Result<T, ClientError> {
    let data = event.data.as_bytes();
    match event.event.as_str() {
        WATCH_CHANGED => serde_json::from_slice(data).map_err(|source| unreadable(what, source)),
        WATCH_ENDED => {
            let body: ErrorBody = serde_json::from_slice(data).map_err(|source| unreadable(what, source))?;
            Err(ClientError::Refused(body))
        }
        other => {
            let reason = format!("unknown event `{other}`");
            Err(ClientError::Unreadable { what: what.to_owned(), source: reason.into() })
        }
    }
}

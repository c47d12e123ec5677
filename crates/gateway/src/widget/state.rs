//! The watch of a job's state by an open page: a WebSocket with a message at once and at each
//! change.
//!
//! A request of HTTP would do, but a browser opens only six connections to one address. Several
//! tabs would leave none for the job's pages. The WebSocket is closed with 1012 when another
//! process serves, and the page connects to that process.

use std::future;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mooring_api::watch::{Call, CallerObservation, Target};
use mooring_types::JobId;
use mooring_types::job::{Action, JobStatus};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::plain;
use crate::client::ClientConnection;
use crate::gate::Caller;
use crate::http::headers;
use crate::route::Route;

/// Middleboxes drop connections that are silent for longer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time limit of sending a message to a page.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// The message of a page that somebody uses.
const USED: &str = "used";
/// The time for which such a page is a caller.
const CALL_TIME: Duration = Duration::from_secs(10);
/// The longest message of a page.
const MESSAGE_BYTES: usize = 1024;
const MARK_BYTES: usize = 8;

/// The state of a job, as a page gets it. A client of the port reads it without a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// Differs between jobs, and does not tell the job's id.
    mark: String,
    name: String,
    status: JobStatus,
    /// The job answers.
    responsive: bool,
    /// The job is an external job.
    external: bool,
    /// The actions that the job's status allows.
    possible: Vec<&'static str>,
    /// The job is suspended, and wakes when somebody uses the page.
    wakes: bool,
    /// The end of the job in a sentence, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

impl State {
    fn new(job: &JobId, route: &Route) -> Self {
        let status = route.job_status;
        let external = route.ending.is_none() && matches!(route.target, Target::Endpoints(_));
        let mut actions = vec![("cancel", Action::Cancel)];
        if !external {
            let moves = [("migrate", Action::Migrate), ("suspend", Action::Suspend), ("resume", Action::Resume)];
            actions.splice(0..0, moves);
        }
        Self {
            mark: mark(job),
            name: route.job_name.to_string(),
            status,
            responsive: matches!(status, JobStatus::Executing | JobStatus::Capturing),
            external,
            possible: actions
                .iter()
                .filter(|(_, action)| status.allows(*action).is_ok())
                .map(|(name, _)| *name)
                .collect(),
            wakes: is_waking(route),
            ended: route.outcome(),
        }
    }

    fn message(&self) -> Result<Message, Error> {
        let text = serde_json::to_string(self).map_err(|error| Error::Io(error.into()))?;
        Ok(Message::Text(Utf8Bytes::from(text)))
    }
}

/// Returns the mark of a job, which is the same on every page and from every process.
fn mark(job: &JobId) -> String {
    Sha256::digest(job.as_str()).iter().take(MARK_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns whether somebody at an open page wakes the job.
fn is_waking(route: &Route) -> bool {
    route.resumes && route.job_status == JobStatus::Suspended
}

/// A page that watches its job.
#[derive(Debug)]
pub(crate) struct Watcher {
    page: OnUpgrade,
    /// The client's address, behind the proxies that are trusted.
    address: IpAddr,
}

/// The response to a page's request to watch; with the watcher if it is accepted.
pub(super) fn begin(
    request: &mut Request<Incoming>,
    asked: &str,
    address: IpAddr,
) -> (Response<Full<Bytes>>, Option<Watcher>) {
    let headers = request.headers();
    let is_websocket = headers::upgrade(headers).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let is_current = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_websocket && is_current);
    let Some(accepted) = key.and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()) else {
        let mut refused = plain(StatusCode::UPGRADE_REQUIRED, "the state of a job is sent over a WebSocket");
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        refused.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return (refused, None);
    };
    if !is_of_page(headers, asked) {
        return (plain(StatusCode::FORBIDDEN, "only pages of the job may watch its state"), None);
    }
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    (answer, Some(Watcher { page: hyper::upgrade::on(request), address }))
}

/// Returns whether a page of the same address asks, or no browser. A proxy may tell the host that
/// its client has asked.
fn is_of_page(headers: &HeaderMap, asked: &str) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok()?.authority().cloned());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is = |host: &str| authority.as_ref().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host));
    host.is_some_and(is) || is(asked)
}

impl Watcher {
    /// Sends messages until the page leaves or another process serves, and is a caller for a while
    /// when the page says that somebody uses it.
    ///
    /// # Errors
    /// The page's connection broke.
    pub(crate) async fn serve(self, client: &ClientConnection) -> Result<(), Error> {
        let (job, upstream, role) = (&client.job, &client.upstream, &client.shared.role);
        let page = self.page.await.map_err(|error| Error::Io(std::io::Error::other(error)))?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
        let mut page = WebSocketStream::from_raw_socket(TokioIo::new(page), Role::Server, Some(config)).await;
        let mut routes = upstream.routes.clone();
        let mut sent = State::new(job, &routes.now());
        send(&mut page, sent.message()?).await?;
        let caller = CallerObservation { address: self.address, call: Call::Page };
        let mut call: Option<(Caller, Instant)> = None;
        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            tokio::select! {
                () = routes.changed() => {
                    if !is_waking(&routes.now()) {
                        call = None;
                    }
                    let state = State::new(job, &routes.now());
                    if state != sent {
                        send(&mut page, state.message()?).await?;
                        sent = state;
                    }
                }
                message = page.next() => match message {
                    None | Some(Ok(Message::Close(_))) => return Ok(()),
                    Some(Ok(Message::Text(text))) if text.as_str() == USED && is_waking(&routes.now()) => {
                        call = Some((upstream.gate.call(caller.clone()), Instant::now() + CALL_TIME));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                },
                () = ended(call.as_ref()) => call = None,
                _ = ping.tick() => send(&mut page, Message::Ping(Bytes::new())).await?,
                () = role.retired() => {
                    let restarting = CloseFrame { code: CloseCode::Restart, reason: Utf8Bytes::default() };
                    return send(&mut page, Message::Close(Some(restarting))).await;
                }
            }
        }
    }
}

/// Waits until the time of a call is over.
async fn ended(call: Option<&(Caller, Instant)>) {
    match call {
        Some((_, end)) => sleep_until(*end).await,
        None => future::pending().await,
    }
}

async fn send<S>(page: &mut WebSocketStream<S>, message: Message) -> Result<(), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    timeout(SEND_TIMEOUT, page.send(message)).await.unwrap_or_else(|limit| Err(Error::Io(limit.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_same_origin_may_watch() {
        for (origin, host, expected) in [
            (None, "lab:10000", true),
            (Some("http://lab:10000"), "lab:10000", true),
            (Some("http://LAB:10000"), "lab:10000", true),
            (Some("https://lab:10000"), "lab:10000", true),
            (Some("http://lab:10001"), "lab:10000", false),
            (Some("http://elsewhere"), "lab", false),
            (Some("https://elsewhere:9443"), "lab:10000", true),
            (Some("null"), "lab", false),
            (Some(""), "lab", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(is_of_page(&headers, "elsewhere:9443"), expected, "{origin:?} at {host}");
        }
    }
}

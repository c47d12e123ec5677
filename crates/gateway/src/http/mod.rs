//! HTTP between a client and its job: HTTP/1.1 or HTTP/2 from the client, and to the job what the
//! job speaks ([`speech`]). A client of HTTP/1.1 gets HTTP/1.1 alone.
//!
//! ```text
//!  client ─► hyper's server ─► proxy ─► headers ─► pool ─► hyper's client ─► gated stream ─► job
//!                                │                   │ no connection: the gate is closed, or the
//!                                │                   │ job refuses
//!                                │                   ▼
//!                                │                 held, within the hold limits; then 503 or the
//!                                │                 waiting page
//!                                ├─ the job has ended ─► farewell
//!                                ├─ 101 ─► upgrade ─► relay
//!                                └─ a path of the widget, or a page that gets it ─► widget
//! ```
//!
//! * Bodies stream in both directions. With `Expect: 100-continue` the client is asked for the body
//!   when the job asks for it (`expect`); other interim responses are passed on (`interim`).
//! * A request that was sent to the job stays with the job while the job is away.
//! * A client of HTTP/1 that ends its direction after its requests gets their answers. One that has
//!   left is known by a reset: at once if it has not read all, else when it is sent something. The
//!   kernel probes a silent connection after a minute. A browser ends no direction but by leaving,
//!   and its held request ends with it.
//! * A job may answer before it has read a request (`job_io`).
//! * Heads have 1000 lines and 512 KiB at most (`limits`), of requests and of answers.
//! * A request in progress is aborted when the job is replaced: the client's connection is closed,
//!   or the stream of HTTP/2 is reset. An idle connection stays.
//! * A request is retried if none of its bytes was sent. A request with a safe method (RFC 9110,
//!   section 9.2.1), without a body and a response, is also retried in two cases. Either the job
//!   was replaced, or a reused connection broke, which the job may have closed at the same moment.

mod aborted;
mod body;
mod client_io;
mod expect;
pub(crate) mod farewell;
pub mod headers;
mod interim;
mod job_io;
pub mod lengths;
pub mod limits;
mod logged;
pub mod origin;
mod own_part;
mod pool;
mod proxy;
pub(crate) mod redirect;
pub mod response;
pub mod speech;
mod targets;
mod trailers;
mod upgrade;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mooring_ops::Tasks;
use tokio_util::sync::CancellationToken;

pub use self::aborted::Aborted;
use self::client_io::{ClientIo, RefusedHead};
use self::limits::{HEAD_BYTES, HEAD_LINES, HEADER_LIST_BYTES};
use self::proxy::Proxy;
use crate::client::ClientConnection;
use crate::metrics::Budget;
use crate::process_role::ProcessRole;
use crate::upstream::Connected;

/// The number of concurrent requests on one connection of HTTP/2.
const STREAMS_MAX: u32 = 200;
/// The time for which an idle connection of a retired process stays open.
const RETIRED_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves HTTP/1 until the client ends or its upgraded connection does.
///
/// The first request goes over `connected`, if it is given.
///
/// # Errors
/// A side broke, or the client violates the protocol.
pub async fn serve_http1(client: ClientConnection, connected: Option<Connected>) -> io::Result<()> {
    let stop = CancellationToken::new();
    let _stop_upstreams = stop.clone().drop_guard();
    let proxy = Proxy::new(client, stop);
    if let Some(connected) = connected {
        proxy.use_first(connected).await?;
    }
    let socket = proxy.client().socket.clone();
    let heads = proxy.client().heads();
    let requests = Some(proxy.requests().clone());
    let interim = proxy.interim().clone();
    let io = ClientIo::new(socket.clone(), requests, interim, heads, proxy.busy(), proxy.trailers().clone());
    let service = service_fn(|request| {
        let proxy = proxy.clone();
        async move {
            tokio::select! {
                response = proxy.respond(request) => response,
                () = proxy.client().socket.until_reset() => Err(Aborted::ClientLeft),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection.with_upgrades());
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        // Also a response that is under way ends with the visit.
        () = proxy.expelled() => return Ok(()),
        // A request that comes meanwhile is answered with `Connection: close`. An idle connection
        // is not closed at once, since its client may be sending a request.
        () = retired_for(&proxy.client().shared.role, RETIRED_IDLE_TIMEOUT) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = proxy.idle_for(proxy.client().shared.budgets.limits().idle) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match outcome {
        _ if let Some(refused) = proxy.requests().refused() => {
            if refused == RefusedHead::OverBudget {
                proxy.client().shared.metrics.over_budget(&proxy.client().job, Budget::Heads);
            }
            return socket.close_gracefully().await;
        }
        // hyper has refused the request: the client has to be able to read why.
        Err(error) if error.is_parse() => return socket.close_gracefully().await,
        outcome => outcome.map_err(io::Error::other)?,
    }
    match proxy.take_upgrade() {
        Some(upgrade) => tokio::select! {
            outcome = upgrade.serve(proxy.client()) => outcome,
            () = proxy.expelled() => Ok(()),
            () = proxy.shut_out() => Err(io::Error::other(Aborted::Refused)),
        },
        None => socket.close_gracefully().await,
    }
}

/// Serves HTTP/2 until the client ends.
///
/// # Errors
/// A side broke, or the client violates the protocol.
pub async fn serve_http2(client: ClientConnection) -> io::Result<()> {
    let stop = CancellationToken::new();
    let _stop_upstreams = stop.clone().drop_guard();
    let proxy = Proxy::new(client, stop);
    let shared = proxy.client().shared.clone();
    let heads = proxy.client().heads();
    let (socket, interim) = (proxy.client().socket.clone(), proxy.interim().clone());
    let io = ClientIo::new(socket, None, interim, heads, proxy.busy(), proxy.trailers().clone());
    let expelled = proxy.clone();
    let service = service_fn(|request| {
        let proxy = proxy.clone();
        async move { proxy.respond(request).await }
    });
    let connection = http2::Builder::new(TaskExecutor(shared.tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = expelled.expelled() => return Ok(()),
        () = shared.role.retired() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    outcome.map_err(io::Error::other)
}

/// Waits until another process has served for a time.
async fn retired_for(role: &ProcessRole, time: Duration) {
    role.retired().await;
    tokio::time::sleep(time).await;
}

/// Runs the tasks of hyper as owned tasks.
#[derive(Debug, Clone)]
pub(super) struct TaskExecutor(Tasks);

impl<F> hyper::rt::Executor<F> for TaskExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn("stream", task);
    }
}

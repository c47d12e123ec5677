//! HTTP between a client and its job: HTTP/1.1 or HTTP/2 on the client's side, HTTP/1.1 on the job's.
//!
//! ```text
//!  client ─► hyper's server ─► answer ─► headers ─► pool ─► hyper's client ─► gated stream ─► job
//!                                │                    │ none, and the gate is closed or the job refuses
//!                                │                    ▼
//!                                │                  hold: for a while, a number of them; then 503 or the waiting page
//!                                ├─ the job has ended ─► farewell
//!                                ├─ 101 ─► upgrade ─► relay
//!                                └─ a path of the widget, or a page for it to go into ─► widget
//! ```
//!
//! Bodies stream through in both directions. One that a client asks about first is not asked for before its job wants it (`expect`), and
//! what a job says before its answer goes on as well (`interim`). A request that has been sent to the job stays with it while it is
//! away. When the job is another one afterwards, what was under way is aborted: the client's connection is closed, a stream of HTTP/2 is
//! reset. A connection on which nothing was under way stays. A request is sent a second time only if not a byte of it was sent before,
//! or if it changes nothing, has no answer yet, and went to a job that is another one now or over an old connection, which the job may
//! have closed at the same moment.

pub mod answer;
mod body;
mod client_io;
mod expect;
pub(crate) mod farewell;
pub mod headers;
mod interim;
pub mod lengths;
mod logged;
mod pool;
mod proxy;
mod upgrade;

use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mooring_ops::Tasks;
use mooring_types::JobId;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::client_io::ClientIo;
use self::proxy::Proxy;
use crate::connect::{Connected, Way};
use crate::metrics::Metrics;
use crate::relay;
use crate::seat::Seat;
use crate::widget::Desk;

/// The longest head of a request.
const HEAD_MAX: usize = 64 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 128;
/// The most requests at a time on one connection of HTTP/2.
const STREAMS_MAX: u32 = 200;
/// How long a client of a retired process may send nothing on an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Why a request ends without an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum Aborted {
    /// The job that it was sent to is no more.
    #[error("the job is another one now")]
    JobIsAnother,
    /// The job's side broke in the middle of the answer.
    #[error("the job broke off its answer")]
    JobBroke,
    /// Nobody waits for the answer.
    #[error("the client has gone")]
    ClientLeft,
    /// The page could not be followed.
    #[error("the page can't be read")]
    Page,
}

/// A client that speaks HTTP.
#[derive(Debug)]
pub struct Session {
    /// Its socket.
    pub client: Arc<TcpStream>,
    /// Its address.
    pub address: SocketAddr,
    /// The way to the job.
    pub way: Way,
    /// The job.
    pub job: JobId,
    /// Who owns what runs for it.
    pub tasks: Tasks,
    /// Where its requests are counted.
    pub metrics: Metrics,
    /// Whether another process serves by now.
    pub seat: Arc<Seat>,
    /// The widget's way to OpCenter.
    pub desk: Desk,
}

impl Session {
    /// Serves HTTP/1 until the client or an upgrade ends; first over `connected`, if that was made already.
    ///
    /// # Errors
    /// A side broke, or the client does not keep to the protocol.
    pub async fn serve_http1(self, connected: Option<Connected>) -> io::Result<()> {
        let stop = CancellationToken::new();
        let _stop_with_this = stop.clone().drop_guard();
        let proxy = Proxy::new(self, stop);
        if let Some(connected) = connected {
            proxy.use_first(connected).await?;
        }
        let io = ClientIo::new(proxy.session().client.clone(), Some(proxy.requests().clone()), proxy.interim().clone());
        let service = service_fn(|request| {
            let proxy = proxy.clone();
            async move {
                tokio::select! {
                    answer = proxy.answer(request) => answer,
                    () = left(&proxy.session().client) => Err(Aborted::ClientLeft),
                }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(HEAD_MAX)
            .max_header_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection.with_upgrades());
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            // A request that comes meanwhile is answered, and told to be the last; an idle connection is not closed at once, since its
            // client may just be sending one.
            () = retired_for(&proxy.session().seat, IDLE_LIMIT) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match outcome {
            // Refused: the client is to read why.
            Err(error) if error.is_parse() => return relay::linger(&proxy.session().client).await,
            outcome => outcome.map_err(io::Error::other)?,
        }
        match proxy.take_upgrade() {
            Some(upgrade) => upgrade.carry(proxy.session()).await,
            None => relay::linger(&proxy.session().client).await,
        }
    }

    /// Serves HTTP/2 until the client ends.
    ///
    /// # Errors
    /// A side broke, or the client does not keep to the protocol.
    pub async fn serve_http2(self) -> io::Result<()> {
        let stop = CancellationToken::new();
        let _stop_with_this = stop.clone().drop_guard();
        let proxy = Proxy::new(self, stop);
        let io = ClientIo::new(proxy.session().client.clone(), None, proxy.interim().clone());
        let service = service_fn(|request| {
            let proxy = proxy.clone();
            async move { proxy.answer(request).await }
        });
        let connection = http2::Builder::new(Owner(proxy.session().tasks.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_MAX as u32)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = proxy.session().seat.retired() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        outcome.map_err(io::Error::other)
    }
}

/// Resolves when the client will send nothing more, whatever of it has not been read yet.
async fn left(client: &TcpStream) {
    // Waiting for urgent data ends with the read direction as well, and is not woken by ordinary data.
    if client.ready(Interest::PRIORITY).await.is_ok_and(|ready| !ready.is_read_closed()) {
        future::pending().await
    }
}

/// Resolves when another process has served for so long.
async fn retired_for(seat: &Seat, time: Duration) {
    seat.retired().await;
    tokio::time::sleep(time).await;
}

/// Runs hyper's tasks as owned ones.
#[derive(Debug, Clone)]
struct Owner(Tasks);

impl<F> hyper::rt::Executor<F> for Owner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn("stream", task);
    }
}

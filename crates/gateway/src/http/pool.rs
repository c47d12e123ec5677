//! The connections of one client to its job that carry requests.
//!
//! A client of HTTP/1 has one. A client of HTTP/2 has one for each concurrent request, or one of
//! HTTP/2 for all of them. A connection of an earlier epoch is not reused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use mooring_ops::Tasks;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::TaskExecutor;
use super::expect::{ClientBody, Unasked};
use super::job_io::{AnswerHead, JobIo};
use super::limits::{HEAD_BYTES, HEAD_LINES, HEADER_LIST_BYTES};
use super::speech::JobHttp;
use crate::upstream::{Connected, Upstream};

/// The body of a request: the client's, or none.
pub(crate) type RequestBody = Either<ClientBody, Empty<Bytes>>;

/// Time limit for a connection to be ready after a response; then it is replaced.
const READY_TIMEOUT: Duration = Duration::from_millis(200);

/// Sends requests over a connection to the job.
#[derive(Debug)]
pub(crate) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A request that was not sent, with the reason.
pub(crate) type NotSent = TrySendError<Request<RequestBody>>;

impl Sender {
    pub(crate) fn version(&self) -> JobHttp {
        match self {
            Self::Http1(_) => JobHttp::Http1,
            Self::Http2(_) => JobHttp::Http2,
        }
    }

    /// Sends a request, which has the form of HTTP/1.1, and returns the head of its answer.
    pub(crate) async fn send(&mut self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, NotSent> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => {
                name_host_in_target(&mut request);
                sender.try_send_request(request).await
            }
        }
    }

    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => matches!(timeout(READY_TIMEOUT, sender.ready()).await, Ok(Ok(()))),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }
}

/// HTTP/2 has the host in the target, and no headers about the connection (RFC 9113, section
/// 8.2.2).
fn name_host_in_target(request: &mut Request<RequestBody>) {
    let host = request.headers_mut().remove(header::HOST);
    request.headers_mut().remove(header::CONNECTION);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    if let Ok(target) = Uri::builder().scheme("http").authority(host).path_and_query(path).build() {
        *request.uri_mut() = target;
    }
}

/// A connection to the job that carries requests.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pub(crate) sender: Sender,
    /// The route's epoch when the connection was made.
    pub(crate) epoch: u64,
    /// True once the connection has carried a request.
    pub(crate) used: bool,
    /// Set if the connection carries a response to a request without its body: it can't be reused.
    pub(crate) unasked: Option<Unasked>,
    /// The head of the answer that comes next.
    pub(crate) head: AnswerHead,
}

impl PooledConnection {
    fn new(sender: Sender, epoch: u64, head: AnswerHead) -> Self {
        Self { sender, epoch, used: false, unasked: None, head }
    }

    fn used(self) -> Self {
        Self { used: true, ..self }
    }
}

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct Pool {
    upstream: Upstream,
    tasks: Tasks,
    stop: CancellationToken,
    idle: Mutex<Vec<PooledConnection>>,
    /// The connection of HTTP/2 and its epoch.
    shared: Mutex<Option<(http2::SendRequest<RequestBody>, u64)>>,
}

impl Pool {
    /// An empty pool; its connections end when `stop` is cancelled.
    pub(crate) fn new(upstream: Upstream, tasks: Tasks, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { upstream, tasks, stop, idle: Mutex::default(), shared: Mutex::default() })
    }

    /// Takes a connection that can carry a request of this version now, if there is one.
    pub(crate) async fn take(&self, version: JobHttp) -> Option<PooledConnection> {
        loop {
            let mut pooled = match version {
                JobHttp::Http1 => self.idle().pop()?,
                JobHttp::Http2 => {
                    let (sender, epoch) = self.shared.lock().clone()?;
                    PooledConnection::new(Sender::Http2(sender), epoch, AnswerHead::default()).used()
                }
            };
            if pooled.epoch == self.upstream.routes.now().epoch && pooled.sender.is_ready().await {
                return Some(pooled);
            }
            if version == JobHttp::Http2 {
                *self.shared.lock() = None;
            }
        }
    }

    /// Gives back a connection whose response has ended.
    pub(crate) fn give_back(&self, pooled: PooledConnection) {
        if pooled.unasked.is_none() && pooled.sender.version() == JobHttp::Http1 {
            self.idle().push(pooled);
        }
    }

    /// Prepares a new connection for requests.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) async fn begin(&self, connected: Connected, version: JobHttp) -> io::Result<PooledConnection> {
        match version {
            JobHttp::Http1 => self.begin_http1(connected).await,
            JobHttp::Http2 => self.begin_http2(connected).await,
        }
    }

    async fn begin_http1(&self, connected: Connected) -> io::Result<PooledConnection> {
        let Connected { stream, epoch } = connected;
        let head = AnswerHead::default();
        let io = TokioIo::new(JobIo::new(stream, head.clone()));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES).max_header_size(HEAD_BYTES).max_headers(HEAD_LINES);
        let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        self.run(connection.with_upgrades());
        Ok(PooledConnection::new(Sender::Http1(sender), epoch, head))
    }

    async fn begin_http2(&self, connected: Connected) -> io::Result<PooledConnection> {
        let Connected { stream, epoch } = connected;
        let head = AnswerHead::default();
        let io = TokioIo::new(JobIo::new(stream, head.clone()));
        let mut builder = http2::Builder::new(TaskExecutor(self.tasks.clone()));
        builder.timer(TokioTimer::new()).max_header_list_size(HEADER_LIST_BYTES);
        let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        self.run(connection);
        *self.shared.lock() = Some((sender.clone(), epoch));
        Ok(PooledConnection::new(Sender::Http2(sender), epoch, AnswerHead::default()))
    }

    /// Runs a connection until it or the client's ends.
    fn run(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn("upstream", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = connection => if let Err(error) = outcome {
                    tracing::debug!(%error, "a connection to a job broke");
                },
            }
        });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PooledConnection>> {
        self.idle.lock()
    }
}

//! The connections of one client to its job over which requests go.
//!
//! A client of HTTP/1 has one, a client of HTTP/2 as many as it has requests at a time. A connection that was made when the job was
//! another one is not used again.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mooring_ops::Tasks;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::expect::{ClientBody, Unasked};
use crate::upstream::{Connected, Upstream};

/// The body of a request: the client's, or none.
pub(crate) type RequestBody = Either<ClientBody, Empty<Bytes>>;

/// How long a connection may take to be ready again after a response has ended; one that is not is replaced.
const READY_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest head of a response.
const RESPONSE_HEAD_BYTES: usize = 256 * 1024;

/// A connection to the job that takes a request.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// The route's epoch when it was made.
    pub(crate) epoch: u64,
    /// Whether it has carried a request before.
    pub(crate) used: bool,
    /// It answers a request whose body it never gets: it is the last one.
    pub(crate) unasked: Option<Unasked>,
}

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct Pool {
    upstream: Upstream,
    tasks: Tasks,
    stop: CancellationToken,
    idle: Mutex<Vec<PooledConnection>>,
}

impl Pool {
    /// No connections; those that are made later end when `stop` is cancelled.
    pub(crate) fn new(upstream: Upstream, tasks: Tasks, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { upstream, tasks, stop, idle: Mutex::default() })
    }

    /// A connection that is there already.
    pub(crate) async fn take(&self) -> Option<PooledConnection> {
        loop {
            let mut pooled = self.idle().pop()?;
            let ready = timeout(READY_TIMEOUT, pooled.sender.ready()).await;
            if pooled.epoch == self.upstream.routes.now().epoch && matches!(ready, Ok(Ok(()))) {
                return Some(pooled);
            }
        }
    }

    /// Gives a connection back whose response has ended.
    pub(crate) fn give_back(&self, pooled: PooledConnection) {
        if pooled.unasked.is_none() {
            self.idle().push(pooled);
        }
    }

    /// Makes ready a connection that was just made.
    ///
    /// # Errors
    /// It is broken already.
    pub(crate) async fn begin(&self, connected: Connected) -> io::Result<PooledConnection> {
        let Connected { stream, epoch } = connected;
        let handshake = http1::Builder::new().max_buf_size(RESPONSE_HEAD_BYTES).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let stop = self.stop.clone();
        self.tasks.spawn("upstream", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = connection.with_upgrades() => if let Err(error) = outcome {
                    tracing::debug!(%error, "a connection to a job broke");
                },
            }
        });
        Ok(PooledConnection { sender, epoch, used: false, unasked: None })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PooledConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

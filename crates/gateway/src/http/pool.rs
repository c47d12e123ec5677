//! The connections of one client to its job that carry requests.
//!
//! A client of HTTP/1 has one, a client of HTTP/2 one for each concurrent request. A connection of
//! an earlier epoch is not reused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mooring_ops::Tasks;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::expect::{ClientBody, Unasked};
use crate::upstream::{Connected, Upstream};

/// The body of a request: the client's, or none.
pub(crate) type RequestBody = Either<ClientBody, Empty<Bytes>>;

/// Time limit for a connection to be ready after a response; then it is replaced.
const READY_TIMEOUT: Duration = Duration::from_millis(200);
const RESPONSE_HEAD_BYTES: usize = 256 * 1024;

/// A connection to the job that carries requests.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// The route's epoch when the connection was made.
    pub(crate) epoch: u64,
    /// True once the connection has carried a request.
    pub(crate) used: bool,
    /// Set if the connection carries a response to a request without its body: it can't be reused.
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
    /// An empty pool; its connections end when `stop` is cancelled.
    pub(crate) fn new(upstream: Upstream, tasks: Tasks, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { upstream, tasks, stop, idle: Mutex::default() })
    }

    /// Takes an idle connection, if there is one.
    pub(crate) async fn take(&self) -> Option<PooledConnection> {
        loop {
            let mut pooled = self.idle().pop()?;
            let ready = timeout(READY_TIMEOUT, pooled.sender.ready()).await;
            if pooled.epoch == self.upstream.routes.now().epoch && matches!(ready, Ok(Ok(()))) {
                return Some(pooled);
            }
        }
    }

    /// Gives back a connection whose response has ended.
    pub(crate) fn give_back(&self, pooled: PooledConnection) {
        if pooled.unasked.is_none() {
            self.idle().push(pooled);
        }
    }

    /// Prepares a new connection for requests.
    ///
    /// # Errors
    /// The connection is broken.
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
        self.idle.lock()
    }
}

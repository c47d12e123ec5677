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
use crate::connect::{Connected, Way};

/// The body of a request: the client's, or none.
pub(crate) type RequestBody = Either<ClientBody, Empty<Bytes>>;

/// How long a connection may take to be ready again after a response has ended; one that is not is replaced.
const READY_LIMIT: Duration = Duration::from_millis(200);
/// The longest head of a response.
const HEAD_MAX: usize = 256 * 1024;

/// A connection to the job that takes a request.
#[derive(Debug)]
pub(crate) struct Upstream {
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
    way: Way,
    tasks: Tasks,
    stop: CancellationToken,
    idle: Mutex<Vec<Upstream>>,
}

impl Pool {
    /// No connections; those that are made later end when `stop` is cancelled.
    pub(crate) fn new(way: Way, tasks: Tasks, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { way, tasks, stop, idle: Mutex::default() })
    }

    /// A connection that is there already.
    pub(crate) async fn take(&self) -> Option<Upstream> {
        loop {
            let mut upstream = self.idle().pop()?;
            let ready = timeout(READY_LIMIT, upstream.sender.ready()).await;
            if upstream.epoch == self.way.routes.now().epoch && matches!(ready, Ok(Ok(()))) {
                return Some(upstream);
            }
        }
    }

    /// Gives a connection back whose response has ended.
    pub(crate) fn give_back(&self, upstream: Upstream) {
        if upstream.unasked.is_none() {
            self.idle().push(upstream);
        }
    }

    /// Makes ready a connection that was just made.
    ///
    /// # Errors
    /// It is broken already.
    pub(crate) async fn begin(&self, connected: Connected) -> io::Result<Upstream> {
        let Connected { stream, epoch } = connected;
        let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream));
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
        Ok(Upstream { sender, epoch, used: false, unasked: None })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Upstream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The role of a process among those of its gateway: during a restart a gateway has several.
//!
//! ```text
//!  serving ──► handing over ──► retired ──► ended, with its last connection
//!     ▲             │
//!     └─────────────┘ the successor has failed
//! ```
//!
//! One process at a time serves: it opens listeners, writes the slice to disk and answers
//! successors. While it hands over it opens no listener, since the successor would not get it. A
//! retired process accepts no clients. It still watches and reports, and applies slices to the
//! connections that it has.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The role of a process among those of its gateway.
#[derive(Debug)]
pub struct ProcessRole {
    /// A number that no other process of the gateway has.
    pub incarnation: u64,
    /// The incarnation of the process that served before and has died.
    pub replaces: Option<u64>,
    /// The sockets of a predecessor that no slice has used yet.
    inherited: Mutex<HashMap<SocketAddr, StdListener>>,
    handing_over: AtomicBool,
    retired: CancellationToken,
    work: TaskTracker,
}

impl ProcessRole {
    /// The role of a process that serves, with the listening sockets of its predecessor.
    #[must_use]
    pub fn new(incarnation: u64, replaces: Option<u64>, inherited: HashMap<SocketAddr, StdListener>) -> Self {
        Self {
            incarnation,
            replaces,
            inherited: Mutex::new(inherited),
            handing_over: AtomicBool::new(false),
            retired: CancellationToken::new(),
            work: TaskTracker::new(),
        }
    }

    /// Returns whether the process may open listeners.
    #[must_use]
    pub fn may_listen(&self) -> bool {
        !self.is_retired() && !self.handing_over.load(Ordering::SeqCst)
    }

    /// Returns whether another process serves.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Waits until another process serves. Then listeners stop, and idle HTTP connections close.
    pub async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Begins work that a retired process has to finish: accepting, and each client connection.
    pub fn begin_work(&self) -> TaskTrackerToken {
        self.work.token()
    }

    /// Waits until the process is retired and has no work.
    pub async fn done(&self) {
        self.retired().await;
        self.work.close();
        self.work.wait().await;
    }

    /// Takes the predecessor's listening socket for an address.
    #[must_use]
    pub fn inherit(&self, address: SocketAddr) -> Option<TcpListener> {
        let socket = self.inherited().remove(&address)?;
        let listener = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
        listener.inspect_err(|error| tracing::warn!(%error, "can't take over the socket of {address}")).ok()
    }

    /// Closes the predecessor's sockets that no slice has used.
    pub(crate) fn close_inherited(&self) {
        let unused = std::mem::take(&mut *self.inherited());
        for address in unused.keys() {
            tracing::info!(%address, "{address} was handed over and is not connected any more");
        }
    }

    /// Opens no more listeners, for a successor to get all of them.
    pub(crate) fn begin_hand_over(&self) {
        self.handing_over.store(true, Ordering::SeqCst);
    }

    /// Serves on after a failed hand-over.
    pub(crate) fn serve_on(&self) {
        self.handing_over.store(false, Ordering::SeqCst);
    }

    /// Leaves serving to the successor.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
    }

    fn inherited(&self) -> MutexGuard<'_, HashMap<SocketAddr, StdListener>> {
        self.inherited.lock()
    }
}

impl Default for ProcessRole {
    fn default() -> Self {
        Self::new(rand::random(), None, HashMap::new())
    }
}

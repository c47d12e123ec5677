//! Which of a gateway's processes this one is: while a gateway is restarted it has several.
//!
//! ```text
//!  serving ──► handing over ──► retired ──► ended, with its last connection
//!     ▲             │
//!     └─────────────┘ the successor has failed
//! ```
//!
//! One process at a time serves: it opens listeners, keeps the slice on disk and has the door at which a successor asks. While it hands
//! over it opens no listener, since that one would be missing from what it gives. A retired process accepts nobody; it goes on watching,
//! reporting and obeying for the connections that it has.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The place of a process among those of its gateway.
#[derive(Debug)]
pub struct Seat {
    /// Tells it from the gateway's other processes.
    pub incarnation: u64,
    /// The process that served before and has died.
    pub replaces: Option<u64>,
    /// What a predecessor has handed over and no slice has asked for yet.
    inherited: Mutex<HashMap<SocketAddr, StdListener>>,
    handing_over: AtomicBool,
    retired: CancellationToken,
    work: TaskTracker,
}

impl Seat {
    /// The place of a process that serves, with the listening sockets that it was given.
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

    /// Whether the process may open listeners.
    #[must_use]
    pub fn may_listen(&self) -> bool {
        !self.is_retired() && !self.handing_over.load(Ordering::SeqCst)
    }

    /// Whether another process serves.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Resolves once another process serves: what accepts ends then, and what idles between two requests is closed.
    pub async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// To be held by whatever accepts and, from the moment it is accepted, by every connection.
    pub fn at_work(&self) -> TaskTrackerToken {
        self.work.token()
    }

    /// Resolves once a retired process has nothing to do any more.
    pub async fn done(&self) {
        self.retired().await;
        self.work.close();
        self.work.wait().await;
    }

    /// The listening socket that was handed over for an address, the first time.
    #[must_use]
    pub fn inherit(&self, address: SocketAddr) -> Option<TcpListener> {
        let socket = self.inherited().remove(&address)?;
        let listener = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
        listener.inspect_err(|error| tracing::warn!(%error, "the socket of {address} can't be taken over")).ok()
    }

    /// Closes what was handed over and is not wanted.
    pub(crate) fn disinherit(&self) {
        let left = std::mem::take(&mut *self.inherited());
        for address in left.keys() {
            tracing::info!(%address, "{address} was handed over and is not connected any more");
        }
    }

    /// Keeps listeners as they are, for a successor.
    pub(crate) fn begin_to_hand_over(&self) {
        self.handing_over.store(true, Ordering::SeqCst);
    }

    /// Goes on serving.
    pub(crate) fn keep(&self) {
        self.handing_over.store(false, Ordering::SeqCst);
    }

    /// Leaves serving to the successor.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
    }

    fn inherited(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, StdListener>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Seat {
    fn default() -> Self {
        Self::new(rand::random(), None, HashMap::new())
    }
}

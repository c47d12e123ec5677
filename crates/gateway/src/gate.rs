//! The gate of a job: it holds the bytes for the job while the job floats.
//!
//! Every call that makes the kernel send a segment to a job runs inside the gate: a write, a
//! shutdown, a connection attempt. When [`Gate::close`] returns, no such call is in progress, and
//! the kernel gets nothing new to send. Then [`Gate::settle`] waits for what the kernel has.
//! Bytes that are unacknowledged at the freeze would be retransmitted only after TCP's back-off.
//! That takes as long after the job's return as the job was away.
//!
//! A job that does not read leaves bytes unacknowledged all the same. While the gate is open the
//! kernel retransmits after at most a second. It gives a connection up after 15 attempts, so the
//! attempts are far apart while the gate is closed. With the kernel's own limit of two minutes a
//! connection with unacknowledged bytes lasts a quarter of an hour. One without lasts for ever.
//!
//! Meanwhile the gate reads what the job has written: see [`Gate::read_ahead`].
//!
//! The gate also counts the held requests of all connections of the job: see [`Gate::hold`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mooring_api::watch::{CallerObservation, UnacceptedConnection};
use mooring_linux::tcp;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::job_socket::JobSocket;
use crate::read_ahead::ReadAhead;

/// Time limit of [`Gate::settle`].
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest retransmission timeout of a connection while the gate is open.
const RETRANSMISSION_OPEN: Duration = Duration::from_secs(1);
/// The longest retransmission timeout while the gate is closed: the kernel's own default.
const RETRANSMISSION_CLOSED: Duration = Duration::from_secs(120);
/// The time between two reads of the send queues in [`Gate::settle`].
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);
/// Time limit of [`Gate::read_ahead`]: the job is frozen by then, and sends no more.
const READ_AHEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two rounds of [`Gate::read_ahead`].
const READ_AHEAD_INTERVAL: Duration = Duration::from_millis(2);

/// The gate of one job.
#[derive(Debug)]
pub struct Gate {
    /// Read during every call that sends, written to close: the lock is the barrier.
    open: RwLock<bool>,
    changed: watch::Sender<bool>,
    sockets: Mutex<Sockets>,
    held: AtomicU32,
    callers: Mutex<Callers>,
    /// Notified when the first caller appears, and when the last one is gone.
    called: Arc<Notify>,
}

/// The clients that want the job, in the order of their calls.
#[derive(Debug, Default)]
struct Callers {
    next_key: u64,
    present: BTreeMap<u64, CallerObservation>,
}

/// The sockets of the connections to the job.
#[derive(Debug, Default)]
struct Sockets {
    next_key: u64,
    open: HashMap<u64, OpenSocket>,
    /// Sockets without an owner that stay open while the gate is closed, since closing them sends.
    retired: Vec<u64>,
    connecting: usize,
}

/// A socket that the gate watches, and its bytes that were read ahead.
#[derive(Debug)]
struct OpenSocket {
    socket: OwnedFd,
    read_ahead: Arc<ReadAhead>,
    /// The owner of the connection, once it is made.
    owner: Weak<JobSocket>,
}

/// A connection to the job that the gate watches until it is dropped.
///
/// The gate has a descriptor of the socket, too. A connection that is dropped while the gate is
/// closed is therefore closed when the gate opens. The owner drops its own descriptor first.
#[derive(Debug)]
pub struct WatchedSocket {
    gate: Arc<Gate>,
    key: u64,
}

/// A connection attempt that [`Gate::settle`] waits for; it ends by drop.
#[derive(Debug)]
pub struct Connecting(Arc<Gate>);

/// The place of one held request; it is freed by drop.
#[derive(Debug)]
pub struct HeldRequest(Arc<Gate>);

/// A person or program that wants the job to execute; it ends by drop.
#[derive(Debug)]
pub struct Caller {
    gate: Arc<Gate>,
    key: u64,
}

impl Gate {
    /// Creates a closed gate. `called` is notified when the first caller appears, and when the last
    /// one is gone.
    #[must_use]
    pub fn new(called: Arc<Notify>) -> Arc<Self> {
        let (changed, _) = watch::channel(false);
        Arc::new(Self {
            open: RwLock::new(false),
            changed,
            sockets: Mutex::default(),
            held: AtomicU32::new(0),
            callers: Mutex::default(),
            called,
        })
    }

    /// Adds a caller; [`crate::wake`] decides who is one.
    pub fn call(self: &Arc<Self>, caller: CallerObservation) -> Caller {
        let mut callers = self.callers.lock();
        let key = callers.next_key;
        callers.next_key += 1;
        if callers.present.is_empty() {
            self.called.notify_one();
        }
        callers.present.insert(key, caller);
        drop(callers);
        Caller { gate: self.clone(), key }
    }

    /// The number of callers, and the first of them.
    #[must_use]
    pub fn callers(&self) -> (u32, Option<CallerObservation>) {
        let callers = self.callers.lock();
        let first = callers.present.first_key_value().map(|(_, caller)| caller.clone());
        (u32::try_from(callers.present.len()).unwrap_or(u32::MAX), first)
    }

    /// Opens the gate.
    pub fn open(&self) {
        if self.is_open() {
            return;
        }
        self.limit_retransmission(RETRANSMISSION_OPEN);
        *self.open.write() = true;
        self.changed.send_replace(true);
        self.pass(|| {
            let mut sockets = self.sockets();
            // The end of a connection may be read only now.
            sockets.open.values().for_each(|open| open.read_ahead.wake());
            for key in std::mem::take(&mut sockets.retired) {
                sockets.open.remove(&key);
            }
        });
    }

    /// Closes the gate; returns when no call that sends is in progress.
    pub fn close(&self) {
        if !self.is_open() {
            return;
        }
        *self.open.write() = false;
        self.changed.send_replace(false);
        self.limit_retransmission(RETRANSMISSION_CLOSED);
    }

    /// Returns whether the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.read()
    }

    /// Returns whether bytes are held, without the lock that calls which send have.
    pub(crate) fn is_held(&self) -> bool {
        !*self.changed.borrow()
    }

    /// Waits until the gate is open.
    pub async fn opened(&self) {
        // The sender lives as long as the gate, so waiting can't fail.
        let _ = self.changed.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until the gate is closed.
    pub async fn closed(&self) {
        let _ = self.changed.subscribe().wait_for(|open| !*open).await;
    }

    /// Runs a call that may send, unless the gate is closed. The call must not block.
    pub fn pass<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let open = self.open.read();
        open.then(call)
    }

    /// Announces a connection attempt, unless the gate is closed.
    pub fn connecting(self: &Arc<Self>) -> Option<Connecting> {
        self.pass(|| {
            self.sockets().connecting += 1;
            Connecting(self.clone())
        })
    }

    /// Watches the socket of a connection to the job, best before it connects.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(crate) fn watch(
        self: &Arc<Self>,
        socket: &impl AsFd,
        read_ahead: &Arc<ReadAhead>,
    ) -> io::Result<WatchedSocket> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        limit_retransmission(&socket, RETRANSMISSION_OPEN);
        let mut sockets = self.sockets();
        let key = sockets.next_key;
        sockets.next_key += 1;
        let read_ahead = read_ahead.clone();
        sockets.open.insert(key, OpenSocket { socket, read_ahead, owner: Weak::new() });
        Ok(WatchedSocket { gate: self.clone(), key })
    }

    /// Gives up the named connections, which the restored job lacks. Returns those that can be made
    /// again.
    pub(crate) fn lose(&self, named: &[UnacceptedConnection]) -> Vec<Arc<JobSocket>> {
        if named.is_empty() {
            return Vec::new();
        }
        let owners: Vec<_> = self.sockets().open.values().filter_map(|open| open.owner.upgrade()).collect();
        let is_named = |owner: &Arc<JobSocket>| named.iter().any(|connection| owner.is(connection));
        owners.into_iter().filter(is_named).filter(|owner| owner.lose()).collect()
    }

    /// Takes a place for a held request, unless `max` requests are held.
    pub fn hold(self: &Arc<Self>, max: u32) -> Option<HeldRequest> {
        let more = |held: u32| (held < max).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| HeldRequest(self.clone()))
    }

    /// The number of held requests.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until the job has acknowledged all bytes, at most [`SETTLE_TIMEOUT`].
    ///
    /// Returns the number of bytes that are unacknowledged.
    pub async fn settle(&self) -> u64 {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let (unacknowledged, connecting) = self.outstanding();
            if unacknowledged == 0 && !connecting || Instant::now() >= deadline {
                return unacknowledged;
            }
            // The kernel has no event for an empty send queue.
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    /// Reads ahead on all connections until the gate opens, at most for [`READ_AHEAD_TIMEOUT`].
    pub async fn read_ahead(&self) {
        let deadline = Instant::now() + READ_AHEAD_TIMEOUT;
        while !self.is_open() && Instant::now() < deadline {
            for OpenSocket { socket, read_ahead, .. } in self.sockets().open.values() {
                read_ahead.fill(socket);
            }
            // One event for all sockets would cost a registration of each.
            tokio::time::sleep(READ_AHEAD_INTERVAL).await;
        }
    }

    fn outstanding(&self) -> (u64, bool) {
        let sockets = self.sockets();
        let unacknowledged = |open: &OpenSocket| tcp::unacknowledged(open.socket.as_fd()).map_or(0, u64::from);
        (sockets.open.values().map(unacknowledged).sum(), sockets.connecting > 0)
    }

    fn limit_retransmission(&self, limit: Duration) {
        self.sockets().open.values().for_each(|open| limit_retransmission(&open.socket, limit));
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock()
    }
}

fn limit_retransmission(socket: &OwnedFd, limit: Duration) {
    if let Err(error) = tcp::limit_retransmission_wait(socket.as_fd(), limit) {
        tracing::debug!(%error, "can't limit the retransmission timeout of a connection");
    }
}

impl WatchedSocket {
    /// Names the owner of the connection, which can make it again.
    pub(crate) fn belongs_to(&self, owner: Weak<JobSocket>) {
        if let Some(open) = self.gate.sockets().open.get_mut(&self.key) {
            open.owner = owner;
        }
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        let closed = self.gate.pass(|| self.gate.sockets().open.remove(&self.key));
        if closed.is_none() {
            self.gate.sockets().retired.push(self.key);
            // The gate may have opened in between, before the key was in `retired`.
            self.gate.pass(|| self.gate.sockets().open.remove(&self.key));
        }
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut callers = self.gate.callers.lock();
        callers.present.remove(&self.key);
        // A client that has gone wakes nothing.
        if callers.present.is_empty() {
            self.gate.called.notify_one();
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.sockets().connecting -= 1;
    }
}

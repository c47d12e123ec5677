//! The gate of a job: where bytes for it wait while it floats.
//!
//! Every segment that the gateway sends to a job is caused inside the gate: a write, the end of a direction, the connection itself.
//! [`Gate::close`] returns only when no such call is under way, so from then on the kernel has nothing new to send. What it already
//! has is awaited by [`Gate::settle`]: bytes that a job has not acknowledged when it is frozen would be sent again only after TCP's
//! back-off, as long after the job's return as it was away.
//!
//! A job that does not read leaves bytes behind all the same. While the gate is open the kernel sends again after a second at most; it
//! gives a connection up after 15 attempts though, so while the gate is closed the attempts have to be far apart: with its own limit of
//! two minutes a connection with bytes left behind lasts a quarter of an hour, and one without for ever.
//!
//! The gate also counts who waits for the job to take new requests, over all of its connections: see [`Gate::hold`].

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mooring_linux::tcp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long [`Gate::settle`] waits.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// The longest wait before the kernel sends again what a job did not acknowledge.
const WAIT_OPEN: Duration = Duration::from_secs(1);
/// The same while the job is away: the kernel's own default.
const WAIT_CLOSED: Duration = Duration::from_secs(120);
const SETTLE_PAUSE: Duration = Duration::from_millis(1);

/// The gate of one job.
#[derive(Debug)]
pub struct Gate {
    /// Read inside every call that sends, written to close: the lock is the barrier.
    open: RwLock<bool>,
    changed: watch::Sender<bool>,
    legs: Mutex<Legs>,
    held: AtomicU32,
    calling: AtomicU32,
    /// Told when the first one calls.
    called: Arc<Notify>,
}

/// The connections to the job.
#[derive(Debug, Default)]
struct Legs {
    next: u64,
    sockets: HashMap<u64, OwnedFd>,
    /// Those that nobody needs any more, kept because closing them sends.
    retired: Vec<u64>,
    connecting: usize,
}

/// A connection to the job that the gate watches; leaving by drop.
///
/// The gate holds the socket as well, so one that is dropped while the gate is closed is closed when it opens. The owner drops its own
/// end first.
#[derive(Debug)]
pub struct Leg {
    gate: Arc<Gate>,
    key: u64,
}

/// An attempt to connect that the gate waits for; leaving by drop.
#[derive(Debug)]
pub struct Connecting(Arc<Gate>);

/// A place among the requests that wait for the job; leaving by drop.
#[derive(Debug)]
pub struct Held(Arc<Gate>);

/// Somebody who wants the job to be back; leaving by drop.
#[derive(Debug)]
pub struct Call(Arc<Gate>);

impl Gate {
    /// A closed gate. `called` is notified when somebody begins to want the job back.
    #[must_use]
    pub fn new(called: Arc<Notify>) -> Arc<Self> {
        let (changed, _) = watch::channel(false);
        Arc::new(Self {
            open: RwLock::new(false),
            changed,
            legs: Mutex::default(),
            held: AtomicU32::new(0),
            calling: AtomicU32::new(0),
            called,
        })
    }

    /// Notes that a person or a program wants the job: it is not an open page that asks again and again by itself.
    pub fn call(self: &Arc<Self>) -> Call {
        if self.calling.fetch_add(1, Ordering::Relaxed) == 0 {
            self.called.notify_one();
        }
        Call(self.clone())
    }

    /// How many want the job to be back.
    #[must_use]
    pub fn calling(&self) -> u32 {
        self.calling.load(Ordering::Relaxed)
    }

    /// Lets bytes flow.
    pub fn open(&self) {
        if self.is_open() {
            return;
        }
        self.legs().sockets.values().for_each(|socket| limit_wait(socket, WAIT_OPEN));
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.send_replace(true);
        self.pass(|| {
            let mut legs = self.legs();
            for key in std::mem::take(&mut legs.retired) {
                legs.sockets.remove(&key);
            }
        });
    }

    /// Lets nothing more be sent; returns when no sending call is under way.
    pub fn close(&self) {
        if !self.is_open() {
            return;
        }
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
        self.changed.send_replace(false);
        self.legs().sockets.values().for_each(|socket| limit_wait(socket, WAIT_CLOSED));
    }

    /// Whether bytes may flow at this moment.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves while the gate is open.
    pub async fn opened(&self) {
        // The sender lives as long as the gate, so waiting can't fail.
        let _ = self.changed.subscribe().wait_for(|open| *open).await;
    }

    /// Resolves while the gate is closed.
    pub async fn closed(&self) {
        let _ = self.changed.subscribe().wait_for(|open| !*open).await;
    }

    /// Runs a call that may send, unless the gate is closed. It must not block.
    pub fn pass<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.then(call)
    }

    /// Announces a connection attempt, unless the gate is closed.
    pub fn connecting(self: &Arc<Self>) -> Option<Connecting> {
        self.pass(|| {
            self.legs().connecting += 1;
            Connecting(self.clone())
        })
    }

    /// Has the gate watch a connection to the job, best before it is made.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn watch(self: &Arc<Self>, socket: &impl AsFd) -> io::Result<Leg> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        limit_wait(&socket, WAIT_OPEN);
        let mut legs = self.legs();
        let key = legs.next;
        legs.next += 1;
        legs.sockets.insert(key, socket);
        Ok(Leg { gate: self.clone(), key })
    }

    /// A place among those who wait for the job, unless `max` have one.
    pub fn hold(self: &Arc<Self>, max: u32) -> Option<Held> {
        let more = |held: u32| (held < max).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Held(self.clone()))
    }

    /// How many wait for the job.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until the job has acknowledged everything, at most [`SETTLE_LIMIT`]; gives back the bytes that it has not.
    pub async fn settle(&self) -> u64 {
        let limit = Instant::now() + SETTLE_LIMIT;
        loop {
            let (unacknowledged, connecting) = self.outstanding();
            if unacknowledged == 0 && !connecting || Instant::now() >= limit {
                return unacknowledged;
            }
            // The kernel has no event for an empty send queue.
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    fn outstanding(&self) -> (u64, bool) {
        let legs = self.legs();
        let bytes = legs.sockets.values().map(|socket| tcp::unacknowledged(socket.as_fd()).map_or(0, u64::from)).sum();
        (bytes, legs.connecting > 0)
    }

    fn legs(&self) -> std::sync::MutexGuard<'_, Legs> {
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_wait(socket: &OwnedFd, limit: Duration) {
    if let Err(error) = tcp::limit_retransmission_wait(socket.as_fd(), limit) {
        tracing::debug!(%error, "the kernel can't bound the retransmission wait");
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        let closed = self.gate.pass(|| self.gate.legs().sockets.remove(&self.key));
        if closed.is_none() {
            self.gate.legs().retired.push(self.key);
            // The gate may have opened in between, and looked before.
            self.gate.pass(|| self.gate.legs().sockets.remove(&self.key));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calling.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.legs().connecting -= 1;
    }
}

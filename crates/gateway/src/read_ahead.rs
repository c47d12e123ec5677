//! Bytes of a job that are read before the client takes them.
//!
//! A socket that a job's program has closed belongs to no process, and no checkpoint has it. So
//! before the freeze the gateway reads what such sockets still hold, also for a slow client. It
//! can't tell them from others, and reads from all while the gate is closed.
//!
//! Each connection has a bound, and so has the process. What does not fit stays in the job's
//! socket. The agent then waits for it, and fails the migration when nobody reads it.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mooring_linux::tcp;
use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;

/// The most bytes that are read ahead of one connection: about as many as a socket can hold.
const PER_CONNECTION_MAX: usize = 8 << 20;
/// The most bytes that are read ahead in this process.
const IN_PROCESS_MAX: usize = 256 << 20;
/// The most bytes of one read.
const READ_MAX: usize = 256 * 1024;

/// The bytes in all [`ReadAhead`]s.
static IN_PROCESS: AtomicUsize = AtomicUsize::new(0);

/// The bytes of one connection that were read ahead. A reader of the socket takes these
/// first.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    waiting: Mutex<Waiting>,
    /// A byte has come from the job: ahead, or to the reader itself.
    has_begun: AtomicBool,
}

/// The bytes that wait for the client.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pieces: VecDeque<Bytes>,
    len: usize,
    /// The owner of the connection. The socket wakes nobody for bytes that are read ahead.
    reader: Option<Waker>,
}

impl ReadAhead {
    /// Locks the bytes: while the guard lives, nothing is read ahead.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    /// Returns whether a byte has come from the job.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Notes that a byte has come from the job. Returns whether it is the first.
    pub(crate) fn begin(&self) -> bool {
        !self.has_begun() && !self.has_begun.swap(true, Ordering::AcqRel)
    }

    /// Wakes the reader, which looks again whether it may read.
    pub(crate) fn wake(&self) {
        if let Some(reader) = self.lock().reader.take() {
            reader.wake();
        }
    }

    /// Reads what has arrived on the socket, at most [`READ_MAX`] bytes. The end of the stream and
    /// its errors are left for the owner of the connection.
    pub(crate) fn fill(&self, socket: &OwnedFd) {
        let mut waiting = self.lock();
        let room = PER_CONNECTION_MAX.saturating_sub(waiting.len).min(READ_MAX);
        let room = room.min(IN_PROCESS_MAX.saturating_sub(IN_PROCESS.load(Ordering::Relaxed)));
        let arrived = tcp::unread(socket.as_fd()).unwrap_or(0) as usize;
        if arrived == 0 || room == 0 {
            return;
        }
        let mut bytes = vec![0; arrived.min(room)];
        let read = (&*SockRef::from(socket)).read(&mut bytes);
        match read {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                self.begin();
                waiting.push(bytes.into());
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "can't read ahead on a connection"),
        }
    }
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the oldest bytes, at most `max`.
    pub(crate) fn take(&mut self, max: usize) -> Option<Bytes> {
        let first = self.pieces.front_mut()?;
        let piece = first.split_to(max.min(first.len()));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        self.len -= piece.len();
        IN_PROCESS.fetch_sub(piece.len(), Ordering::Relaxed);
        Some(piece)
    }

    /// Returns a reader's poll of the socket, and has bytes that are read ahead wake the reader.
    pub(crate) fn or_wake<T>(&mut self, context: &Context<'_>, polled: Poll<T>) -> Poll<T> {
        self.reader = polled.is_pending().then(|| context.waker().clone());
        polled
    }

    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        IN_PROCESS.fetch_add(piece.len(), Ordering::Relaxed);
        self.pieces.push_back(piece);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        IN_PROCESS.fetch_sub(self.len, Ordering::Relaxed);
    }
}

//! The TCP connection to a job below a [`GatedStream`](crate::gated::GatedStream). It may be made
//! again, which neither the client nor the stream's owner sees.
//!
//! A restored job lacks the connections that its program had not accepted: no checkpoint has them.
//! OpCenter names them. The program has read nothing from such a connection, so another one with
//! the same bytes does as well. Until the job's first byte, a copy of what was sent is kept.
//!
//! ```text
//!  Usable ── named ──► Lost ── connected ──► Resending ── all was sent again ──► Usable
//!                       └─ nothing is kept, or the job takes no connection ──► Broken
//! ```
//!
//! Writing waits until the connection is usable, and reading while it is lost. A connection without
//! a byte from the job may end while the gate is closed. The end is held until the gate opens: the
//! connection may be named then.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use mooring_api::watch::UnacceptedConnection;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, WatchedSocket};
use crate::read_ahead::ReadAhead;
use crate::socket;
use crate::upstream::{ATTEMPT_INTERVAL, ATTEMPT_TIMEOUT, CONNECT_TIMEOUT};

/// The most bytes that are kept for one connection. A job that has not accepted it can't hold as
/// many: the kernel's default for its receive buffer is a quarter.
const PER_CONNECTION_MAX: usize = 512 << 10;
/// The most bytes that are kept in this process.
const IN_PROCESS_MAX: usize = 64 << 20;
/// The bytes that are kept for all connections.
static IN_PROCESS: AtomicUsize = AtomicUsize::new(0);

/// The connection to a job of one stream.
#[derive(Debug)]
pub(crate) struct JobSocket {
    own: Weak<Self>,
    address: SocketAddr,
    gate: Arc<Gate>,
    read_ahead: Arc<ReadAhead>,
    current: Mutex<Current>,
    /// Locked before `current`, and during every call that sends.
    sent: Mutex<Sent>,
    /// The end of the present connection that is held until the gate opens.
    end: Mutex<Option<io::Result<()>>>,
    phase: watch::Sender<Phase>,
    /// Cancelled when the stream is dropped.
    dropped: CancellationToken,
}

#[derive(Debug)]
struct Current {
    // Dropped before `watched`, which decides when the socket is closed.
    stream: Arc<TcpStream>,
    watched: WatchedSocket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Usable,
    Lost,
    Resending,
    Broken,
}

/// The bytes that were sent on a connection.
#[derive(Debug)]
struct Sent {
    /// All of them; `None` once the job has answered, or where it was too much.
    kept: Option<Kept>,
    /// The direction has ended.
    ended: bool,
}

#[derive(Debug, Default)]
struct Kept(Vec<u8>);

impl JobSocket {
    /// Connects through the gate, which watches the socket before it sends.
    ///
    /// # Errors
    /// The process is out of descriptors, or the job does not take the connection.
    pub(crate) async fn connect(address: SocketAddr, gate: &Arc<Gate>) -> io::Result<Arc<Self>> {
        let read_ahead = Arc::<ReadAhead>::default();
        let current = dial(address, gate, &read_ahead).await?;
        let sent = Mutex::new(Sent { kept: Some(Kept::default()), ended: false });
        Ok(Arc::new_cyclic(|own| {
            current.watched.belongs_to(own.clone());
            Self {
                own: own.clone(),
                address,
                gate: gate.clone(),
                read_ahead,
                current: Mutex::new(current),
                sent,
                end: Mutex::default(),
                phase: watch::Sender::new(Phase::Usable),
                dropped: CancellationToken::new(),
            }
        }))
    }

    /// The present connection, for calls that do not send.
    pub(crate) fn stream(&self) -> Arc<TcpStream> {
        self.current.lock().stream.clone()
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn read_ahead(&self) -> &ReadAhead {
        &self.read_ahead
    }

    /// Returns whether what is sent is kept.
    pub(crate) fn is_kept(&self) -> bool {
        !self.read_ahead.has_begun() && self.sent.lock().kept.is_some()
    }

    /// Returns whether nothing may be read now, not even an end. The reader is woken afterwards.
    pub(crate) fn is_away(&self) -> bool {
        let phase = *self.phase.borrow();
        phase == Phase::Lost || phase != Phase::Broken && self.end.lock().is_some() && self.gate.is_held()
    }

    /// Reads from the present connection with `read`, which returns the number of bytes. The caller
    /// has locked the bytes that are read ahead, and found none.
    ///
    /// # Errors
    /// The connection broke, or there is nothing to read yet.
    pub(crate) fn try_read(&self, read: impl FnOnce(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        if self.is_away() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if *self.phase.borrow() == Phase::Broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if let Some(end) = self.end.lock().take() {
            return end.map(|()| 0);
        }
        let outcome = read(&self.stream());
        let end = match outcome {
            Ok(0) => Ok(()),
            Ok(count) => {
                if self.read_ahead.begin()
                    && let Some(mut sent) = self.sent.try_lock()
                {
                    sent.kept = None;
                }
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => Err(error),
        };
        if self.gate.is_held() && !self.read_ahead.has_begun() {
            *self.end.lock() = Some(end);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        end.map(|()| 0)
    }

    /// Sends with `send`, which returns the number of bytes; they are the first of `pieces`. `None`
    /// if the gate is closed, the socket has no room, or the connection is being made again.
    pub(crate) fn try_send<'a>(
        &self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        send: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut sent = self.sent.lock();
        match *self.phase.borrow() {
            Phase::Usable => {}
            Phase::Broken => return Some(Err(io::ErrorKind::ConnectionReset.into())),
            Phase::Lost | Phase::Resending => return None,
        }
        match self.gate.pass(|| send(&self.stream()))? {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
            Ok(count) => {
                if self.read_ahead.has_begun() {
                    sent.kept = None;
                }
                sent.keep(pieces, count);
                Some(Ok(count))
            }
        }
    }

    /// Ends this direction. `None` if the gate is closed.
    pub(crate) fn try_send_end(&self) -> Option<io::Result<()>> {
        let mut sent = self.sent.lock();
        match *self.phase.borrow() {
            Phase::Usable => {}
            Phase::Broken => return Some(Err(io::ErrorKind::ConnectionReset.into())),
            Phase::Lost | Phase::Resending => {
                sent.ended = true;
                return Some(Ok(()));
            }
        }
        let outcome = self.gate.pass(|| SockRef::from(&*self.stream()).shutdown(Shutdown::Write))?;
        sent.ended = true;
        Some(outcome)
    }

    /// Returns whether sending need not wait for a connection that is made again.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Usable | Phase::Broken)
    }

    /// Waits until sending need not wait for a connection that is made again.
    pub(crate) async fn usable(&self) {
        let usable = |phase: &Phase| matches!(phase, Phase::Usable | Phase::Broken);
        // The sender lives as long as the socket.
        let _ = self.phase.subscribe().wait_for(usable).await;
    }

    /// Returns whether it is this connection.
    pub(crate) fn is(&self, connection: &UnacceptedConnection) -> bool {
        let is_own = |local: SocketAddr| local == connection.peer && self.address.port() == connection.port;
        *self.phase.borrow() != Phase::Lost && self.stream().local_addr().is_ok_and(is_own)
    }

    /// Gives up the present connection, which the restored job lacks. Returns whether it can be
    /// made again.
    pub(crate) fn lose(&self) -> bool {
        let is_kept = self.is_kept();
        let sent = self.sent.lock();
        self.phase.send_replace(if is_kept { Phase::Lost } else { Phase::Broken });
        let stream = self.stream();
        socket::reset_on_drop(&stream);
        // Who waits for room in the old socket is woken by this.
        let _ = SockRef::from(&*stream).shutdown(Shutdown::Both);
        drop(sent);
        self.read_ahead.wake();
        is_kept
    }

    /// Connects again and sends again what was sent, unless the stream is dropped meanwhile.
    pub(crate) async fn make_again(self: Arc<Self>) {
        let made = tokio::select! {
            () = self.dropped.cancelled() => return,
            made = self.connect_and_resend() => made,
        };
        if let Err(error) = made {
            tracing::warn!(%error, job = %self.address, "a connection that the job had not accepted is lost");
            self.phase.send_replace(Phase::Broken);
            self.read_ahead.wake();
        }
    }

    /// Ends [`JobSocket::make_again`]: nobody needs the connection any more.
    pub(crate) fn abandon(&self) {
        self.dropped.cancel();
    }

    async fn connect_and_resend(&self) -> io::Result<()> {
        let (stream, bytes) = self.connect_again().await?;
        let mut rest = bytes.as_slice();
        loop {
            self.gate.opened().await;
            let ready = stream.writable().await;
            let sent = self.sent.lock();
            if *self.phase.borrow() != Phase::Resending || !Arc::ptr_eq(&stream, &self.stream()) {
                // It was lost once more, and another task makes it again.
                return Ok(());
            }
            ready?;
            let passed = self.gate.pass(|| match rest {
                [] if sent.ended => SockRef::from(&*stream).shutdown(Shutdown::Write).map(|()| 0),
                [] => Ok(0),
                rest => stream.try_write(rest),
            });
            match passed {
                Some(Ok(0)) if rest.is_empty() => {
                    self.phase.send_replace(Phase::Usable);
                    return Ok(());
                }
                Some(Ok(count)) => rest = &rest[count..],
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Replaces the lost connection; returns the new one and what to send on it.
    async fn connect_again(&self) -> io::Result<(Arc<TcpStream>, Vec<u8>)> {
        let mut refused_since = None;
        let new = loop {
            self.gate.opened().await;
            let Some(_connecting) = self.gate.connecting() else {
                refused_since = None;
                continue;
            };
            match timeout(ATTEMPT_TIMEOUT, dial(self.address, &self.gate, &self.read_ahead)).await {
                Ok(Ok(new)) => break new,
                Ok(Err(error)) => {
                    if *refused_since.get_or_insert_with(Instant::now) + CONNECT_TIMEOUT < Instant::now() {
                        return Err(error);
                    }
                }
                Err(elapsed) => {
                    if *refused_since.get_or_insert_with(Instant::now) + CONNECT_TIMEOUT < Instant::now() {
                        return Err(elapsed.into());
                    }
                }
            }
            tokio::time::sleep(ATTEMPT_INTERVAL).await;
        };
        new.watched.belongs_to(self.own.clone());
        let stream = new.stream.clone();
        let (lost, bytes) = {
            let sent = self.sent.lock();
            let lost = std::mem::replace(&mut *self.current.lock(), new);
            *self.end.lock() = None;
            self.phase.send_replace(Phase::Resending);
            (lost, sent.kept.as_ref().map(|kept| kept.0.clone()).unwrap_or_default())
        };
        // It locks the gate's list of sockets.
        drop(lost);
        self.read_ahead.wake();
        Ok((stream, bytes))
    }
}

impl Sent {
    fn keep<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>, count: usize) {
        let Some(Kept(kept)) = &mut self.kept else { return };
        let before = IN_PROCESS.fetch_add(count, Ordering::Relaxed);
        let mut left = count;
        for piece in pieces {
            let piece = &piece[..piece.len().min(left)];
            kept.extend_from_slice(piece);
            left -= piece.len();
        }
        // What was sent without a piece can't be kept.
        let is_whole = left == 0;
        IN_PROCESS.fetch_sub(left, Ordering::Relaxed);
        if !is_whole || kept.len() > PER_CONNECTION_MAX || before + count > IN_PROCESS_MAX {
            self.kept = None;
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        IN_PROCESS.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

async fn dial(address: SocketAddr, gate: &Arc<Gate>, read_ahead: &Arc<ReadAhead>) -> io::Result<Current> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let watched = gate.watch(&socket, read_ahead)?;
    socket.set_nodelay(true)?;
    let stream = Arc::new(socket.connect(address).await?);
    Ok(Current { stream, watched })
}

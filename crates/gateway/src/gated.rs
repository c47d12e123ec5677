//! A connection to a job that sends only through the job's gate.
//!
//! Writes and the end of the direction wait while the gate is closed; reads never do. A connection
//! that is dropped while the gate is closed is closed when the gate opens.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use mooring_linux::splice::Pipe;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::clients::ClientRecord;
use crate::gate::{Gate, WatchedSocket};
use crate::read_ahead::ReadAhead;

/// A connection to a job.
pub struct GatedStream {
    // Dropped before `watched`, which decides when the socket is closed.
    stream: TcpStream,
    watched: WatchedSocket,
    gate: Arc<Gate>,
    record: Arc<ClientRecord>,
    opening: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl std::fmt::Debug for GatedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatedStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl GatedStream {
    /// Connects through the gate, which watches the socket before it sends. Bytes count for the
    /// client.
    ///
    /// # Errors
    /// The process is out of descriptors, or the job does not take the connection.
    pub async fn connect(address: SocketAddr, gate: &Arc<Gate>, record: &Arc<ClientRecord>) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let watched = gate.watch(&socket)?;
        socket.set_nodelay(true)?;
        let stream = socket.connect(address).await?;
        Ok(Self { stream, watched, gate: gate.clone(), record: record.clone(), opening: None })
    }

    /// The socket, for calls that do not send.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The bytes that were read ahead; who reads from the socket takes them first.
    pub(crate) fn read_ahead(&self) -> &ReadAhead {
        &self.watched.read_ahead
    }

    /// Waits until bytes of the job, an end or an error can be read.
    pub async fn arrived(&self) {
        loop {
            let waited = self.read_ahead().readable(&self.stream).await;
            if waited.is_err() || !self.read_ahead().lock().is_empty() {
                return;
            }
            let peek = || SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
            match self.stream.try_io(Interest::READABLE, peek) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// The counters of the client.
    #[must_use]
    pub fn record(&self) -> &ClientRecord {
        &self.record
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.sending(|| self.stream.try_write(bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Sends the content of a pipe.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_from(&self, pipe: &mut Pipe) -> io::Result<()> {
        while pipe.holds() > 0 {
            self.sending(|| self.stream.try_io(Interest::WRITABLE, || pipe.splice_out(self.stream.as_fd()))).await?;
        }
        Ok(())
    }

    /// Sends the end of this direction.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_end(&self) -> io::Result<()> {
        loop {
            self.gate.opened().await;
            if let Some(outcome) = self.gate.pass(|| SockRef::from(&self.stream).shutdown(Shutdown::Write)) {
                return outcome;
            }
        }
    }

    async fn sending(&self, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            self.gate.opened().await;
            self.stream.writable().await?;
            if let Some(outcome) = self.tried(&mut send) {
                return outcome;
            }
        }
    }

    fn poll_sending(
        &mut self,
        context: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_opened(context));
            ready!(self.stream.poll_write_ready(context))?;
            if let Some(outcome) = self.tried(|| send(&self.stream)) {
                return Poll::Ready(outcome);
            }
        }
    }

    /// Tries to send once; `None` if the gate is closed or the socket has no room.
    fn tried(&self, send: impl FnOnce() -> io::Result<usize>) -> Option<io::Result<usize>> {
        match self.gate.pass(send)? {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
            Ok(sent) => {
                self.record.bytes_in.fetch_add(sent as u64, Ordering::Relaxed);
                Some(Ok(sent))
            }
        }
    }

    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.gate.is_open() {
            let gate = self.gate.clone();
            let opening = self.opening.get_or_insert_with(|| Box::pin(async move { gate.opened().await }));
            ready!(opening.as_mut().poll(context));
            self.opening = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, watched, record, .. } = &mut *self;
        let before = buffer.filled().len();
        let mut waiting = watched.read_ahead.lock();
        let outcome = match waiting.take(buffer.remaining()) {
            Some(bytes) => {
                buffer.put_slice(&bytes);
                Ok(())
            }
            None => {
                let polled = Pin::new(stream).poll_read(context, buffer);
                ready!(waiting.or_wake(context, polled))
            }
        };
        record.bytes_out.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_sending(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_sending(context, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_opened(context));
            if let Some(outcome) = self.gate.pass(|| SockRef::from(&self.stream).shutdown(Shutdown::Write)) {
                return Poll::Ready(outcome);
            }
        }
    }
}

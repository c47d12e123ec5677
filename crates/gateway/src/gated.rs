//! A connection to a job that sends only through the job's gate.
//!
//! Writes and the end of the direction wait while the gate is closed; reads never do. A connection
//! that is dropped while the gate is closed is closed when the gate opens.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use mooring_linux::splice::Pipe;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::clients::ClientRecord;
use crate::gate::Gate;
use crate::job_socket::JobSocket;
use crate::socket;

/// A connection to a job.
pub struct GatedStream {
    job: Arc<JobSocket>,
    record: Arc<ClientRecord>,
    opening: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl std::fmt::Debug for GatedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatedStream").field("job", &self.job).finish_non_exhaustive()
    }
}

impl GatedStream {
    /// Connects through the gate, which watches the socket before it sends. Bytes count for the
    /// client.
    ///
    /// # Errors
    /// The process is out of descriptors, or the job does not take the connection.
    pub async fn connect(address: SocketAddr, gate: &Arc<Gate>, record: &Arc<ClientRecord>) -> io::Result<Self> {
        Ok(Self { job: JobSocket::connect(address, gate).await?, record: record.clone(), opening: None })
    }

    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        self.job.gate()
    }

    /// Returns whether [`GatedStream::send_from`] would have what is sent forgotten: it is needed
    /// to make the connection again.
    #[must_use]
    pub fn keeps_what_is_sent(&self) -> bool {
        self.job.is_kept()
    }

    /// Makes the kernel reset the connection when it is dropped.
    pub fn reset_on_drop(&self) {
        socket::reset_on_drop(&self.job.stream());
    }

    /// Ends this direction also while the gate is closed.
    ///
    /// # Errors
    /// The connection broke.
    pub fn end_at_once(&self) -> io::Result<()> {
        SockRef::from(&*self.job.stream()).shutdown(Shutdown::Write)
    }

    /// Waits until bytes of the job, an end or an error can be read.
    pub async fn arrived(&self) {
        loop {
            if self.readable().await.is_err() {
                return;
            }
            let ahead = self.job.read_ahead().lock();
            let peek = |stream: &TcpStream| {
                stream.try_io(Interest::READABLE, || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]))
            };
            if !ahead.is_empty() {
                return;
            }
            match self.job.try_read(peek) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Takes bytes that were read ahead. Who reads from the socket takes them first.
    pub(crate) fn take_read_ahead(&self) -> Option<Bytes> {
        self.job.read_ahead().lock().take(usize::MAX)
    }

    /// Waits until there is something to take, or to read from the socket.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut ahead = self.job.read_ahead().lock();
            if !ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let polled = if self.job.is_away() { Poll::Pending } else { self.job.stream().poll_read_ready(context) };
            ahead.or_wake(context, polled)
        })
        .await
    }

    /// Reads from the socket with `read`, which returns the number of bytes.
    ///
    /// # Errors
    /// The connection broke. `WouldBlock`: there is nothing to read yet, or bytes were read ahead.
    pub(crate) fn try_read(&self, read: impl FnOnce(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        let ahead = self.job.read_ahead().lock();
        if ahead.is_empty() { self.job.try_read(read) } else { Err(io::ErrorKind::WouldBlock.into()) }
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
            let written = self.sending(|| self.job.try_send([bytes], |stream| stream.try_write(bytes))).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Sends some of `bytes`, and returns how many. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        self.sending(|| self.job.try_send([bytes], |stream| stream.try_write(bytes))).await
    }

    /// Sends the content of a pipe, which is not kept.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_from(&self, pipe: &mut Pipe) -> io::Result<()> {
        while pipe.holds() > 0 {
            let splice = |stream: &TcpStream, pipe: &mut Pipe| {
                stream.try_io(Interest::WRITABLE, || pipe.splice_out(stream.as_fd()))
            };
            self.sending(|| self.job.try_send([], |stream| splice(stream, pipe))).await?;
        }
        Ok(())
    }

    /// Sends the end of this direction.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_end(&self) -> io::Result<()> {
        loop {
            self.gate().opened().await;
            if let Some(outcome) = self.job.try_send_end() {
                return outcome;
            }
        }
    }

    async fn sending(&self, mut send: impl FnMut() -> Option<io::Result<usize>>) -> io::Result<usize> {
        loop {
            self.gate().opened().await;
            self.job.usable().await;
            // A socket that is given up meanwhile is writable.
            let stream = self.job.stream();
            stream.writable().await?;
            if let Some(outcome) = send() {
                return self.counted(outcome);
            }
        }
    }

    fn poll_sending<'a>(
        &mut self,
        context: &mut Context<'_>,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_opened(context));
            ready!(self.job.stream().poll_write_ready(context))?;
            if let Some(outcome) = self.job.try_send(pieces.clone(), &send) {
                return Poll::Ready(self.counted(outcome));
            }
        }
    }

    fn counted(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        outcome.inspect(|sent| {
            self.record.bytes_in.fetch_add(*sent as u64, Ordering::Relaxed);
        })
    }

    /// Waits until the gate is open and nothing is sent again.
    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !(self.gate().is_open() && self.job.is_usable()) {
            let job = self.job.clone();
            let opened = async move {
                job.gate().opened().await;
                job.usable().await;
            };
            let opening = self.opening.get_or_insert_with(|| Box::pin(opened));
            ready!(opening.as_mut().poll(context));
            self.opening = None;
        }
        Poll::Ready(())
    }
}

impl Drop for GatedStream {
    fn drop(&mut self) {
        self.job.abandon();
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { job, record, .. } = &mut *self;
        let before = buffer.filled().len();
        let mut ahead = job.read_ahead().lock();
        if let Some(bytes) = ahead.take(buffer.remaining()) {
            buffer.put_slice(&bytes);
        } else {
            loop {
                let polled = if job.is_away() { Poll::Pending } else { job.stream().poll_read_ready(context) };
                ready!(ahead.or_wake(context, polled))?;
                match job.try_read(|stream| stream.try_read_buf(buffer)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => {
                        outcome?;
                        break;
                    }
                }
            }
        }
        record.bytes_out.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_sending(context, std::iter::once(bytes), |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = pieces.iter().map(|piece| &**piece);
        self.poll_sending(context, bytes, |stream| stream.try_write_vectored(pieces))
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
            if let Some(outcome) = self.job.try_send_end() {
                return Poll::Ready(outcome);
            }
        }
    }
}

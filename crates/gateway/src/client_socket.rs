//! The connection of a client, as the data path reads and writes it. Its bytes are the client's, or
//! they are inside of TLS, which ends here.
//!
//! All that the data path does to a client is here once. A plain connection is read, written and
//! spliced as a socket of the kernel. TLS has the same calls with the same meaning: an end is an
//! end, and a reset a reset. Bytes that [`ClientSocket::try_write`] has accepted may wait for room
//! in the kernel; [`ClientSocket::flush`] writes them.

use std::future;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::socket;
use crate::tls::TlsSocket;

/// Time limit for a client to close its side after the gateway has closed its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client's connection.
#[derive(Debug)]
pub enum ClientSocket {
    Plain(TcpStream),
    Tls(Box<TlsSocket>),
}

impl From<TcpStream> for ClientSocket {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl ClientSocket {
    /// The connection below: its addresses, and how it ends.
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// The socket whose bytes are the client's, for splice(2); `None` under TLS.
    #[must_use]
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }

    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The address that the client has connected to.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().local_addr()
    }

    /// Waits for bytes or the end, and returns the first bytes without consuming them.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.peek(buffer).await,
            Self::Tls(tls) => tls.peek(buffer).await,
        }
    }

    /// Waits until more than the first `known` bytes have arrived, and returns these without
    /// consuming them; `None` if the client has ended.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn peek_more(&self, known: usize, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(stream) => socket::peek_more(stream, known, buffer).await,
            Self::Tls(tls) => tls.peek_more(known, buffer).await,
        }
    }

    /// Waits until there are bytes to read, or the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls(_) => future::poll_fn(|context| self.poll_readable(context)).await,
        }
    }

    /// The poll of [`ClientSocket::readable`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(context),
            Self::Tls(tls) => tls.poll_readable(context),
        }
    }

    /// Reads bytes that have arrived; 0 at the end.
    ///
    /// # Errors
    /// There are none yet ([`io::ErrorKind::WouldBlock`]), or the connection is broken.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Reads bytes that have arrived into the spare room of a vector; 0 at the end.
    ///
    /// # Errors
    /// As [`ClientSocket::try_read`].
    pub fn try_read_buf(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_read_buf(bytes),
            Self::Tls(tls) => tls.try_read_buf(bytes),
        }
    }

    /// Waits until bytes can be written.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// The poll of [`ClientSocket::writable`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(context)
    }

    /// Writes bytes, and returns how many were accepted.
    ///
    /// # Errors
    /// None can be accepted now ([`io::ErrorKind::WouldBlock`]), or the connection is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes bytes of several pieces; see [`ClientSocket::try_write`].
    ///
    /// # Errors
    /// As [`ClientSocket::try_write`].
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write_vectored(pieces),
            Self::Tls(tls) => tls.try_write(pieces),
        }
    }

    /// Writes bytes, without a wait. What there is no room for is lost.
    pub fn write_at_once(&self, bytes: &[u8]) {
        match self {
            Self::Plain(stream) => {
                let _ = SockRef::from(stream).send(bytes);
            }
            Self::Tls(tls) => {
                let _ = tls.try_write(&[IoSlice::new(bytes)]);
            }
        }
    }

    /// Waits until the kernel has all bytes that were accepted.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn flush(&self) -> io::Result<()> {
        future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// The poll of [`ClientSocket::flush`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(context),
        }
    }

    /// Ends the direction to the client.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn end(&self) -> io::Result<()> {
        future::poll_fn(|context| self.poll_end(context)).await
    }

    /// The poll of [`ClientSocket::end`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_end(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(tls) = self {
            tls.announce_end();
            ready!(tls.poll_flush(context))?;
        }
        Poll::Ready(SockRef::from(self.tcp()).shutdown(Shutdown::Write))
    }

    /// Tells a client of TLS that the connection ends, without a wait. The end of a plain
    /// connection needs no word.
    pub fn end_at_once(&self) {
        if let Self::Tls(tls) = self {
            tls.announce_end();
            tls.flush_at_once();
        }
    }

    /// Makes the kernel reset the connection, instead of ending it, when it is closed.
    pub fn reset_on_drop(&self) {
        socket::reset_on_drop(self.tcp());
    }

    /// Waits until the connection is reset.
    pub async fn until_reset(&self) {
        if self.tcp().ready(Interest::ERROR).await.is_err() {
            future::pending().await
        }
    }

    /// Waits until the client has ended its direction, with unread bytes or without.
    pub async fn until_end_of_input(&self) {
        // Ordinary data does not wake who waits for urgent data; the end of the direction does.
        if self.tcp().ready(Interest::PRIORITY).await.is_ok_and(|ready| !ready.is_read_closed()) {
            future::pending().await
        }
    }

    /// Ends the direction to the client and waits until the client closes, at most
    /// [`CLOSE_TIMEOUT`].
    ///
    /// The kernel resets a socket that is closed with unread bytes. A client that is reset may lose
    /// bytes that it has not read yet.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn close_gracefully(&self) -> io::Result<()> {
        let close = async {
            self.end().await?;
            // What comes below TLS is of no interest any more.
            while !socket::read(self.tcp()).await?.is_empty() {}
            Ok(())
        };
        timeout(CLOSE_TIMEOUT, close).await.unwrap_or(Ok(()))
    }
}

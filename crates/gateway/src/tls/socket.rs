//! A client's connection with TLS, which ends at the gateway.
//!
//! The calls are those of a socket that does not block. Between two calls it holds at most one
//! record of the client that was not read, and [`UNSENT_BYTES`] that the kernel has not taken yet.
//! More is neither read nor accepted, so back-pressure goes through.
//!
//! An end without the word for it (`close_notify`) is an end: many clients close that way, and
//! protocols with TLS mark their own ends. After its end a client can go on to receive.

use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::server::{Accepted, Acceptor};
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;

/// The most bytes of a client that wait for room in the kernel, before they are sealed.
const UNSENT_BYTES: usize = 64 * 1024;

/// A connection with TLS.
pub struct TlsSocket {
    tcp: TcpStream,
    session: Mutex<Session>,
}

struct Session {
    tls: ServerConnection,
    /// Bytes that were opened and not read.
    opened: Vec<u8>,
    /// The number of them that were read.
    read: usize,
    /// The client has ended its direction.
    ended: bool,
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSocket").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

/// The bytes of the wire.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsSocket {
    /// Completes the handshake that a client begins. What the client offers chooses the
    /// configuration.
    ///
    /// # Errors
    /// The client does not complete it, or nothing that both know can be used.
    pub async fn accept(tcp: TcpStream, choose: impl FnOnce(&Accepted) -> Arc<ServerConfig>) -> io::Result<Self> {
        let hello = hello(&tcp).await?;
        let config = choose(&hello);
        let mut tls = hello.into_connection(config).map_err(|(error, mut alert)| {
            let _ = alert.write(&mut Wire(&tcp));
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        tls.set_buffer_limit(Some(UNSENT_BYTES));
        let socket = Self { tcp, session: Mutex::new(Session { tls, opened: Vec::new(), read: 0, ended: false }) };
        while socket.is_handshaking() {
            socket.flush().await?;
            if !socket.is_handshaking() {
                break;
            }
            socket.tcp.readable().await?;
            match socket.session.lock().open(&socket.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => outcome?,
            }
            if socket.session.lock().ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        socket.flush().await?;
        Ok(socket)
    }

    fn is_handshaking(&self) -> bool {
        self.session.lock().tls.is_handshaking()
    }

    async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Waits for bytes or the end, and copies the first bytes.
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|context| self.poll_readable(context)).await?;
        Ok(copy(self.session.lock().unread(), buffer))
    }

    /// Waits until more than `known` bytes are unread, and copies them; `None` at the end.
    pub(crate) async fn peek_more(&self, known: usize, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            {
                let mut session = self.session.lock();
                if session.unread().len() > known {
                    return Ok(Some(copy(session.unread(), buffer)));
                }
                match session.open(&self.tcp) {
                    _ if session.ended => return Ok(None),
                    Ok(()) => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            self.tcp.readable().await?;
        }
    }

    /// Waits until there are bytes to read, or the end.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut session = self.session.lock();
                if session.has_news() {
                    return Poll::Ready(Ok(()));
                }
                match session.open(&self.tcp) {
                    Ok(()) => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            ready!(self.tcp.poll_read_ready(context))?;
        }
    }

    /// Reads bytes; 0 at the end.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        while !session.has_news() {
            session.open(&self.tcp)?;
        }
        let count = copy(session.unread(), buffer);
        session.consume(count);
        Ok(count)
    }

    /// Reads bytes into the spare room of a vector; 0 at the end.
    pub(crate) fn try_read_buf(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let mut session = self.session.lock();
        while !session.has_news() {
            session.open(&self.tcp)?;
        }
        let count = session.unread().len().min(bytes.capacity() - bytes.len());
        bytes.extend_from_slice(&session.unread()[..count]);
        session.consume(count);
        Ok(count)
    }

    /// Accepts bytes, once the kernel has those before them.
    pub(crate) fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.lock();
        session.send(&self.tcp)?;
        let accepted = session.tls.writer().write_vectored(pieces)?;
        match session.send(&self.tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(accepted),
        }
    }

    /// Waits until the kernel has all bytes that were accepted.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.lock().send(&self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
            ready!(self.tcp.poll_write_ready(context))?;
        }
    }

    /// Sends what the kernel takes at once.
    pub(crate) fn flush_at_once(&self) {
        let _ = self.session.lock().send(&self.tcp);
    }

    /// Says that no bytes follow. Only the first call does so.
    pub(crate) fn announce_end(&self) {
        self.session.lock().tls.send_close_notify();
    }
}

impl Session {
    fn unread(&self) -> &[u8] {
        &self.opened[self.read..]
    }

    /// Returns whether a reader need not wait.
    fn has_news(&self) -> bool {
        self.ended || !self.unread().is_empty()
    }

    fn consume(&mut self, count: usize) {
        self.read += count;
        if self.read == self.opened.len() {
            // An idle connection holds no buffer.
            (self.opened, self.read) = (Vec::new(), 0);
        }
    }

    /// Reads from the wire, and opens what is whole. That may be nothing.
    fn open(&mut self, tcp: &TcpStream) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        let count = self.tls.read_tls(&mut Wire(tcp))?;
        let state = self.tls.process_new_packets().map_err(|error| {
            // The client is told why.
            let _ = self.tls.write_tls(&mut Wire(tcp));
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        let arrived = state.plaintext_bytes_to_read();
        if arrived > 0 {
            self.opened.reserve(arrived);
            let mut reader = self.tls.reader();
            let mut left = arrived;
            while left > 0 {
                let piece = reader.fill_buf()?;
                let length = piece.len();
                self.opened.extend_from_slice(piece);
                reader.consume(length);
                left -= length;
            }
        }
        self.ended = count == 0 || state.peer_has_closed();
        // Answers to the client's handshake messages; the next writer sends the rest.
        match self.send(tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Hands to the kernel what was sealed.
    fn send(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut Wire(tcp))?;
        }
        Ok(())
    }
}

/// Reads a client's first message.
async fn hello(tcp: &TcpStream) -> io::Result<Accepted> {
    let mut acceptor = Acceptor::default();
    loop {
        tcp.readable().await?;
        match acceptor.read_tls(&mut Wire(tcp)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let _ = alert.write(&mut Wire(tcp));
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

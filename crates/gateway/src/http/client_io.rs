//! A client's HTTP connection, as hyper reads and writes it.
//!
//! The head of a request has a time limit once it has begun. Its bytes and lines have
//! [limits](super::limits), and a [budget](crate::budget). Between requests, during one and after
//! an upgrade there is no limit.

use std::borrow::Cow;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::StatusCode;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::interim::Interim;
use super::lengths::Lengths;
use super::limits::TooLarge;
use super::targets::{Line, Targets};
use super::trailers::{Trailers, Write};
use crate::budget::HeadShare;
use crate::client_socket::ClientSocket;

/// Time limit of the head of a request.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes of one read outside of heads.
const READ_BYTES: usize = (64 << 10) - 1;
const OVER_BUDGET: &str = "Too many unfinished requests. Close some connections, and try again later";

/// The framing of the requests of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    lengths: Arc<Mutex<Lengths>>,
    refused: Arc<Mutex<Option<RefusedHead>>>,
    targets: Arc<Mutex<Targets>>,
}

/// The reason why a head is refused before it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedHead {
    OverBudget,
    TooLarge(TooLarge),
    /// The target has this byte.
    Target(u8),
}

impl RefusedHead {
    /// The answer, in place of hyper's, which has no words.
    fn answer(self) -> String {
        let (status, more, reason) = match self {
            Self::OverBudget => (StatusCode::SERVICE_UNAVAILABLE, "Retry-After: 5\r\n", OVER_BUDGET.to_owned()),
            Self::TooLarge(limit) => (limit.status(), "", limit.to_string()),
            Self::Target(byte) => {
                let reason = format!("the request's target has the byte 0x{byte:02X}, which has to be escaped");
                (StatusCode::BAD_REQUEST, "", reason)
            }
        };
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{reason}\n",
            reason.len() + 1
        )
    }
}

impl Requests {
    /// Returns whether a request up to this number, from 0, has conflicting lengths.
    pub(crate) fn conflict(&self, request: u64) -> bool {
        self.lengths().conflict(request)
    }

    /// The reason why a head was refused, if one was.
    pub(crate) fn refused(&self) -> Option<RefusedHead> {
        *self.refused.lock()
    }

    /// Takes the target of a request as it was sent, unless hyper has got it so.
    pub(crate) fn target(&self, request: u64) -> Option<Bytes> {
        self.targets.lock().take(request)
    }

    fn lengths(&self) -> MutexGuard<'_, Lengths> {
        self.lengths.lock()
    }
}

/// A client's connection.
pub(crate) struct ClientIo {
    socket: Arc<ClientSocket>,
    /// `Some` for HTTP/1.
    requests: Option<Requests>,
    interim: Interim,
    /// The unsent rest of an interim response or of trailers; nothing may be written before it.
    unsent: Bytes,
    head_timeout: Duration,
    limit: Option<Pin<Box<Sleep>>>,
    /// The bytes of a head that is not whole.
    heads: HeadShare,
    /// The number of requests whose answers are not out.
    busy: watch::Receiver<usize>,
    /// Those of the response that is written.
    trailers: Trailers,
    /// The first line of a request, while its end has not come.
    line: Vec<u8>,
    /// Bytes for hyper that did not fit into its buffer.
    ready: Bytes,
}

impl std::fmt::Debug for ClientIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIo").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl ClientIo {
    pub(crate) fn new(
        socket: Arc<ClientSocket>,
        requests: Option<Requests>,
        interim: Interim,
        heads: HeadShare,
        busy: watch::Receiver<usize>,
        trailers: Trailers,
    ) -> Self {
        let (unsent, head_timeout) = (Bytes::new(), HEAD_TIMEOUT);
        Self {
            socket,
            requests,
            interim,
            unsent,
            head_timeout,
            limit: None,
            heads,
            busy,
            trailers,
            line: Vec::new(),
            ready: Bytes::new(),
        }
    }

    /// Returns the bytes that hyper has not read.
    pub(crate) fn into_unread(self) -> Bytes {
        self.ready
    }

    /// Follows the bytes that were read. Returns those for hyper, if they are others.
    ///
    /// # Errors
    /// A head is beyond the budget or too large ([`io::ErrorKind::QuotaExceeded`]), or its target
    /// has a byte that none may have.
    fn take_note(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(requests) = &self.requests else { return Ok(None) };
        let mut lengths = requests.lengths();
        let mut read =
            Read { lengths: &mut lengths, targets: &requests.targets, line: &mut self.line, forbidden: None };
        let other = read.follow(bytes);
        let forbidden = read.forbidden;
        match (lengths.in_head(), &self.limit) {
            (true, None) => self.limit = Some(Box::pin(sleep(self.head_timeout))),
            (false, Some(_)) => self.limit = None,
            _ => {}
        }
        let refused = match (lengths.too_large(), forbidden) {
            (Some(limit), _) => RefusedHead::TooLarge(limit),
            (None, Some(byte)) => RefusedHead::Target(byte),
            (None, None) if !lengths.in_head() => {
                self.heads.clear();
                return Ok(other);
            }
            (None, None) if self.heads.grow(bytes.len()) => return Ok(other),
            (None, None) => RefusedHead::OverBudget,
        };
        self.heads.clear();
        if refused != RefusedHead::OverBudget && *self.busy.borrow() > 0 {
            // Another answer is under way. hyper refuses the head after it.
            return Ok(other);
        }
        // hyper takes an error of the first read for an end, and shuts the connection down.
        self.socket.write_at_once(refused.answer().as_bytes());
        *requests.refused.lock() = Some(refused);
        Err(io::ErrorKind::QuotaExceeded.into())
    }
}

/// Follows requests, and finds another first line for hyper where one is needed.
struct Read<'a> {
    lengths: &'a mut Lengths,
    targets: &'a Mutex<Targets>,
    line: &'a mut Vec<u8>,
    forbidden: Option<u8>,
}

impl Read<'_> {
    /// Follows bytes; returns those for hyper, if they are others.
    fn follow(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut other, mut at) = (None::<Vec<u8>>, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.lengths.is_given_up() || !self.lengths.in_first_line() {
                let length = self.lengths.advance_message(rest);
                if let Some(other) = &mut other {
                    other.extend_from_slice(&rest[..length]);
                }
                at += length;
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = &rest[..end.map_or(rest.len(), |end| end + 1)];
            let request = self.lengths.heads();
            self.lengths.advance(part);
            let begun = std::mem::take(self.line);
            let line = if begun.is_empty() { Cow::Borrowed(part) } else { Cow::Owned([&begun, part].concat()) };
            if end.is_none() && may_be_request(&line) {
                other.get_or_insert_with(|| bytes[..at].to_vec());
                *self.line = line.into_owned();
                return other;
            }
            match self.targets.lock().read(request, &line) {
                Line::AsItIs if begun.is_empty() => {
                    if let Some(other) = &mut other {
                        other.extend_from_slice(part);
                    }
                }
                Line::AsItIs => other.get_or_insert_with(|| bytes[..at].to_vec()).extend_from_slice(&line),
                Line::Other(line) => other.get_or_insert_with(|| bytes[..at].to_vec()).extend(line),
                Line::Refused(byte) => {
                    self.forbidden = Some(byte);
                    other.get_or_insert_with(|| bytes[..at].to_vec()).extend_from_slice(&line);
                }
            }
            at += part.len();
        }
        other
    }
}

/// Returns whether a line that has begun may be the first one of a request.
fn may_be_request(line: &[u8]) -> bool {
    line.first().is_some_and(|byte| byte.is_ascii_alphabetic())
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A head needs a large buffer, and hyper makes it larger when one is filled.
        let is_in_head = self.limit.is_some();
        let room = if is_in_head { buffer.remaining() } else { buffer.remaining().min(READ_BYTES) };
        loop {
            if let Some(limit) = &mut self.limit
                && limit.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if !self.ready.is_empty() {
                let length = self.ready.len().min(buffer.remaining());
                buffer.put_slice(&self.ready.split_to(length));
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_readable(context))?;
            match self.socket.try_read(buffer.initialize_unfilled_to(room)) {
                Ok(count) => {
                    let before = buffer.filled().len();
                    buffer.advance(count);
                    let other = match count {
                        // A line that does not end is for hyper to judge.
                        0 => (!self.line.is_empty()).then(|| std::mem::take(&mut self.line)),
                        _ => self.take_note(&buffer.filled()[before..])?,
                    };
                    let Some(other) = other else { return Poll::Ready(Ok(())) };
                    buffer.set_filled(before);
                    self.ready = other.into();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(context))?;
        self.poll_write_with(context, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(context))?;
        let pieces = match self.trailers.look(pieces) {
            Write::AsTheyAre => pieces,
            Write::AllButLast => &pieces[..pieces.len() - 1],
            Write::Instead(trailers) => {
                self.unsent = trailers;
                return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
            }
        };
        self.poll_write_with(context, |socket| socket.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Writes interim responses: hyper flushes when all that it has written is out.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_unsent(context))?;
            match self.interim.take(context) {
                Some(unsent) => self.unsent = unsent,
                None => return self.socket.poll_flush(context),
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(context))?;
        self.socket.poll_end(context)
    }
}

impl ClientIo {
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(self.poll_write_with(context, |socket| socket.try_write(&self.unsent)))?;
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&ClientSocket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_writable(context))?;
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{self, HeaderMap, HeaderValue};
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::budget::Budgets;

    fn io(socket: TcpStream, requests: Option<Requests>, interim: Interim) -> ClientIo {
        let heads = Budgets::default().heads([127, 0, 0, 1].into());
        ClientIo::new(Arc::new(socket.into()), requests, interim, heads, watch::channel(0).1, Trailers::default())
    }

    #[tokio::test]
    async fn only_heads_have_a_timeout() {
        const LIMIT: Duration = Duration::from_millis(100);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut io = io(socket, Some(Requests::default()), Interim::default());
        io.head_timeout = LIMIT;
        let mut buffer = [0; 256];
        // No limit applies before a head, after one and within a body.
        for part in ["", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "body", " here"] {
            client.write_all(part.as_bytes()).await.unwrap();
            let mut got = 0;
            while got < part.len() {
                got += io.read(&mut buffer).await.unwrap();
            }
            assert!(timeout(LIMIT * 3, io.read(&mut buffer)).await.is_err(), "after {part:?}");
        }
        // More bytes do not extend the limit of a head.
        let started = Instant::now();
        let failed = loop {
            client.write_all(b"G").await.unwrap();
            if let Err(failed) = io.read(&mut buffer).await {
                break failed;
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= LIMIT);
    }

    #[tokio::test]
    async fn interim_response_is_written_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
        let interim = Interim::default();
        let mut io = io(socket, None, interim.clone());
        let hint = "x".repeat(50_000);
        let headers = HeaderMap::from_iter([(header::LINK, HeaderValue::try_from(hint.clone()).unwrap())]);
        // The client reads nothing, so a write blocks after a while: the 200's or an interim
        // response's.
        let mut expected = String::new();
        for round in 0.. {
            let _unanswered = interim.begin(round);
            interim.send(round + 1, StatusCode::EARLY_HINTS, &headers, None);
            interim.send(round, StatusCode::EARLY_HINTS, &headers, None);
            let stuck = timeout(Duration::from_millis(50), io.flush()).await.is_err();
            expected.push_str(&format!("HTTP/1.1 103 Early Hints\r\nlink: {hint}\r\n\r\n"));
            if stuck {
                break;
            }
        }
        expected.push_str("HTTP/1.1 200 OK\r\n\r\n");
        let mut got = vec![0; expected.len()];
        let (sent, received) = tokio::join!(io.write_all(b"HTTP/1.1 200 OK\r\n\r\n"), client.read_exact(&mut got));
        sent.unwrap();
        received.unwrap();
        assert!(got == expected.as_bytes(), "{} bytes in order", got.len());
        // The interim response to an answered request is not sent.
        drop(interim.begin(7));
        interim.send(7, StatusCode::EARLY_HINTS, &headers, None);
        io.flush().await.unwrap();
        assert!(timeout(Duration::from_millis(50), client.read_u8()).await.is_err());
    }
}

//! The connection to a job, as hyper reads and writes it.
//!
//! A job may answer before it has read a request, and close its side: an upload is too large, or
//! its sender not signed in. The write that breaks then says nothing of the answer, which may have
//! arrived. So a broken write is no error here. What would follow it is thrown away, and what is
//! read decides.
//!
//! The bytes of an answer's head have a [budget](crate::budget).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::targets::with_target;
use super::trailers::{Trailers, Write};
use crate::budget::HeadShare;
use crate::gated::GatedStream;

/// The bytes of a head that do not count: nearly all heads are shorter.
const UNCOUNTED_BYTES: usize = 16 << 10;

/// The request on a connection, and the head of the answer that is expected.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerHead(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The trailers of the request.
    trailers: Trailers,
    /// The target of the request, until its first line is written.
    target: Option<Bytes>,
    /// The bytes of the head, while it is not whole.
    share: Option<HeadShare>,
    /// The number of bytes that have come of it.
    read: usize,
    is_over_budget: bool,
}

impl AnswerHead {
    /// Records that a request is sent.
    pub(crate) fn expect(&self, share: HeadShare, trailers: &Trailers, target: Option<&Bytes>) {
        let mut state = self.0.lock();
        (state.share, state.read) = (Some(share), 0);
        (state.trailers, state.target) = (trailers.clone(), target.cloned());
    }

    /// Records that the head is whole, or that none will come.
    pub(crate) fn end(&self) {
        self.0.lock().share = None;
    }

    /// Returns whether the head was beyond the budget.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.0.lock().is_over_budget
    }

    fn trailers(&self) -> Trailers {
        self.0.lock().trailers.clone()
    }

    /// Returns the first line of the request, which bytes of hyper begin with, if it has to be
    /// another; and the length of hyper's.
    fn other_line(&self, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        let target = self.0.lock().target.take()?;
        let length = bytes.iter().position(|byte| *byte == b'\n')? + 1;
        Some((with_target(&bytes[..length], &target)?, length))
    }

    fn take_note(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.0.lock();
        state.read = state.read.saturating_add(bytes);
        if state.read <= UNCOUNTED_BYTES || state.share.as_mut().is_none_or(|share| share.grow(bytes)) {
            return Ok(());
        }
        (state.share, state.is_over_budget) = (None, true);
        Err(io::ErrorKind::QuotaExceeded.into())
    }
}

/// A connection to a job.
#[derive(Debug)]
pub(crate) struct JobIo {
    stream: GatedStream,
    head: AnswerHead,
    /// A write has failed.
    broken: bool,
    /// The unsent rest of a first line or of trailers; nothing may be written before it.
    unsent: Bytes,
}

impl JobIo {
    pub(crate) fn new(stream: GatedStream, head: AnswerHead) -> Self {
        Self { stream, head, broken: false, unsent: Bytes::new() }
    }

    pub(crate) fn into_inner(self) -> GatedStream {
        self.stream
    }

    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.unsent.is_empty() && !self.broken {
            let outcome = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent));
            let length = self.unsent.len();
            if let Poll::Ready(Ok(written)) = self.written(outcome, length) {
                self.unsent.advance(written);
            }
        }
        Poll::Ready(())
    }

    /// The outcome of a write of this length.
    fn written(&mut self, outcome: io::Result<usize>, length: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(outcome.unwrap_or_else(|error| {
            tracing::debug!(%error, "a job reads no more of a request");
            self.broken = true;
            length
        })))
    }
}

impl AsyncRead for JobIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if read == 0 && self.broken {
            // The write has got the error that would come here.
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(self.head.take_note(read))
    }
}

impl AsyncWrite for JobIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_unsent(context));
        if let Some((line, length)) = self.head.other_line(bytes) {
            self.unsent = line.into();
            return Poll::Ready(Ok(length));
        }
        let outcome = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.written(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(length(pieces)));
        }
        ready!(self.poll_unsent(context));
        if let Some((line, length)) = pieces.first().and_then(|first| self.head.other_line(first)) {
            self.unsent = line.into();
            return Poll::Ready(Ok(length));
        }
        let pieces = match self.head.trailers().look(pieces) {
            Write::AsTheyAre => pieces,
            Write::AllButLast => &pieces[..pieces.len() - 1],
            Write::Instead(trailers) => {
                self.unsent = trailers;
                return Poll::Ready(Ok(length(pieces)));
            }
        };
        let outcome = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, pieces));
        self.written(outcome, length(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(context));
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_unsent(context));
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn length(pieces: &[IoSlice<'_>]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

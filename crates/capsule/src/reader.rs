//! Reading a capsule.
//!
//! ```text
//! store ─► sealed pieces, read ahead ([`PieceSource`]) ─► opened on the blocking pool ─► reader
//!                                                         (several at once)           (in order)
//! ```
//!
//! A task runs a few pieces ahead of the reader. It passes on only authenticated bytes. It reports
//! the end of the stream only after all checks: each piece in its place, the last mark, the totals
//! of the manifest.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Damage, Error, Result};
use crate::format::{HEADER_BYTES, PIECE_BYTES};
use crate::manifest::Manifest;
use crate::piece::Opener;
use crate::piece_source::{PieceSource, Sealed};
use crate::pool::Pool;
use crate::read_plan;
use crate::store::{Attempt, CapsuleStore, pieces_at_once};

/// Reads one capsule.
///
/// It returns the deferred part last, and ends only after everything was checked. Damage is an
/// error ([`Error::inside`]) before a wrong byte is returned.
#[derive(Debug)]
pub struct CapsuleReader {
    manifest: Manifest,
    pieces: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    state: State,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// A way of reading a capsule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// In the order in which it was written, checking the SHA-256 as well.
    Verifying,
    /// With the deferred part last. Authenticated pieces need no SHA-256, which serves those
    /// without the key.
    DeferredLast,
    /// The deferred part alone, for a capsule that builds on this one.
    Deferred,
}

impl CapsuleReader {
    pub(crate) fn new(store: &CapsuleStore, manifest: Manifest, reading: Reading) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        let pump = Pump { store: store.clone(), manifest: manifest.clone(), reading, pieces: sender };
        let task = AbortOnDropHandle::new(store.tasks().spawn(pump.run()));
        Self { manifest, pieces, current: Bytes::new(), state: State::Reading, _task: task }
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the next bytes without a copy, or `None` at the end. An error has its cause inside
    /// ([`Error::inside`]).
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|context| self.poll_fill(context)).await?;
        let next = std::mem::take(&mut self.current);
        Ok((!next.is_empty()).then_some(next))
    }

    /// Waits until `current` has bytes or the stream has ended.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            let given_up = || Error::GivenUp { capsule: self.manifest.name.clone() };
            match self.state {
                State::Reading => {}
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed => return Poll::Ready(Err(given_up().into())),
            }
            let error = match ready!(self.pieces.poll_recv(context)) {
                // The task sends an empty piece after all checks.
                Some(Ok(piece)) if piece.is_empty() => {
                    self.state = State::Ended;
                    continue;
                }
                Some(Ok(piece)) => {
                    self.current = piece;
                    continue;
                }
                Some(Err(error)) => error,
                None => given_up(),
            };
            self.state = State::Failed;
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for CapsuleReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(context))?;
        let taken = out.remaining().min(self.current.len());
        out.put_slice(&self.current.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

/// The task behind a reader.
struct Pump {
    store: CapsuleStore,
    manifest: Manifest,
    reading: Reading,
    pieces: mpsc::Sender<Result<Bytes>>,
}

/// Pieces that are being opened, in order, each with the bytes that the reader gets.
type Opening = VecDeque<(JoinHandle<Result<Bytes, Damage>>, Range<usize>)>;

/// The reader is gone.
struct ReaderGone;

impl Pump {
    async fn run(self) {
        let outcome = match self.pass_on().await {
            Ok(Ok(())) => Ok(Bytes::new()),
            Ok(Err(ReaderGone)) => return,
            Err(error) => Err(error),
        };
        // A reader that is gone needs no outcome.
        drop(self.pieces.send(outcome).await);
    }

    /// Passes on the whole capsule, checked.
    async fn pass_on(&self) -> Result<Result<(), ReaderGone>> {
        let parts = match self.reading {
            Reading::Verifying => read_plan::as_written(&self.manifest),
            Reading::DeferredLast => read_plan::deferred_last(&self.manifest),
            Reading::Deferred => read_plan::deferred(&self.manifest),
        };
        let (backend, buffers) = (self.store.backend(), Arc::<Pool<Vec<u8>>>::default());
        let stream = Attempt::of(&self.manifest).stream(backend);
        let mut source = PieceSource::start(backend, &stream, &self.manifest, parts.clone(), &buffers);
        let (key, header) = self.store.stream_key(&self.manifest).await?;
        let mut hash = (self.reading == Reading::Verifying).then(|| hash_of(&header));
        let opener = Arc::new(Opener::new(key, buffers));
        let mut opening = Opening::new();
        for part in parts {
            for number in part.pieces.clone() {
                let next = source.next().await?.filter(|next| next.number == number);
                let mut next = next.ok_or_else(|| self.damaged(self.ends_before(number)))?;
                self.check(&next)?;
                if let Some(hashing) = hash.take() {
                    let hashed = spawn_blocking(move || hash_piece(hashing, next));
                    let (context, same) = hashed.await.map_err(|lost| self.lost(lost))?;
                    (hash, next) = (Some(context), same);
                }
                if opening.len() == pieces_at_once()
                    && let Err(ReaderGone) = self.send_next(&mut opening).await?
                {
                    return Ok(Err(ReaderGone));
                }
                let (opener, Sealed { bytes, head, sealed, .. }) = (opener.clone(), next);
                let opened = spawn_blocking(move || opener.open(number, &bytes, sealed));
                opening.push_back((opened, part.of(number, head.plain as usize)));
            }
        }
        while !opening.is_empty() {
            if let Err(ReaderGone) = self.send_next(&mut opening).await? {
                return Ok(Err(ReaderGone));
            }
        }
        if source.next().await?.is_some() {
            return Err(self.damaged(Damage::Trailing));
        }
        if hash.is_some_and(|hash| hex::encode(hash.finish()) != self.manifest.sha256) {
            return Err(self.damaged(Damage::Totals));
        }
        Ok(Ok(()))
    }

    /// Checks the last mark of a piece, and the total length at the last one.
    fn check(&self, piece: &Sealed) -> Result<()> {
        let is_last = piece.number + 1 == self.manifest.pieces;
        match (piece.head.last, is_last) {
            (true, false) => Err(self.damaged(Damage::Trailing)),
            (false, true) => Err(self.damaged(Damage::EndsAfter(piece.number))),
            (true, true)
                if piece.number * PIECE_BYTES as u64 + u64::from(piece.head.plain) != self.manifest.plain_bytes =>
            {
                Err(self.damaged(Damage::Totals))
            }
            _ => Ok(()),
        }
    }

    fn ends_before(&self, number: u64) -> Damage {
        number.checked_sub(1).map_or(Damage::Header, Damage::EndsAfter)
    }

    /// Sends the reader the next piece once it is open.
    async fn send_next(&self, opening: &mut Opening) -> Result<Result<(), ReaderGone>> {
        let Some((next, given)) = opening.pop_front() else { return Ok(Ok(())) };
        let piece = next.await.map_err(|lost| self.lost(lost))?.map_err(|damage| self.damaged(damage))?;
        let piece = piece.slice(given);
        // An empty piece would mean the end to the reader.
        if piece.is_empty() {
            return Ok(Ok(()));
        }
        Ok(self.pieces.send(Ok(piece)).await.map_err(|_| ReaderGone))
    }

    fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged { capsule: self.manifest.name.clone(), damage }
    }

    fn lost(&self, lost: JoinError) -> Error {
        Error::Failed { at: self.store.at().to_owned(), source: lost.into() }
    }
}

fn hash_of(header: &[u8; HEADER_BYTES]) -> digest::Context {
    let mut hash = digest::Context::new(&SHA256);
    hash.update(header);
    hash
}

fn hash_piece(mut hash: digest::Context, piece: Sealed) -> (digest::Context, Sealed) {
    hash.update(&piece.bytes);
    hash.update(&piece.sealed);
    (hash, piece)
}

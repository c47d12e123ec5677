//! Reading a capsule.
//!
//! ```text
//! store ─► ranges, several at once ─► hashed, cut into pieces ─► opened on the blocking pool, several at once ─► reader, in order
//! ```
//!
//! A task does all that ahead of the reader, no further than a few ranges and pieces. It gives no byte that was not authenticated,
//! and no end of the stream before everything was: the mark of the last piece, the totals of the manifest and the hash.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_lc_rs::digest::{self, SHA256};
use bytes::{Buf, Bytes, BytesMut};
use object_store::path::Path;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use crate::backend::Backend;
use crate::error::{Damage, Error, Result};
use crate::format::{HEAD, HEADER, Head, StreamKey};
use crate::key::SealKey;
use crate::manifest::Manifest;
use crate::piece::Opener;
use crate::store::{CapsuleStore, Place, breadth};

/// How much is asked of the store at once, in bytes.
const RANGE: u64 = 4 << 20;
/// How many ranges are asked for ahead.
const RANGES_AHEAD: usize = 4;

/// Reads one capsule.
///
/// It ends only after everything was checked; every damage is an error ([`Error::inside`]), and no byte that it gives is a wrong one.
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

impl CapsuleReader {
    pub(crate) fn new(store: &CapsuleStore, manifest: Manifest) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        let place = Place::of(&manifest);
        let pump = Pump {
            backend: store.backend().clone(),
            stream: place.stream(store.backend()),
            key: store.key().clone(),
            manifest: manifest.clone(),
            pieces: sender,
        };
        let task = AbortOnDropHandle::new(store.tasks().spawn(pump.run()));
        Self { manifest, pieces, current: Bytes::new(), state: State::Reading, _task: task }
    }

    /// What is known about the capsule.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What comes next, as much of it as is there, without a copy; nothing at the end.
    ///
    /// # Errors
    /// The rest can't be read, or is not what was written: [`Error::inside`].
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|context| self.poll_fill(context)).await?;
        let next = std::mem::take(&mut self.current);
        Ok((!next.is_empty()).then_some(next))
    }

    /// Sees that something of the stream is at hand, unless it has ended.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            let given_up = || Error::GivenUp { capsule: self.manifest.name.clone() };
            match self.state {
                State::Reading => {}
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed => return Poll::Ready(Err(given_up().into())),
            }
            let error = match ready!(self.pieces.poll_recv(context)) {
                // An empty piece is the task's word that everything was checked.
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
    backend: Backend,
    stream: Path,
    key: SealKey,
    manifest: Manifest,
    pieces: mpsc::Sender<Result<Bytes>>,
}

/// Pieces that are being opened, in order.
type Opening = VecDeque<JoinHandle<std::result::Result<Bytes, Damage>>>;

/// Nobody reads any more.
struct Unread;

impl Pump {
    async fn run(self) {
        let outcome = match self.pass_on().await {
            Ok(Ok(())) => Ok(Bytes::new()),
            Ok(Err(Unread)) => return,
            Err(error) => Err(error),
        };
        // A reader that is gone needs no outcome.
        drop(self.pieces.send(outcome).await);
    }

    /// Passes on everything that the capsule holds, having checked it.
    async fn pass_on(&self) -> Result<std::result::Result<(), Unread>> {
        let mut ranges = Ranges::new(self);
        let mut hash = Hash::default();
        let mut rest = BytesMut::new();
        let mut opener = None;
        let mut opening = Opening::new();
        let (mut number, mut plain_bytes, mut last) = (0, 0, false);
        while let Some(range) = ranges.next().await? {
            hash.update(range.clone()).await.map_err(|lost| self.lost(lost))?;
            rest.extend_from_slice(&range);
            if opener.is_none() {
                let Some((header, _)) = rest.split_first_chunk::<HEADER>() else { break };
                let key = StreamKey::open(header, &self.manifest.name, &self.manifest.attempt, &self.key)?;
                opener = Some(Arc::new(Opener::new(key)));
                rest.advance(HEADER);
            }
            let Some(opener) = &opener else { break };
            while let Some((bytes, _)) = rest.split_first_chunk::<HEAD>() {
                if last {
                    return Err(self.damaged(Damage::Trailing));
                }
                let bytes = *bytes;
                let head = Head::parse(&bytes).ok_or_else(|| self.damaged(Damage::Piece(number)))?;
                if rest.len() < HEAD + head.sealed as usize {
                    break;
                }
                rest.advance(HEAD);
                let sealed = rest.split_to(head.sealed as usize);
                if opening.len() == breadth()
                    && let Err(Unread) = self.give_next(&mut opening).await?
                {
                    return Ok(Err(Unread));
                }
                let opener = opener.clone();
                opening.push_back(spawn_blocking(move || opener.open(number, &bytes, sealed.into())));
                plain_bytes += u64::from(head.plain);
                number += 1;
                last = head.last;
            }
        }
        while !opening.is_empty() {
            if let Err(Unread) = self.give_next(&mut opening).await? {
                return Ok(Err(Unread));
            }
        }
        if last && !rest.is_empty() {
            return Err(self.damaged(Damage::Trailing));
        }
        if !last {
            return Err(self.damaged(match number {
                0 => Damage::Header,
                _ => Damage::EndsAfter(number - 1),
            }));
        }
        let sha256 = hash.finish().await.map_err(|lost| self.lost(lost))?;
        let Manifest { plain_bytes: plain, pieces, sha256: hash, .. } = &self.manifest;
        if (plain_bytes, number, &sha256) != (*plain, *pieces, hash) {
            return Err(self.damaged(Damage::Totals));
        }
        Ok(Ok(()))
    }

    /// Gives the reader the next piece once it is open.
    async fn give_next(&self, opening: &mut Opening) -> Result<std::result::Result<(), Unread>> {
        let Some(next) = opening.pop_front() else { return Ok(Ok(())) };
        let piece = next.await.map_err(|lost| self.lost(lost))?.map_err(|damage| self.damaged(damage))?;
        // Only the last piece can be empty, and an empty piece means more to the reader than it says.
        if piece.is_empty() {
            return Ok(Ok(()));
        }
        Ok(self.pieces.send(Ok(piece)).await.map_err(|_| Unread))
    }

    fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged { capsule: self.manifest.name.clone(), damage }
    }

    fn lost(&self, lost: JoinError) -> Error {
        Error::Failed { at: self.backend.at().to_owned(), source: lost.into() }
    }
}

/// The stored stream, range after range, fetched ahead.
struct Ranges<'a> {
    pump: &'a Pump,
    ahead: VecDeque<AbortOnDropHandle<Result<Bytes>>>,
    asked: u64,
}

impl<'a> Ranges<'a> {
    fn new(pump: &'a Pump) -> Self {
        Self { pump, ahead: VecDeque::new(), asked: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let total = self.pump.manifest.stored_bytes;
        while self.ahead.len() < RANGES_AHEAD && self.asked < total {
            let range = self.asked..total.min(self.asked + RANGE);
            self.asked = range.end;
            self.ahead.push_back(self.fetch(range));
        }
        match self.ahead.pop_front() {
            None => Ok(None),
            Some(fetched) => fetched.await.map_err(|lost| self.pump.lost(lost))?.map(Some),
        }
    }

    /// Fetches a range in a task of its own, so that it goes on while the reader takes its time.
    #[expect(clippy::disallowed_methods, reason = "the handle owns the task and ends it when it is dropped")]
    fn fetch(&self, range: std::ops::Range<u64>) -> AbortOnDropHandle<Result<Bytes>> {
        let (backend, stream) = (self.pump.backend.clone(), self.pump.stream.clone());
        let (capsule, total) = (self.pump.manifest.name.clone(), self.pump.manifest.stored_bytes);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let damaged = |damage| Error::Damaged { capsule: capsule.clone(), damage };
            let expected = range.end - range.start;
            let (bytes, size) = match backend.get_range(&stream, range).await {
                Ok(Some(got)) => got,
                Ok(None) => return Err(damaged(Damage::NoStream)),
                // A range that lies beyond the end of an object is refused; so see first how long it is.
                Err(error) => match backend.size(&stream).await {
                    Ok(Some(found)) if found != total => {
                        return Err(damaged(Damage::Length { expected: total, found }));
                    }
                    _ => return Err(error),
                },
            };
            let found = if bytes.len() as u64 == expected { size } else { bytes.len() as u64 };
            if found == total { Ok(bytes) } else { Err(damaged(Damage::Length { expected: total, found })) }
        }))
    }
}

/// The hash of the stored stream; while one range is hashed, the next may be cut.
#[derive(Default)]
struct Hash(Option<JoinHandle<digest::Context>>);

impl Hash {
    async fn update(&mut self, bytes: Bytes) -> std::result::Result<(), JoinError> {
        let mut hash = match self.0.take() {
            Some(running) => running.await?,
            None => digest::Context::new(&SHA256),
        };
        self.0 = Some(spawn_blocking(move || {
            hash.update(&bytes);
            hash
        }));
        Ok(())
    }

    async fn finish(self) -> std::result::Result<String, JoinError> {
        let hash = match self.0 {
            Some(running) => running.await?,
            None => digest::Context::new(&SHA256),
        };
        Ok(hex::encode(hash.finish()))
    }
}

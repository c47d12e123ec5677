//! Writing a capsule.
//!
//! ```text
//! agent ─► piece being filled ─► sealed on the blocking pool ─► hashed, in order ─► Upload
//!                                (several at once)
//! ```
//!
//! A task does everything after the first arrow. [`CapsuleWriter`] waits where the task is behind.
//! The task belongs to the store and survives the writer. After a writer was dropped, the task
//! finds that the last piece is missing and aborts the upload.
//! [`CapsuleStore::settled`](crate::CapsuleStore::settled) waits for such tasks.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use mooring_types::CapsuleName;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::sync::PollSender;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::format::{FORMAT, HEADER_BYTES, PIECE_BYTES, StreamKey};
use crate::manifest::{Deferred, Facts, Manifest};
use crate::piece::Sealer;
use crate::store::{Attempt, CapsuleStore, pieces_at_once};
use crate::upload::Upload;

/// Writes one capsule.
///
/// Only [`CapsuleWriter::finish`] makes a capsule of the written bytes. A flush and a shutdown of
/// the stream only report whether the store has failed. Dropping the writer removes the written
/// bytes.
#[derive(Debug)]
pub struct CapsuleWriter {
    store: CapsuleStore,
    attempt: Attempt,
    sealer: Arc<Sealer>,
    filling: Vec<u8>,
    /// The number of bytes in the pieces before the one being filled.
    passed_on: u64,
    deferred: Option<Range<u64>>,
    pieces: PollSender<PlainPiece>,
    task: Option<JoinHandle<Result<Written>>>,
}

/// A position in the written bytes of a capsule, from [`CapsuleWriter::position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(u64);

/// A piece before it is sealed.
#[derive(Debug)]
struct PlainPiece {
    plain: Vec<u8>,
    last: bool,
}

/// The outcome of sealing and storing all pieces.
#[derive(Debug)]
struct Written {
    plain_bytes: u64,
    stored_bytes: u64,
    /// The start of each piece in the stream.
    starts: Vec<u64>,
    sha256: String,
}

impl CapsuleWriter {
    pub(crate) fn new(store: &CapsuleStore, attempt: Attempt) -> Self {
        let (key, header) = StreamKey::create(&attempt.name, &attempt.id, store.key());
        let sealer = Arc::new(Sealer::new(key, store.backend().compression()));
        let (sender, receiver) = mpsc::channel(1);
        let upload =
            Upload::new(store.backend().clone(), attempt.stream(store.backend()), attempt.mark(store.backend()));
        let pump = Pump::new(attempt.name.clone(), sealer.clone(), upload, store.tasks().clone());
        let task = store.tasks().spawn(pump.run(header, receiver));
        Self {
            store: store.clone(),
            attempt,
            filling: sealer.buffer(),
            passed_on: 0,
            deferred: None,
            sealer,
            pieces: PollSender::new(sender),
            task: Some(task),
        }
    }

    #[must_use]
    pub fn name(&self) -> &CapsuleName {
        &self.attempt.name
    }

    /// Returns the position after the last written byte.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.passed_on + self.filling.len() as u64)
    }

    /// Defers the bytes since a position: a reader gets them last. A capsule has one deferred part;
    /// a second replaces the first.
    pub fn defer_since(&mut self, start: Position) {
        self.deferred = Some(start.0..self.position().0);
    }

    /// Makes a capsule of the written bytes. When it returns, the store has the capsule: see
    /// [`CapsuleStore::confirm`](crate::CapsuleStore::confirm). On an error there is no capsule.
    pub async fn finish(mut self, facts: Facts) -> Result<Manifest> {
        let last = PlainPiece { plain: std::mem::take(&mut self.filling), last: true };
        let sent = match std::future::poll_fn(|context| self.pieces.poll_reserve(context)).await {
            Ok(()) => self.pieces.send_item(last),
            closed => closed,
        };
        self.pieces.close();
        let written = self.outcome().await;
        let Written { plain_bytes, stored_bytes, starts, sha256 } = match (written, sent) {
            (Ok(written), Ok(())) => written,
            (Err(error), _) => return Err(error),
            (Ok(_), Err(_)) => return Err(self.given_up()),
        };
        let deferred = self.deferred.take().filter(|plain| !plain.is_empty());
        let deferred = deferred.map(|plain| Deferred::between(plain, &starts, stored_bytes));
        let Facts { job, generation, created, base, about } = facts;
        let Attempt { name, id: attempt } = self.attempt.clone();
        let manifest = Manifest {
            version: FORMAT,
            name,
            job,
            generation,
            created,
            attempt,
            plain_bytes,
            stored_bytes,
            pieces: starts.len() as u64,
            deferred,
            base,
            sha256,
            about,
        };
        if let Err(error) = self.store.put_manifest(&manifest).await {
            // The manifest may have arrived all the same, and must not stay without its stream.
            let (store, name) = (self.store.clone(), manifest.name);
            self.store.tasks().spawn(async move {
                if let Err(left) = store.remove(&name).await {
                    tracing::warn!(capsule = %name, error = %mooring_ops::log::chain(&left), "capsule {name} is not removed yet: a sweep removes it");
                }
            });
            return Err(error);
        }
        Ok(manifest)
    }

    /// Takes back what was written, and waits until it is gone (after a failure of the store:
    /// [`CapsuleStore::settled`](crate::CapsuleStore::settled)). What can't be taken back now is
    /// left for [`CapsuleStore::sweep`](crate::CapsuleStore::sweep).
    pub async fn abort(mut self) {
        self.pieces.close();
        // Whether it was given up or has failed before, it ends with an error and without anything
        // left.
        drop(self.outcome().await);
    }

    async fn outcome(&mut self) -> Result<Written> {
        match self.task.take() {
            Some(task) => self.ended(task.await),
            None => Err(self.given_up()),
        }
    }

    fn ended(&self, ended: std::result::Result<Result<Written>, JoinError>) -> Result<Written> {
        ended
            .unwrap_or_else(|lost| Err(Error::Failed { at: self.store.backend().at().to_owned(), source: lost.into() }))
    }

    fn given_up(&self) -> Error {
        Error::GivenUp { capsule: self.attempt.name.clone() }
    }

    /// Returns why the task ended before the last piece: the error itself the first time.
    fn poll_failure(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(task) = &mut self.task else { return Poll::Ready(self.given_up().into()) };
        let ended = ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(self.ended(ended).err().unwrap_or_else(|| self.given_up()).into())
    }

    fn poll_healthy(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_failure(context).map(Err)
    }
}

impl AsyncWrite for CapsuleWriter {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.filling.len() == PIECE_BYTES {
            let fresh = match ready!(self.pieces.poll_reserve(context)) {
                Ok(()) => self.sealer.buffer(),
                Err(_) => return self.poll_failure(context).map(Err),
            };
            let plain = std::mem::replace(&mut self.filling, fresh);
            self.passed_on += plain.len() as u64;
            if self.pieces.send_item(PlainPiece { plain, last: false }).is_err() {
                return self.poll_failure(context).map(Err);
            }
        }
        let taken = bytes.len().min(PIECE_BYTES - self.filling.len());
        self.filling.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_healthy(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_healthy(context)
    }
}

/// The task behind a writer.
struct Pump {
    name: CapsuleName,
    sealer: Arc<Sealer>,
    upload: Upload,
    tasks: TaskTracker,
    hash: digest::Context,
    stored_bytes: u64,
    starts: Vec<u64>,
}

impl Pump {
    fn new(name: CapsuleName, sealer: Arc<Sealer>, upload: Upload, tasks: TaskTracker) -> Self {
        Self { name, sealer, upload, tasks, hash: digest::Context::new(&SHA256), stored_bytes: 0, starts: Vec::new() }
    }

    async fn run(mut self, header: [u8; HEADER_BYTES], mut pieces: mpsc::Receiver<PlainPiece>) -> Result<Written> {
        let passed = match self.pass_on(header, &mut pieces).await {
            Ok(passed) => self.upload.complete().await.map(|()| passed),
            failed => failed,
        };
        match passed {
            Ok(plain_bytes) => {
                let sha256 = hex::encode(self.hash.finish());
                Ok(Written { plain_bytes, stored_bytes: self.stored_bytes, starts: self.starts, sha256 })
            }
            Err(given_up @ Error::GivenUp { .. }) => {
                self.upload.abort().await;
                Err(given_up)
            }
            Err(error) => {
                // The writer gets the error at once, since a job may wait for it. The abort may
                // take long.
                self.tasks.spawn(self.upload.abort());
                Err(error)
            }
        }
    }

    /// Seals and passes on pieces up to the last. Returns the number of plain bytes.
    async fn pass_on(&mut self, header: [u8; HEADER_BYTES], pieces: &mut mpsc::Receiver<PlainPiece>) -> Result<u64> {
        self.store(header.to_vec()).await?;
        let mut sealing = VecDeque::with_capacity(pieces_at_once());
        let (mut plain_bytes, mut number, mut last) = (0, 0, false);
        while !last {
            let Some(piece) = pieces.recv().await else {
                return Err(Error::GivenUp { capsule: self.name.clone() });
            };
            if sealing.len() == pieces_at_once() {
                self.store_next(&mut sealing).await?;
            }
            plain_bytes += piece.plain.len() as u64;
            last = piece.last;
            let sealer = self.sealer.clone();
            sealing.push_back(spawn_blocking(move || sealer.seal(number, piece.last, piece.plain)));
            number += 1;
        }
        while !sealing.is_empty() {
            self.store_next(&mut sealing).await?;
        }
        Ok(plain_bytes)
    }

    async fn store_next(&mut self, sealing: &mut VecDeque<JoinHandle<Vec<u8>>>) -> Result<()> {
        let Some(next) = sealing.pop_front() else { return Ok(()) };
        let sealed = next.await.map_err(|lost| self.lost(lost))?;
        self.starts.push(self.stored_bytes);
        self.store(sealed).await
    }

    async fn store(&mut self, bytes: Vec<u8>) -> Result<()> {
        let mut hash = self.hash.clone();
        let hashed = spawn_blocking(move || {
            hash.update(&bytes);
            (hash, bytes)
        });
        let (hash, bytes) = hashed.await.map_err(|lost| self.lost(lost))?;
        self.hash = hash;
        self.stored_bytes += bytes.len() as u64;
        self.upload.push(Bytes::from(bytes)).await
    }

    fn lost(&self, lost: JoinError) -> Error {
        Error::Failed { at: self.name.to_string(), source: lost.into() }
    }
}

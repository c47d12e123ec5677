//! Writing a capsule.
//!
//! ```text
//! agent ─► piece being filled ─► sealed on the blocking pool (several at once) ─► hashed, in order ─► Upload
//! ```
//!
//! A task does what is right of the first arrow; the writer's end waits for it when it is behind. The task belongs to the store, not to the
//! writer, so that a writer that is dropped still leaves nothing behind: the task sees that no last piece came and takes back
//! what it had begun. [`CapsuleStore::settled`](crate::CapsuleStore::settled) waits for such tasks.

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
use crate::format::{FORMAT, HEADER, PIECE, StreamKey};
use crate::manifest::{Facts, Manifest};
use crate::order::Deferred;
use crate::piece::Sealer;
use crate::store::{CapsuleStore, Place, breadth};
use crate::upload::Upload;

/// Writes one capsule.
///
/// What is written becomes a capsule with [`CapsuleWriter::finish`] and in no other way: neither a flush nor a shutdown of the stream
/// does anything but say whether the store has failed meanwhile. Dropping the writer takes back what was written.
#[derive(Debug)]
pub struct CapsuleWriter {
    store: CapsuleStore,
    place: Place,
    sealer: Arc<Sealer>,
    filling: Vec<u8>,
    /// How many bytes are in the pieces before the one being filled.
    passed_on: u64,
    deferred: Option<Range<u64>>,
    pieces: PollSender<Piece>,
    task: Option<JoinHandle<Result<Written>>>,
}

/// A piece to be sealed.
#[derive(Debug)]
struct Piece {
    plain: Vec<u8>,
    last: bool,
}

/// What became of all pieces.
#[derive(Debug)]
struct Written {
    plain_bytes: u64,
    stored_bytes: u64,
    /// Where in the stream each piece begins.
    starts: Vec<u64>,
    sha256: String,
}

impl CapsuleWriter {
    pub(crate) fn new(store: &CapsuleStore, place: Place) -> Self {
        let (key, header) = StreamKey::create(&place.name, &place.attempt, store.key());
        let sealer = Arc::new(Sealer::new(key, store.backend().compression()));
        let (sender, receiver) = mpsc::channel(1);
        let upload = Upload::new(store.backend().clone(), place.stream(store.backend()), place.mark(store.backend()));
        let pump = Pump::new(place.name.clone(), sealer.clone(), upload, store.tasks().clone());
        let task = store.tasks().spawn(pump.run(header, receiver));
        Self {
            store: store.clone(),
            place,
            filling: sealer.buffer(),
            passed_on: 0,
            deferred: None,
            sealer,
            pieces: PollSender::new(sender),
            task: Some(task),
        }
    }

    /// The name of the capsule.
    #[must_use]
    pub fn name(&self) -> &CapsuleName {
        &self.place.name
    }

    /// Has the reader give last what is written from here to [`CapsuleWriter::defer_to_here`]. There is one such part; a second
    /// replaces it.
    pub fn defer_from_here(&mut self) {
        let here = self.written();
        self.deferred = Some(here..here);
    }

    /// Ends what is deferred.
    pub fn defer_to_here(&mut self) {
        let here = self.written();
        if let Some(deferred) = &mut self.deferred {
            deferred.end = here;
        }
    }

    fn written(&self) -> u64 {
        self.passed_on + self.filling.len() as u64
    }

    /// Makes a capsule of what was written. When it returns, the store keeps it: see
    /// [`CapsuleStore::confirm`](crate::CapsuleStore::confirm).
    ///
    /// # Errors
    /// The store failed, now or while something was written. There is no capsule then.
    pub async fn finish(mut self, facts: Facts) -> Result<Manifest> {
        let last = Piece { plain: std::mem::take(&mut self.filling), last: true };
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
        let Place { name, attempt } = self.place.clone();
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
            // It may have arrived all the same; the one thing that must not be is a manifest without its stream.
            let (store, name) = (self.store.clone(), manifest.name);
            self.store.tasks().spawn(async move {
                if let Err(left) = store.remove(&name).await {
                    tracing::warn!(capsule = %name, error = &left as &dyn std::error::Error, "capsule {name} is left for a sweep");
                }
            });
            return Err(error);
        }
        Ok(manifest)
    }

    /// Takes back what was written, and waits until it is gone (after a failure of the store:
    /// [`CapsuleStore::settled`](crate::CapsuleStore::settled)). What can't be taken back now is left for
    /// [`CapsuleStore::sweep`](crate::CapsuleStore::sweep).
    pub async fn abort(mut self) {
        self.pieces.close();
        // Whether it was given up or has failed before, it ends with an error and without anything left.
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
        Error::GivenUp { capsule: self.place.name.clone() }
    }

    /// Why the task ended before the last piece: the error itself the first time.
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
        if self.filling.len() == PIECE {
            let fresh = match ready!(self.pieces.poll_reserve(context)) {
                Ok(()) => self.sealer.buffer(),
                Err(_) => return self.poll_failure(context).map(Err),
            };
            let plain = std::mem::replace(&mut self.filling, fresh);
            self.passed_on += plain.len() as u64;
            if self.pieces.send_item(Piece { plain, last: false }).is_err() {
                return self.poll_failure(context).map(Err);
            }
        }
        let taken = bytes.len().min(PIECE - self.filling.len());
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

    async fn run(mut self, header: [u8; HEADER], mut pieces: mpsc::Receiver<Piece>) -> Result<Written> {
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
                // The writer is told at once: a job may be waiting to go on. Cleaning up behind a store that is away takes its time.
                self.tasks.spawn(self.upload.abort());
                Err(error)
            }
        }
    }

    /// Seals and passes on pieces up to the last; gives how many bytes they stand for.
    async fn pass_on(&mut self, header: [u8; HEADER], pieces: &mut mpsc::Receiver<Piece>) -> Result<u64> {
        self.store(header.to_vec()).await?;
        let mut sealing = VecDeque::with_capacity(breadth());
        let (mut plain_bytes, mut number, mut last) = (0, 0, false);
        while !last {
            let Some(piece) = pieces.recv().await else {
                return Err(Error::GivenUp { capsule: self.name.clone() });
            };
            if sealing.len() == breadth() {
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

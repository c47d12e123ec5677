//! The sealed pieces of a stream, read ahead of the reader that opens them.
//!
//! In a directory, a thread reads piece after piece into buffers from a pool. In a bucket, several
//! ranges are requested at once, and pieces are cut out of them.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::Backend;
use crate::error::{Damage, Error, Result};
use crate::format::{HEAD_BYTES, Head, PIECE_BYTES, TAG_BYTES};
use crate::manifest::Manifest;
use crate::pool::Pool;
use crate::read_plan::Part;

/// The size of one request to a bucket.
const RANGE_BYTES: u64 = 4 << 20;
/// The number of requests that are under way at once.
const RANGES_AHEAD: usize = 4;
/// The number of pieces that wait to be opened.
const PIECES_AHEAD: usize = 4;

/// A piece as it is stored.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u64,
    pub(crate) bytes: [u8; HEAD_BYTES],
    pub(crate) head: Head,
    /// The bytes after the head.
    pub(crate) sealed: Vec<u8>,
}

/// The pieces of a stream, part after part.
#[derive(Debug)]
pub(crate) struct PieceSource {
    backend: Backend,
    pieces: mpsc::Receiver<Result<Sealed>>,
    _task: AbortOnDropHandle<()>,
}

impl PieceSource {
    /// Begins to read the parts of a stream. Buffers of opened pieces return to `buffers`.
    #[expect(clippy::disallowed_methods, reason = "the handle owns the task and ends it when it is dropped")]
    pub(crate) fn start(
        backend: &Backend,
        stream: &Path,
        manifest: &Manifest,
        parts: Vec<Part>,
        buffers: &Arc<Pool<Vec<u8>>>,
    ) -> Self {
        let (give, pieces) = mpsc::channel(PIECES_AHEAD);
        let (manifest, backend) = (manifest.clone(), backend.clone());
        let task = match backend.file(stream) {
            Some(path) => {
                let (path, buffers) = (path, buffers.clone());
                let reading = Reading { backend: backend.clone(), manifest, give };
                // A thread can't be stopped in the middle of a read: it ends when the channel is
                // closed.
                spawn_blocking(move || reading.file(path, &parts, &buffers))
            }
            None => {
                let ranges = Ranges::new(backend.clone(), stream.clone(), manifest.clone(), &parts);
                let reading = Reading { backend: backend.clone(), manifest, give };
                tokio::spawn(reading.ranges(ranges, parts))
            }
        };
        Self { backend, pieces, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns the next piece, or `None` after the last part.
    pub(crate) async fn next(&mut self) -> Result<Option<Sealed>> {
        let next = self.pieces.recv();
        self.backend.bounded(RANGE_BYTES, async { Ok(next.await) }).await?.transpose()
    }
}

/// The receiver of the pieces is gone.
struct ReceiverGone;

/// The state that reading from a directory and from a bucket share.
struct Reading {
    backend: Backend,
    manifest: Manifest,
    give: mpsc::Sender<Result<Sealed>>,
}

impl Reading {
    fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged { capsule: self.manifest.name.clone(), damage }
    }

    fn head(&self, number: u64, bytes: &[u8; HEAD_BYTES]) -> Result<Head> {
        Head::parse(bytes).ok_or_else(|| self.damaged(Damage::Piece(number)))
    }

    fn file(self, path: PathBuf, parts: &[Part], buffers: &Pool<Vec<u8>>) {
        if let Err(error) = self.read_file(path, parts, buffers) {
            // A receiver that is gone needs no error.
            drop(self.give.blocking_send(Err(error)));
        }
    }

    fn read_file(&self, path: PathBuf, parts: &[Part], buffers: &Pool<Vec<u8>>) -> Result<()> {
        let expected = self.manifest.stored_bytes;
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged(Damage::NoStream),
            _ => self.backend.failed(error),
        })?;
        let length = || file.metadata().map(|metadata| metadata.len()).map_err(|error| self.backend.failed(error));
        let found = length()?;
        if found != expected {
            return Err(self.damaged(Damage::Length { expected, found }));
        }
        let failed = |error: io::Error| match error.kind() {
            // The file was truncated meanwhile.
            io::ErrorKind::UnexpectedEof => {
                length().map_or_else(|failed| failed, |found| self.damaged(Damage::Length { expected, found }))
            }
            _ => self.backend.failed(error),
        };
        for part in parts {
            let (mut at, mut number) = (part.stored.start, part.pieces.start);
            while at < part.stored.end {
                let mut bytes = [0; HEAD_BYTES];
                file.read_exact_at(&mut bytes, at).map_err(failed)?;
                let head = self.head(number, &bytes)?;
                let start = at + HEAD_BYTES as u64;
                at = start + u64::from(head.sealed);
                if at > part.stored.end {
                    return Err(self.damaged(Damage::Piece(number)));
                }
                let mut sealed = buffers.take().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES + TAG_BYTES));
                sealed.resize(head.sealed as usize, 0);
                file.read_exact_at(&mut sealed, start).map_err(failed)?;
                if self.give.blocking_send(Ok(Sealed { number, bytes, head, sealed })).is_err() {
                    return Ok(());
                }
                number += 1;
            }
        }
        Ok(())
    }

    async fn ranges(self, ranges: Ranges, parts: Vec<Part>) {
        if let Err(error) = self.cut_ranges(ranges, &parts).await {
            // A receiver that is gone needs no error.
            drop(self.give.send(Err(error)).await);
        }
    }

    async fn cut_ranges(&self, mut ranges: Ranges, parts: &[Part]) -> Result<Result<(), ReceiverGone>> {
        for part in parts {
            let (mut left, mut number) = (part.stored.end - part.stored.start, part.pieces.start);
            let mut rest = BytesMut::new();
            while left > 0 {
                let Some(range) = ranges.next().await? else { break };
                left = left.saturating_sub(range.len() as u64);
                rest.extend_from_slice(&range);
                while let Some((bytes, _)) = rest.split_first_chunk::<HEAD_BYTES>() {
                    let bytes = *bytes;
                    let head = self.head(number, &bytes)?;
                    if rest.len() < HEAD_BYTES + head.sealed as usize {
                        break;
                    }
                    rest.advance(HEAD_BYTES);
                    let sealed = rest.split_to(head.sealed as usize).into();
                    if self.give.send(Ok(Sealed { number, bytes, head, sealed })).await.is_err() {
                        return Ok(Err(ReceiverGone));
                    }
                    number += 1;
                }
            }
            if !rest.is_empty() {
                return Err(self.damaged(Damage::Piece(number)));
            }
        }
        Ok(Ok(()))
    }
}

/// The stored parts of a stream in a bucket, fetched ahead range by range.
struct Ranges {
    backend: Backend,
    stream: Path,
    manifest: Manifest,
    remaining: VecDeque<Range<u64>>,
    ahead: VecDeque<AbortOnDropHandle<Result<Bytes>>>,
}

impl Ranges {
    fn new(backend: Backend, stream: Path, manifest: Manifest, parts: &[Part]) -> Self {
        let remaining = parts.iter().map(|part| part.stored.clone()).collect();
        Self { backend, stream, manifest, remaining, ahead: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.ahead.len() < RANGES_AHEAD
            && let Some(part) = self.remaining.pop_front()
        {
            let end = part.end.min(part.start + RANGE_BYTES);
            if end < part.end {
                self.remaining.push_front(end..part.end);
            }
            if part.start < end {
                self.ahead.push_back(self.fetch(part.start..end));
            }
        }
        let Some(fetched) = self.ahead.pop_front() else { return Ok(None) };
        let lost =
            |lost: tokio::task::JoinError| Error::Failed { at: self.backend.at().to_owned(), source: lost.into() };
        fetched.await.map_err(lost)?.map(Some)
    }

    /// Fetches a range in a task of its own, which continues while the reader is busy.
    #[expect(clippy::disallowed_methods, reason = "the handle owns the task and ends it when it is dropped")]
    fn fetch(&self, range: Range<u64>) -> AbortOnDropHandle<Result<Bytes>> {
        let (backend, stream) = (self.backend.clone(), self.stream.clone());
        let (capsule, total) = (self.manifest.name.clone(), self.manifest.stored_bytes);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let damaged = |damage| Error::Damaged { capsule: capsule.clone(), damage };
            let expected = range.end - range.start;
            let (bytes, size) = match backend.get_range(&stream, range).await {
                Ok(Some(got)) => got,
                Ok(None) => return Err(damaged(Damage::NoStream)),
                // A store refuses a range beyond the end of an object: a wrong length is the cause
                // then.
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

//! The stream of a capsule on its way into the store: parts, several at once, of which the store makes one object at the end.
//!
//! ```text
//! push ─► part being filled ─► parts on their way (FLIGHTS) ─► complete: one object │ abort: nothing
//! ```
//!
//! A stream that fits into one part is put whole. In a bucket the parts of an upload that nobody ended cost money and can't be listed
//! through the library: before its first part is sent a *mark* is put beside the stream, from which a sweep can abort it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::{JoinSet, spawn_blocking};

use crate::backend::{Backend, Kind, absent_is_none};
use crate::error::{Error, Result};

/// How many parts are on their way at once.
const FLIGHTS: usize = 3;
/// How many parts S3 takes for one object.
const PARTS_MAX: usize = 10_000;
/// The part at which parts get larger.
const LARGE_FROM: usize = 4_000;
/// The size of the parts before that: 31 GiB of them.
const SMALL: usize = 8 << 20;
/// The size of those after it: 750 GiB of them. All parts of most capsules have one size, as some stores want it.
const LARGE: usize = 128 << 20;
/// The speed at which a bucket puts parts together at least, in bytes a second.
const ASSEMBLY: u64 = 64 << 20;
/// The speed at which a directory's disk takes them at least, in bytes a second.
const DISK: u64 = 16 << 20;

/// A stream being written.
#[derive(Debug)]
pub(crate) struct Upload {
    backend: Backend,
    path: Path,
    mark: Path,
    filling: Vec<Bytes>,
    filled: usize,
    begun: Option<Begun>,
    parts: Vec<Option<PartId>>,
    flights: JoinSet<Result<(usize, PartId)>>,
    sent: u64,
}

/// An upload in parts, as the store knows it.
#[derive(Debug)]
enum Begun {
    Dir(Box<dyn MultipartUpload>, Staged),
    S3(Arc<AmazonS3>, MultipartId),
}

/// The file in which the parts of an upload into a directory are.
#[derive(Debug, Clone)]
struct Staged(Option<PathBuf>);

impl Staged {
    /// That of a stream, which no other writer has: its name is by the library's convention, on which a sweep relies as well.
    fn of(backend: &Backend, stream: &Path) -> Self {
        Self(backend.file(stream).map(|mut file| {
            file.as_mut_os_string().push("#1");
            file
        }))
    }

    /// Has the system begin to write a part to the disk, so that little is left to wait for in the end. That it forgets what is written is
    /// the other half of this advice, and comes too early to be heeded.
    fn settle(self, start: u64, length: u64) {
        let range = (offset(start), offset(length));
        let begun = self.0.map(File::open).transpose().ok().flatten();
        if let Some(file) = begun {
            // An advice: without it the end takes longer.
            let _ = posix_fadvise(&file, range.0, range.1, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }
}

impl Upload {
    /// A stream that will be the object at `path`; `mark` is where its mark may be put.
    pub(crate) fn new(backend: Backend, path: Path, mark: Path) -> Self {
        Self {
            backend,
            path,
            mark,
            filling: Vec::new(),
            filled: 0,
            begun: None,
            parts: Vec::new(),
            flights: JoinSet::new(),
            sent: 0,
        }
    }

    /// Takes the next bytes; waits while too many parts are on their way.
    pub(crate) async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        loop {
            let room = part_size(self.parts.len()) - self.filled;
            if bytes.len() < room {
                break;
            }
            self.filling.push(bytes.split_to(room));
            self.filled += room;
            self.send().await?;
        }
        self.filled += bytes.len();
        if !bytes.is_empty() {
            self.filling.push(bytes);
        }
        Ok(())
    }

    /// Makes the object of what was pushed. When it returns, the store keeps it; when it fails, it is to be aborted.
    pub(crate) async fn complete(&mut self) -> Result<()> {
        if self.begun.is_none() {
            let payload = PutPayload::from_iter(self.filling.drain(..));
            return self.backend.put(&self.path, payload).await;
        }
        if self.filled > 0 {
            self.send().await?;
        }
        while !self.flights.is_empty() {
            self.land().await?;
        }
        match &mut self.begun {
            None => {}
            Some(Begun::Dir(upload, _)) => {
                self.backend.bounded_at(DISK, self.sent, upload.complete()).await?;
            }
            Some(Begun::S3(bucket, id)) => {
                let parts = self.parts.iter_mut().filter_map(Option::take).collect();
                let complete = bucket.complete_multipart(&self.path, id, parts);
                self.backend.bounded_at(ASSEMBLY, self.sent, complete).await?;
                // The object is there whether or not the mark goes; a sweep finds a mark without an upload, too.
                self.backend.delete(&self.mark).await.unwrap_or_else(|error| {
                    tracing::warn!(path = %self.mark, error = &error as &dyn std::error::Error, "a mark is left for a sweep");
                });
            }
        }
        self.begun = None;
        Ok(())
    }

    /// Leaves nothing behind, as far as the store can be told so.
    pub(crate) async fn abort(mut self) {
        // A part that arrives after the abort would stay; each has its time limit.
        while self.flights.join_next().await.is_some() {}
        let aborted = match self.begun.take() {
            None => return,
            Some(Begun::Dir(mut upload, _)) => self.backend.bounded(0, upload.abort()).await,
            Some(Begun::S3(bucket, id)) => abort_upload(&self.backend, &bucket, &self.path, &id, &self.mark).await,
        };
        if let Err(error) = aborted {
            tracing::warn!(path = %self.path, error = &error as &dyn std::error::Error, "an upload is left for a sweep");
        }
    }

    /// Sends the part that was filled on its way.
    async fn send(&mut self) -> Result<()> {
        if self.begun.is_none() {
            self.begin().await?;
        }
        let number = self.parts.len();
        if number == PARTS_MAX {
            let too_long = object_store::Error::NotSupported { source: "a stream of more than 780 GiB".into() };
            return Err(self.backend.failure(too_long));
        }
        while self.flights.len() >= FLIGHTS.min(1 + FLIGHTS * SMALL / part_size(number)) {
            self.land().await?;
        }
        let payload = PutPayload::from_iter(self.filling.drain(..));
        let length = std::mem::take(&mut self.filled) as u64;
        self.sent += length;
        self.parts.push(None);
        let backend = self.backend.clone();
        // The parts that are on their way share the line.
        let shared = length * FLIGHTS as u64;
        match &mut self.begun {
            None => {}
            Some(Begun::Dir(upload, staged)) => {
                let (part, staged) = (upload.put_part(payload), staged.clone());
                let start = self.sent - length;
                self.flights.spawn(async move {
                    backend.bounded(shared, part).await?;
                    spawn_blocking(move || staged.settle(start, length));
                    Ok((number, PartId { content_id: String::new() }))
                });
            }
            Some(Begun::S3(bucket, id)) => {
                let (bucket, id, path) = (bucket.clone(), id.clone(), self.path.clone());
                self.flights.spawn(async move {
                    let part = bucket.put_part(&path, &id, number, payload);
                    Ok((number, backend.bounded(shared, part).await?))
                });
            }
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        match &self.backend.kind {
            Kind::Dir { files, .. } => {
                let upload = self.backend.bounded(0, files.put_multipart(&self.path)).await?;
                self.begun = Some(Begun::Dir(upload, Staged::of(&self.backend, &self.path)));
            }
            Kind::S3(bucket) => {
                let id = self.backend.bounded(0, bucket.create_multipart(&self.path)).await?;
                self.begun = Some(Begun::S3(bucket.clone(), id.clone()));
                self.backend.put(&self.mark, id.into()).await?;
            }
        }
        Ok(())
    }

    /// Waits for one of the parts that are on their way.
    async fn land(&mut self) -> Result<()> {
        match self.flights.join_next().await {
            None => {}
            Some(Ok(landed)) => {
                let (number, part) = landed?;
                self.parts[number] = Some(part);
            }
            Some(Err(lost)) => {
                return Err(Error::Failed { at: self.backend.at().to_owned(), source: lost.into() });
            }
        }
        Ok(())
    }
}

/// Ends an upload in parts for good, and removes its mark.
pub(crate) async fn abort_upload(
    backend: &Backend,
    bucket: &AmazonS3,
    path: &Path,
    id: &MultipartId,
    mark: &Path,
) -> Result<()> {
    absent_is_none(backend.bounded(0, bucket.abort_multipart(path, id)).await)?;
    backend.delete(mark).await
}

fn part_size(number: usize) -> usize {
    if number < LARGE_FROM { SMALL } else { LARGE }
}

fn offset(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

//! The stream of a capsule on its way into the store, as an upload in parts.
//!
//! ```text
//! push ─► part being filled ─► parts in flight (PARTS_IN_FLIGHT) ─┬─ complete: one object
//!                                                                 └─ abort: nothing
//! ```
//!
//! A stream that fits into one part is stored in one request. In a bucket, the parts of an
//! unfinished upload cost money, and the library can't list them. So a *mark* is stored beside the
//! stream before the first part is sent: a sweep finds the mark and aborts the upload.

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

/// The number of parts that are sent at once.
const PARTS_IN_FLIGHT: usize = 3;
/// The most parts of one object in S3.
const PARTS_MAX: usize = 10_000;
/// The number of the first large part.
const LARGE_PARTS_FROM: usize = 4_000;
/// The size of the small parts: 31 GiB together.
const SMALL_PART_BYTES: usize = 8 << 20;
/// The size of the large parts: 750 GiB together. Most capsules have parts of one size, which some
/// stores require.
const LARGE_PART_BYTES: usize = 128 << 20;
/// The least speed at which a bucket joins parts, in bytes a second.
const ASSEMBLY_MIN_SPEED: u64 = 64 << 20;
/// The least speed at which a disk takes the parts of a directory, in bytes a second.
const DISK_MIN_SPEED: u64 = 16 << 20;

/// A stream that is being written.
#[derive(Debug)]
pub(crate) struct Upload {
    backend: Backend,
    path: Path,
    mark: Path,
    filling: Vec<Bytes>,
    filled: usize,
    multipart: Option<Multipart>,
    parts: Vec<Option<PartId>>,
    in_flight: JoinSet<Result<(usize, PartId)>>,
    sent: u64,
}

/// An upload in parts, as the store identifies it.
#[derive(Debug)]
enum Multipart {
    Dir(Box<dyn MultipartUpload>, Staged),
    S3(Arc<AmazonS3>, MultipartId),
}

/// The file that collects the parts of an upload into a directory.
#[derive(Debug, Clone)]
struct Staged(Option<PathBuf>);

impl Staged {
    /// Returns the file of a stream, which has one writer. The library gives the file its name, on
    /// which a sweep relies as well.
    fn of(backend: &Backend, stream: &Path) -> Self {
        Self(backend.file(stream).map(|mut file| {
            file.as_mut_os_string().push("#1");
            file
        }))
    }

    /// Starts writing a part to the disk, so that the final sync has little left to
    /// do. The advice also asks to drop the pages from memory, which has no effect this early.
    fn start_writeback(self, start: u64, length: u64) {
        let range = (offset(start), offset(length));
        let file = self.0.map(File::open).transpose().ok().flatten();
        if let Some(file) = file {
            // Without this advice the final sync takes longer.
            let _ = posix_fadvise(&file, range.0, range.1, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }
}

impl Upload {
    /// Makes an upload of the object at `path`, with a mark at `mark` where one is needed.
    pub(crate) fn new(backend: Backend, path: Path, mark: Path) -> Self {
        Self {
            backend,
            path,
            mark,
            filling: Vec::new(),
            filled: 0,
            multipart: None,
            parts: Vec::new(),
            in_flight: JoinSet::new(),
            sent: 0,
        }
    }

    /// Takes the next bytes. Waits while too many parts are in flight.
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

    /// Makes the object of the pushed bytes. The caller has to abort an upload that fails to
    /// complete.
    pub(crate) async fn complete(&mut self) -> Result<()> {
        if self.multipart.is_none() {
            let payload = PutPayload::from_iter(self.filling.drain(..));
            return self.backend.put(&self.path, payload).await;
        }
        if self.filled > 0 {
            self.send().await?;
        }
        while !self.in_flight.is_empty() {
            self.land().await?;
        }
        match &mut self.multipart {
            None => {}
            Some(Multipart::Dir(upload, _)) => {
                self.backend.bounded_at(DISK_MIN_SPEED, self.sent, upload.complete()).await?;
            }
            Some(Multipart::S3(bucket, id)) => {
                let parts = self.parts.iter_mut().filter_map(Option::take).collect();
                let complete = bucket.complete_multipart(&self.path, id, parts);
                self.backend.bounded_at(ASSEMBLY_MIN_SPEED, self.sent, complete).await?;
                // The object is whole in any case. A sweep removes a mark without an upload, too.
                self.backend.delete(&self.mark).await.unwrap_or_else(|error| {
                    tracing::warn!(path = %self.mark, error = %mooring_ops::log::chain(&error), "the mark of an upload is not removed: a sweep removes it");
                });
            }
        }
        self.multipart = None;
        Ok(())
    }

    /// Removes the parts from the store, as far as the store can be reached.
    pub(crate) async fn abort(mut self) {
        // A part that arrives after the abort would stay. Each part has its time limit.
        while self.in_flight.join_next().await.is_some() {}
        let aborted = match self.multipart.take() {
            None => return,
            Some(Multipart::Dir(mut upload, _)) => self.backend.bounded(0, upload.abort()).await,
            Some(Multipart::S3(bucket, id)) => abort_upload(&self.backend, &bucket, &self.path, &id, &self.mark).await,
        };
        if let Err(error) = aborted {
            tracing::warn!(path = %self.path, error = %mooring_ops::log::chain(&error), "an upload is not aborted: a sweep aborts it");
        }
    }

    /// Sends the part that was filled.
    async fn send(&mut self) -> Result<()> {
        if self.multipart.is_none() {
            self.begin().await?;
        }
        let number = self.parts.len();
        if number == PARTS_MAX {
            let too_long = object_store::Error::NotSupported { source: "a stream of more than 780 GiB".into() };
            return Err(self.backend.failure(too_long));
        }
        while self.in_flight.len() >= PARTS_IN_FLIGHT.min(1 + PARTS_IN_FLIGHT * SMALL_PART_BYTES / part_size(number)) {
            self.land().await?;
        }
        let payload = PutPayload::from_iter(self.filling.drain(..));
        let length = std::mem::take(&mut self.filled) as u64;
        self.sent += length;
        self.parts.push(None);
        let backend = self.backend.clone();
        // The parts in flight share the network.
        let shared = length * PARTS_IN_FLIGHT as u64;
        match &mut self.multipart {
            None => {}
            Some(Multipart::Dir(upload, staged)) => {
                let (part, staged) = (upload.put_part(payload), staged.clone());
                let start = self.sent - length;
                self.in_flight.spawn(async move {
                    backend.bounded(shared, part).await?;
                    spawn_blocking(move || staged.start_writeback(start, length));
                    Ok((number, PartId { content_id: String::new() }))
                });
            }
            Some(Multipart::S3(bucket, id)) => {
                let (bucket, id, path) = (bucket.clone(), id.clone(), self.path.clone());
                self.in_flight.spawn(async move {
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
                self.multipart = Some(Multipart::Dir(upload, Staged::of(&self.backend, &self.path)));
            }
            Kind::S3(bucket) => {
                let id = self.backend.bounded(0, bucket.create_multipart(&self.path)).await?;
                self.multipart = Some(Multipart::S3(bucket.clone(), id.clone()));
                self.backend.put(&self.mark, id.into()).await?;
            }
        }
        Ok(())
    }

    /// Waits until one part in flight is stored.
    async fn land(&mut self) -> Result<()> {
        match self.in_flight.join_next().await {
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

/// Aborts an upload in parts, and removes its mark.
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
    if number < LARGE_PARTS_FROM { SMALL_PART_BYTES } else { LARGE_PART_BYTES }
}

fn offset(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

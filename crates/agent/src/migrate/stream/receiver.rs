//! The receiving end of a capsule: files go below the job's root, images into its checkpoint.
//!
//! A background thread writes memory, so that one core decrypts and unpacks while another writes.
//! Each tar of files is unpacked by a `tar` process; only the next tar waits for it. The seal lists
//! all images with their sizes. In a capsule from the store, memory follows the seal: a restore can
//! start before memory is complete.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use mooring_linux::pages::PAGE;
use mooring_ops::log::chain;
use tokio::task::JoinSet;

use super::frame::{Frame, PageRun, Repeat, Seal};
use crate::error::{Error, Result, StreamError};
use crate::migrate::files::FileReceiver;
use crate::migrate::memory::page_map::{self, PageMap, PageWrite};
use crate::migrate::memory::write_queue::WriteQueue;
use crate::runtime::checkpoint::{Checkpoint, is_memory, memory_name};
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;

/// A capsule that is being received.
#[derive(Debug)]
pub(crate) struct CapsuleReceiver<'a> {
    /// `None` once [`CapsuleReceiver::prerequisites`] was called; only memory is accepted after
    /// that.
    prerequisites: Option<Prerequisites>,
    checkpoint: &'a Checkpoint,
    images: HashMap<String, Image>,
    /// The runs that still wait for pages from `Pages` frames.
    page_map: PageMap,
    pages_received: u64,
    writes: WriteQueue,
    seal: Option<Seal>,
    job_dir: JobDir,
}

/// Everything but memory that a restore needs in addition to CRIU's images: unpacked files and the
/// inode file system, both prepared in the background.
#[derive(Debug)]
struct Prerequisites {
    files: FileReceiver,
    /// The task that builds the inode file system; started once the inode list has arrived.
    numbers: Option<JoinSet<Result<()>>>,
}

/// An image file and the number of bytes received.
#[derive(Debug)]
struct Image {
    file: Arc<File>,
    size: u64,
}

/// The progress after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    More,
    /// A round of pre-copied files has arrived; [`CapsuleReceiver::wait_for_files`] waits until
    /// they are unpacked.
    PreCopied,
    /// The seal has arrived. [`CapsuleReceiver::prerequisites`] and [`CapsuleReceiver::complete`]
    /// check what it lists.
    Sealed,
}

impl<'a> CapsuleReceiver<'a> {
    pub(crate) fn new(job_dir: &JobDir, checkpoint: &'a Checkpoint) -> Self {
        Self {
            job_dir: job_dir.clone(),
            prerequisites: Some(Prerequisites::new(job_dir)),
            checkpoint,
            images: HashMap::new(),
            page_map: PageMap::default(),
            pages_received: 0,
            writes: WriteQueue::default(),
            seal: None,
        }
    }

    /// Writes the content of a frame.
    ///
    /// # Errors
    /// This or an earlier frame can't be written, or the frame is not allowed here.
    pub(crate) async fn accept(&mut self, frame: Frame) -> Result<Received> {
        let out_of_order = || Err(StreamError::OutOfOrder.into());
        match frame {
            Frame::Chunk { image, .. } if self.seal.is_some() && !is_memory(&image) => out_of_order(),
            Frame::Chunk { image, bytes } => self.write(&image, bytes).await.map(|()| Received::More),
            Frame::Part { image, offset, bytes } if is_memory(&image) => {
                self.write_at(&image, offset, bytes).await.map(|()| Received::More)
            }
            Frame::Pages(bytes) if self.seal.is_some() => self.take_pages(bytes).await.map(|()| Received::More),
            _ if self.seal.is_some() => out_of_order(),
            Frame::PageMap(runs) => {
                runs.into_iter().for_each(|run| self.page_map.add(run));
                Ok(Received::More)
            }
            Frame::Repeats(runs) => self.repeat(runs).await.map(|()| Received::More),
            Frame::Files(bytes) => self.files()?.unpack(&bytes).await.map(|()| Received::More),
            Frame::FilesEnd => {
                self.files()?.finish();
                // The first image of a frozen job follows the last round of pre-copied files.
                Ok(if self.images.is_empty() { Received::PreCopied } else { Received::More })
            }
            Frame::Kept(names) => {
                self.files()?.keep_only(&names);
                Ok(Received::More)
            }
            Frame::Removed(names) => self.files()?.remove(&names).await.map(|()| Received::More),
            Frame::Bare(names) => self.files()?.bare(&names).await.map(|()| Received::More),
            Frame::Seal(seal) if seal.images.is_empty() => Err(StreamError::EmptySeal.into()),
            Frame::Seal(seal) => {
                self.seal = Some(seal);
                Ok(Received::Sealed)
            }
            Frame::Part { .. } | Frame::Pages(_) | Frame::Hello(_) | Frame::Answer(_) => out_of_order(),
        }
    }

    /// Waits until all received files are unpacked.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) async fn wait_for_files(&mut self) -> Result<()> {
        self.files()?.wait().await
    }

    async fn write(&mut self, name: &str, bytes: Bytes) -> Result<()> {
        let offset = self.size(name);
        if is_memory(name) {
            return self.write_at(name, offset, bytes).await;
        }
        let file = self.image_file(name, bytes.len() as u64)?;
        (&*file).write_all(&bytes).map_err(Error::system(format!("write image {name}")))
    }

    async fn write_at(&mut self, name: &str, offset: u64, bytes: Bytes) -> Result<()> {
        let file = self.image_file(name, bytes.len() as u64)?;
        self.enqueue(move || file.write_all_at(&bytes, offset)).await
    }

    /// Copies pages that were received before.
    async fn repeat(&mut self, runs: Vec<Repeat>) -> Result<()> {
        for run in runs {
            let from = self.images.get(&memory_name(run.from_image)).map(|image| image.file.clone());
            let from = from.ok_or(StreamError::OutOfOrder)?;
            let mut bytes = vec![0; run.pages as usize * PAGE];
            let to = self.image_file(&memory_name(run.image), bytes.len() as u64)?;
            let [source, target] = [run.from, run.at].map(|page| page * PAGE as u64);
            self.enqueue(move || {
                from.read_exact_at(&mut bytes, source)?;
                to.write_all_at(&bytes, target)
            })
            .await?;
        }
        Ok(())
    }

    /// Writes the pages of a frame of the base capsule.
    ///
    /// # Errors
    /// This or an earlier frame can't be written.
    pub(crate) async fn accept_base_frame(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::Pages(bytes) => self.take_pages(bytes).await,
            // Only pages of the base are used.
            _ => Ok(()),
        }
    }

    /// Writes pages to every image range that waits for them.
    async fn take_pages(&mut self, bytes: Bytes) -> Result<()> {
        let first = self.pages_received;
        self.pages_received += (bytes.len() / PAGE) as u64;
        let wanted: Vec<PageRun> = self.page_map.runs_within(first..self.pages_received).collect();
        let mut pieces = Vec::with_capacity(wanted.len());
        for run in wanted {
            let start = usize::try_from(run.number - first).unwrap_or(usize::MAX).saturating_mul(PAGE);
            let file = self.image_file(&memory_name(run.image), run.bytes() as u64)?;
            pieces.push(PageWrite { source: start..start.saturating_add(run.bytes()), file, offset: run.offset() });
        }
        if pieces.is_empty() {
            return Ok(());
        }
        self.enqueue(move || page_map::write(&bytes, &pieces)).await
    }

    /// Opens or creates the image file `name` and adds `bytes` to its received size.
    fn image_file(&mut self, name: &str, bytes: u64) -> Result<Arc<File>> {
        if name != inode_list::INODE_LIST {
            let checkpoint = self.checkpoint;
            self.prerequisites
                .iter_mut()
                .for_each(|prerequisites| prerequisites.start_inode_file_system(&self.job_dir, checkpoint));
        }
        if let Some(image) = self.images.get_mut(name) {
            image.size += bytes;
            return Ok(image.file.clone());
        }
        let file = Arc::new(self.checkpoint.create(name)?);
        self.images.insert(name.to_owned(), Image { file: file.clone(), size: bytes });
        Ok(file)
    }

    /// Queues a write for the background thread.
    async fn enqueue(&mut self, write: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
        self.writes.push(write).await.map_err(lost)
    }

    /// The bytes of memory that the seal lists and that have not arrived.
    pub(crate) fn missing_memory_bytes(&self) -> u64 {
        let images = self.seal.iter().flat_map(|seal| &seal.images).filter(|(image, _)| is_memory(image));
        images.map(|(image, size)| size.saturating_sub(self.size(image))).sum()
    }

    /// Returns the future that completes everything but memory. It runs beside the receipt of
    /// memory.
    ///
    /// # Errors
    /// An image other than memory is incomplete.
    pub(crate) fn prerequisites(&mut self) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        self.check(|image| !is_memory(image))?;
        let prerequisites = self.prerequisites.take();
        Ok(async {
            match prerequisites {
                Some(prerequisites) => prerequisites.here().await,
                None => Ok(()),
            }
        })
    }

    /// Waits until everything that the seal lists is written.
    ///
    /// # Errors
    /// An image is incomplete, or a write failed.
    pub(crate) async fn complete(&mut self) -> Result<()> {
        self.prerequisites()?.await?;
        self.writes.finish().await.map_err(lost)?;
        self.check(|_| true)
    }

    fn files(&mut self) -> Result<&mut FileReceiver> {
        self.prerequisites
            .as_mut()
            .map(|prerequisites| &mut prerequisites.files)
            .ok_or_else(|| StreamError::LateFiles.into())
    }

    fn check(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        let seal = self.seal.as_ref().ok_or(StreamError::NoSeal)?;
        for (image, size) in seal.images.iter().filter(|(image, _)| which(image)) {
            let here = self.size(image);
            if here != *size {
                return Err(StreamError::ImageSize { image: image.clone(), received: here, sealed: *size }.into());
            }
            if *size == 0 {
                self.checkpoint.create(image)?;
            }
        }
        Ok(())
    }

    fn size(&self, image: &str) -> u64 {
        self.images.get(image).map_or(0, |image| image.size)
    }
}

impl Prerequisites {
    fn new(job_dir: &JobDir) -> Self {
        Self { files: FileReceiver::new(&job_dir.upper()), numbers: None }
    }

    /// Starts building the inode file system, at most once.
    fn start_inode_file_system(&mut self, job_dir: &JobDir, checkpoint: &Checkpoint) {
        self.numbers.get_or_insert_with(|| {
            let (job_dir, images) = (job_dir.clone(), checkpoint.images().to_owned());
            let mut made = JoinSet::new();
            made.spawn(async move { inode_list::prepare(&job_dir, &images).await });
            made
        });
    }

    /// Waits until the files are unpacked and the inode file system is built.
    ///
    /// # Errors
    /// A file can't be written.
    async fn here(mut self) -> Result<()> {
        self.files.wait().await?;
        let mut numbers = self.numbers.unwrap_or_default();
        while let Some(ended) = numbers.join_next().await {
            if let Err(error) =
                ended.map_err(io::Error::other).map_err(Error::system("build the inode file system")).flatten()
            {
                // The mount of the root builds it again.
                tracing::debug!(error = %chain(&error), "the inode file system is not built yet");
            }
        }
        Ok(())
    }
}

fn lost(error: io::Error) -> Error {
    Error::system("write the job's memory")(error)
}

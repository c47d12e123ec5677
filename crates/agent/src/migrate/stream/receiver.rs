//! What a destination takes in: files below the job's root, images into its checkpoint.
//!
//! Memory is written behind the back of whoever reads: what comes is decrypted and unpacked on one core while it is written on another.
//! Files are unpacked by a `tar` of their own, which nobody waits for before the next files come. The seal says what belongs to it: out of the
//! capsule store memory comes after it, and a job can be restored as far as without.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use mooring_linux::pages::PAGE;
use tokio::task::JoinSet;

use super::frame::{Frame, PageRun, Seal};
use crate::error::{Error, Result, StreamError};
use crate::migrate::files::FileReceiver;
use crate::migrate::memory::page_map::{self, PageMap, PageWrite};
use crate::migrate::memory::write_queue::WriteQueue;
use crate::runtime::checkpoint::{Checkpoint, is_memory, memory_name};
use crate::runtime::inode_list;
use crate::runtime::job_dir::JobDir;

/// What is being taken in.
#[derive(Debug)]
pub(crate) struct CapsuleReceiver<'a> {
    /// Until somebody waits for it, after which only memory comes.
    prerequisites: Option<Prerequisites>,
    checkpoint: &'a Checkpoint,
    images: HashMap<String, Image>,
    /// The pages that come by themselves, and how many of them have.
    page_map: PageMap,
    pages_received: u64,
    writes: WriteQueue,
    ahead: bool,
    seal: Option<Seal>,
    job_dir: JobDir,
}

/// What a restore begins with beside images, and what becomes that behind the back of whoever reads.
#[derive(Debug)]
struct Prerequisites {
    files: FileReceiver,
    /// What is made for the numbers of files, from the moment they are here.
    numbers: Option<JoinSet<Result<()>>>,
}

/// An image and how much of it has come.
#[derive(Debug)]
struct Image {
    file: Arc<File>,
    size: u64,
}

/// What has come with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    More,
    /// All files that went ahead; [`CapsuleReceiver::wait_for_files`] waits for them.
    PreCopied,
    /// All but memory, which may have come as well: [`CapsuleReceiver::prerequisites`] and [`CapsuleReceiver::complete`] see that it is there.
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
            ahead: true,
            seal: None,
        }
    }

    /// Takes in what a frame brings.
    ///
    /// # Errors
    /// It can't be written, now or since the last call, or makes no sense.
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
            Frame::Files(bytes) => self.files()?.unpack(&bytes).await.map(|()| Received::More),
            Frame::FilesEnd => {
                self.files()?.finish();
                let ahead = std::mem::take(&mut self.ahead);
                Ok(if ahead { Received::PreCopied } else { Received::More })
            }
            Frame::Kept(names) => {
                self.files()?.keep_only(&names);
                Ok(Received::More)
            }
            Frame::Removed(names) => self.files()?.remove(&names).await.map(|()| Received::More),
            Frame::Seal(seal) if seal.images.is_empty() => Err(StreamError::EmptySeal.into()),
            Frame::Seal(seal) => {
                self.seal = Some(seal);
                Ok(Received::Sealed)
            }
            Frame::Part { .. } | Frame::Pages(_) | Frame::Hello(_) | Frame::Answer(_) => out_of_order(),
        }
    }

    /// Waits until all files are there that have come.
    ///
    /// # Errors
    /// One could not be written.
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

    /// Takes in what a frame brings of the capsule that this one builds on.
    ///
    /// # Errors
    /// It can't be written, now or since the last call.
    pub(crate) async fn accept_base_frame(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::Pages(bytes) => self.take_pages(bytes).await,
            // What was no page there is of no use here.
            _ => Ok(()),
        }
    }

    /// Takes in pages that come by themselves, where they are awaited.
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

    /// The file of an image of which so many bytes more have come.
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

    /// Has something be written while what follows is read.
    async fn enqueue(&mut self, write: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
        self.writes.push(write).await.map_err(lost)
    }

    /// How much of the memory has not come yet, once the seal has.
    pub(crate) fn missing_memory_bytes(&self) -> u64 {
        let images = self.seal.iter().flat_map(|seal| &seal.images).filter(|(image, _)| is_memory(image));
        images.map(|(image, size)| size.saturating_sub(self.size(image))).sum()
    }

    /// What becomes everything but memory, when all of that has come; to be waited for beside what is still taken in.
    ///
    /// # Errors
    /// Something has not come.
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

    /// Sees that everything is there.
    ///
    /// # Errors
    /// Something is not, or could not be written.
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

    /// Begins to make what keeps the numbers of files, unless that has begun.
    fn start_inode_file_system(&mut self, job_dir: &JobDir, checkpoint: &Checkpoint) {
        self.numbers.get_or_insert_with(|| {
            let (job_dir, images) = (job_dir.clone(), checkpoint.images().to_owned());
            let mut made = JoinSet::new();
            made.spawn(async move { inode_list::prepare(&job_dir, &images).await });
            made
        });
    }

    /// Waits until all of it is there.
    ///
    /// # Errors
    /// A file could not be written.
    async fn here(mut self) -> Result<()> {
        self.files.wait().await?;
        let mut numbers = self.numbers.unwrap_or_default();
        while let Some(ended) = numbers.join_next().await {
            if let Err(error) =
                ended.map_err(io::Error::other).map_err(Error::system("keep the numbers of files")).flatten()
            {
                // It is tried again when the root is mounted.
                tracing::debug!(error = &error as &dyn std::error::Error, "no numbers are kept yet");
            }
        }
        Ok(())
    }
}

fn lost(error: io::Error) -> Error {
    Error::system("write the job's memory")(error)
}

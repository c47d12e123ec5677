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

use super::behind::Behind;
use super::files::Receiver;
use super::frame::{Frame, Run, Seal};
use super::places::{self, Awaited, Piece};
use crate::error::{Error, Result};
use crate::runtime::checkpoint::{Checkpoint, is_memory, memory_name};
use crate::runtime::inodes;
use crate::runtime::place::Place;

/// What is being taken in.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    /// Until somebody waits for it, after which only memory comes.
    skeleton: Option<Skeleton>,
    checkpoint: &'a Checkpoint,
    images: HashMap<String, Image>,
    /// The pages that come by themselves, and how many of them have.
    awaited: Awaited,
    pages: u64,
    writes: Behind,
    ahead: bool,
    seal: Option<Seal>,
    place: Place,
}

/// What a restore begins with beside images, and what becomes that behind the back of whoever reads.
#[derive(Debug)]
struct Skeleton {
    files: Receiver,
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
pub(super) enum Taken {
    More,
    /// All files that went ahead; [`Intake::files_are_there`] waits for them.
    Ahead,
    /// All but memory, which may have come as well: [`Intake::skeleton`] and [`Intake::whole`] see that it is there.
    Sealed,
}

impl<'a> Intake<'a> {
    pub(super) fn new(place: &Place, checkpoint: &'a Checkpoint) -> Self {
        Self {
            place: place.clone(),
            skeleton: Some(Skeleton::new(place)),
            checkpoint,
            images: HashMap::new(),
            awaited: Awaited::default(),
            pages: 0,
            writes: Behind::default(),
            ahead: true,
            seal: None,
        }
    }

    /// Takes in what a frame brings.
    ///
    /// # Errors
    /// It can't be written, now or since the last call, or makes no sense.
    pub(super) async fn take(&mut self, frame: Frame) -> Result<Taken> {
        let nonsense = || Err(Error::Peer("said something that makes no sense here".into()));
        match frame {
            Frame::Chunk { image, .. } if self.seal.is_some() && !is_memory(&image) => nonsense(),
            Frame::Chunk { image, bytes } => self.write(&image, bytes).await.map(|()| Taken::More),
            Frame::Part { image, offset, bytes } if is_memory(&image) => {
                self.write_at(&image, offset, bytes).await.map(|()| Taken::More)
            }
            Frame::Pages(bytes) if self.seal.is_some() => self.take_pages(bytes).await.map(|()| Taken::More),
            _ if self.seal.is_some() => nonsense(),
            Frame::Placed(runs) => {
                runs.into_iter().for_each(|run| self.awaited.add(run));
                Ok(Taken::More)
            }
            Frame::Files(bytes) => self.files()?.take(&bytes).await.map(|()| Taken::More),
            Frame::FilesEnd => {
                self.files()?.end();
                let ahead = std::mem::take(&mut self.ahead);
                Ok(if ahead { Taken::Ahead } else { Taken::More })
            }
            Frame::Kept(names) => {
                self.files()?.keep(&names);
                Ok(Taken::More)
            }
            Frame::Removed(names) => self.files()?.remove(&names).await.map(|()| Taken::More),
            Frame::Seal(seal) if seal.images.is_empty() => Err(Error::Peer("sealed an empty capsule".into())),
            Frame::Seal(seal) => {
                self.seal = Some(seal);
                Ok(Taken::Sealed)
            }
            Frame::Part { .. } | Frame::Pages(_) | Frame::Hello(_) | Frame::Answer(_) => nonsense(),
        }
    }

    /// Waits until all files are there that have come.
    ///
    /// # Errors
    /// One could not be written.
    pub(super) async fn files_are_there(&mut self) -> Result<()> {
        self.files()?.ended().await
    }

    async fn write(&mut self, name: &str, bytes: Bytes) -> Result<()> {
        let offset = self.size(name);
        if is_memory(name) {
            return self.write_at(name, offset, bytes).await;
        }
        let file = self.more_of(name, bytes.len() as u64)?;
        (&*file).write_all(&bytes).map_err(Error::system(format!("write image {name}")))
    }

    async fn write_at(&mut self, name: &str, offset: u64, bytes: Bytes) -> Result<()> {
        let file = self.more_of(name, bytes.len() as u64)?;
        self.behind(move || file.write_all_at(&bytes, offset)).await
    }

    /// Takes in what a frame brings of the capsule that this one builds on.
    ///
    /// # Errors
    /// It can't be written, now or since the last call.
    pub(super) async fn take_of_base(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::Pages(bytes) => self.take_pages(bytes).await,
            // What was no page there is of no use here.
            _ => Ok(()),
        }
    }

    /// Takes in pages that come by themselves, where they are awaited.
    async fn take_pages(&mut self, bytes: Bytes) -> Result<()> {
        let first = self.pages;
        self.pages += (bytes.len() / PAGE) as u64;
        let wanted: Vec<Run> = self.awaited.wanting(first..self.pages).collect();
        let mut pieces = Vec::with_capacity(wanted.len());
        for run in wanted {
            let start = usize::try_from(run.number - first).unwrap_or(usize::MAX).saturating_mul(PAGE);
            let file = self.more_of(&memory_name(run.image), run.bytes() as u64)?;
            pieces.push(Piece { part: start..start.saturating_add(run.bytes()), file, offset: run.offset() });
        }
        if pieces.is_empty() {
            return Ok(());
        }
        self.behind(move || places::write(&bytes, &pieces)).await
    }

    /// The file of an image of which so many bytes more have come.
    fn more_of(&mut self, name: &str, bytes: u64) -> Result<Arc<File>> {
        if name != inodes::KEPT {
            let checkpoint = self.checkpoint;
            self.skeleton.iter_mut().for_each(|skeleton| skeleton.numbers_have_come(&self.place, checkpoint));
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
    async fn behind(&mut self, write: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
        self.writes.hand(write).await.map_err(lost)
    }

    /// How much of the memory has not come yet, once the seal has.
    pub(super) fn memory_missing(&self) -> u64 {
        let images = self.seal.iter().flat_map(|seal| &seal.images).filter(|(image, _)| is_memory(image));
        images.map(|(image, size)| size.saturating_sub(self.size(image))).sum()
    }

    /// What becomes everything but memory, when all of that has come; to be waited for beside what is still taken in.
    ///
    /// # Errors
    /// Something has not come.
    pub(super) fn skeleton(&mut self) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        self.check(|image| !is_memory(image))?;
        let skeleton = self.skeleton.take();
        Ok(async {
            match skeleton {
                Some(skeleton) => skeleton.here().await,
                None => Ok(()),
            }
        })
    }

    /// Sees that everything is there.
    ///
    /// # Errors
    /// Something is not, or could not be written.
    pub(super) async fn whole(&mut self) -> Result<()> {
        self.skeleton()?.await?;
        self.writes.end().await.map_err(lost)?;
        self.check(|_| true)
    }

    fn files(&mut self) -> Result<&mut Receiver> {
        let late = || Error::Peer("sent files after all of them".into());
        self.skeleton.as_mut().map(|skeleton| &mut skeleton.files).ok_or_else(late)
    }

    fn check(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        let seal = self.seal.as_ref().ok_or_else(|| Error::Peer("has sealed nothing".into()))?;
        for (image, size) in seal.images.iter().filter(|(image, _)| which(image)) {
            let here = self.size(image);
            if here != *size {
                return Err(Error::Peer(format!("sealed {image} with {size} bytes, and {here} are here")));
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

impl Skeleton {
    fn new(place: &Place) -> Self {
        Self { files: Receiver::new(&place.upper()), numbers: None }
    }

    /// Begins to make what keeps the numbers of files, unless that has begun.
    fn numbers_have_come(&mut self, place: &Place, checkpoint: &Checkpoint) {
        self.numbers.get_or_insert_with(|| {
            let (place, images) = (place.clone(), checkpoint.images().to_owned());
            let mut made = JoinSet::new();
            made.spawn(async move { inodes::make_ahead(&place, &images).await });
            made
        });
    }

    /// Waits until all of it is there.
    ///
    /// # Errors
    /// A file could not be written.
    async fn here(mut self) -> Result<()> {
        self.files.ended().await?;
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

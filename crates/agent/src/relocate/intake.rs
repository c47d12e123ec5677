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
use tokio::task::JoinSet;

use super::files::Receiver;
use super::frame::{Frame, Seal};
use crate::error::{Error, Result};
use crate::runtime::checkpoint::{Checkpoint, is_memory};
use crate::runtime::inodes;
use crate::runtime::place::Place;

/// How many pieces of memory are being written at once: a second one of the same file would only spin on its lock.
const WRITES: usize = 1;

/// What is being taken in.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    files: Receiver,
    checkpoint: &'a Checkpoint,
    images: HashMap<String, Image>,
    writes: JoinSet<io::Result<()>>,
    ahead: bool,
    seal: Option<Seal>,
    place: Place,
    /// What is made for the numbers of files, from the moment they are here.
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    Coming,
    Made(JoinSet<Result<()>>),
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
        let files = Receiver::new(&place.upper());
        let (place, numbers) = (place.clone(), Numbers::Coming);
        Self {
            place,
            numbers,
            files,
            checkpoint,
            images: HashMap::new(),
            writes: JoinSet::new(),
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
            _ if self.seal.is_some() => nonsense(),
            Frame::Files(bytes) => self.files.take(&bytes).await.map(|()| Taken::More),
            Frame::FilesEnd => {
                self.files.end();
                let ahead = std::mem::take(&mut self.ahead);
                Ok(if ahead { Taken::Ahead } else { Taken::More })
            }
            Frame::Kept(names) => {
                self.files.keep(&names);
                Ok(Taken::More)
            }
            Frame::Removed(names) => self.files.remove(&names).await.map(|()| Taken::More),
            Frame::Seal(seal) if seal.images.is_empty() => Err(Error::Peer("sealed an empty capsule".into())),
            Frame::Seal(seal) => {
                self.seal = Some(seal);
                Ok(Taken::Sealed)
            }
            Frame::Hello(_) | Frame::Answer(_) => nonsense(),
        }
    }

    /// Waits until all files are there that have come.
    ///
    /// # Errors
    /// One could not be written.
    pub(super) async fn files_are_there(&mut self) -> Result<()> {
        self.files.ended().await
    }

    async fn write(&mut self, name: &str, bytes: Bytes) -> Result<()> {
        if name != inodes::KEPT && matches!(self.numbers, Numbers::Coming) {
            let (place, images) = (self.place.clone(), self.checkpoint.images().to_owned());
            let mut made = JoinSet::new();
            made.spawn(async move { inodes::make_ahead(&place, &images).await });
            self.numbers = Numbers::Made(made);
        }
        if !self.images.contains_key(name) {
            let file = Arc::new(self.checkpoint.create(name)?);
            self.images.insert(name.to_owned(), Image { file, size: 0 });
        }
        let Some(image) = self.images.get_mut(name) else { return Ok(()) };
        let offset = image.size;
        image.size += bytes.len() as u64;
        if !is_memory(name) {
            return (&*image.file).write_all(&bytes).map_err(Error::system(format!("write image {name}")));
        }
        let file = image.file.clone();
        while self.writes.len() >= WRITES {
            self.written().await?;
        }
        self.writes.spawn_blocking(move || file.write_all_at(&bytes, offset));
        Ok(())
    }

    /// Waits for one of the pieces that are being written.
    async fn written(&mut self) -> Result<()> {
        let written = self.writes.join_next().await.unwrap_or(Ok(Ok(())));
        written.map_err(io::Error::other).flatten().map_err(Error::system("write the job's memory"))
    }

    /// How much of the memory has not come yet, once the seal has.
    pub(super) fn memory_missing(&self) -> u64 {
        let images = self.seal.iter().flat_map(|seal| &seal.images).filter(|(image, _)| is_memory(image));
        images.map(|(image, size)| size.saturating_sub(self.size(image))).sum()
    }

    /// Sees that everything but memory is there.
    ///
    /// # Errors
    /// Something is not, or could not be written.
    pub(super) async fn skeleton(&mut self) -> Result<()> {
        self.files_are_there().await?;
        self.numbers_are_made().await;
        self.check(|image| !is_memory(image))
    }

    /// Sees that everything is there.
    ///
    /// # Errors
    /// Something is not, or could not be written.
    pub(super) async fn whole(&mut self) -> Result<()> {
        self.files_are_there().await?;
        self.numbers_are_made().await;
        while !self.writes.is_empty() {
            self.written().await?;
        }
        self.check(|_| true)
    }

    async fn numbers_are_made(&mut self) {
        let Numbers::Made(made) = &mut self.numbers else { return };
        while let Some(ended) = made.join_next().await {
            if let Err(error) =
                ended.map_err(io::Error::other).map_err(Error::system("keep the numbers of files")).flatten()
            {
                // It is tried again when the root is mounted.
                tracing::debug!(error = &error as &dyn std::error::Error, "no numbers are kept yet");
            }
        }
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

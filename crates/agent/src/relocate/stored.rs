//! Taking in a capsule of the store.
//!
//! Memory is most of it and comes last, so that a restore has begun when it arrives; what is read has been authenticated.

use bytes::{Bytes, BytesMut};
use mooring_capsule::{CapsuleReader, CapsuleStore};
use mooring_types::CapsuleName;

use super::frame::{self, Frame, HEAD};
use super::intake::{Intake, Taken};
use crate::error::{Error, Result};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::place::Place;

/// How much of the memory may be missing when a restore begins, in bytes: the slowest store that is used at all gives that much while
/// CRIU waits.
const MISSING_MAX: u64 = 256 << 20;

/// A capsule on its way into a place.
#[derive(Debug)]
pub(crate) struct Unpacking<'a> {
    frames: Frames,
    intake: Intake<'a>,
}

impl<'a> Unpacking<'a> {
    pub(crate) fn new(frames: Frames, place: &Place, checkpoint: &'a Checkpoint) -> Self {
        Self { frames, intake: Intake::new(place, checkpoint) }
    }

    /// Returns when all is there that a restore begins with.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or can't be written to this host.
    pub(crate) async fn skeleton(&mut self) -> Result<()> {
        while self.intake.take(self.frames.next().await?).await? != Taken::Sealed {}
        self.intake.skeleton().await?;
        while self.intake.memory_missing() > MISSING_MAX {
            self.intake.take(self.frames.next().await?).await?;
        }
        Ok(())
    }

    /// Takes in the rest of the memory; when it returns, all of the capsule is there and was checked.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or can't be written to this host.
    pub(crate) async fn memory(mut self) -> Result<()> {
        while self.intake.memory_missing() > 0 {
            self.intake.take(self.frames.next().await?).await?;
        }
        self.frames.end().await?;
        self.intake.whole().await
    }
}

/// A capsule read frame after frame. A frame that lies in one of its pieces is taken from there without a copy.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: CapsuleReader,
    /// What of the last piece was not taken yet.
    rest: Bytes,
}

impl Frames {
    /// Begins to read a capsule.
    ///
    /// # Errors
    /// There is none of that name, or the store can't be reached.
    pub(crate) async fn of(store: &CapsuleStore, name: &CapsuleName) -> Result<Self> {
        Ok(Self { reader: store.open_capsule(name).await?, rest: Bytes::new() })
    }

    /// The next frame.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or ends here.
    async fn next(&mut self) -> Result<Frame> {
        let head = self.take(HEAD).await?;
        let (kind, length) = frame::head(&head)?;
        frame::parse(kind, self.take(length).await?)
    }

    /// Reads on to the end, where all of the capsule has been checked.
    ///
    /// # Errors
    /// Something follows, or the capsule is damaged.
    async fn end(&mut self) -> Result<()> {
        if !self.rest.is_empty() || self.piece().await?.is_some() {
            return Err(Error::Peer("has a capsule that goes on after all of its memory".into()));
        }
        Ok(())
    }

    async fn take(&mut self, length: usize) -> Result<Bytes> {
        if length <= self.rest.len() {
            return Ok(self.rest.split_to(length));
        }
        let mut whole = BytesMut::with_capacity(length);
        while whole.len() < length {
            if self.rest.is_empty() {
                let ended = || Error::Peer("has a capsule that ends before all of it has come".into());
                self.rest = self.piece().await?.ok_or_else(ended)?;
            }
            let taken = self.rest.len().min(length - whole.len());
            whole.extend_from_slice(&self.rest.split_to(taken));
        }
        Ok(whole.freeze())
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.reader.piece().await.map_err(Error::system("read the capsule"))
    }
}

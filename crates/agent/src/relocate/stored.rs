//! Frames out of a capsule: a frame that lies in one of its pieces is taken from there without a copy.

use bytes::{Bytes, BytesMut};
use mooring_capsule::CapsuleReader;

use super::frame::{self, Frame, HEAD};
use crate::error::{Error, Result};

/// A capsule of the store, read frame after frame.
#[derive(Debug)]
pub(crate) struct Stored {
    reader: CapsuleReader,
    /// What of the last piece was not taken yet.
    rest: Bytes,
}

impl Stored {
    pub(super) fn new(reader: CapsuleReader) -> Self {
        Self { reader, rest: Bytes::new() }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The capsule can't be read, is damaged, or ends here.
    pub(super) async fn frame(&mut self) -> Result<Frame> {
        let head = self.take(HEAD).await?;
        let (kind, length) = frame::head(&head)?;
        frame::parse(kind, self.take(length).await?)
    }

    /// Reads on to the end, where all of the capsule has been checked.
    ///
    /// # Errors
    /// Something follows, or the capsule is damaged.
    pub(super) async fn end(&mut self) -> Result<()> {
        if !self.rest.is_empty() || self.next().await?.is_some() {
            return Err(Error::Peer("has a capsule that goes on after its seal".into()));
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
                let ended = || Error::Peer("has a capsule that ends before its seal".into());
                self.rest = self.next().await?.ok_or_else(ended)?;
            }
            let taken = self.rest.len().min(length - whole.len());
            whole.extend_from_slice(&self.rest.split_to(taken));
        }
        Ok(whole.freeze())
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.reader.piece().await.map_err(Error::system("read the capsule"))
    }
}

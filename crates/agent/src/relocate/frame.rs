//! What the two hosts of a move say to each other.
//!
//! ```text
//!  source                                destination
//!    Hello ─────────────────────────────►  (checks token and certificate)
//!    Files* Kept* FilesEnd ─────────────►
//!          ◄──────────────────────────── Answer          files are ahead
//!    Chunk* Removed* Files* FilesEnd Seal ►               the job stands still
//!          ◄──────────────────────────── Answer          all of it is there
//! ```
//!
//! A frame is a byte that names its kind, its length in four bytes, and its payload.

use std::io;

use bytes::{Buf, Bytes};
use mooring_types::{JobId, MigrationId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::names::Names;
use crate::error::{Error, Result};

/// The longest payload that is taken.
const LENGTH_MAX: usize = 8 << 20;
/// What comes before a payload: the frame's kind, and the payload's length.
pub(super) const HEAD: usize = 5;
/// How much of a file goes into one frame.
pub(crate) const PIECE: usize = 256 << 10;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Who moves what.
    Hello(Hello),
    /// More of an image file, by name.
    Chunk { image: String, bytes: Bytes },
    /// More of a tar with files.
    Files(Bytes),
    /// What of the tar is to stay: what none of these frames names goes once the tar is unpacked. Without any, all stays.
    Kept(Names),
    /// The tar is whole.
    FilesEnd,
    /// Files that are no more.
    Removed(Names),
    /// Everything has been sent: the sizes of all image files. Without it nothing is restored.
    Seal(Seal),
    /// Taken in, or why not.
    Answer(std::result::Result<(), String>),
}

/// Who moves what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) migration: MigrationId,
    pub(crate) job: JobId,
    pub(crate) token: String,
}

/// What makes a capsule whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    pub(crate) images: Vec<(String, u64)>,
}

const HELLO: u8 = 1;
const CHUNK: u8 = 2;
const FILES: u8 = 3;
const FILES_END: u8 = 4;
/// Names in JSON, as capsules have them that are older than [`REMOVED`].
const REMOVED_TEXT: u8 = 5;
const SEAL: u8 = 6;
const ANSWER: u8 = 7;
const KEPT: u8 = 8;
const REMOVED: u8 = 9;

/// Sends a frame; it is on its way only after a flush.
///
/// # Errors
/// The connection broke.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let (kind, head, body): (u8, Vec<u8>, &[u8]) = match frame {
        Frame::Hello(hello) => (HELLO, serde_json::to_vec(hello)?, &[]),
        Frame::Chunk { image, bytes } => {
            let length = u8::try_from(image.len()).map_err(|_| io::Error::other("an image's name is too long"))?;
            (CHUNK, [&[length], image.as_bytes()].concat(), bytes)
        }
        Frame::Files(bytes) => (FILES, Vec::new(), bytes),
        Frame::FilesEnd => (FILES_END, Vec::new(), &[]),
        Frame::Kept(names) => (KEPT, Vec::new(), names.as_bytes()),
        Frame::Removed(names) => (REMOVED, Vec::new(), names.as_bytes()),
        Frame::Seal(seal) => (SEAL, serde_json::to_vec(seal)?, &[]),
        Frame::Answer(answer) => (ANSWER, serde_json::to_vec(answer)?, &[]),
    };
    let length = u32::try_from(head.len() + body.len()).map_err(|_| io::Error::other("a frame is too long"))?;
    to.write_u8(kind).await?;
    to.write_u32(length).await?;
    to.write_all(&head).await?;
    to.write_all(body).await
}

/// Receives a frame.
///
/// # Errors
/// The connection broke, or what came is no frame.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> Result<Frame> {
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Peer("went away".into()),
        _ => Error::system("receive a capsule")(error),
    };
    let mut bytes = [0; HEAD];
    from.read_exact(&mut bytes).await.map_err(lost)?;
    let (kind, length) = head(&bytes)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await.map_err(lost)?;
    parse(kind, payload.into())
}

/// A frame's kind and the length of its payload, by its head.
///
/// # Errors
/// No frame is that long.
pub(super) fn head(mut bytes: &[u8]) -> Result<(u8, usize)> {
    let none = || Error::Peer("sent what is no frame".into());
    let (kind, length) = (bytes.try_get_u8().map_err(|_| none())?, bytes.try_get_u32().map_err(|_| none())? as usize);
    if length > LENGTH_MAX {
        return Err(Error::Peer(format!("sent a frame of {length} bytes")));
    }
    Ok((kind, length))
}

/// The frame of this kind and payload.
///
/// # Errors
/// It makes no sense.
pub(super) fn parse(kind: u8, payload: Bytes) -> Result<Frame> {
    read(kind, payload).ok_or_else(|| Error::Peer(format!("sent a frame of kind {kind} that makes no sense")))
}

fn read(kind: u8, mut payload: Bytes) -> Option<Frame> {
    Some(match kind {
        HELLO => Frame::Hello(serde_json::from_slice(&payload).ok()?),
        CHUNK => {
            let end = 1 + usize::from(*payload.first()?);
            let image = std::str::from_utf8(payload.get(1..end)?).ok()?.to_owned();
            // A name with a path in it would be written elsewhere.
            let flat = !image.is_empty() && !image.contains('/') && !image.starts_with('.');
            if !flat {
                return None;
            }
            payload.advance(end);
            Frame::Chunk { image, bytes: payload }
        }
        FILES => Frame::Files(payload),
        FILES_END if payload.is_empty() => Frame::FilesEnd,
        KEPT => Frame::Kept(Names::received(payload)),
        REMOVED => Frame::Removed(Names::received(payload)),
        REMOVED_TEXT => {
            let names: Vec<String> = serde_json::from_slice(&payload).ok()?;
            Frame::Removed(Names::received(names.join("\0").into()))
        }
        SEAL => Frame::Seal(serde_json::from_slice(&payload).ok()?),
        ANSWER => Frame::Answer(serde_json::from_slice(&payload).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        prop_oneof![
            ("[a-z0-9-]{1,30}\\.img", bytes()).prop_map(|(image, bytes)| Frame::Chunk { image, bytes }),
            bytes().prop_map(Frame::Files),
            Just(Frame::FilesEnd),
            bytes().prop_map(|names| Frame::Kept(Names::received(names))),
            bytes().prop_map(|names| Frame::Removed(Names::received(names))),
            prop::collection::vec(("[a-z]{1,9}", any::<u64>()), 0..5).prop_map(|images| Frame::Seal(Seal { images })),
            Just(Frame::Answer(Ok(()))),
            ".{0,20}".prop_map(|reason| Frame::Answer(Err(reason))),
        ]
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn names_of_an_older_capsule_are_read() {
        let Ok(Frame::Removed(names)) = parse(5, r#"["a/b","caf\u00e9","line\nbreak"]"#.into()) else {
            panic!("refused")
        };
        let paths: Vec<_> = names.paths().collect();
        assert_eq!(paths, ["a/b", "café", "line\nbreak"].map(std::path::Path::new));
        assert_eq!(parse(5, "[]".into()).unwrap(), Frame::Removed(Names::default()));
    }

    proptest! {
        #[test]
        fn frames_read_back(sent in prop::collection::vec(frames(), 0..8)) {
            let received = block_on(async {
                let mut wire = Vec::new();
                for frame in &sent {
                    send(&mut wire, frame).await.expect("a vector takes everything");
                }
                let mut rest = wire.as_slice();
                let mut received = Vec::new();
                while !rest.is_empty() {
                    received.push(receive(&mut rest).await.expect("what was sent is received"));
                }
                received
            });
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn any_bytes_are_a_frame_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Frame::Chunk { image, .. }) = block_on(receive(&mut bytes.as_slice())) {
                prop_assert!(!image.contains('/'));
            }
        }
    }
}

//! The frames of a capsule's stream, between two hosts and in the capsule store.
//!
//! ```text
//!  source                                destination
//!    Hello ─────────────────────────────►  (checks token and certificate)
//!    Files* Kept* FilesEnd ─────────────►
//!          ◄──────────────────────────── Answer          files are pre-copied
//!    Removed* Bare* Files* FilesEnd ──────────►                what has changed, in rounds
//!          ◄──────────────────────────── Answer
//!    Chunk* Part* Repeats* Removed* Bare* Files* FilesEnd Seal ►  the job is frozen
//!          ◄──────────────────────────── Answer          the capsule is complete
//! ```
//!
//! The store does not answer. Memory goes into it as pages, each page once, and is read last:
//!
//! ```text
//!  suspend          Files* Kept* FilesEnd (Removed* Bare* Files* FilesEnd)* Pages*
//!                   job frozen:   Part* Chunk* PageMap* Removed* Bare* Files* FilesEnd Seal
//!  first snapshot   Files* Kept* FilesEnd (Removed* Bare* Files* FilesEnd)*
//!                   job frozen:   Removed* Bare* Files* FilesEnd
//!                   job executes: Pages* Chunk* PageMap* Seal
//!  later snapshots  as the first, with Part* instead of Pages*; the pages are those of the base
//!  read             all other frames, Seal, and then Pages* Part*
//! ```
//!
//! A frame is one byte for its kind, four bytes for its length (big-endian), and the payload.

use std::io;

use bytes::{Buf, Bytes};
use mooring_linux::pages::PAGE;
use mooring_types::{JobId, MigrationId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::FRAME_DATA_BYTES;
use super::path_list::PathList;
use crate::error::{Error, Result, StreamError};

/// The longest payload that is accepted.
const PAYLOAD_MAX_BYTES: usize = 8 << 20;
/// The longest hello.
const HELLO_MAX_BYTES: usize = 4 << 10;
/// The length of a frame's header: kind and payload length.
pub(crate) const HEADER_BYTES: usize = 5;
/// The most pages in one frame.
pub(crate) const PAGE_RUN_MAX_PAGES: u64 = (FRAME_DATA_BYTES / PAGE) as u64;
/// The most page runs in one frame.
pub(crate) const PAGE_RUNS_PER_FRAME: usize = FRAME_DATA_BYTES / PageRun::BYTES;

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The first frame of a connection.
    Hello(Hello),
    /// Bytes to append to an image file.
    Chunk { image: String, bytes: Bytes },
    /// Whole memory pages. They are numbered in the order in which they are sent.
    Pages(Bytes),
    /// Maps ranges of the images to pages in `Pages` frames of this capsule or of its base.
    PageMap(Vec<PageRun>),
    /// Bytes of an image at an offset.
    Part { image: String, offset: u64, bytes: Bytes },
    /// Memory pages that are equal to pages received before.
    Repeats(Vec<Repeat>),
    /// Bytes of a tar with files.
    Files(Bytes),
    /// The files of the tar to keep: a file that no `Kept` frame names is removed after unpacking.
    /// Without such a frame all files are kept.
    Kept(PathList),
    /// The end of the tar.
    FilesEnd,
    /// Files to remove.
    Removed(PathList),
    /// Directories whose extended attributes are removed: the next tar has those that they keep.
    Bare(PathList),
    /// The end of the capsule: the sizes of all image files. Nothing is restored without it.
    Seal(Seal),
    /// Confirmation, or the reason for a refusal.
    Answer(Result<(), String>),
}

/// The migration that a connection is for, and the token that permits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) migration: MigrationId,
    pub(crate) job: JobId,
    pub(crate) token: String,
}

/// Consecutive pages of an image, at consecutive page numbers of the `Pages` frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRun {
    /// The number of the image with memory.
    pub(crate) image: u32,
    /// The number of pages: 1 to [`PAGE_RUN_MAX_PAGES`].
    pub(crate) pages: u32,
    /// The index of the first page in the image.
    pub(crate) at: u64,
    /// The number of the first page among the pages of `Pages` frames.
    pub(crate) number: u64,
}

impl PageRun {
    const BYTES: usize = 24;

    /// The length in bytes.
    pub(crate) fn bytes(self) -> usize {
        self.pages as usize * PAGE
    }

    /// The offset in the image, in bytes.
    pub(crate) fn offset(self) -> u64 {
        self.at * PAGE as u64
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.image.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.pages.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_be_bytes());
        bytes[16..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let run = Self {
            image: bytes.try_get_u32().ok()?,
            pages: bytes.try_get_u32().ok()?,
            at: bytes.try_get_u64().ok()?,
            number: bytes.try_get_u64().ok()?,
        };
        // The offsets have to fit the kernel's signed 64-bit file offsets.
        let fits = |first: u64| first <= i64::MAX as u64 / PAGE as u64 - PAGE_RUN_MAX_PAGES;
        ((1..=PAGE_RUN_MAX_PAGES).contains(&u64::from(run.pages)) && fits(run.at) && fits(run.number)).then_some(run)
    }
}

/// Consecutive pages of an image that are equal to those of another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// The number of the image with memory.
    pub(crate) image: u32,
    /// The index of the first page in the image.
    pub(crate) at: u64,
    /// The number of the image that has the pages.
    pub(crate) from_image: u32,
    /// The index of the first page there.
    pub(crate) from: u64,
    /// The number of pages: 1 to [`PAGE_RUN_MAX_PAGES`].
    pub(crate) pages: u32,
}

impl Repeat {
    const BYTES: usize = 28;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let to = PageRun { image: self.image, pages: self.pages, at: self.at, number: self.from };
        let mut bytes = [0; Self::BYTES];
        bytes[..PageRun::BYTES].copy_from_slice(&to.to_bytes());
        bytes[PageRun::BYTES..].copy_from_slice(&self.from_image.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (to, mut from_image) = bytes.split_at_checked(PageRun::BYTES)?;
        let PageRun { image, pages, at, number } = PageRun::from_bytes(to)?;
        Some(Self { image, at, from_image: from_image.try_get_u32().ok()?, from: number, pages })
    }
}

/// The list that makes a capsule complete: the size of every image file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    pub(crate) images: Vec<(String, u64)>,
}

const HELLO: u8 = 1;
const CHUNK: u8 = 2;
const FILES: u8 = 3;
const FILES_END: u8 = 4;
/// A path list in JSON, in capsules from before [`REMOVED`].
const REMOVED_JSON: u8 = 5;
const SEAL: u8 = 6;
const ANSWER: u8 = 7;
const KEPT: u8 = 8;
const REMOVED: u8 = 9;
const PAGES: u8 = 10;
const PAGE_MAP: u8 = 11;
const PART: u8 = 12;
const REPEATS: u8 = 13;
const BARE: u8 = 14;

/// Writes a frame; the caller flushes.
///
/// # Errors
/// The connection is lost.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let (kind, head, body): (u8, Vec<u8>, &[u8]) = match frame {
        Frame::Hello(hello) => (HELLO, serde_json::to_vec(hello)?, &[]),
        Frame::Chunk { image, bytes } => (CHUNK, encode_image_name(image)?, bytes),
        Frame::Pages(bytes) => (PAGES, Vec::new(), bytes),
        Frame::PageMap(runs) => (PAGE_MAP, runs.iter().flat_map(|run| run.to_bytes()).collect(), &[]),
        Frame::Repeats(runs) => (REPEATS, runs.iter().flat_map(|run| run.to_bytes()).collect(), &[]),
        Frame::Part { image, offset, bytes } => {
            (PART, [encode_image_name(image)?, offset.to_be_bytes().to_vec()].concat(), bytes)
        }
        Frame::Files(bytes) => (FILES, Vec::new(), bytes),
        Frame::FilesEnd => (FILES_END, Vec::new(), &[]),
        Frame::Kept(names) => (KEPT, Vec::new(), names.as_bytes()),
        Frame::Removed(names) => (REMOVED, Vec::new(), names.as_bytes()),
        Frame::Bare(names) => (BARE, Vec::new(), names.as_bytes()),
        Frame::Seal(seal) => (SEAL, serde_json::to_vec(seal)?, &[]),
        Frame::Answer(answer) => (ANSWER, serde_json::to_vec(answer)?, &[]),
    };
    let length = u32::try_from(head.len() + body.len()).map_err(|_| io::Error::other("a frame is too long"))?;
    to.write_u8(kind).await?;
    to.write_u32(length).await?;
    to.write_all(&head).await?;
    to.write_all(body).await
}

/// Encodes the name of an image as the head of a payload.
fn encode_image_name(name: &str) -> io::Result<Vec<u8>> {
    let length = u8::try_from(name.len()).map_err(|_| io::Error::other("an image's name is too long"))?;
    Ok([&[length], name.as_bytes()].concat())
}

/// Removes the name of an image from the head of a payload.
fn decode_image_name(bytes: &mut Bytes) -> Option<String> {
    let end = 1 + usize::from(*bytes.first()?);
    let image = std::str::from_utf8(bytes.get(1..end)?).ok()?.to_owned();
    bytes.advance(end);
    // A name with a path would leave the checkpoint's directory.
    let flat = !image.is_empty() && !image.contains('/') && !image.starts_with('.');
    flat.then_some(image)
}

/// Reads a frame.
///
/// # Errors
/// The connection is lost, or the bytes are not a frame.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> Result<Frame> {
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => StreamError::Closed.into(),
        _ => Error::system("receive a capsule")(error),
    };
    let mut bytes = [0; HEADER_BYTES];
    from.read_exact(&mut bytes).await.map_err(lost)?;
    let (kind, length) = parse_header(&bytes)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await.map_err(lost)?;
    parse(kind, payload.into())
}

/// Reads the first frame of a connection. A longer one than a hello is not read.
///
/// # Errors
/// The connection is lost, or does not begin with a hello.
pub(crate) async fn receive_hello(from: &mut (impl AsyncRead + Unpin)) -> Result<Hello> {
    let lost = Error::system("receive a hello");
    let mut bytes = [0; HEADER_BYTES];
    let received = async {
        from.read_exact(&mut bytes).await?;
        match parse_header(&bytes) {
            Ok((HELLO, length)) if length <= HELLO_MAX_BYTES => {
                let mut payload = vec![0; length];
                from.read_exact(&mut payload).await?;
                Ok(serde_json::from_slice(&payload).ok())
            }
            _ => Ok(None),
        }
    };
    received.await.map_err(lost)?.ok_or_else(|| StreamError::NoHello.into())
}

/// Decodes a header: the frame's kind and the length of its payload.
///
/// # Errors
/// The length is more than [`PAYLOAD_MAX_BYTES`].
pub(crate) fn parse_header(mut bytes: &[u8]) -> Result<(u8, usize)> {
    let none = || StreamError::NoFrame;
    let (kind, length) = (bytes.try_get_u8().map_err(|_| none())?, bytes.try_get_u32().map_err(|_| none())? as usize);
    if length > PAYLOAD_MAX_BYTES {
        return Err(StreamError::FrameTooLong { bytes: length }.into());
    }
    Ok((kind, length))
}

/// Decodes a frame.
///
/// # Errors
/// The kind is unknown, or the payload is not valid for it.
pub(crate) fn parse(kind: u8, payload: Bytes) -> Result<Frame> {
    read(kind, payload).ok_or_else(|| StreamError::Malformed { kind }.into())
}

fn read(kind: u8, mut payload: Bytes) -> Option<Frame> {
    Some(match kind {
        HELLO => Frame::Hello(serde_json::from_slice(&payload).ok()?),
        CHUNK => Frame::Chunk { image: decode_image_name(&mut payload)?, bytes: payload },
        PAGES if payload.len().is_multiple_of(PAGE) && payload.len() <= FRAME_DATA_BYTES => Frame::Pages(payload),
        PAGE_MAP if payload.len().is_multiple_of(PageRun::BYTES) => {
            Frame::PageMap(payload.chunks_exact(PageRun::BYTES).map(PageRun::from_bytes).collect::<Option<_>>()?)
        }
        REPEATS if payload.len().is_multiple_of(Repeat::BYTES) => {
            Frame::Repeats(payload.chunks_exact(Repeat::BYTES).map(Repeat::from_bytes).collect::<Option<_>>()?)
        }
        PART => {
            Frame::Part { image: decode_image_name(&mut payload)?, offset: payload.try_get_u64().ok()?, bytes: payload }
        }
        FILES => Frame::Files(payload),
        FILES_END if payload.is_empty() => Frame::FilesEnd,
        KEPT => Frame::Kept(PathList::from_bytes(payload)),
        REMOVED => Frame::Removed(PathList::from_bytes(payload)),
        BARE => Frame::Bare(PathList::from_bytes(payload)),
        REMOVED_JSON => {
            let names: Vec<String> = serde_json::from_slice(&payload).ok()?;
            Frame::Removed(PathList::from_bytes(names.join("\0").into()))
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
            (0..3_usize, any::<u8>()).prop_map(|(pages, byte)| Frame::Pages(vec![byte; pages * PAGE].into())),
            prop::collection::vec(runs(), 0..9).prop_map(Frame::PageMap),
            prop::collection::vec((runs(), any::<u32>()), 0..9).prop_map(|runs| {
                let repeat = |(PageRun { image, pages, at, number }, from_image)| Repeat {
                    image,
                    at,
                    from_image,
                    from: number,
                    pages,
                };
                Frame::Repeats(runs.into_iter().map(repeat).collect())
            }),
            ("pages-[0-9]{1,5}\\.img", any::<u64>(), bytes()).prop_map(|(image, offset, bytes)| Frame::Part {
                image,
                offset,
                bytes
            }),
            bytes().prop_map(Frame::Files),
            Just(Frame::FilesEnd),
            bytes().prop_map(|names| Frame::Kept(PathList::from_bytes(names))),
            bytes().prop_map(|names| Frame::Removed(PathList::from_bytes(names))),
            bytes().prop_map(|names| Frame::Bare(PathList::from_bytes(names))),
            prop::collection::vec(("[a-z]{1,9}", any::<u64>()), 0..5).prop_map(|images| Frame::Seal(Seal { images })),
            Just(Frame::Answer(Ok(()))),
            ".{0,20}".prop_map(|reason| Frame::Answer(Err(reason))),
        ]
    }

    fn runs() -> impl Strategy<Value = PageRun> {
        let page = || 0..1_u64 << 50;
        let all = (any::<u32>(), 1..=u32::try_from(PAGE_RUN_MAX_PAGES).expect("a short run"), page(), page());
        all.prop_map(|(image, pages, at, number)| PageRun { image, pages, at, number })
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
        assert_eq!(parse(5, "[]".into()).unwrap(), Frame::Removed(PathList::default()));
    }

    #[test]
    fn no_run_is_empty_or_longer_than_a_frame_or_beyond_every_file() {
        let run = PageRun { image: 1, pages: 1, at: 0, number: 0 };
        let longest = u32::try_from(PAGE_RUN_MAX_PAGES).unwrap();
        for good in [run, PageRun { pages: longest, ..run }] {
            assert_eq!(PageRun::from_bytes(&good.to_bytes()), Some(good));
        }
        for bad in [
            PageRun { pages: 0, ..run },
            PageRun { pages: longest + 1, ..run },
            PageRun { at: u64::MAX, ..run },
            PageRun { number: 1 << 52, ..run },
        ] {
            assert_eq!(PageRun::from_bytes(&bad.to_bytes()), None, "{bad:?}");
        }
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
            if let Ok(Frame::Chunk { image, .. } | Frame::Part { image, .. }) = block_on(receive(&mut bytes.as_slice())) {
                prop_assert!(!image.contains('/'));
            }
        }
    }
}

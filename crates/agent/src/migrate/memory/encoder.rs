//! Turns a job's memory into frames of a capsule, and leaves out the pages that are stored already.
//!
//! ```text
//!  suspend          job executes   pages as read  ─► Pages 0, 1, 2 …  each with its tag
//!                   job frozen     CRIU's images  ─► tag known: PageMap │ unknown: Part
//!
//!  first snapshot                  CRIU's images  ─► tag known: PageMap │ unknown: Pages, PageMap
//!  later snapshots                 CRIU's images  ─► tag known: PageMap │ unknown: Part
//! ```
//!
//! The pages of later snapshots are in the first one. `PageMap` frames follow all pages, since
//! readers receive memory last.

use bytes::Bytes;
use mooring_capsule::{Base, Manifest};
use mooring_linux::pages::PAGE;
use mooring_types::CapsuleName;

use super::page_index::{PageIndex, Segment};
use super::repeats::Repeats;
use crate::migrate::stream::frame::{Frame, PAGE_RUNS_PER_FRAME, PageRun};
use crate::runtime::checkpoint::memory_name;

/// The most snapshots that build on one base: an old capsule may have been damaged unnoticed.
const SNAPSHOTS_PER_BASE: u32 = 24;

/// The encoder of one capsule's memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryEncoder {
    known: SentPages,
    /// The base with the known pages, and the number of snapshots that build on it.
    base: Option<(Base, u32)>,
    /// The page runs that were not sent yet.
    placed: Vec<PageRun>,
    /// The bytes of memory, and how many of them were not stored yet.
    all: u64,
    new: u64,
}

/// The pages that are stored already.
#[derive(Debug, Default)]
enum SentPages {
    /// None: images are sent as they are.
    #[default]
    Nothing,
    /// The pages that were sent earlier.
    Earlier(PageIndex),
    /// The pages sent to another host so far.
    Placed(Repeats),
    /// The pages sent so far. Each new page gets a number, for snapshots that build on this one.
    Numbered(PageIndex),
}

/// A capsule that snapshots can build on, and the pages in it.
#[derive(Debug)]
pub(crate) struct BaseSnapshot {
    base: Base,
    dependents: u32,
    index: PageIndex,
}

impl BaseSnapshot {
    /// The capsule.
    pub(crate) fn capsule(&self) -> &CapsuleName {
        &self.base.name
    }
}

impl MemoryEncoder {
    /// Creates an encoder that leaves out the pages in `index`.
    pub(crate) fn after(index: PageIndex) -> Self {
        Self { known: SentPages::Earlier(index), ..Self::default() }
    }

    /// Creates an encoder that sends equal pages to another host once.
    pub(crate) fn once() -> Self {
        Self { known: SentPages::Placed(Repeats::new()), ..Self::default() }
    }

    /// Creates an encoder for a snapshot: incremental to a base, or without one a base for later
    /// ones.
    pub(crate) fn upon(base_snapshot: Option<BaseSnapshot>) -> Self {
        match base_snapshot {
            Some(BaseSnapshot { base, dependents, index }) => {
                Self { known: SentPages::Earlier(index), base: Some((base, dependents)), ..Self::default() }
            }
            None => Self { known: SentPages::Numbered(PageIndex::new()), ..Self::default() },
        }
    }

    /// The capsule that this one builds on.
    pub(crate) fn base(&self) -> Option<&Base> {
        self.base.as_ref().map(|(base, _)| base)
    }

    /// Encodes the bytes at an offset of an image.
    pub(crate) fn frames(&mut self, image: u32, offset: u64, bytes: Bytes) -> Vec<Frame> {
        let page = PAGE as u64;
        let mut frames = Vec::new();
        self.all += bytes.len() as u64;
        let segments = match &mut self.known {
            SentPages::Nothing => return vec![Frame::Chunk { image: memory_name(image), bytes }],
            _ if !offset.is_multiple_of(page) => vec![Segment::New(0..bytes.len())],
            SentPages::Earlier(index) => index.segments(&bytes),
            SentPages::Placed(repeats) => return repeats.frames(image, offset, &bytes),
            SentPages::Numbered(index) => {
                let (segments, new) = index.add(&bytes);
                if !new.is_empty() {
                    frames.push(Frame::Pages(new.into()));
                }
                segments
            }
        };
        let mut offset = offset;
        for segment in segments {
            match segment {
                Segment::Known { number, pages } => {
                    self.placed.push(PageRun { image, pages, at: offset / page, number });
                    offset += u64::from(pages) * page;
                }
                Segment::New(range) => {
                    let bytes = bytes.slice(range);
                    let length = bytes.len() as u64;
                    frames.push(Frame::Part { image: memory_name(image), offset, bytes });
                    offset += length;
                    self.new += length;
                }
            }
        }
        frames
    }

    /// Encodes where pages belong; called once all memory is sent.
    pub(crate) fn placed(&mut self) -> Vec<Frame> {
        let placed = std::mem::take(&mut self.placed);
        placed.chunks(PAGE_RUNS_PER_FRAME).map(|runs| Frame::PageMap(runs.to_vec())).collect()
    }

    /// Returns the base for the next snapshot, when this capsule is stored.
    pub(crate) fn base_snapshot(self, manifest: &Manifest) -> Option<BaseSnapshot> {
        match (self.known, self.base) {
            (SentPages::Numbered(index), _) => Some(BaseSnapshot { base: manifest.as_base(), dependents: 0, index }),
            // When more than half of the memory was sent again, a full snapshot is cheaper.
            (SentPages::Earlier(index), Some((base, before)))
                if self.new <= self.all / 2 && before + 1 < SNAPSHOTS_PER_BASE =>
            {
                Some(BaseSnapshot { base, dependents: before + 1, index })
            }
            _ => None,
        }
    }
}

//! MemoryEncoder on its way into the store, and what of it is there already.
//!
//! ```text
//!  suspend         executes       memory as it is read ─► Pages 0, 1, 2 …                      each with its tag
//!                  stands still   CRIU's images        ─► tag known: PageMap │ unknown: Part
//!
//!  first capture                  CRIU's images        ─► tag known: PageMap │ unknown: Pages, PageMap
//!  others                         CRIU's images        ─► tag known: PageMap │ unknown: Part    the pages are in the first
//! ```
//!
//! Where pages belong is said behind all of them, since memory is read last.

use bytes::Bytes;
use mooring_capsule::{Base, Manifest};
use mooring_linux::pages::PAGE;
use mooring_types::CapsuleName;

use super::page_index::{PageIndex, Segment};
use crate::migrate::stream::frame::{Frame, PAGE_RUNS_PER_FRAME, PageRun};
use crate::runtime::checkpoint::memory_name;

/// How many capsules build on one at most: what lies in a store for long may have been damaged unseen.
const SNAPSHOTS_PER_BASE: u32 = 24;

/// MemoryEncoder on its way.
#[derive(Debug, Default)]
pub(crate) struct MemoryEncoder {
    known: SentPages,
    /// The capsule in which the known pages are, when it is another; and how many build on it already.
    base: Option<(Base, u32)>,
    /// Where pages belong, as far as it was not said yet.
    placed: Vec<PageRun>,
    /// How much there is, and how much of that was not known, in bytes.
    all: u64,
    new: u64,
}

/// What of it is in the store.
#[derive(Debug, Default)]
enum SentPages {
    /// Nothing: it goes as it is.
    #[default]
    Nothing,
    /// What went earlier.
    Earlier(PageIndex),
    /// What has gone by then; the rest gets numbers, for capsules that build on this one.
    Numbered(PageIndex),
}

/// What a capsule may build on, and the pages that are in it.
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
    /// MemoryEncoder of which these pages have gone.
    pub(crate) fn after(index: PageIndex) -> Self {
        Self { known: SentPages::Earlier(index), ..Self::default() }
    }

    /// MemoryEncoder for a capsule that builds on an earlier one, or that others can build on.
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

    /// What brings the bytes at an offset of an image.
    pub(crate) fn frames(&mut self, image: u32, offset: u64, bytes: Bytes) -> Vec<Frame> {
        let page = PAGE as u64;
        let mut frames = Vec::new();
        self.all += bytes.len() as u64;
        let segments = match &mut self.known {
            SentPages::Nothing => return vec![Frame::Chunk { image: memory_name(image), bytes }],
            _ if !offset.is_multiple_of(page) => vec![Segment::New(0..bytes.len())],
            SentPages::Earlier(index) => index.segments(&bytes),
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

    /// What says where pages belong, once all memory has gone.
    pub(crate) fn placed(&mut self) -> Vec<Frame> {
        let placed = std::mem::take(&mut self.placed);
        placed.chunks(PAGE_RUNS_PER_FRAME).map(|runs| Frame::PageMap(runs.to_vec())).collect()
    }

    /// What the next capsule may build on, when this one is in the store.
    pub(crate) fn base_snapshot(self, manifest: &Manifest) -> Option<BaseSnapshot> {
        match (self.known, self.base) {
            (SentPages::Numbered(index), _) => Some(BaseSnapshot { base: manifest.as_base(), dependents: 0, index }),
            // Once more than half of the memory goes again, the next one is better off without.
            (SentPages::Earlier(index), Some((base, before)))
                if self.new <= self.all / 2 && before + 1 < SNAPSHOTS_PER_BASE =>
            {
                Some(BaseSnapshot { base, dependents: before + 1, index })
            }
            _ => None,
        }
    }
}

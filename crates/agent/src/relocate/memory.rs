//! Memory on its way into the store, and what of it is there already.
//!
//! ```text
//!  suspend         executes       memory as it is read ─► Pages 0, 1, 2 …                      each with its tag
//!                  stands still   CRIU's images        ─► tag known: Placed │ unknown: Part
//!
//!  first capture                  CRIU's images        ─► tag known: Placed │ unknown: Pages, Placed
//!  others                         CRIU's images        ─► tag known: Placed │ unknown: Part    the pages are in the first
//! ```
//!
//! Where pages belong is said behind all of them, since memory is read last.

use bytes::Bytes;
use mooring_capsule::{Base, Manifest};
use mooring_linux::pages::PAGE;
use mooring_types::CapsuleName;

use super::frame::{Frame, RUNS_MAX, Run};
use super::tags::{Stretch, Tags};
use crate::runtime::checkpoint::memory_name;

/// How many capsules build on one at most: what lies in a store for long may have been damaged unseen.
const BUILDINGS: u32 = 24;

/// Memory on its way.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: Known,
    /// The capsule in which the known pages are, when it is another; and how many build on it already.
    base: Option<(Base, u32)>,
    /// Where pages belong, as far as it was not said yet.
    placed: Vec<Run>,
    /// How much there is, and how much of that was not known, in bytes.
    all: u64,
    new: u64,
}

/// What of it is in the store.
#[derive(Debug, Default)]
enum Known {
    /// Nothing: it goes as it is.
    #[default]
    Nothing,
    /// What went earlier.
    Earlier(Tags),
    /// What has gone by then; the rest gets numbers, for capsules that build on this one.
    Numbered(Tags),
}

/// What a capsule may build on, and the pages that are in it.
#[derive(Debug)]
pub(crate) struct Foundation {
    base: Base,
    buildings: u32,
    tags: Tags,
}

impl Foundation {
    /// The capsule.
    pub(crate) fn capsule(&self) -> &CapsuleName {
        &self.base.name
    }
}

impl Memory {
    /// Memory of which these pages have gone.
    pub(super) fn after(tags: Tags) -> Self {
        Self { known: Known::Earlier(tags), ..Self::default() }
    }

    /// Memory for a capsule that builds on an earlier one, or that others can build on.
    pub(super) fn upon(foundation: Option<Foundation>) -> Self {
        match foundation {
            Some(Foundation { base, buildings, tags }) => {
                Self { known: Known::Earlier(tags), base: Some((base, buildings)), ..Self::default() }
            }
            None => Self { known: Known::Numbered(Tags::new()), ..Self::default() },
        }
    }

    /// The capsule that this one builds on.
    pub(super) fn base(&self) -> Option<&Base> {
        self.base.as_ref().map(|(base, _)| base)
    }

    /// What brings the bytes at an offset of an image.
    pub(super) fn frames(&mut self, image: u32, offset: u64, bytes: Bytes) -> Vec<Frame> {
        let page = PAGE as u64;
        let mut frames = Vec::new();
        self.all += bytes.len() as u64;
        let stretches = match &mut self.known {
            Known::Nothing => return vec![Frame::Chunk { image: memory_name(image), bytes }],
            _ if !offset.is_multiple_of(page) => vec![Stretch::New(0..bytes.len())],
            Known::Earlier(tags) => tags.stretches(&bytes),
            Known::Numbered(tags) => {
                let (stretches, new) = tags.number(&bytes);
                if !new.is_empty() {
                    frames.push(Frame::Pages(new.into()));
                }
                stretches
            }
        };
        let mut offset = offset;
        for stretch in stretches {
            match stretch {
                Stretch::Known { number, pages } => {
                    self.placed.push(Run { image, pages, at: offset / page, number });
                    offset += u64::from(pages) * page;
                }
                Stretch::New(range) => {
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
    pub(super) fn placed(&mut self) -> Vec<Frame> {
        let placed = std::mem::take(&mut self.placed);
        placed.chunks(RUNS_MAX).map(|runs| Frame::Placed(runs.to_vec())).collect()
    }

    /// What the next capsule may build on, when this one is in the store.
    pub(super) fn foundation(self, manifest: &Manifest) -> Option<Foundation> {
        match (self.known, self.base) {
            (Known::Numbered(tags), _) => Some(Foundation { base: manifest.as_base(), buildings: 0, tags }),
            // Once more than half of the memory goes again, the next one is better off without.
            (Known::Earlier(tags), Some((base, before))) if self.new <= self.all / 2 && before + 1 < BUILDINGS => {
                Some(Foundation { base, buildings: before + 1, tags })
            }
            _ => None,
        }
    }
}

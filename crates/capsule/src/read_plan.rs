//! The order in which the parts of a stream are read.
//!
//! ```text
//! written   ├── first ──┤├──── deferred ────┤├── rest ──┤
//! read      ├── first ──┤├── rest ──┤├──── deferred ────┤
//! ```
//!
//! Parts begin and end at any byte. A piece that lies in two parts is read twice.

use std::ops::Range;

use crate::format::{HEADER_BYTES, PIECE_BYTES};
use crate::manifest::{Deferred, Manifest};

/// Consecutive pieces that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The numbers of the pieces.
    pub(crate) pieces: Range<u64>,
    /// Their bytes in the stored stream.
    pub(crate) stored: Range<u64>,
    /// The written bytes that belong to the part; those of its first and last piece may not.
    pub(crate) plain: Range<u64>,
}

impl Part {
    fn new(plain: Range<u64>, stored: Range<u64>) -> Self {
        let piece = PIECE_BYTES as u64;
        Self { pieces: plain.start / piece..plain.end.div_ceil(piece), stored, plain }
    }

    /// Returns the bytes of a piece that belong to this part, by the number and length of the
    /// piece.
    pub(crate) fn of(&self, number: u64, length: usize) -> Range<usize> {
        let start = number * PIECE_BYTES as u64;
        let within = |at: u64| usize::try_from(at.saturating_sub(start)).map_or(length, |at| at.min(length));
        within(self.plain.start)..within(self.plain.end)
    }
}

/// Returns the whole stream in the order in which it was written.
pub(crate) fn as_written(manifest: &Manifest) -> Vec<Part> {
    let mut part = Part::new(0..manifest.plain_bytes, HEADER_BYTES as u64..manifest.stored_bytes);
    // An empty stream has a piece as well.
    part.pieces.end = manifest.pieces;
    vec![part]
}

/// Returns the deferred part alone.
pub(crate) fn deferred(manifest: &Manifest) -> Vec<Part> {
    deferred_last(manifest).pop().filter(|_| manifest.deferred.is_some()).into_iter().collect()
}

/// Returns the whole stream, the deferred part last.
pub(crate) fn deferred_last(manifest: &Manifest) -> Vec<Part> {
    let Some(Deferred { plain, from, to }) = &manifest.deferred else { return as_written(manifest) };
    // A part that ends with a piece needs nothing of the next one.
    let until =
        |plain: u64, piece: &Range<u64>| if plain.is_multiple_of(PIECE_BYTES as u64) { piece.start } else { piece.end };
    let first = Part::new(0..plain.start, HEADER_BYTES as u64..until(plain.start, from));
    let rest = Part::new(plain.end..manifest.plain_bytes, to.start..manifest.stored_bytes);
    let last = Part::new(plain.clone(), from.start..until(plain.end, to));
    [first, rest, last].into_iter().filter(|part| !part.plain.is_empty()).collect()
}

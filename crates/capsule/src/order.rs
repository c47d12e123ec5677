//! In which order the pieces of a stream are read.
//!
//! ```text
//! written   ├── first ──┤├──── deferred ────┤├── rest ──┤
//! given     ├── first ──┤├── rest ──┤├──── deferred ────┤
//! ```
//!
//! Parts begin and end anywhere, so that a piece may lie in two of them; it is read twice then.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::format::{HEADER, PIECE};
use crate::manifest::Manifest;

/// A part of a capsule that is of no use without all the rest: its reader gives it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Which of the bytes that were written.
    pub plain: Range<u64>,
    /// Where in the stream the piece lies that it begins in.
    pub(crate) from: Range<u64>,
    /// Where in the stream the piece lies in which the rest begins.
    pub(crate) to: Range<u64>,
}

/// What is read at one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its pieces, by their numbers.
    pub(crate) pieces: Range<u64>,
    /// Where in the stream they lie.
    pub(crate) stored: Range<u64>,
    /// What of that which was written belongs to it.
    pub(crate) plain: Range<u64>,
}

impl Part {
    fn new(plain: Range<u64>, stored: Range<u64>) -> Self {
        let piece = PIECE as u64;
        Self { pieces: plain.start / piece..plain.end.div_ceil(piece), stored, plain }
    }

    /// What of a piece belongs to this part, by its number and its length.
    pub(crate) fn of(&self, number: u64, length: usize) -> Range<usize> {
        let start = number * PIECE as u64;
        let within = |at: u64| usize::try_from(at.saturating_sub(start)).map_or(length, |at| at.min(length));
        within(self.plain.start)..within(self.plain.end)
    }
}

impl Deferred {
    /// The part between two bytes of a stream whose pieces begin there, and which ends there.
    pub(crate) fn between(plain: Range<u64>, starts: &[u64], end: u64) -> Self {
        let place = |at: u64| {
            let number = usize::try_from(at / PIECE as u64).unwrap_or(usize::MAX);
            let start = |number: usize| starts.get(number).copied().unwrap_or(end);
            start(number)..start(number.saturating_add(1))
        };
        Self { from: place(plain.start), to: place(plain.end), plain }
    }
}

/// All of a stream as it was written.
pub(crate) fn as_written(manifest: &Manifest) -> Vec<Part> {
    let mut part = Part::new(0..manifest.plain_bytes, HEADER as u64..manifest.stored_bytes);
    // A stream of nothing has a piece as well.
    part.pieces.end = manifest.pieces;
    vec![part]
}

/// What was deferred alone.
pub(crate) fn deferred(manifest: &Manifest) -> Vec<Part> {
    deferred_last(manifest).pop().filter(|_| manifest.deferred.is_some()).into_iter().collect()
}

/// All of a stream, with what was deferred at the end.
pub(crate) fn deferred_last(manifest: &Manifest) -> Vec<Part> {
    let Some(Deferred { plain, from, to }) = &manifest.deferred else { return as_written(manifest) };
    // A part that ends where a piece does needs nothing of the next one.
    let until =
        |plain: u64, piece: &Range<u64>| if plain.is_multiple_of(PIECE as u64) { piece.start } else { piece.end };
    let first = Part::new(0..plain.start, HEADER as u64..until(plain.start, from));
    let rest = Part::new(plain.end..manifest.plain_bytes, to.start..manifest.stored_bytes);
    let last = Part::new(plain.clone(), from.start..until(plain.end, to));
    [first, rest, last].into_iter().filter(|part| !part.plain.is_empty()).collect()
}

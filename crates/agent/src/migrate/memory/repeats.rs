//! Memory pages that several processes share, sent to another host once.
//!
//! CRIU writes a shared page for each process that has it. The first one is sent. For all others
//! the destination copies what it has received already.

use bytes::Bytes;
use mooring_linux::pages::PAGE;

use super::page_index::PageIndex;
use crate::migrate::stream::frame::{Frame, Repeat};
use crate::runtime::checkpoint::memory_name;

/// The pages that were sent so far, and where they are.
#[derive(Debug)]
pub(crate) struct Repeats {
    index: PageIndex,
    /// Image and index of each page of `index`, by its number.
    places: Vec<(u32, u64)>,
}

impl Repeats {
    pub(crate) fn new() -> Self {
        Self { index: PageIndex::new(), places: Vec::new() }
    }

    /// Encodes the bytes of an image from a page boundary on.
    pub(crate) fn frames(&mut self, image: u32, offset: u64, bytes: &Bytes) -> Vec<Frame> {
        let mut frames = Vec::new();
        let (mut new, mut repeats) = (0..0, Vec::new());
        for (page, start) in bytes.chunks(PAGE).zip((0..).step_by(PAGE)) {
            let at = (offset + start as u64) / PAGE as u64;
            match self.earlier(page, image, at) {
                Some((from_image, from)) => {
                    frames.extend(part(image, offset, bytes, &mut new));
                    extend(&mut repeats, Repeat { image, at, from_image, from, pages: 1 });
                }
                None => {
                    frames.extend(repeated(&mut repeats));
                    new = if new.is_empty() { start..start + page.len() } else { new.start..start + page.len() };
                }
            }
        }
        frames.extend(part(image, offset, bytes, &mut new));
        frames.extend(repeated(&mut repeats));
        frames
    }

    /// Returns the place of an equal page that was sent; notes that of a new page.
    fn earlier(&mut self, page: &[u8], image: u32, at: u64) -> Option<(u32, u64)> {
        if page.len() < PAGE {
            return None;
        }
        let number = self.index.known(page);
        if number.is_none() {
            self.places.push((image, at));
        }
        number.and_then(|number| self.places.get(usize::try_from(number).ok()?).copied())
    }
}

fn part(image: u32, offset: u64, bytes: &Bytes, new: &mut std::ops::Range<usize>) -> Option<Frame> {
    let range = std::mem::take(new);
    let part = || Frame::Part {
        image: memory_name(image),
        offset: offset + range.start as u64,
        bytes: bytes.slice(range.clone()),
    };
    (!range.is_empty()).then(part)
}

fn repeated(repeats: &mut Vec<Repeat>) -> Option<Frame> {
    (!repeats.is_empty()).then(|| Frame::Repeats(std::mem::take(repeats)))
}

/// Adds a page to the last run, or begins another one.
fn extend(runs: &mut Vec<Repeat>, page: Repeat) {
    match runs.last_mut() {
        Some(run)
            if run.from_image == page.from_image
                && run.from + u64::from(run.pages) == page.from
                && run.at + u64::from(run.pages) == page.at =>
        {
            run.pages += 1;
        }
        _ => runs.push(page),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(byte: u8) -> Vec<u8> {
        vec![byte; PAGE]
    }

    proptest! {
        #[test]
        fn each_page_is_sent_once_and_all_are_there(
            images in prop::collection::vec(prop::collection::vec(0..12_u8, 0..60), 1..4),
            cut in 1..20_usize,
            tail in 0..PAGE,
        ) {
            let mut repeats = Repeats::new();
            let mut sent = Vec::new();
            let mut received = vec![Vec::new(); images.len()];
            for (number, image) in images.iter().enumerate() {
                let mut bytes: Vec<u8> = image.iter().flat_map(|byte| page(*byte)).collect();
                bytes.resize(bytes.len() + tail, 1);
                for (piece, at) in bytes.chunks(cut * PAGE).zip((0..).step_by(cut * PAGE)) {
                    let piece = Bytes::copy_from_slice(piece);
                    for frame in repeats.frames(u32::try_from(number).unwrap(), at, &piece) {
                        match frame {
                            Frame::Part { image, offset, bytes } => {
                                prop_assert_eq!(image, memory_name(u32::try_from(number).unwrap()));
                                prop_assert_eq!(usize::try_from(offset).unwrap(), received[number].len());
                                received[number].extend_from_slice(&bytes);
                                sent.extend(bytes.chunks_exact(PAGE).map(|page| page[0]));
                            }
                            Frame::Repeats(runs) => for run in runs {
                                prop_assert_eq!(usize::try_from(run.at).unwrap() * PAGE, received[number].len());
                                let from = usize::try_from(run.from).unwrap() * PAGE;
                                let source = received[run.from_image as usize][from..from + run.pages as usize * PAGE].to_vec();
                                received[number].extend(source);
                            },
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
                prop_assert!(received[number] == bytes);
            }
            let distinct: std::collections::BTreeSet<u8> = sent.iter().copied().collect();
            prop_assert_eq!(distinct.len(), sent.len());
        }
    }
}

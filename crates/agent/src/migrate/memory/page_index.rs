//! An index of stored pages by their tags. Pages with equal tags are equal.
//!
//! No kernel support for dirty pages is needed. A tag is the 128-bit AES-GCM tag of a page as
//! associated data, under a random key that is dropped with the index. Two different pages have the
//! same tag with a probability of at most 2^-119 for any content. See McGrew and Viega, "The
//! Security and Performance of the Galois/Counter Mode", lemma 2: a page is 256 blocks. Tags are
//! computed faster than memory is compressed.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use mooring_linux::pages::{self, Memory, PAGE};
use tokio::sync::mpsc;

use crate::migrate::stream::FRAME_DATA_BYTES;

/// The time limit of memory pre-copy; what it does not reach is sent after the freeze.
const MEMORY_PRE_COPY_LIMIT: Duration = Duration::from_secs(30);

/// The stored pages.
#[derive(Debug)]
pub(crate) struct PageIndex {
    key: LessSafeKey,
    /// The number of each page by its tag. Equal pages are stored once.
    numbers: HashMap<Tag, u64>,
}

type Tag = [u8; 16];

/// A part of the bytes that CRIU wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Consecutive stored pages, from this number on.
    Known { number: u64, pages: u32 },
    /// Bytes that are not stored.
    New(Range<usize>),
}

impl PageIndex {
    pub(crate) fn new() -> Self {
        let key: [u8; 16] = rand::random();
        let key = UnboundKey::new(&AES_128_GCM, &key).expect("the key has the length that the cipher takes");
        Self { key: LessSafeKey::new(key), numbers: HashMap::new() }
    }

    /// Reads the memory of executing processes and sends each distinct page once, until the
    /// receiver is dropped. Skips a process that ends meanwhile or can't be read.
    pub(crate) fn read_processes(pids: &[i32], give: &mpsc::Sender<Bytes>) -> Self {
        let mut index = Self::new();
        let mut piece = Vec::with_capacity(FRAME_DATA_BYTES);
        let until = Instant::now() + MEMORY_PRE_COPY_LIMIT;
        for &pid in pids {
            let (memory, ranges) = match Memory::open(pid).and_then(|memory| Ok((memory, pages::own(pid)?))) {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(%error, "no memory of process {pid} goes ahead");
                    continue;
                }
            };
            let mut pieces = ranges.into_iter().flat_map(|range| {
                range
                    .clone()
                    .step_by(FRAME_DATA_BYTES)
                    .map(move |start| start..range.end.min(start + FRAME_DATA_BYTES as u64))
            });
            let taken = pieces
                .all(|range| index.read_range(&memory, range, &mut piece, give).is_ok() && Instant::now() < until);
            if !taken {
                break;
            }
        }
        if !piece.is_empty() {
            // A dropped receiver needs no more pages.
            drop(give.blocking_send(piece.into()));
        }
        index
    }

    fn read_range(
        &mut self,
        memory: &Memory,
        range: Range<u64>,
        piece: &mut Vec<u8>,
        give: &mpsc::Sender<Bytes>,
    ) -> Result<(), ReceiverGone> {
        let mut buffer = [0; FRAME_DATA_BYTES];
        let buffer = &mut buffer[..usize::try_from(range.end - range.start)
            .map_or(FRAME_DATA_BYTES, |length| length.min(FRAME_DATA_BYTES))];
        // A range that was unmapped since is sent after the freeze, if it is mapped again.
        let length = memory.read(range.start, buffer).unwrap_or(0);
        for page in buffer[..length].chunks_exact(PAGE) {
            if let Numbered::New(_) = self.number_of(page) {
                piece.extend_from_slice(page);
            }
            if piece.len() == FRAME_DATA_BYTES {
                let full = std::mem::replace(piece, Vec::with_capacity(FRAME_DATA_BYTES));
                give.blocking_send(full.into()).map_err(|_| ReceiverGone)?;
            }
        }
        Ok(())
    }

    /// Returns the number of a page; a new page gets the next one.
    fn number_of(&mut self, page: &[u8]) -> Numbered {
        let (tag, next) = (self.tag(page), self.numbers.len() as u64);
        match *self.numbers.entry(tag).or_insert(next) {
            number if number == next => Numbered::New(number),
            number => Numbered::Known(number),
        }
    }

    /// Returns the number of a page that was numbered before; gives one to a new page.
    pub(crate) fn known(&mut self, page: &[u8]) -> Option<u64> {
        match self.number_of(page) {
            Numbered::Known(number) => Some(number),
            Numbered::New(_) => None,
        }
    }

    fn tag(&self, page: &[u8]) -> Tag {
        // One nonce for all pages: tags are never disclosed, and equal pages need equal tags.
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(page), &mut []);
        let tag = tag.expect("a page is short enough to seal");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    /// Numbers all pages of `bytes`; returns the segments and the new pages.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> (Vec<Segment>, Vec<u8>) {
        let mut new = Vec::new();
        let segments = segments(bytes, |page| match self.number_of(page) {
            Numbered::Known(number) => Some(number),
            Numbered::New(number) => {
                new.extend_from_slice(page);
                Some(number)
            }
        });
        (segments, new)
    }

    /// Splits `bytes`, which begin at a page boundary, into stored and new parts.
    pub(crate) fn segments(&self, bytes: &[u8]) -> Vec<Segment> {
        segments(bytes, |page| self.numbers.get(&self.tag(page)).copied())
    }
}

/// The number of a page, and whether the page is new.
enum Numbered {
    Known(u64),
    New(u64),
}

/// Splits bytes by the numbers of their pages; a partial page counts as new.
fn segments(bytes: &[u8], mut number_of: impl FnMut(&[u8]) -> Option<u64>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut start = 0;
    for page in bytes.chunks(PAGE) {
        let end = start + page.len();
        let known = if page.len() == PAGE { number_of(page) } else { None };
        match (segments.last_mut(), known) {
            (Some(Segment::Known { number, pages }), Some(next)) if *number + u64::from(*pages) == next => {
                *pages += 1;
            }
            (_, Some(number)) => segments.push(Segment::Known { number, pages: 1 }),
            (Some(Segment::New(new)), None) => new.end = end,
            (_, None) => segments.push(Segment::New(start..end)),
        }
        start = end;
    }
    segments
}

/// The receiver of pages was dropped.
struct ReceiverGone;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(byte: u8) -> Vec<u8> {
        vec![byte; PAGE]
    }

    #[test]
    fn the_memory_of_a_process_that_executes_goes_once() {
        // Its pages differ from each other, but for those that are there twice.
        let program = "import time; a = b''.join(bytes([i % 200 + 1]) * 4096 for i in range(400)); print(flush=True); time.sleep(60)";
        let mut child = std::process::Command::new("python3")
            .args(["-c", program])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (give, mut pieces) = mpsc::channel(4);
        let reading = std::thread::spawn(move || PageIndex::read_processes(&[pid, pid], &give));
        let mut gone = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            assert!(!piece.is_empty() && piece.len() <= FRAME_DATA_BYTES);
            gone.extend_from_slice(&piece);
        }
        let index = reading.join().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(index.numbers.len() * PAGE, gone.len());
        // The bytes of `a` begin in the middle of a page, so that its pages hold two values each;
        // none of them has gone twice.
        let seen: std::collections::HashSet<&[u8]> = gone.chunks(PAGE).collect();
        assert_eq!(seen.len(), index.numbers.len());
        let of_a = seen.iter().filter(|page| page[0] != 0 && page[4095] == page[0] % 200 + 1).count();
        assert!(of_a >= 199, "{of_a}");
        assert_eq!(index.segments(&gone[..3 * PAGE]), [Segment::Known { number: 0, pages: 3 }]);
    }

    #[test]
    fn whoever_does_not_want_more_ends_the_reading() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (give, pieces) = mpsc::channel(1);
        drop(pieces);
        let index = PageIndex::read_processes(&[own], &give);
        assert!(index.numbers.len() <= FRAME_DATA_BYTES / PAGE, "{}", index.numbers.len());
    }

    proptest! {
        #[test]
        fn stretches_say_where_everything_is(
            gone in prop::collection::vec(any::<u8>(), 0..40),
            written in prop::collection::vec(any::<u8>(), 0..60),
            tail in 0..PAGE,
        ) {
            let mut index = PageIndex::new();
            let sent: Vec<u8> = gone.into_iter().filter(|byte| !index.add(&page(*byte)).1.is_empty()).collect();
            let mut bytes: Vec<u8> = written.iter().flat_map(|byte| page(*byte)).collect();
            bytes.resize(bytes.len() + tail, 1);
            let mut back = Vec::new();
            for segment in index.segments(&bytes) {
                match segment {
                    Segment::Known { number, pages } => {
                        let first = usize::try_from(number).unwrap();
                        let known = &sent[first..first + usize::try_from(pages).unwrap()];
                        back.extend(known.iter().flat_map(|byte| page(*byte)));
                    }
                    Segment::New(range) => {
                        prop_assert!(bytes[range.clone()].chunks_exact(PAGE).all(|page| !sent.contains(&page[0])));
                        back.extend_from_slice(&bytes[range]);
                    }
                }
            }
            prop_assert!(back == bytes);
        }
    }
}

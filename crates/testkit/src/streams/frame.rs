//! The server's frames: a length, the count of received bytes, and bytes of its stream; at the end
//! the digests of both directions.

use anyhow::{Result, bail};

use super::source::{BLOCK, Digest};

/// The length that stands before the last frame.
const LAST: u32 = u32::MAX;
/// The bytes of a head.
pub const HEAD: usize = 4 + 8;
/// The bytes of a [`Summary`]: two digests and the place of a difference.
const SUMMARY: usize = 2 * (8 + 32) + 8;
/// The place that stands for "no difference".
const NOWHERE: u64 = u64::MAX;

/// The server's last frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The received bytes.
    pub received: Digest,
    /// The sent bytes.
    pub sent: Digest,
    /// The place of the first unexpected byte.
    pub first_difference: Option<u64>,
}

impl Summary {
    /// The last frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = LAST.to_be_bytes().to_vec();
        for digest in [&self.received, &self.sent] {
            frame.extend(digest.count.to_be_bytes());
            frame.extend(digest.sha256);
        }
        frame.extend(self.first_difference.unwrap_or(NOWHERE).to_be_bytes());
        frame
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut digest = || {
            let count = u64::from_be_bytes(*bytes.split_off(..8)?.as_array()?);
            Some(Digest { count, sha256: *bytes.split_off(..32)?.as_array()? })
        };
        let (received, sent) = (digest()?, digest()?);
        let place = u64::from_be_bytes(*bytes.as_array()?);
        Some(Self { received, sent, first_difference: (place != NOWHERE).then_some(place) })
    }
}

/// The head of a frame of `length` bytes of data, from a server that has received `received` bytes.
#[must_use]
pub fn head(length: u32, received: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4..].copy_from_slice(&received.to_be_bytes());
    head
}

/// A piece of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The bytes that the server had received when it sent this frame.
    Received(u64),
    /// Bytes of the stream.
    Data(&'a [u8]),
    /// The last frame.
    Summary(Summary),
}

/// Decodes frames from pieces of any size.
#[derive(Debug, Default)]
pub struct Parts {
    /// Bytes of the current frame's data that are still to come.
    data: usize,
    /// A head or a summary that is not complete yet.
    held: Vec<u8>,
}

impl Parts {
    /// The next part of `input`, which is left with what follows it; `None` when more has to come.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>> {
        while !input.is_empty() {
            if self.data > 0 {
                let (data, rest) = input.split_at(self.data.min(input.len()));
                self.data -= data.len();
                *input = rest;
                return Ok(Some(Part::Data(data)));
            }
            let is_last = self.held.starts_with(&LAST.to_be_bytes());
            let wanted = match self.held.len() {
                ..4 => 4,
                _ if is_last => 4 + SUMMARY,
                _ => HEAD,
            };
            let (bytes, rest) = input.split_at((wanted - self.held.len()).min(input.len()));
            self.held.extend(bytes);
            *input = rest;
            if is_last && self.held.len() == wanted {
                return Ok(Summary::read(&self.held[4..]).map(Part::Summary));
            }
            if !is_last && let Some(head) = self.held.as_array::<HEAD>() {
                let received = self.head(*head)?;
                return Ok(Some(Part::Received(received)));
            }
        }
        Ok(None)
    }

    /// Goes on to the data that follows a head; gives back what the server had received.
    fn head(&mut self, [l0, l1, l2, l3, received @ ..]: [u8; HEAD]) -> Result<u64> {
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > BLOCK {
            bail!("a frame of {length} bytes: this is no streamer's");
        }
        self.held.clear();
        self.data = length as usize;
        Ok(u64::from_be_bytes(received))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_taken_apart_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            count: u64, sha256: [u8; 32], place in prop::option::of(0_u64..1000), cut in 1_usize..60,
        ) {
            let digest = Digest { count, sha256 };
            let summary = Summary { received: digest.clone(), sent: digest, first_difference: place };
            let frame = |(index, data): (usize, &Vec<u8>)| [&head(data.len() as u32, index as u64)[..], data].concat();
            let mut bytes: Vec<u8> = frames.iter().enumerate().flat_map(frame).collect();
            bytes.extend(summary.frame());
            let (mut parts, mut received, mut data, mut end) = (Parts::default(), Vec::new(), Vec::new(), None);
            for mut piece in bytes.chunks(cut) {
                while let Some(part) = parts.next(&mut piece).unwrap() {
                    match part {
                        Part::Received(bytes) => received.push(bytes),
                        Part::Data(bytes) => data.extend_from_slice(bytes),
                        Part::Summary(summary) => end = Some(summary),
                    }
                }
            }
            prop_assert_eq!(received, (0..frames.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(data, frames.concat());
            prop_assert_eq!(end, Some(summary));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(Parts::default().next(&mut b"HTTP/1.1 503".as_slice()).is_err());
    }
}

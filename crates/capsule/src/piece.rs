//! From bytes to sealed pieces and back. Pure work for the blocking pool; several pieces of a stream at once.

use std::sync::Arc;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::Damage;
use crate::format::{Coding, HEAD, Head, PIECE, StreamKey, TAG};
use crate::idle::Idle;

/// The level at which zstd keeps up with a network.
const LEVEL: i32 = 1;
/// What a piece of zeros stands for. Nobody writes to it: it takes one page of memory.
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Seals the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: StreamKey,
    compression: Compression,
    compressors: Idle<Compressor<'static>>,
    shrunk: Idle<Vec<u8>>,
    buffers: Idle<Vec<u8>>,
}

/// How pieces are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// LZ4: reading and writing it back take least, which is what counts on a disk.
    Fast,
    /// zstd: a third smaller, which is what counts where the store is across a network.
    Small,
}

impl Sealer {
    pub(crate) fn new(key: StreamKey, compression: Compression) -> Self {
        Self { key, compression, compressors: Idle::default(), shrunk: Idle::default(), buffers: Idle::default() }
    }

    /// An empty buffer for the bytes of a piece.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.buffers.take().unwrap_or_else(|| Vec::with_capacity(PIECE))
    }

    /// A piece as it is stored, from the bytes that it stands for.
    pub(crate) fn seal(&self, number: u64, last: bool, mut plain: Vec<u8>) -> Vec<u8> {
        let (coding, mut piece) = self.encode(&plain);
        let sealed = piece.len() - HEAD + TAG;
        let head = Head { coding, last, plain: length(plain.len()), sealed: length(sealed) }.to_bytes();
        piece[..HEAD].copy_from_slice(&head);
        self.key.seal(number, &head, &mut piece);
        plain.clear();
        self.buffers.give(plain);
        piece
    }

    /// The bytes as they are sealed, behind room for a head.
    fn encode(&self, plain: &[u8]) -> (Coding, Vec<u8>) {
        if is_zeros(plain) {
            return (Coding::Zeros, room_for(&[]));
        }
        // What does not shrink by a sixteenth is not worth the time that reading it back takes.
        let room = plain.len() - plain.len() / 16;
        let mut shrunk = self.shrunk.take().unwrap_or_default();
        shrunk.resize(room, 0);
        let (coding, length) = match self.compression {
            Compression::Fast => (Coding::Lz4, lz4::block::compress_to_buffer(plain, None, false, &mut shrunk).ok()),
            Compression::Small => (Coding::Zstd, self.compress(plain, &mut shrunk)),
        };
        let piece = length.filter(|length| *length < plain.len()).map(|length| room_for(&shrunk[..length]));
        self.shrunk.give(shrunk);
        if let Some(piece) = piece {
            return (coding, piece);
        }
        (Coding::Raw, room_for(plain))
    }

    /// As a zstd frame; nothing when there is no room for it.
    fn compress(&self, plain: &[u8], shrunk: &mut [u8]) -> Option<usize> {
        let mut compressor = self.compressors.take().or_else(|| Compressor::new(LEVEL).ok())?;
        let outcome = compressor.compress_to_buffer(plain, shrunk);
        self.compressors.give(compressor);
        outcome.ok()
    }
}

/// The bytes, with room for a head before them and for a tag behind them.
fn room_for(bytes: &[u8]) -> Vec<u8> {
    let mut piece = Vec::with_capacity(HEAD + bytes.len() + TAG);
    piece.resize(HEAD, 0);
    piece.extend_from_slice(bytes);
    piece
}

/// Opens the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Opener {
    key: StreamKey,
    decompressors: Idle<Decompressor<'static>>,
    buffers: Arc<Idle<Vec<u8>>>,
    /// Where the buffers of sealed pieces go.
    sealed: Arc<Idle<Vec<u8>>>,
}

impl Opener {
    pub(crate) fn new(key: StreamKey, sealed: Arc<Idle<Vec<u8>>>) -> Self {
        Self { key, decompressors: Idle::default(), buffers: Arc::default(), sealed }
    }

    /// The bytes that a piece stands for; `sealed` is what follows its head.
    pub(crate) fn open(&self, number: u64, head: &[u8; HEAD], mut sealed: Vec<u8>) -> Result<Bytes, Damage> {
        let damaged = Damage::Piece(number);
        let Head { coding, plain, .. } = Head::parse(head).ok_or(damaged)?;
        let length = plain as usize;
        let stored = self.key.open_piece(number, head, &mut sealed).ok_or(damaged)?.len();
        let bytes = match coding {
            Coding::Zeros => Bytes::from_static(&ZEROS[..length]),
            Coding::Raw => {
                sealed.truncate(stored);
                std::mem::take(&mut sealed).into()
            }
            Coding::Zstd => {
                let taken = self.decompressors.take().or_else(|| Decompressor::new().ok());
                let mut decompressor = taken.ok_or(damaged)?;
                let mut lent = Lent::of(&self.buffers);
                let outcome = decompressor.decompress_to_buffer(&sealed[..stored], &mut lent.bytes[..length]);
                self.decompressors.give(decompressor);
                lent.ending(outcome.map_err(|_| damaged)?)
            }
            Coding::Lz4 => {
                let mut lent = Lent::of(&self.buffers);
                let room = i32::try_from(length).map_err(|_| damaged)?;
                let out = &mut lent.bytes[..length];
                let outcome = lz4::block::decompress_to_buffer(&sealed[..stored], Some(room), out);
                lent.ending(outcome.map_err(|_| damaged)?)
            }
        };
        if sealed.capacity() > 0 {
            self.sealed.give(sealed);
        }
        if bytes.len() == length { Ok(bytes) } else { Err(damaged) }
    }
}

/// A buffer that goes back to where it came from when nobody looks at it any more: fresh memory costs more than what is done in it.
#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    length: usize,
    home: Arc<Idle<Vec<u8>>>,
}

impl Lent {
    /// One as long as a piece. What is in it is of no meaning.
    fn of(home: &Arc<Idle<Vec<u8>>>) -> Self {
        let bytes = home.take().unwrap_or_else(|| vec![0; PIECE]);
        Self { bytes, length: 0, home: home.clone() }
    }

    fn ending(mut self, length: usize) -> Bytes {
        self.length = length;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.bytes));
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    const PAGE: usize = 4096;
    bytes.chunks(PAGE).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a piece is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SealKey;

    fn stream(compression: Compression) -> (Sealer, Opener) {
        let (seal, name) = (SealKey::random(), "a".parse().unwrap());
        let (key, header) = StreamKey::create(&name, "attempt", &seal);
        let same = StreamKey::open(&header, &name, "attempt", &seal).unwrap();
        (Sealer::new(key, compression), Opener::new(same, Arc::default()))
    }

    #[test]
    fn every_piece_comes_back_from_what_suits_it() {
        let text = b"what is said again and again ".repeat(PIECE / 29);
        let noise: Vec<u8> = (0..PIECE).map(|_| rand::random()).collect();
        for (compression, shrunk) in [(Compression::Fast, Coding::Lz4), (Compression::Small, Coding::Zstd)] {
            let (sealer, opener) = stream(compression);
            // A short piece after long ones: what was in the buffers before is not given.
            let pieces = [
                (text.clone(), shrunk),
                (noise.clone(), Coding::Raw),
                (vec![0; PIECE], Coding::Zeros),
                (text[..5000].to_vec(), shrunk),
                (Vec::new(), Coding::Zeros),
            ];
            for (number, (plain, coding)) in (0..).zip(pieces) {
                let piece = sealer.seal(number, true, plain.clone());
                let (head, sealed) = piece.split_first_chunk::<HEAD>().unwrap();
                assert_eq!(Head::parse(head).unwrap().coding, coding, "{compression:?} {number}");
                assert_eq!(opener.open(number, head, sealed.to_vec()).unwrap(), plain, "{compression:?} {number}");
            }
        }
    }
}

//! Compressing and sealing pieces, and the way back. This is CPU work for the blocking pool, where
//! several pieces of one stream are processed at once.

use std::sync::Arc;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::Damage;
use crate::format::{Coding, HEAD_BYTES, Head, PIECE_BYTES, StreamKey, TAG_BYTES};
use crate::pool::Pool;

/// The compression level at which zstd keeps up with a network.
const ZSTD_LEVEL: i32 = 1;
/// The plain bytes of a piece of zeros. Never written to, so that it takes one page of memory.
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// Seals the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: StreamKey,
    compression: Compression,
    compressors: Pool<Compressor<'static>>,
    shrunk: Pool<Vec<u8>>,
    buffers: Pool<Vec<u8>>,
}

/// The way in which pieces are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// LZ4: fastest, for a directory.
    Fast,
    /// zstd: a third smaller, for a store across a network.
    Small,
}

impl Sealer {
    pub(crate) fn new(key: StreamKey, compression: Compression) -> Self {
        Self { key, compression, compressors: Pool::default(), shrunk: Pool::default(), buffers: Pool::default() }
    }

    /// Returns an empty buffer for the plain bytes of a piece.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.buffers.take().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES))
    }

    /// Returns the stored form of a piece.
    pub(crate) fn seal(&self, number: u64, last: bool, mut plain: Vec<u8>) -> Vec<u8> {
        let (coding, mut piece) = self.encode(&plain);
        let sealed = piece.len() - HEAD_BYTES + TAG_BYTES;
        let head = Head { coding, last, plain: length(plain.len()), sealed: length(sealed) }.to_bytes();
        piece[..HEAD_BYTES].copy_from_slice(&head);
        self.key.seal(number, &head, &mut piece);
        plain.clear();
        self.buffers.put_back(plain);
        piece
    }

    /// Returns the compressed bytes, after room for a head.
    fn encode(&self, plain: &[u8]) -> (Coding, Vec<u8>) {
        if is_zeros(plain) {
            return (Coding::Zeros, room_for(&[]));
        }
        // Saving less than a sixteenth is not worth the time of decompression.
        let room = plain.len() - plain.len() / 16;
        let mut shrunk = self.shrunk.take().unwrap_or_default();
        shrunk.resize(room, 0);
        let (coding, length) = match self.compression {
            Compression::Fast => (Coding::Lz4, lz4::block::compress_to_buffer(plain, None, false, &mut shrunk).ok()),
            Compression::Small => (Coding::Zstd, self.compress(plain, &mut shrunk)),
        };
        let piece = length.filter(|length| *length < plain.len()).map(|length| room_for(&shrunk[..length]));
        self.shrunk.put_back(shrunk);
        if let Some(piece) = piece {
            return (coding, piece);
        }
        (Coding::Raw, room_for(plain))
    }

    /// Compresses into a zstd frame. Returns `None` where `shrunk` is too small for it.
    fn compress(&self, plain: &[u8], shrunk: &mut [u8]) -> Option<usize> {
        let mut compressor = self.compressors.take().or_else(|| Compressor::new(ZSTD_LEVEL).ok())?;
        let outcome = compressor.compress_to_buffer(plain, shrunk);
        self.compressors.put_back(compressor);
        outcome.ok()
    }
}

/// Copies the bytes, with room for a head before them and for a tag after them.
fn room_for(bytes: &[u8]) -> Vec<u8> {
    let mut piece = Vec::with_capacity(HEAD_BYTES + bytes.len() + TAG_BYTES);
    piece.resize(HEAD_BYTES, 0);
    piece.extend_from_slice(bytes);
    piece
}

/// Opens the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Opener {
    key: StreamKey,
    decompressors: Pool<Decompressor<'static>>,
    buffers: Arc<Pool<Vec<u8>>>,
    /// The pool to which the buffers of sealed pieces return.
    sealed: Arc<Pool<Vec<u8>>>,
}

impl Opener {
    pub(crate) fn new(key: StreamKey, sealed: Arc<Pool<Vec<u8>>>) -> Self {
        Self { key, decompressors: Pool::default(), buffers: Arc::default(), sealed }
    }

    /// Returns the plain bytes of a piece; `sealed` are the bytes after its head.
    pub(crate) fn open(&self, number: u64, head: &[u8; HEAD_BYTES], mut sealed: Vec<u8>) -> Result<Bytes, Damage> {
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
                self.decompressors.put_back(decompressor);
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
            self.sealed.put_back(sealed);
        }
        if bytes.len() == length { Ok(bytes) } else { Err(damaged) }
    }
}

/// A buffer that returns to its pool when it is dropped: allocating fresh memory costs more than
/// decompressing into it.
#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    length: usize,
    home: Arc<Pool<Vec<u8>>>,
}

impl Lent {
    /// Takes a buffer as long as a piece, with arbitrary content.
    fn of(home: &Arc<Pool<Vec<u8>>>) -> Self {
        let bytes = home.take().unwrap_or_else(|| vec![0; PIECE_BYTES]);
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
        self.home.put_back(std::mem::take(&mut self.bytes));
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
    use crate::key::CapsuleKey;

    fn stream(compression: Compression) -> (Sealer, Opener) {
        let (seal, name) = (CapsuleKey::random(), "a".parse().unwrap());
        let (key, header) = StreamKey::create(&name, "attempt", &seal);
        let same = StreamKey::open(&header, &name, "attempt", &seal).unwrap();
        (Sealer::new(key, compression), Opener::new(same, Arc::default()))
    }

    #[test]
    fn pieces_come_back_from_every_coding() {
        let text = b"text that repeats many times ".repeat(PIECE_BYTES / 29);
        let noise: Vec<u8> = (0..PIECE_BYTES).map(|_| rand::random()).collect();
        for (compression, shrunk) in [(Compression::Fast, Coding::Lz4), (Compression::Small, Coding::Zstd)] {
            let (sealer, opener) = stream(compression);
            // A short piece after long ones must not show what the buffers had before.
            let pieces = [
                (text.clone(), shrunk),
                (noise.clone(), Coding::Raw),
                (vec![0; PIECE_BYTES], Coding::Zeros),
                (text[..5000].to_vec(), shrunk),
                (Vec::new(), Coding::Zeros),
            ];
            for (number, (plain, coding)) in (0..).zip(pieces) {
                let piece = sealer.seal(number, true, plain.clone());
                let (head, sealed) = piece.split_first_chunk::<HEAD_BYTES>().unwrap();
                assert_eq!(Head::parse(head).unwrap().coding, coding, "{compression:?} {number}");
                assert_eq!(opener.open(number, head, sealed.to_vec()).unwrap(), plain, "{compression:?} {number}");
            }
        }
    }
}

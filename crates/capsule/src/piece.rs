//! From bytes to sealed pieces and back. Pure work for the blocking pool; several pieces of a stream at once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::Damage;
use crate::format::{Coding, HEAD, Head, PIECE, StreamKey, TAG};

/// The level at which zstd keeps up with a disk.
const LEVEL: i32 = 1;
/// What a piece of zeros stands for. Nobody writes to it: it takes one page of memory.
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Seals the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: StreamKey,
    compressors: Idle<(Compressor<'static>, Vec<u8>)>,
    buffers: Idle<Vec<u8>>,
}

impl Sealer {
    pub(crate) fn new(key: StreamKey) -> Self {
        Self { key, compressors: Idle::default(), buffers: Idle::default() }
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
        let taken = self.compressors.take().or_else(|| Some((Compressor::new(LEVEL).ok()?, Vec::new())));
        if let Some((mut compressor, mut shrunk)) = taken {
            // What does not shrink by a sixteenth is not worth the time that reading it back takes.
            shrunk.resize(plain.len() - plain.len() / 16, 0);
            let outcome = compressor.compress_to_buffer(plain, &mut shrunk[..]);
            let piece = outcome.ok().filter(|length| *length < plain.len()).map(|length| room_for(&shrunk[..length]));
            self.compressors.give((compressor, shrunk));
            if let Some(piece) = piece {
                return (Coding::Zstd, piece);
            }
        }
        (Coding::Raw, room_for(plain))
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
}

impl Opener {
    pub(crate) fn new(key: StreamKey) -> Self {
        Self { key, decompressors: Idle::default(), buffers: Arc::default() }
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
                sealed.into()
            }
            Coding::Zstd => {
                let taken = self.decompressors.take().or_else(|| Decompressor::new().ok());
                let mut decompressor = taken.ok_or(damaged)?;
                let mut lent = Lent::of(&self.buffers);
                let outcome = decompressor.decompress_to_buffer(&sealed[..stored], &mut lent.bytes);
                self.decompressors.give(decompressor);
                outcome.map_err(|_| damaged)?;
                Bytes::from_owner(lent)
            }
        };
        if bytes.len() == length { Ok(bytes) } else { Err(damaged) }
    }
}

/// A buffer that goes back to where it came from when nobody looks at it any more: fresh memory costs more than what is done in it.
#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    home: Arc<Idle<Vec<u8>>>,
}

impl Lent {
    /// An empty one with room for a piece and no more.
    fn of(home: &Arc<Idle<Vec<u8>>>) -> Self {
        let bytes = home.take().unwrap_or_else(|| Vec::with_capacity(PIECE));
        Self { bytes, home: home.clone() }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.give(bytes);
    }
}

/// Things that are costly to make, between two uses.
struct Idle<T>(Mutex<Vec<T>>);

impl<T> fmt::Debug for Idle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idle")
    }
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Idle<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, thing: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thing);
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    const PAGE: usize = 4096;
    bytes.chunks(PAGE).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a piece is shorter than 4 GiB")
}

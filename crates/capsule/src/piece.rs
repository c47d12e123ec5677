//! From bytes to sealed pieces and back. Pure work for the blocking pool; several pieces of a stream at once.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};

use crate::error::Damage;
use crate::format::{Coding, HEAD, Head, PIECE, StreamKey, TAG};

/// The level at which zstd keeps up with a disk.
const LEVEL: i32 = 1;

/// Seals the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: StreamKey,
    compressors: Idle<Compressor<'static>>,
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
            return (Coding::Zeros, vec![0; HEAD]);
        }
        // What does not shrink by a sixteenth is not worth the time that reading it back takes.
        let mut piece = vec![0; HEAD + plain.len() - plain.len() / 16];
        let compressor = self.compressors.take().or_else(|| Compressor::new(LEVEL).ok());
        if let Some(mut compressor) = compressor {
            let shrunk = compressor.compress_to_buffer(plain, &mut piece[HEAD..]);
            self.compressors.give(compressor);
            if let Ok(length) = shrunk
                && length < plain.len()
            {
                piece.truncate(HEAD + length);
                return (Coding::Zstd, piece);
            }
        }
        piece.truncate(HEAD);
        piece.reserve_exact(plain.len() + TAG);
        piece.extend_from_slice(plain);
        (Coding::Raw, piece)
    }
}

/// Opens the pieces of one stream.
#[derive(Debug)]
pub(crate) struct Opener {
    key: StreamKey,
    decompressors: Idle<Decompressor<'static>>,
}

impl Opener {
    pub(crate) fn new(key: StreamKey) -> Self {
        Self { key, decompressors: Idle::default() }
    }

    /// The bytes that a piece stands for; `sealed` is what follows its head.
    pub(crate) fn open(&self, number: u64, head: &[u8; HEAD], mut sealed: Vec<u8>) -> Result<Vec<u8>, Damage> {
        let damaged = Damage::Piece(number);
        let Head { coding, plain, .. } = Head::parse(head).ok_or(damaged)?;
        let length = plain as usize;
        let stored = self.key.open_piece(number, head, &mut sealed).ok_or(damaged)?.len();
        let bytes = match coding {
            Coding::Zeros => vec![0; length],
            Coding::Raw => {
                sealed.truncate(stored);
                sealed
            }
            Coding::Zstd => {
                let taken = self.decompressors.take().or_else(|| Decompressor::new().ok());
                let mut decompressor = taken.ok_or(damaged)?;
                let bytes = decompressor.decompress(&sealed[..stored], length);
                self.decompressors.give(decompressor);
                bytes.map_err(|_| damaged)?
            }
        };
        if bytes.len() == length { Ok(bytes) } else { Err(damaged) }
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
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a piece is shorter than 4 GiB")
}

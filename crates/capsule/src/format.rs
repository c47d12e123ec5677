//! The bytes of a capsule's stream: its header and the heads of its pieces. The crate's
//! documentation has the layout.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mooring_types::CapsuleName;

use crate::error::{Damage, Error, Result};
use crate::key::{CapsuleKey, KEY_BYTES, KEY_ID_BYTES, random};

/// The newest format. Format 2 added LZ4 pieces, format 3 capsules that build on another.
pub(crate) const FORMAT: u32 = 3;
/// The plain bytes of a piece; the last piece may have fewer.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// The authentication tag after the sealed bytes.
pub(crate) const TAG_BYTES: usize = 16;
/// The header of a stream.
pub(crate) const HEADER_BYTES: usize = MAGIC.len() + 4 + KEY_ID_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// The head of a piece.
pub(crate) const HEAD_BYTES: usize = 9;

const MAGIC: &[u8; 8] = b"mooring\x1a";
const NONCE_BYTES: usize = 12;
/// The bit of a head that marks the last piece.
const LAST: u8 = 0x80;

/// The compression of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As they are.
    Raw,
    /// As a zstd frame.
    Zstd,
    /// Not at all: they are zeros.
    Zeros,
    /// As an LZ4 block.
    Lz4,
}

/// The head of a piece: authenticated, not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) coding: Coding,
    pub(crate) last: bool,
    /// The number of plain bytes.
    pub(crate) plain: u32,
    /// The number of bytes after the head, with the tag.
    pub(crate) sealed: u32,
}

impl Head {
    pub(crate) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = match self.coding {
            Coding::Raw => 0,
            Coding::Zstd => 1,
            Coding::Zeros => 2,
            Coding::Lz4 => 3,
        } | if self.last { LAST } else { 0 };
        bytes[1..5].copy_from_slice(&self.plain.to_le_bytes());
        bytes[5..9].copy_from_slice(&self.sealed.to_le_bytes());
        bytes
    }

    /// Parses a head. A head that would need more memory than a piece has is refused.
    pub(crate) fn parse(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let [kind, p0, p1, p2, p3, s0, s1, s2, s3] = *bytes;
        let (plain, sealed) = (u32::from_le_bytes([p0, p1, p2, p3]), u32::from_le_bytes([s0, s1, s2, s3]));
        let coding = match kind & !LAST {
            0 => Coding::Raw,
            1 => Coding::Zstd,
            2 => Coding::Zeros,
            3 => Coding::Lz4,
            _ => return None,
        };
        let last = kind & LAST != 0;
        let stored = (sealed as usize).checked_sub(TAG_BYTES)?;
        let fits = match coding {
            Coding::Raw => stored == plain as usize,
            Coding::Zstd | Coding::Lz4 => stored < plain as usize,
            Coding::Zeros => stored == 0,
        };
        let full = plain as usize == PIECE_BYTES || last && plain as usize <= PIECE_BYTES;
        (fits && full).then_some(Self { coding, last, plain, sealed })
    }
}

/// The data key of one stream, which seals its pieces.
#[derive(Debug)]
pub(crate) struct StreamKey {
    key: LessSafeKey,
    name: CapsuleName,
}

impl StreamKey {
    /// Makes a data key for a stream of `name`, and the header with the wrapped key.
    pub(crate) fn create(name: &CapsuleName, attempt: &str, seal: &CapsuleKey) -> (Self, [u8; HEADER_BYTES]) {
        Self::create_in(FORMAT, name, attempt, seal)
    }

    fn create_in(format: u32, name: &CapsuleName, attempt: &str, seal: &CapsuleKey) -> (Self, [u8; HEADER_BYTES]) {
        let data: [u8; KEY_BYTES] = random();
        let nonce: [u8; NONCE_BYTES] = random();
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&format.to_le_bytes());
        header.extend_from_slice(&seal.id_bytes());
        let mut wrapped = data.to_vec();
        let aad = wrapping_aad(&header, name, attempt);
        let sealed =
            aead(&seal.wrapping()).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut wrapped);
        sealed.expect("a data key is short enough to seal");
        header.extend_from_slice(&nonce);
        header.extend_from_slice(&wrapped);
        let header = header.try_into().expect("the parts of a header have its length");
        (Self { key: aead(&data), name: name.clone() }, header)
    }

    /// Unwraps the data key in a header.
    pub(crate) fn open(
        header: &[u8; HEADER_BYTES],
        name: &CapsuleName,
        attempt: &str,
        seal: &CapsuleKey,
    ) -> Result<Self> {
        let damaged = || Error::Damaged { capsule: name.clone(), damage: Damage::Header };
        let (clear, wrapped) = header.split_at(MAGIC.len() + 4 + KEY_ID_BYTES);
        let (magic, rest) = clear.split_at(MAGIC.len());
        let (format, id) = rest.split_at(4);
        if magic != MAGIC {
            return Err(damaged());
        }
        let format = u32::from_le_bytes(format.try_into().map_err(|_| damaged())?);
        if !(1..=FORMAT).contains(&format) {
            return Err(Error::Version { capsule: name.clone(), found: format, known: FORMAT });
        }
        if id != seal.id_bytes() {
            let (theirs, ours) = (hex::encode(id), seal.id());
            return Err(Error::WrongKey { capsule: name.clone(), theirs, ours });
        }
        let (nonce, wrapped) = wrapped.split_at(NONCE_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut wrapped = wrapped.to_vec();
        let aad = wrapping_aad(clear, name, attempt);
        let data = aead(&seal.wrapping()).open_in_place(nonce, aad, &mut wrapped).map_err(|_| damaged())?;
        let data = (&*data).try_into().map_err(|_| damaged())?;
        Ok(Self { key: aead(data), name: name.clone() })
    }

    /// Seals the bytes after the head of `piece`, and appends the tag.
    pub(crate) fn seal(&self, number: u64, head: &[u8; HEAD_BYTES], piece: &mut Vec<u8>) {
        let aad = self.piece_aad(number, head);
        let tag = self.key.seal_in_place_separate_tag(piece_nonce(number), aad, &mut piece[HEAD_BYTES..]);
        piece.extend_from_slice(tag.expect("a piece is short enough to seal").as_ref());
    }

    /// Opens the sealed bytes of a piece in place. Returns `None` where they are not authentic.
    pub(crate) fn open_piece<'a>(
        &self,
        number: u64,
        head: &[u8; HEAD_BYTES],
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let aad = self.piece_aad(number, head);
        self.key.open_in_place(piece_nonce(number), aad, sealed).ok().map(|plain| &*plain)
    }

    /// The data that is authenticated with a piece: its number, its head with the last mark, the
    /// name.
    fn piece_aad(&self, number: u64, head: &[u8; HEAD_BYTES]) -> Aad<Vec<u8>> {
        let mut bound = Vec::with_capacity(8 + HEAD_BYTES + self.name.as_str().len());
        bound.extend_from_slice(&number.to_le_bytes());
        bound.extend_from_slice(head);
        bound.extend_from_slice(self.name.as_str().as_bytes());
        Aad::from(bound)
    }
}

/// The data that is authenticated with a data key: the plain part of its header, name and attempt.
fn wrapping_aad(clear: &[u8], name: &CapsuleName, attempt: &str) -> Aad<Vec<u8>> {
    Aad::from([clear, name.as_str().as_bytes(), b".", attempt.as_bytes()].concat())
}

/// The nonce of a piece. No nonce repeats under a data key, since a stream has each number once and
/// a data key of its own.
fn piece_nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn aead(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the length that the cipher takes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_formats_are_read_and_newer_ones_refused() {
        let (seal, name) = (CapsuleKey::random(), "a".parse().unwrap());
        for format in 1..=FORMAT {
            let (_, header) = StreamKey::create_in(format, &name, "attempt", &seal);
            StreamKey::open(&header, &name, "attempt", &seal).unwrap();
        }
        for format in [0, FORMAT + 1] {
            let (_, header) = StreamKey::create_in(format, &name, "attempt", &seal);
            let refused = StreamKey::open(&header, &name, "attempt", &seal).unwrap_err();
            assert!(matches!(refused, Error::Version { found, known: FORMAT, .. } if found == format), "{refused}");
        }
    }
}

//! The pseudo-random bytes of a stream, made at one end and checked at the other.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sha2::{Digest as _, Sha256};

/// The bytes that are generated at a time. The generator always makes a whole block, so that its
/// bytes do not depend on the sizes of reads.
pub const BLOCK: usize = 64 * 1024;

/// A count of bytes and their SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The number of bytes.
    pub count: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// The sending end: endless blocks, counted and hashed.
#[derive(Debug)]
pub struct Source {
    bytes: Bytes,
    count: u64,
    hash: Sha256,
}

impl Source {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { bytes: Bytes::new(seed), count: 0, hash: Sha256::new() }
    }

    /// The next block; it counts as sent.
    pub fn block(&mut self) -> &[u8] {
        let block = self.bytes.block();
        self.count += block.len() as u64;
        self.hash.update(block);
        block
    }

    /// Returns the digest of the bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { count: self.count, sha256: self.hash.clone().finalize().into() }
    }
}

/// The receiving end: compares with what the same seed makes here.
#[derive(Debug)]
pub struct Checker {
    expected: Bytes,
    /// The compared bytes of the current expected block.
    used: usize,
    count: u64,
    hash: Sha256,
    first_difference: Option<u64>,
}

impl Checker {
    /// Expects the stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { expected: Bytes::new(seed), used: BLOCK, count: 0, hash: Sha256::new(), first_difference: None }
    }

    /// Takes the next bytes that arrived.
    pub fn check(&mut self, mut arrived: &[u8]) {
        self.hash.update(arrived);
        while !arrived.is_empty() {
            if self.used == BLOCK {
                self.expected.block();
                self.used = 0;
            }
            let length = arrived.len().min(BLOCK - self.used);
            let (now, later) = arrived.split_at(length);
            let expected = &self.expected.block[self.used..self.used + length];
            if self.first_difference.is_none() && now != expected {
                let at = now.iter().zip(expected).position(|(one, other)| one != other).unwrap_or_default();
                self.first_difference = Some(self.count + at as u64);
            }
            self.count += length as u64;
            self.used += length;
            arrived = later;
        }
    }

    /// Returns the place of the first unexpected byte.
    #[must_use]
    pub fn first_difference(&self) -> Option<u64> {
        self.first_difference
    }

    /// Returns the digest of the received bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { count: self.count, sha256: self.hash.clone().finalize().into() }
    }
}

#[derive(Debug)]
struct Bytes {
    random: StdRng,
    block: Box<[u8]>,
}

impl Bytes {
    fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), block: vec![0; BLOCK].into() }
    }

    fn block(&mut self) -> &[u8] {
        self.random.fill_bytes(&mut self.block);
        &self.block
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_sent_checks_however_it_is_cut(seed: u64, cuts in prop::collection::vec(1_usize..90_000, 1..12)) {
            let mut source = Source::new(seed);
            let sent: Vec<u8> = (0..4).flat_map(|_| source.block().to_vec()).collect();
            let mut checker = Checker::new(seed);
            let (mut rest, mut cuts) = (sent.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                checker.check(now);
                rest = later;
            }
            prop_assert_eq!(checker.first_difference(), None);
            prop_assert_eq!(checker.digest(), source.digest());
        }

        #[test]
        fn a_byte_that_differs_is_found(seed: u64, at in 0_usize..3 * BLOCK, bit in 0_u32..8) {
            let mut source = Source::new(seed);
            let mut sent: Vec<u8> = (0..3).flat_map(|_| source.block().to_vec()).collect();
            sent[at] ^= 1 << bit;
            let mut checker = Checker::new(seed);
            checker.check(&sent);
            prop_assert_eq!(checker.first_difference(), Some(at as u64));
            prop_assert_ne!(checker.digest(), source.digest());
        }
    }
}

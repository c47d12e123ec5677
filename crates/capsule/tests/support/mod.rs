//! Helpers of the capsule store's tests: names, facts, bytes like those of a job.

use mooring_capsule::Facts;
use mooring_types::{CapsuleName, Generation, JobId};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn name(text: &str) -> CapsuleName {
    text.parse().expect("the name of a capsule")
}

pub(crate) fn facts() -> Facts {
    Facts {
        job: JobId::random(&mut StdRng::seed_from_u64(7)),
        generation: Generation(3),
        created: "2026-11-25T12:00:00Z".parse().expect("a time"),
        base: None,
        about: serde_json::json!({ "image": "jupyter", "sizes": [1, 2] }),
    }
}

/// Bytes of which a third are zeros, a third repeat themselves and a third can't be compressed.
pub(crate) fn memory(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0; length];
    for page in bytes.chunks_mut(64 << 10) {
        match rng.random_range(0..3) {
            0 => {}
            1 => page.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 7) as u8),
            _ => rng.fill_bytes(page),
        }
    }
    bytes
}

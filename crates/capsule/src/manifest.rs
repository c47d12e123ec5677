//! The facts about a capsule that are known without opening its stream.
//!
//! The manifest is an object of its own, written last: a capsule without a manifest does not exist.
//! It is JSON that people and scripts can read. It is authenticated, so that it is as safe from
//! changes as the stream. It is not encrypted: secrets belong in the stream.
//!
//! ```text
//! {"key":"<id of the capsule key>","mac":"<HMAC-SHA-256 of the manifest's text>","manifest":{…}}
//! ```

use std::ops::Range;

use aws_lc_rs::hmac;
use mooring_types::{CapsuleName, Generation, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Damage, Error, Result};
use crate::format::{FORMAT, PIECE_BYTES};
use crate::key::CapsuleKey;

/// The facts about a capsule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the stream.
    pub version: u32,
    pub name: CapsuleName,
    /// The job whose state the capsule has.
    pub job: JobId,
    /// The generation of the job at that time.
    pub generation: Generation,
    /// The time of the checkpoint.
    pub created: Timestamp,
    /// The attempt that made the capsule; part of the name of the stream.
    pub attempt: String,
    /// The number of bytes that were written into the capsule.
    pub plain_bytes: u64,
    /// The length of the stream in the store, in bytes.
    pub stored_bytes: u64,
    /// The number of pieces in the stream.
    pub pieces: u64,
    /// The part that a reader gets last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Deferred>,
    /// The capsule that this one builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The SHA-256 of the stored stream, in hexadecimal digits.
    pub sha256: String,
    /// Further facts from the writer.
    pub about: Value,
}

/// A capsule that another builds on: its deferred part belongs to both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The name of the base.
    pub name: CapsuleName,
    /// The attempt that made the base.
    pub attempt: String,
}

/// The facts that the writer of a capsule supplies.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The job whose state the capsule has.
    pub job: JobId,
    /// The generation of the job at that time.
    pub generation: Generation,
    /// The time of the checkpoint.
    pub created: Timestamp,
    /// The capsule that the new one builds on.
    pub base: Option<Base>,
    /// Facts that a reader needs before it opens the stream. Nothing secret: they are not
    /// encrypted.
    pub about: Value,
}

/// A part of a capsule that is useless without all the rest: a reader gets it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// The written bytes of the part.
    pub plain: Range<u64>,
    /// The stored bytes of the piece in which the part begins.
    pub(crate) from: Range<u64>,
    /// The stored bytes of the piece in which the rest begins.
    pub(crate) to: Range<u64>,
}

impl Deferred {
    /// Returns the part `plain` of a stream whose pieces begin at `starts` and which ends at `end`.
    pub(crate) fn between(plain: Range<u64>, starts: &[u64], end: u64) -> Self {
        let piece_at = |byte: u64| {
            let number = usize::try_from(byte / PIECE_BYTES as u64).unwrap_or(usize::MAX);
            let start = |number: usize| starts.get(number).copied().unwrap_or(end);
            start(number)..start(number.saturating_add(1))
        };
        Self { from: piece_at(plain.start), to: piece_at(plain.end), plain }
    }
}

/// A manifest as it is stored.
#[derive(Serialize, Deserialize)]
struct Signed {
    key: String,
    mac: String,
    manifest: Box<RawValue>,
}

/// The part of a manifest that all formats have in common.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    /// Returns this capsule as a base of others.
    #[must_use]
    pub fn as_base(&self) -> Base {
        Base { name: self.name.clone(), attempt: self.attempt.clone() }
    }

    /// Returns the manifest as it is stored.
    pub(crate) fn sign(&self, key: &CapsuleKey) -> serde_json::Result<Vec<u8>> {
        let manifest = serde_json::value::to_raw_value(self)?;
        let mac = hex::encode(hmac::sign(&key.of_manifests(), manifest.get().as_bytes()));
        let mut text = serde_json::to_vec(&Signed { key: key.id(), mac, manifest })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Parses and authenticates the stored manifest of `capsule`.
    pub(crate) fn check(stored: &[u8], capsule: &CapsuleName, key: &CapsuleKey) -> Result<Self> {
        let damaged = || Error::Damaged { capsule: capsule.clone(), damage: Damage::Manifest };
        let signed: Signed = serde_json::from_slice(stored).map_err(|_| damaged())?;
        if signed.key != key.id() {
            return Err(Error::WrongKey { capsule: capsule.clone(), theirs: signed.key, ours: key.id() });
        }
        let mac = hex::decode(&signed.mac).map_err(|_| damaged())?;
        let text = signed.manifest.get();
        hmac::verify(&key.of_manifests(), text.as_bytes(), &mac).map_err(|_| damaged())?;
        let Versioned { version } = serde_json::from_str(text).map_err(|_| damaged())?;
        if version > FORMAT {
            return Err(Error::Version { capsule: capsule.clone(), found: version, known: FORMAT });
        }
        let manifest: Self = serde_json::from_str(text).map_err(|_| damaged())?;
        if manifest.name == *capsule { Ok(manifest) } else { Err(damaged()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use rand::SeedableRng;

    use super::*;

    fn manifest(name: &str) -> Manifest {
        Manifest {
            version: FORMAT,
            name: name.parse().unwrap(),
            job: JobId::random(&mut rand::rngs::StdRng::seed_from_u64(1)),
            generation: Generation(3),
            created: Timestamp::UNIX_EPOCH,
            attempt: "00".to_owned(),
            plain_bytes: 5,
            stored_bytes: 7,
            pieces: 1,
            deferred: Some(Deferred::between(1..3, &[80], 100)),
            base: None,
            sha256: String::new(),
            about: serde_json::json!({"image": "x", "float": 0.1}),
        }
    }

    proptest! {
        #[test]
        fn changed_byte_is_noticed(at: Index, flip in 1..=255u8) {
            let key = CapsuleKey::random();
            let original = manifest("a");
            let mut stored = original.sign(&key).unwrap();
            prop_assert_eq!(&Manifest::check(&stored, &original.name, &key).unwrap(), &original);
            let at = at.index(stored.len() - 1);
            stored[at] ^= flip;
            // The stored text has no white space, whose change would be harmless.
            match Manifest::check(&stored, &original.name, &key) {
                Ok(read) => prop_assert_eq!(read, original),
                Err(Error::Damaged { .. } | Error::WrongKey { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn another_name_another_key_and_a_newer_format_are_refused() {
        let key = CapsuleKey::random();
        let stored = manifest("a").sign(&key).unwrap();
        let named = Manifest::check(&stored, &"b".parse().unwrap(), &key);
        assert!(matches!(named, Err(Error::Damaged { damage: Damage::Manifest, .. })));
        let keyed = Manifest::check(&stored, &"a".parse().unwrap(), &CapsuleKey::random());
        assert!(matches!(keyed, Err(Error::WrongKey { .. })));
        let newer = Manifest { version: FORMAT + 1, ..manifest("a") }.sign(&key).unwrap();
        assert!(matches!(Manifest::check(&newer, &"a".parse().unwrap(), &key), Err(Error::Version { .. })));
    }
}

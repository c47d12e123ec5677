//! What is known about a capsule without opening it.
//!
//! The manifest is an object of its own, written last: a capsule without one does not exist. It is JSON for people and scripts to read,
//! and authenticated: what it says about the job is as safe from changes as the stream is. It is not hidden; secrets belong
//! into the stream.
//!
//! ```text
//! {"key":"<id of the seal key>","mac":"<HMAC-SHA-256 of the manifest's text>","manifest":{…}}
//! ```

use aws_lc_rs::hmac;
use mooring_types::{CapsuleName, Generation, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Damage, Error, Result};
use crate::format::FORMAT;
use crate::key::SealKey;
use crate::order::Deferred;

/// What is known about a capsule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the capsule.
    pub version: u32,
    /// The capsule's name.
    pub name: CapsuleName,
    /// Whose state it is.
    pub job: JobId,
    /// The generation of the job that was captured.
    pub generation: Generation,
    /// When it was captured.
    pub created: Timestamp,
    /// The attempt at making the capsule that succeeded, which is a part of the name of its stream.
    pub attempt: String,
    /// How many bytes were written into the capsule.
    pub plain_bytes: u64,
    /// How many bytes its stream has in the store.
    pub stored_bytes: u64,
    /// How many pieces its stream has.
    pub pieces: u64,
    /// What of that its reader gives last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Deferred>,
    /// The capsule without which this one is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The SHA-256 of its stream as it is stored, in hexadecimal digits.
    pub sha256: String,
    /// What else the writer says about it.
    pub about: Value,
}

/// A capsule that another builds on: what its writer has deferred is a part of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its name.
    pub name: CapsuleName,
    /// The attempt at making it that succeeded.
    pub attempt: String,
}

/// What the writer of a capsule says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Whose state it is.
    pub job: JobId,
    /// The generation of the job that was captured.
    pub generation: Generation,
    /// When it was captured.
    pub created: Timestamp,
    /// The capsule that it builds on.
    pub base: Option<Base>,
    /// What the writer wants to know before it opens the capsule; nothing secret, since it is stored in the clear.
    pub about: Value,
}

/// A manifest as it is stored.
#[derive(Serialize, Deserialize)]
struct Signed {
    key: String,
    mac: String,
    manifest: Box<RawValue>,
}

/// The part of a manifest that every format has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    /// This capsule as one that others build on.
    #[must_use]
    pub fn as_base(&self) -> Base {
        Base { name: self.name.clone(), attempt: self.attempt.clone() }
    }

    /// The manifest as it is stored.
    pub(crate) fn sign(&self, key: &SealKey) -> serde_json::Result<Vec<u8>> {
        let manifest = serde_json::value::to_raw_value(self)?;
        let mac = hex::encode(hmac::sign(&key.of_manifests(), manifest.get().as_bytes()));
        let mut text = serde_json::to_vec(&Signed { key: key.id(), mac, manifest })?;
        text.push(b'\n');
        Ok(text)
    }

    /// The manifest of `capsule` from what is stored of it.
    pub(crate) fn check(stored: &[u8], capsule: &CapsuleName, key: &SealKey) -> Result<Self> {
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
        fn no_changed_byte_goes_unseen(at: Index, flip in 1..=255u8) {
            let key = SealKey::random();
            let original = manifest("a");
            let mut stored = original.sign(&key).unwrap();
            prop_assert_eq!(&Manifest::check(&stored, &original.name, &key).unwrap(), &original);
            let at = at.index(stored.len() - 1);
            stored[at] ^= flip;
            // White space in place of nothing is the only change that is none; there is none to change here.
            match Manifest::check(&stored, &original.name, &key) {
                Ok(read) => prop_assert_eq!(read, original),
                Err(Error::Damaged { .. } | Error::WrongKey { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn another_name_another_key_and_a_newer_format_are_refused() {
        let key = SealKey::random();
        let stored = manifest("a").sign(&key).unwrap();
        let named = Manifest::check(&stored, &"b".parse().unwrap(), &key);
        assert!(matches!(named, Err(Error::Damaged { damage: Damage::Manifest, .. })));
        let keyed = Manifest::check(&stored, &"a".parse().unwrap(), &SealKey::random());
        assert!(matches!(keyed, Err(Error::WrongKey { .. })));
        let newer = Manifest { version: FORMAT + 1, ..manifest("a") }.sign(&key).unwrap();
        assert!(matches!(Manifest::check(&newer, &"a".parse().unwrap(), &key), Err(Error::Version { .. })));
    }
}

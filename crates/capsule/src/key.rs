//! The capsule key, which opens the capsules of one job.
//!
//! Nothing is sealed with the key itself: each use has a key derived from it (HKDF-SHA-256).
//!
//! | derived key | use |
//! |---|---|
//! | `wrap` | wraps the data key of a capsule, in its header |
//! | `manifest` | authenticates manifests |
//! | `id` | names the key in capsules and errors, which tells a wrong key from damage |

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;

use crate::error::{Error, Result};

pub(crate) const KEY_BYTES: usize = 32;
pub(crate) const KEY_ID_BYTES: usize = 8;

/// The key of a capsule store.
#[derive(Clone, PartialEq, Eq)]
pub struct CapsuleKey([u8; KEY_BYTES]);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a capsule key is 64 hexadecimal digits")]
pub struct InvalidKey;

impl CapsuleKey {
    /// Draws a new key.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }

    /// Reads the key in a file, which has to be readable by its owner alone.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |why, source| Error::Key { path: path.to_owned(), why, source };
        let mut file = File::open(path).map_err(|source| fail("it can't be read", Some(source)))?;
        let mode = file.metadata().map_err(|source| fail("it can't be read", Some(source)))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fail("others than its owner can read it", None));
        }
        let text = io::read_to_string(&mut file).map_err(|source| fail("it can't be read", Some(source)))?;
        text.trim().parse().map_err(|InvalidKey| fail("it holds no key", None))
    }

    /// Returns the key as 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns the id of the key in hexadecimal digits. The id does not reveal the key.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.id_bytes())
    }

    pub(crate) fn id_bytes(&self) -> [u8; KEY_ID_BYTES] {
        self.derive("id")
    }

    /// Returns the key that wraps data keys.
    pub(crate) fn wrapping(&self) -> [u8; KEY_BYTES] {
        self.derive("wrap")
    }

    /// Returns the key that authenticates manifests.
    pub(crate) fn of_manifests(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive::<KEY_BYTES>("manifest"))
    }

    fn derive<const N: usize>(&self, purpose: &str) -> [u8; N] {
        struct Length(usize);
        impl KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut derived = [0; N];
        Salt::new(HKDF_SHA256, b"mooring capsule 1")
            .extract(&self.0)
            .expand(&[purpose.as_bytes()], Length(N))
            .and_then(|output| output.fill(&mut derived))
            .expect("at most 255 blocks of output");
        derived
    }
}

impl FromStr for CapsuleKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidKey> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).map_err(|_| InvalidKey)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for CapsuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapsuleKey({})", self.id())
    }
}

/// Returns random bytes of a cryptographic generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn key_reads_back_from_a_private_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (path, key) = (directory.path().join("key"), CapsuleKey::random());
        fs::write(&path, format!("{}\n", key.to_hex())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(CapsuleKey::load(&path).unwrap_err().to_string().ends_with("others than its owner can read it"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(CapsuleKey::load(&path).unwrap(), key);
        fs::write(&path, "abc\n").unwrap();
        assert!(CapsuleKey::load(&path).unwrap_err().to_string().ends_with("it holds no key"));
    }

    #[test]
    fn debug_hides_the_key() {
        let key = CapsuleKey::random();
        assert!(!format!("{key:?}").contains(&key.to_hex()[..16]));
        assert_ne!(key.id(), CapsuleKey::random().id());
    }
}

//! The seal key, which opens capsules.
//!
//! A cluster has one seal key, in a file of OpCenter. Nothing is sealed with the key itself: each
//! use has a key derived from it (HKDF-SHA-256).
//!
//! | derived key | use |
//! |---|---|
//! | `wrap` | wraps the data key of a capsule, in its header |
//! | `manifest` | authenticates manifests |
//! | `id` | names the key in capsules and errors, which tells a wrong key from damage |

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;

use crate::error::{Error, Result};

pub(crate) const KEY_BYTES: usize = 32;
pub(crate) const KEY_ID_BYTES: usize = 8;

/// The key of a capsule store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey([u8; KEY_BYTES]);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a seal key is 64 hexadecimal digits")]
pub struct InvalidKey;

impl SealKey {
    /// Draws a new key.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }

    /// Reads the key in a file. A missing file is made with a new key, readable by its owner alone.
    ///
    /// Two processes that make the file at once get the same key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let fail = |why, source| Error::Key { path: path.to_owned(), why, source };
        match Self::load(path) {
            Err(Error::Key { source: Some(missing), .. }) if missing.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        Self::random().store(path).map_err(|source| fail("it can't be written", Some(source)))?;
        Self::load(path)
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

    /// Writes the key to a new file. A file that another process has made meanwhile stays.
    fn store(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension(format!("new-{}", hex::encode(random::<8>())));
        let made = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(format!("{}\n", self.to_hex()).as_bytes())?;
            file.sync_all()?;
            match fs::hard_link(&fresh, path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        })();
        let removed = fs::remove_file(&fresh);
        made.and(removed)?;
        File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
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

impl FromStr for SealKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidKey> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).map_err(|_| InvalidKey)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id())
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
    use super::*;

    #[test]
    fn key_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key");
        let first = SealKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SealKey::load_or_create(&path).unwrap(), first);
        assert_eq!(first.to_hex().parse(), Ok(first.clone()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no fresh file is left");
    }

    #[test]
    fn concurrent_processes_get_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key");
        let keys: Vec<SealKey> = std::thread::scope(|scope| {
            let loads: Vec<_> = (0..8).map(|_| scope.spawn(|| SealKey::load_or_create(&path).unwrap())).collect();
            loads.into_iter().map(|load| load.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn readable_or_malformed_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key");
        SealKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SealKey::load_or_create(&path).unwrap_err().to_string().ends_with("others than its owner can read it"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "abc\n").unwrap();
        assert!(SealKey::load_or_create(&path).unwrap_err().to_string().ends_with("it holds no key"));
    }

    #[test]
    fn debug_hides_the_key() {
        let key = SealKey::random();
        assert!(!format!("{key:?}").contains(&key.to_hex()[..16]));
        assert_ne!(key.id(), SealKey::random().id());
    }
}

//! The host's WireGuard key: created once, in the agent's state directory, readable by its owner
//! only.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use mooring_ops::file;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::NetworkError;

/// The name of the key's file.
const KEY_FILE: &str = "wireguard.key";

/// A private key and its public one.
pub(super) struct Key {
    pub(super) secret: StaticSecret,
    /// In base64.
    pub(super) public: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Key").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Key {
    /// Reads the key, or creates it.
    pub(super) fn open(state_dir: &Path) -> Result<Self, NetworkError> {
        let path = state_dir.join(KEY_FILE);
        let text = fs::create_dir_all(state_dir).and_then(|()| file::secret(&path, draw));
        let bytes = text
            .and_then(|text| decode(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no key")));
        let secret = StaticSecret::from(bytes.map_err(|source| NetworkError::Key { path, source })?);
        let public = BASE64_STANDARD.encode(PublicKey::from(&secret).as_bytes());
        Ok(Self { secret, public })
    }

    /// The private key in base64, for a tool that takes it that way.
    pub(super) fn private_text(&self) -> String {
        BASE64_STANDARD.encode(self.secret.to_bytes())
    }
}

/// Decodes a key from base64; `None` when it is not a key.
pub(super) fn decode(text: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

/// Draws a new key, in base64.
fn draw() -> io::Result<String> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_and_is_private() {
        let world = tempfile::tempdir().unwrap();
        let state_dir = world.path().join("state");
        let made = Key::open(&state_dir).unwrap();
        let found = Key::open(&state_dir).unwrap();
        assert_eq!(made.public, found.public);
        assert_eq!(decode(&made.private_text()), Some(found.secret.to_bytes()));
        let mode = fs::metadata(state_dir.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(&made.private_text()));
        fs::write(state_dir.join(KEY_FILE), "short").unwrap();
        assert!(matches!(Key::open(&state_dir), Err(NetworkError::Key { .. })));
    }
}

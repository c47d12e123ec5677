//! Seals the secrets of users, the capsule keys of jobs and the keys of gateways' certificates, and
//! proves what was given to hosts.
//!
//! The key is in the file `secret-key` of the state directory, never in the database: a copy of the
//! database alone reveals no secret. A sealed value is bound to its subject, a secret's user and
//! name, a job or a gateway, so that it can't replace another one.
//!
//! ```text
//!  version (1 byte, 1) · nonce (12 bytes, random) · AES-256-GCM of the value, with its tag
//! ```
//!
//! A key has an id, which its bytes give. The database has the id of the key that all its values
//! are sealed with. A rotation goes through these states, in each of which OpCenter may be killed:
//!
//! | state | `secret-key` | `secret-key.next` | the database | the next start |
//! |---|---|---|---|---|
//! | before | old | | sealed with the old key | |
//! | key written | old | new | sealed with the old key | removes the new key |
//! | committed | old | new | sealed with the new key | renames the new key over the old one |
//! | after | new | | sealed with the new key | |
//!
//! Values are sealed within the transaction that stores them, and one transaction writes at a time.
//! So none is sealed with the old key after the commit. A reader may have read values before it:
//! the old key stays in memory, to open them.
//!
//! A *grant* is an HMAC-SHA256 of a host, a job and a generation, with a key that follows from the
//! same file. The owner of a job has it and repeats it in its reports.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use mooring_capsule::CapsuleKey;
use mooring_ops::file::{self, Durability, Mode};
use mooring_store::SecretRow;
use mooring_types::{GatewayId, Generation, HostId, JobId, Name, UserId};
use parking_lot::RwLock;
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The file with the key.
pub(crate) const KEY_FILE: &str = "secret-key";
/// The file with the key that a rotation brings.
const NEXT_FILE: &str = "secret-key.next";
const KEY_LENGTH: usize = 32;
/// Bytes of a digest in a key's id.
const ID_BYTES: usize = 8;
const VERSION: u8 = 1;
/// The message from which the key of grants follows.
const GRANTS: &[u8] = b"mooring: grants of jobs to hosts";

/// The subject of a sealed value.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    Secret(&'a UserId, &'a Name),
    CapsuleKey(&'a JobId),
    PortKey(&'a GatewayId, &'a str),
}

/// Seals and opens values, and makes and checks grants.
pub(crate) struct Vault {
    state_dir: PathBuf,
    keys: RwLock<Keys>,
    /// Held during a rotation.
    pub(crate) rotation: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Keys {
    present: Arc<Key>,
    /// The key before the last rotation of this process.
    old: Option<Arc<Key>>,
}

/// A key.
pub(crate) struct Key {
    id: String,
    key: RandomizedNonceKey,
    grants: hmac::Key,
}

impl Key {
    /// Reads a key; `None` if the text is none.
    fn read(text: &str) -> Option<Self> {
        let bytes = hex::decode(text.trim()).ok()?;
        let digest = Sha256::new().chain_update("mooring key ").chain_update(&bytes).finalize();
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), GRANTS);
        let grants = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Some(Self { id: hex::encode(&digest[..ID_BYTES]), key, grants })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn seal(&self, subject: Subject<'_>, value: &str) -> Result<Vec<u8>, Error> {
        let mut sealed = value.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(subject.bound(), &mut sealed).map_err(|_| Error::Seal)?;
        Ok([&[VERSION], nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, subject: Subject<'_>, sealed: &[u8]) -> Result<String, CantOpen> {
        let (nonce, sealed) =
            sealed.strip_prefix(&[VERSION]).and_then(|rest| rest.split_at_checked(NONCE_LEN)).ok_or(CantOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CantOpen)?;
        let mut value = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, subject.bound(), &mut value).map_err(|_| CantOpen)?;
        String::from_utf8(opened.to_vec()).map_err(|_| CantOpen)
    }
}

fn draw() -> String {
    hex::encode(rand::rng().random::<[u8; KEY_LENGTH]>())
}

/// Puts the next key of a state directory in the place of the present one, durably.
fn take_over(state_dir: &Path) -> io::Result<()> {
    fs::rename(state_dir.join(NEXT_FILE), state_dir.join(KEY_FILE))?;
    File::open(state_dir)?.sync_all()
}

/// The reason why a value can't be sealed with another key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsealed {
    #[error(transparent)]
    CantOpen(#[from] CantOpen),
    #[error(transparent)]
    CantSeal(#[from] Error),
}

/// A value that was sealed with another key, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key, or is damaged")]
pub(crate) struct CantOpen;

impl Vault {
    /// Opens the vault with the key of a state directory, which is made if missing. `in_use` is
    /// the id that the database has. A rotation that was under way is ended or undone.
    pub(crate) fn open(state_dir: &Path, in_use: Option<&str>) -> Result<Self, Error> {
        let (path, next) = (state_dir.join(KEY_FILE), state_dir.join(NEXT_FILE));
        let failed = |source| Error::secret_file(&path, source);
        match fs::read_to_string(&next) {
            Ok(text) if Key::read(&text).is_some_and(|key| Some(key.id()) == in_use) => {
                take_over(state_dir).map_err(failed)?;
            }
            Ok(_) => fs::remove_file(&next).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let text = file::secret(&path, || Ok(draw())).map_err(failed)?;
        let present = Arc::new(Key::read(&text).ok_or_else(|| Error::SecretKey { path: path.clone() })?);
        let keys = RwLock::new(Keys { present, old: None });
        Ok(Self { state_dir: state_dir.to_owned(), keys, rotation: tokio::sync::Mutex::default() })
    }

    /// Returns the grant of a job to its owner.
    pub(crate) fn grant(&self, host: &HostId, job: &JobId, generation: Generation) -> String {
        hex::encode(hmac::sign(&self.present().grants, &granted(host, job, generation)))
    }

    /// Returns whether a host was given a job in a generation.
    pub(crate) fn has_granted(&self, host: &HostId, job: &JobId, generation: Generation, grant: &str) -> bool {
        let Ok(grant) = hex::decode(grant) else { return false };
        let message = granted(host, job, generation);
        let Keys { present, old } = self.keys.read().clone();
        let mut keys = [Some(present), old].into_iter().flatten();
        keys.any(|key| hmac::verify(&key.grants, &message, &grant).is_ok())
    }

    /// Returns the key that values are sealed with.
    pub(crate) fn present(&self) -> Arc<Key> {
        Arc::clone(&self.keys.read().present)
    }

    /// Draws the next key, and writes it durably beside the present one.
    pub(crate) fn prepare(&self) -> Result<Arc<Key>, Error> {
        let (path, text) = (self.state_dir.join(NEXT_FILE), draw());
        file::replace(&path, Durability::Synced, Mode::Private, format!("{text}\n").as_bytes())
            .map_err(|source| Error::secret_file(&path, source))?;
        Ok(Arc::new(Key::read(&text).ok_or(Error::Seal)?))
    }

    /// Seals a user's secret with another key.
    pub(crate) fn reseal(&self, key: &Key, user: &UserId, name: &Name, sealed: &[u8]) -> Result<Vec<u8>, Unsealed> {
        self.resealed(key, Subject::Secret(user, name), sealed)
    }

    /// Seals the key of a job's capsules with another key.
    pub(crate) fn reseal_capsule_key(&self, key: &Key, job: &JobId, sealed: &[u8]) -> Result<Vec<u8>, Unsealed> {
        self.resealed(key, Subject::CapsuleKey(job), sealed)
    }

    /// Seals the key of a gateway's certificate with another key.
    pub(crate) fn reseal_port_key(
        &self,
        key: &Key,
        gateway: &GatewayId,
        name: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unsealed> {
        self.resealed(key, Subject::PortKey(gateway, name), sealed)
    }

    fn resealed(&self, key: &Key, subject: Subject<'_>, sealed: &[u8]) -> Result<Vec<u8>, Unsealed> {
        Ok(key.seal(subject, &self.unseal_value(subject, sealed)?)?)
    }

    /// Seals with another key from now on, and keeps the present one to open values. The caller's
    /// transaction stores the values that the other key seals.
    pub(crate) fn switch(&self, to: Arc<Key>) {
        let mut keys = self.keys.write();
        keys.old = Some(std::mem::replace(&mut keys.present, to));
    }

    /// Puts the next key in the place of the one before it.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        take_over(&self.state_dir).map_err(|source| Error::secret_file(&self.state_dir.join(KEY_FILE), source))
    }

    /// Seals a user's secret.
    pub(crate) fn seal(&self, user: &UserId, name: &Name, value: &str) -> Result<Vec<u8>, Error> {
        self.seal_value(Subject::Secret(user, name), value)
    }

    /// Opens a user's secret.
    pub(crate) fn unseal(&self, user: &UserId, name: &Name, sealed: &[u8]) -> Result<String, CantOpen> {
        self.unseal_value(Subject::Secret(user, name), sealed)
    }

    /// Seals the key of a job's capsules.
    pub(crate) fn seal_capsule_key(&self, job: &JobId, key: &CapsuleKey) -> Result<Vec<u8>, Error> {
        self.seal_value(Subject::CapsuleKey(job), &key.to_hex())
    }

    /// Opens the key of a job's capsules.
    pub(crate) fn unseal_capsule_key(&self, job: &JobId, sealed: &[u8]) -> Result<CapsuleKey, CantOpen> {
        self.unseal_value(Subject::CapsuleKey(job), sealed)?.parse().map_err(|_| CantOpen)
    }

    /// Seals the key of a gateway's certificate, which is known by its first name.
    pub(crate) fn seal_port_key(&self, gateway: &GatewayId, name: &str, key: &str) -> Result<Vec<u8>, Error> {
        self.seal_value(Subject::PortKey(gateway, name), key)
    }

    /// Opens the key of a gateway's certificate.
    pub(crate) fn unseal_port_key(&self, gateway: &GatewayId, name: &str, sealed: &[u8]) -> Result<String, CantOpen> {
        self.unseal_value(Subject::PortKey(gateway, name), sealed)
    }

    fn seal_value(&self, subject: Subject<'_>, value: &str) -> Result<Vec<u8>, Error> {
        self.present().seal(subject, value)
    }

    fn unseal_value(&self, subject: Subject<'_>, sealed: &[u8]) -> Result<String, CantOpen> {
        let Keys { present, old } = self.keys.read().clone();
        present.open(subject, sealed).or_else(|refused| old.ok_or(refused)?.open(subject, sealed))
    }

    /// Opens the secrets of all users, by user name and name. A secret that does not open is left
    /// out.
    pub(crate) fn unseal_all(&self, rows: &[SecretRow]) -> HashMap<(String, Name), String> {
        let open = |row: &SecretRow| {
            let value = self.unseal(&row.user, &row.name, &row.sealed).ok()?;
            Some(((row.user_name.clone(), row.name.clone()), value))
        };
        rows.iter().filter_map(open).collect()
    }
}

/// Returns what a grant is made of. Ids hold no `/`.
fn granted(host: &HostId, job: &JobId, generation: Generation) -> Vec<u8> {
    format!("{host}/{job}/{generation}").into_bytes()
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Subject<'_> {
    /// Returns what binds a value to its subject. Ids hold no `/`, so no two subjects collide.
    fn bound(self) -> Aad<Vec<u8>> {
        let text = match self {
            Self::Secret(user, name) => format!("{user}/{name}"),
            Self::CapsuleKey(job) => format!("/capsules/{job}"),
            Self::PortKey(gateway, name) => format!("/ports/{gateway}/{name}"),
        };
        Aad::from(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn grant_is_of_one_host_job_and_generation() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let mut rng = rand::rng();
        let (host, job) = (HostId::random(&mut rng), JobId::random(&mut rng));
        let grant = vault.grant(&host, &job, Generation(2));
        assert!(Vault::open(directory.path(), None).unwrap().has_granted(&host, &job, Generation(2), &grant));
        assert!(!vault.has_granted(&host, &job, Generation(3), &grant));
        assert!(!vault.has_granted(&HostId::random(&mut rng), &job, Generation(2), &grant));
        assert!(!vault.has_granted(&host, &JobId::random(&mut rng), Generation(2), &grant));
        for forged in ["", "00", &grant[2..], "not hex"] {
            assert!(!vault.has_granted(&host, &job, Generation(2), forged), "{forged:?}");
        }
    }

    #[test]
    fn sealed_value_opens_only_for_its_owner_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let (user, name): (UserId, Name) = (UserId::random(&mut rand::rng()), "token".parse().unwrap());
        let sealed = vault.seal(&user, &name, "open sesame").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"open" || part == b"same"));
        assert_ne!(vault.seal(&user, &name, "open sesame").unwrap(), sealed);
        // A second start has the same key.
        let again = Vault::open(directory.path(), None).unwrap();
        assert_eq!(again.unseal(&user, &name, &sealed).unwrap(), "open sesame");
        let mode = fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert!(vault.unseal(&UserId::random(&mut rand::rng()), &name, &sealed).is_err());
        assert!(vault.unseal(&user, &"other".parse().unwrap(), &sealed).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(Vault::open(elsewhere.path(), None).unwrap().unseal(&user, &name, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.unseal(&user, &name, &changed).is_err(), "byte {at}");
            assert!(vault.unseal(&user, &name, &sealed[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn capsule_key_opens_only_for_its_job() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let (job, key) = (JobId::random(&mut rand::rng()), CapsuleKey::random());
        let sealed = vault.seal_capsule_key(&job, &key).unwrap();
        assert_eq!(vault.unseal_capsule_key(&job, &sealed), Ok(key));
        assert_eq!(vault.unseal_capsule_key(&JobId::random(&mut rand::rng()), &sealed), Err(CantOpen));
        let (user, name): (UserId, Name) = (UserId::random(&mut rand::rng()), "token".parse().unwrap());
        assert_eq!(vault.unseal(&user, &name, &sealed), Err(CantOpen));
    }

    #[test]
    fn port_key_opens_only_for_its_gateway_and_name() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let gateway = GatewayId::random(&mut rand::rng());
        let sealed = vault.seal_port_key(&gateway, "lab.example.org", "a key").unwrap();
        assert_eq!(vault.unseal_port_key(&gateway, "lab.example.org", &sealed).as_deref(), Ok("a key"));
        assert_eq!(vault.unseal_port_key(&gateway, "example.org", &sealed), Err(CantOpen));
        let other = GatewayId::random(&mut rand::rng());
        assert_eq!(vault.unseal_port_key(&other, "lab.example.org", &sealed), Err(CantOpen));
    }

    #[test]
    fn secrets_of_another_key_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let time = mooring_types::Timestamp::UNIX_EPOCH;
        let row = |name: &str, sealed: Option<Vec<u8>>| {
            let (user, name): (UserId, Name) = (UserId::random(&mut rand::rng()), name.parse().unwrap());
            let sealed = sealed.unwrap_or_else(|| vault.seal(&user, &name, "open sesame").unwrap());
            SecretRow { user, user_name: "alice".into(), name, sealed, create_time: time, update_time: time }
        };
        let values = vault.unseal_all(&[row("token", None), row("damaged", Some(vec![1; 40]))]);
        assert_eq!(values, [(("alice".to_owned(), "token".parse().unwrap()), "open sesame".to_owned())].into());
    }

    #[test]
    fn key_file_without_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(KEY_FILE), "not a key\n").unwrap();
        assert!(matches!(Vault::open(directory.path(), None), Err(Error::SecretKey { .. })));
    }

    #[test]
    fn start_ends_or_undoes_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::read_to_string(directory.path().join(name)).ok();
        let vault = Vault::open(directory.path(), None).unwrap();
        let (user, name): (UserId, Name) = (UserId::random(&mut rand::rng()), "token".parse().unwrap());
        let sealed = vault.seal(&user, &name, "open sesame").unwrap();
        let old = vault.present().id().to_owned();
        // The database has the old key's id, or none: an earlier version wrote it.
        for in_use in [Some(old.as_str()), None] {
            vault.prepare().unwrap();
            let again = Vault::open(directory.path(), in_use).unwrap();
            assert_eq!((again.present().id(), file(NEXT_FILE)), (old.as_str(), None));
            assert_eq!(again.unseal(&user, &name, &sealed).unwrap(), "open sesame");
        }
        // The database has the new one's.
        let next = vault.prepare().unwrap();
        let resealed = vault.reseal(&next, &user, &name, &sealed).unwrap();
        let again = Vault::open(directory.path(), Some(next.id())).unwrap();
        assert_eq!((again.present().id(), file(NEXT_FILE)), (next.id(), None));
        assert_eq!(again.unseal(&user, &name, &resealed).unwrap(), "open sesame");
        assert_eq!(again.unseal(&user, &name, &sealed), Err(CantOpen));
        assert_ne!(old, next.id());
    }

    #[test]
    fn values_of_before_a_rotation_open_in_the_process_that_did_it() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let (job, key) = (JobId::random(&mut rand::rng()), CapsuleKey::random());
        let sealed = vault.seal_capsule_key(&job, &key).unwrap();
        let next = vault.prepare().unwrap();
        let resealed = vault.reseal_capsule_key(&next, &job, &sealed).unwrap();
        assert_eq!(vault.unseal_capsule_key(&job, &resealed), Err(CantOpen));
        vault.switch(Arc::clone(&next));
        vault.finish().unwrap();
        for sealed in [&sealed, &resealed, &vault.seal_capsule_key(&job, &key).unwrap()] {
            assert_eq!(vault.unseal_capsule_key(&job, sealed), Ok(key.clone()));
        }
        let again = Vault::open(directory.path(), Some(next.id())).unwrap();
        assert_eq!(again.unseal_capsule_key(&job, &sealed), Err(CantOpen));
        assert_eq!(again.unseal_capsule_key(&job, &resealed), Ok(key));
    }
}

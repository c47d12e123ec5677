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
//! A *grant* is an HMAC-SHA256 of a host, a job and a generation, with a key that follows from the
//! same file. The owner of a job has it and repeats it in its reports.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use mooring_capsule::CapsuleKey;
use mooring_ops::file;
use mooring_store::SecretRow;
use mooring_types::{GatewayId, Generation, HostId, JobId, Name, UserId};
use rand::Rng;

use crate::error::Error;

const KEY_FILE: &str = "secret-key";
const KEY_LENGTH: usize = 32;
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
    key: RandomizedNonceKey,
    grants: hmac::Key,
}

/// A value that was sealed with another key, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key, or is damaged")]
pub(crate) struct CantOpen;

impl Vault {
    /// Opens the vault with the key of a state directory, which is made if missing.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(KEY_FILE);
        let draw = || Ok(hex::encode(rand::rng().random::<[u8; KEY_LENGTH]>()));
        let text = file::secret(&path, draw).map_err(|source| Error::secret_file(&path, source))?;
        let refused = || Error::SecretKey { path: path.clone() };
        let bytes = hex::decode(text).map_err(|_| refused())?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), GRANTS);
        let grants = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Ok(Self { key: RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| refused())?, grants })
    }

    /// Returns the grant of a job to its owner.
    pub(crate) fn grant(&self, host: &HostId, job: &JobId, generation: Generation) -> String {
        hex::encode(hmac::sign(&self.grants, &granted(host, job, generation)))
    }

    /// Returns whether a host was given a job in a generation.
    pub(crate) fn has_granted(&self, host: &HostId, job: &JobId, generation: Generation, grant: &str) -> bool {
        let Ok(grant) = hex::decode(grant) else { return false };
        hmac::verify(&self.grants, &granted(host, job, generation), &grant).is_ok()
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
        let mut sealed = value.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(subject.bound(), &mut sealed).map_err(|_| Error::Seal)?;
        Ok([&[VERSION], nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn unseal_value(&self, subject: Subject<'_>, sealed: &[u8]) -> Result<String, CantOpen> {
        let (nonce, sealed) =
            sealed.strip_prefix(&[VERSION]).and_then(|rest| rest.split_at_checked(NONCE_LEN)).ok_or(CantOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CantOpen)?;
        let mut value = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, subject.bound(), &mut value).map_err(|_| CantOpen)?;
        String::from_utf8(opened.to_vec()).map_err(|_| CantOpen)
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
        let vault = Vault::open(directory.path()).unwrap();
        let mut rng = rand::rng();
        let (host, job) = (HostId::random(&mut rng), JobId::random(&mut rng));
        let grant = vault.grant(&host, &job, Generation(2));
        assert!(Vault::open(directory.path()).unwrap().has_granted(&host, &job, Generation(2), &grant));
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
        let vault = Vault::open(directory.path()).unwrap();
        let (user, name): (UserId, Name) = (UserId::random(&mut rand::rng()), "token".parse().unwrap());
        let sealed = vault.seal(&user, &name, "open sesame").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"open" || part == b"same"));
        assert_ne!(vault.seal(&user, &name, "open sesame").unwrap(), sealed);
        // A second start has the same key.
        let again = Vault::open(directory.path()).unwrap();
        assert_eq!(again.unseal(&user, &name, &sealed).unwrap(), "open sesame");
        let mode = std::fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert!(vault.unseal(&UserId::random(&mut rand::rng()), &name, &sealed).is_err());
        assert!(vault.unseal(&user, &"other".parse().unwrap(), &sealed).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(Vault::open(elsewhere.path()).unwrap().unseal(&user, &name, &sealed).is_err());
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
        let vault = Vault::open(directory.path()).unwrap();
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
        let vault = Vault::open(directory.path()).unwrap();
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
        let vault = Vault::open(directory.path()).unwrap();
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
        std::fs::write(directory.path().join(KEY_FILE), "not a key\n").unwrap();
        assert!(matches!(Vault::open(directory.path()), Err(Error::SecretKey { .. })));
    }
}

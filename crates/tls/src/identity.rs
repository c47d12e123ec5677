//! A daemon's key and certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mooring_ops::file::{self, Durability, Mode};
use mooring_types::Timestamp;
use parking_lot::RwLock;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};

use crate::authority::{DAEMON_LIFE, certified};
use crate::{Error, Fingerprint, Peer, provider};

/// A daemon's key, and its certificate once it has one.
///
/// The key is made once. The certificate is replaced while connections are open: a new connection
/// has the new one.
#[derive(Debug)]
pub struct Identity {
    held: RwLock<Held>,
}

#[derive(Debug)]
struct Held {
    key: KeyPair,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    pem: String,
    peer: Peer,
}

impl Identity {
    /// Makes a key.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(|source| Error::Make { what: "a key", source })?;
        Ok(Self::of_key(key))
    }

    fn of_key(key: KeyPair) -> Self {
        Self { held: RwLock::new(Held { key, current: None }) }
    }

    /// Opens the identity in a file, or makes a key and keeps it there.
    ///
    /// # Errors
    /// The file can't be read or written, or has no key.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            return Self::load(path);
        }
        let identity = Self::generate()?;
        identity.store(path)?;
        Ok(identity)
    }

    /// Reads the identity from a file.
    ///
    /// # Errors
    /// The file can't be read or has no key.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| Error::Missing { what: path.display().to_string(), missing: "key" })?;
        let key = KeyPair::try_from(&key).map_err(|source| Error::Make { what: "a key of this file", source })?;
        let identity = Self::of_key(key);
        if let Ok(certificate) = pem_text(&text) {
            // A certificate of another key, or of an earlier version, is replaced by the next one.
            let _ = identity.set_certificate(&certificate);
        }
        Ok(identity)
    }

    /// Writes key and certificate to a file that its owner alone can read.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let text = {
            let held = self.held.read();
            format!("{}{}", held.current.as_ref().map_or("", |current| &current.pem), held.key.serialize_pem())
        };
        file::replace(path, Durability::Synced, Mode::Private, text.as_bytes())
            .map_err(|source| Error::Unwritable { path: PathBuf::from(path), source })
    }

    /// Returns a request for a certificate, in PEM, signed by the key.
    ///
    /// # Errors
    /// The key can't sign.
    pub fn request(&self) -> Result<String, Error> {
        let made = |source| Error::Make { what: "a request for a certificate", source };
        let request = CertificateParams::default().serialize_request(&self.held.read().key).map_err(made)?;
        request.pem().map_err(made)
    }

    /// The fingerprint of the public key.
    #[must_use]
    pub fn key_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.held.read().key.subject_public_key_info())
    }

    /// The private key in DER. It stays where it was made.
    #[must_use]
    pub fn secret_der(&self) -> Vec<u8> {
        self.held.read().key.serialize_der()
    }

    /// Takes a certificate that the authority has issued for the key.
    ///
    /// # Errors
    /// The text is no certificate of a daemon, or is for another key.
    pub fn set_certificate(&self, pem: &str) -> Result<(), Error> {
        let missing = |missing| Error::Missing { what: "the certificate of this daemon".to_owned(), missing };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| missing("certificate"))?;
        let peer = Peer::of(&certificate).ok_or_else(|| missing("name of a daemon"))?;
        let mut held = self.held.write();
        if peer.key != Fingerprint::of(&held.key.subject_public_key_info()) {
            return Err(missing("key of this daemon"));
        }
        let key = PrivateKeyDer::Pkcs8(held.key.serialize_der().into());
        let certified = Arc::new(certified(&provider(), vec![certificate], key)?);
        held.current = Some(Current { certified, pem: pem.to_owned(), peer });
        Ok(())
    }

    /// Takes key and certificate of a file, which somebody else renews.
    ///
    /// # Errors
    /// The file can't be read or has no key.
    pub fn reload(&self, path: &Path) -> Result<(), Error> {
        let Self { held } = Self::load(path)?;
        *self.held.write() = held.into_inner();
        Ok(())
    }

    /// Returns whether a new certificate should be asked for: there is none, or two thirds of its
    /// life are over.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.held.read().current.as_ref().is_none_or(|current| current.peer.expires_at < now + DAEMON_LIFE / 3)
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.held.read().current.as_ref().map(|current| Arc::clone(&current.certified))
    }

    /// The certificate, once there is one.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.held.read().current.as_ref().and_then(|current| current.certified.cert.first().cloned())
    }
}

/// Returns the store with one authority.
pub(crate) fn roots_of(certificate: &CertificateDer<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate.clone().into_owned())
        .map_err(|source| Error::Refused { what: "the authority's certificate", source })?;
    Ok(roots)
}

/// Returns the certificate in the text of a file, in PEM.
fn pem_text(text: &[u8]) -> Result<String, ()> {
    let all = pem::parse_many(text).map_err(drop)?;
    all.iter().find(|part| part.tag() == "CERTIFICATE").map(pem::encode).ok_or(())
}

/// An [`Identity`] shows its certificate to servers.
impl ResolvesClientCert for Identity {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.held.read().current.is_some()
    }
}

/// An [`Identity`] shows its certificate to other daemons that connect.
impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::HostId;

    use super::*;
    use crate::{Authority, Daemon};

    #[test]
    fn identity_is_kept_and_knows_when_its_certificate_is_due() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-03-01T09:00:00Z".parse().unwrap();
        let (authority, path) =
            (Authority::open(directory.path(), now).unwrap(), directory.path().join("identity.pem"));
        let identity = Identity::open(&path).unwrap();
        assert!(identity.is_due(now));
        let daemon = Daemon::Host(HostId::random(&mut rand::rng()));
        identity.set_certificate(&authority.issue(&daemon, &identity.request().unwrap(), now).unwrap()).unwrap();
        identity.store(&path).unwrap();
        let again = Identity::open(&path).unwrap();
        assert_eq!(again.key_fingerprint(), identity.key_fingerprint());
        assert!(!again.is_due(now + DAEMON_LIFE / 2));
        assert!(again.is_due(now + DAEMON_LIFE / 4 * 3));
        // A certificate of another key changes nothing.
        let other = Identity::generate().unwrap();
        let of_other = authority.issue(&daemon, &other.request().unwrap(), now).unwrap();
        assert!(again.set_certificate(&of_other).is_err());
        assert!(!again.is_due(now));
    }
}

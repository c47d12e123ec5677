//! The identity of this host towards OpCenter and other hosts.
//!
//! The key is made at the first start and stays in the state directory. OpCenter's authority signs
//! its certificate, which also names the host to other hosts. OpCenter gives each end of a
//! migration the id of the other end and the fingerprint of its key, and a token to both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mooring_api::watch::JoinAnswer;
use mooring_ops::file::{self, Durability, Mode};
use mooring_tls::{Daemon, Fingerprint, Peer};
use mooring_types::{HostId, Timestamp};
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The file with key and certificate.
const FILE: &str = "identity.pem";
/// The file with the certificate of OpCenter's authority.
const AUTHORITY_FILE: &str = "ca.pem";

/// This host's key, its certificate, and the authority that has signed it.
#[derive(Debug)]
pub(crate) struct Identity {
    own: Arc<mooring_tls::Identity>,
    authority: RwLock<Option<String>>,
    state_dir: PathBuf,
}

impl Identity {
    /// Reads the identity in `state_dir`, or creates it.
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let unusable = |error| failed("open this host's identity", error);
        let own = Arc::new(mooring_tls::Identity::open(&state_dir.join(FILE)).map_err(unusable)?);
        // Absent before the first join.
        let authority = RwLock::new(std::fs::read_to_string(state_dir.join(AUTHORITY_FILE)).ok());
        Ok(Self { own, authority, state_dir: state_dir.to_owned() })
    }

    /// The key and certificate of this host, for connections to OpCenter.
    pub(crate) fn shown(&self) -> Arc<mooring_tls::Identity> {
        Arc::clone(&self.own)
    }

    /// Returns a request for a certificate.
    pub(crate) fn request(&self) -> Result<String> {
        self.own.request().map_err(|error| failed("ask for a certificate", error))
    }

    /// Returns whether this host has ever joined.
    pub(crate) fn has_joined(&self) -> bool {
        self.authority.read().is_some()
    }

    /// Takes what OpCenter has answered to a join.
    pub(crate) fn joined(&self, answer: &JoinAnswer) -> Result<()> {
        let path = self.state_dir.join(AUTHORITY_FILE);
        file::replace(&path, Durability::Synced, Mode::Private, answer.authority.as_bytes())
            .map_err(Error::system(format!("keep {}", path.display())))?;
        *self.authority.write() = Some(answer.authority.clone());
        self.renewed(&answer.certificate)
    }

    /// Takes the next certificate, and keeps it.
    pub(crate) fn renewed(&self, certificate: &str) -> Result<()> {
        let kept = self.own.set_certificate(certificate).and_then(|()| self.own.store(&self.state_dir.join(FILE)));
        kept.map_err(|error| failed("take this host's certificate", error))
    }

    /// Returns whether the next certificate should be asked for.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.own.is_due(now)
    }

    /// The key that proves a join under this host's name, in hex: derived from the private key,
    /// which stays here.
    pub(crate) fn join_key(&self) -> String {
        hex::encode(Sha256::new().chain_update(b"mooring join\0").chain_update(self.own.secret_der()).finalize())
    }

    /// Returns the configuration for connections to other hosts.
    ///
    /// # Errors
    /// The host has not joined.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>> {
        mooring_tls::connect_to_daemons(self.shown(), &self.authority()?).map_err(|error| failed("connect", error))
    }

    /// Returns the configuration for connections from other hosts. The hello names the migration,
    /// and with it the host that is expected.
    ///
    /// # Errors
    /// The host has not joined.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        mooring_tls::accept_daemons(self.shown(), &self.authority()?).map_err(|error| failed("accept", error))
    }

    fn authority(&self) -> Result<String> {
        let authority = self.authority.read().clone();
        authority.ok_or_else(|| Error::Tls {
            attempt: "speak to another host",
            reason: "this host has not joined OpCenter yet".to_owned(),
        })
    }
}

/// A host at the other end of a migration, as OpCenter knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerHost {
    pub(crate) host: HostId,
    /// The fingerprint of its public key.
    pub(crate) key: Fingerprint,
}

impl PeerHost {
    /// Returns the name by which the host's certificate is checked.
    ///
    /// # Errors
    /// Never: an id of a host can stand in a name.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>> {
        ServerName::try_from(Daemon::Host(self.host.clone()).dns_name())
            .map_err(|error| Error::Tls { attempt: "name the other host", reason: error.to_string() })
    }

    /// Returns the host of a certificate that was verified; `None` if it is of no host.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        match Peer::of(certificate)? {
            Peer { daemon: Daemon::Host(host), key, .. } => Some(Self { host, key }),
            Peer { daemon: Daemon::Gateway(_), .. } => None,
        }
    }
}

fn failed(attempt: &'static str, error: mooring_tls::Error) -> Error {
    Error::Tls { attempt, reason: mooring_ops::log::chain(&error).to_string() }
}

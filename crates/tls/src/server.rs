//! OpCenter's end of a connection: its certificate, and the check of a daemon's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use mooring_types::Timestamp;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::authority::{SERVER_LIFE, certified};
use crate::challenge::{self, ACME_PROTOCOL, Challenges};
use crate::identity::roots_of;
use crate::{Authority, Error, OPCENTER_NAME, provider};

/// A certificate and its key in files, which others renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those between it and its root, in PEM.
    pub certificate: PathBuf,
    /// The key in PEM; it may be in the same file.
    pub key: PathBuf,
}

/// The certificate that OpCenter shows: its own by the authority, or one from files. Clients that
/// ask for [`OPCENTER_NAME`] always get the authority's.
#[derive(Debug)]
pub struct ServerCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: RwLock<Current>,
    challenges: Challenges,
}

#[derive(Debug)]
struct Current {
    own: Arc<CertifiedKey>,
    own_since: Timestamp,
    from_files: Option<FromFiles>,
}

#[derive(Debug, Clone)]
struct FromFiles {
    files: CertificateFiles,
    certified: Arc<CertifiedKey>,
    changed_at: Option<SystemTime>,
}

impl ServerCertificate {
    /// Issues OpCenter's own certificate for `names`, and reads the files if there are some.
    ///
    /// # Errors
    /// A name can't stand in a certificate, or the files can't be used.
    pub fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        files: Option<CertificateFiles>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let own = Arc::new(authority.issue_server(&names, now)?);
        let from_files = files.map(read).transpose()?;
        let current = RwLock::new(Current { own, own_since: now, from_files });
        Ok(Self { authority, names, current, challenges: Challenges::default() })
    }

    /// Shows the certificate in other files from now on.
    ///
    /// # Errors
    /// It can't be used; the old one stays.
    pub fn use_files(&self, files: CertificateFiles) -> Result<(), Error> {
        let fresh = read(files)?;
        self.current.write().from_files = Some(fresh);
        Ok(())
    }

    /// Proves to an ACME server that `name` leads here, until the proofs are withdrawn.
    ///
    /// # Errors
    /// The name can't stand in a certificate.
    pub fn prove(&self, name: &str, digest: &[u8]) -> Result<(), Error> {
        self.challenges.answer(name, digest)
    }

    /// Withdraws the proofs for an ACME server.
    pub fn withdraw_proofs(&self) {
        self.challenges.clear();
    }

    /// Issues another certificate of its own when two thirds of its life are over, and reads the
    /// files again when they have changed.
    ///
    /// # Errors
    /// The new one can't be used; the old one stays.
    pub fn refresh(&self, now: Timestamp) -> Result<(), Error> {
        if now > self.current.read().own_since + SERVER_LIFE / 3 * 2 {
            let own = Arc::new(self.authority.issue_server(&self.names, now)?);
            let mut current = self.current.write();
            (current.own, current.own_since) = (own, now);
        }
        let known = self.current.read().from_files.clone();
        match known.filter(|known| known.changed_at != changed_at(&known.files)) {
            Some(known) => self.use_files(known.files),
            None => Ok(()),
        }
    }
}

fn changed_at(files: &CertificateFiles) -> Option<SystemTime> {
    let of = |path| std::fs::metadata(path).and_then(|found| found.modified()).ok();
    of(&files.certificate).max(of(&files.key))
}

fn read(files: CertificateFiles) -> Result<FromFiles, Error> {
    let changed_at = changed_at(&files);
    let unusable = |path: &PathBuf, missing| {
        let what = path.display().to_string();
        move |_| Error::Missing { what, missing }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(unusable(&files.certificate, "readable certificate"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unusable(&files.key, "readable key"))?;
    Ok(FromFiles { certified: Arc::new(certified(&provider(), chain, key)?), changed_at, files })
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if challenge::asks(&hello) {
            return self.challenges.find(&hello);
        }
        let current = self.current.read();
        let own = Arc::clone(&current.own);
        if hello.server_name() == Some(OPCENTER_NAME) {
            return Some(own);
        }
        Some(current.from_files.as_ref().map_or(own, |files| Arc::clone(&files.certified)))
    }
}

/// Returns OpCenter's configuration: TLS 1.3, and a daemon's certificate where the client has one.
///
/// # Errors
/// The authority's certificate can't be used.
pub fn server_config(
    authority: &Authority,
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, Error> {
    let refused = |source| Error::Refused { what: "OpCenter's TLS", source };
    let provider = provider();
    let roots = Arc::new(roots_of(authority.certificate())?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

//! A client's end of a connection to OpCenter: which OpCenter it believes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::identity::roots_of;
use crate::{Authority, Error, Fingerprint, Identity, OPCENTER_NAME, provider};

/// The time limit of a first contact.
const FIRST_CONTACT_TIMEOUT: Duration = Duration::from_secs(10);

/// The certificates that a client believes OpCenter by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of this machine: OpCenter's name is the one in its URL.
    #[default]
    System,
    /// OpCenter's own authority, or the certificate, with that fingerprint.
    Pinned(Fingerprint),
    /// These authorities of others: OpCenter's name is the one in its URL.
    Authorities(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// Reads what `--ca` was given: `sha256:` and a fingerprint, certificates in PEM, or a file
    /// with certificates.
    ///
    /// # Errors
    /// The fingerprint is malformed, or the file can't be read or has no certificate.
    pub fn read(text: &str) -> Result<Self, Error> {
        if text.starts_with("sha256:") {
            return Ok(Self::Pinned(text.parse()?));
        }
        if text.starts_with("-----BEGIN") {
            return Self::authorities(text.as_bytes(), "the text");
        }
        let path = Path::new(text);
        let pem = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::authorities(&pem, text)
    }

    fn authorities(pem: &[u8], what: &str) -> Result<Self, Error> {
        let missing = || Error::Missing { what: what.to_owned(), missing: "certificate in PEM" };
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match found.as_deref() {
            Ok([]) | Err(_) => Err(missing()),
            Ok([own]) if Authority::is_name_of(own) => Ok(Self::Pinned(Fingerprint::of(own))),
            Ok(others) => Ok(Self::Authorities(others.to_vec())),
        }
    }

    /// Returns whether OpCenter is asked for the certificate of its own authority, at any address.
    #[must_use]
    pub fn asks_for_own_name(&self) -> bool {
        matches!(self, Self::Pinned(_))
    }
}

/// The text that [`Trust::read`] takes; empty for [`Trust::System`].
impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => Ok(()),
            Self::Pinned(fingerprint) => fingerprint.fmt(f),
            Self::Authorities(all) => {
                all.iter().try_for_each(|one| f.write_str(&pem::encode(&pem::Pem::new("CERTIFICATE", one.to_vec()))))
            }
        }
    }
}

/// Returns the TLS configuration of a client, which shows the certificate of `identity` if there is
/// one.
///
/// A machine without certificates gets one that trusts nobody: `http://` works there as well.
///
/// # Errors
/// A certificate to trust can't be used.
pub fn client_config(trust: &Trust, identity: Option<Arc<Identity>>) -> Result<ClientConfig, Error> {
    let refused = |source| Error::Refused { what: "the client's TLS", source };
    let builder = ClientConfig::builder_with_provider(provider());
    // A server of others, before OpCenter, may speak TLS 1.2.
    let builder = match trust {
        Trust::System => builder.with_safe_default_protocol_versions(),
        _ => builder.with_protocol_versions(&[&rustls::version::TLS13]),
    };
    let builder = builder.map_err(refused)?;
    let builder = match trust {
        Trust::System => builder.with_root_certificates(system_roots()),
        _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(trust)?)),
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the TLS configuration of a client of others' servers, like a company's sign-in. A server
/// is believed by the authorities in a file alone, in PEM; without one, by those of this machine.
///
/// # Errors
/// The file can't be read, or holds no certificate that can be used.
pub fn client_config_for_others(authorities: Option<&Path>) -> Result<ClientConfig, Error> {
    let roots = match authorities {
        None => system_roots(),
        Some(path) => roots_in(path)?,
    };
    let refused = |source| Error::Refused { what: "the client's TLS", source };
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = builder.map_err(refused)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates in a file.
fn roots_in(path: &Path) -> Result<RootCertStore, Error> {
    let pem = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    let missing = || Error::Missing { what: path.display().to_string(), missing: "certificate in PEM" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let mut roots = RootCertStore::empty();
    for one in found.map_err(|_| missing())? {
        roots.add(one).map_err(|source| Error::Refused { what: "a certificate of an authority", source })?;
    }
    if roots.is_empty() { Err(missing()) } else { Ok(roots) }
}

/// The certificates of this machine.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A machine's certificates often include some that are unreadable: those are left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Asks a server that is not known yet whom it is, as the first login does. Returns
/// [`Trust::System`] if this machine's certificates vouch for it, else the fingerprint of its
/// authority.
///
/// # Errors
/// The server can't be reached, or does not speak TLS.
pub async fn first_contact(host: &str, port: u16) -> Result<Trust, Error> {
    let address = format!("{host}:{port}");
    let failed = |source| Error::NoHandshake { address: address.clone(), source };
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    if handshake(host, port, name.clone(), Verifier::of_system()?).await.is_ok() {
        return Ok(Trust::System);
    }
    let seen = Arc::new(Mutex::new(None));
    let own_name = ServerName::try_from(OPCENTER_NAME)
        .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    handshake(host, port, own_name, Verifier::noting(Arc::clone(&seen))).await.map_err(failed)?;
    let found = *seen.lock();
    found.map(Trust::Pinned).ok_or_else(|| Error::Missing { what: address.clone(), missing: "certificate" })
}

async fn handshake(host: &str, port: u16, name: ServerName<'static>, verifier: Verifier) -> std::io::Result<()> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connect = async {
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(FIRST_CONTACT_TIMEOUT, connect).await.map_err(late)?.map(drop)
}

/// The check of a server's certificate.
#[derive(Debug)]
struct Verifier {
    belief: Belief,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Belief {
    Pinned(Fingerprint),
    /// The name of the URL, vouched for by one of these.
    Roots(Arc<WebPkiServerVerifier>),
    /// Anybody, whose authority is noted.
    Anybody(Arc<Mutex<Option<Fingerprint>>>),
}

impl Verifier {
    fn new(trust: &Trust) -> Result<Self, Error> {
        match trust {
            Trust::System => Self::of_system(),
            Trust::Pinned(fingerprint) => Ok(Self::with(Belief::Pinned(*fingerprint))),
            Trust::Authorities(all) => {
                let mut roots = RootCertStore::empty();
                for one in all {
                    let unusable = |source| Error::Refused { what: "a certificate of `--ca`", source };
                    roots.add(one.clone()).map_err(unusable)?;
                }
                Ok(Self::with(Belief::Roots(by_roots(roots)?)))
            }
        }
    }

    fn of_system() -> Result<Self, Error> {
        let roots = system_roots();
        if roots.is_empty() {
            // Nobody is vouched for.
            return Ok(Self::with(Belief::Pinned(Fingerprint::of(b""))));
        }
        Ok(Self::with(Belief::Roots(by_roots(roots)?)))
    }

    fn noting(seen: Arc<Mutex<Option<Fingerprint>>>) -> Self {
        Self::with(Belief::Anybody(seen))
    }

    fn with(belief: Belief) -> Self {
        Self { belief, algorithms: provider().signature_verification_algorithms }
    }
}

fn by_roots(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(|error| Error::Refused {
        what: "the certificates to trust",
        source: TlsError::General(error.to_string()),
    })
}

/// Returns OpCenter's own name.
fn own_name() -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(OPCENTER_NAME).map_err(|error| TlsError::General(error.to_string()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.belief {
            Belief::Pinned(pinned) => {
                if Fingerprint::of(end_entity) == *pinned {
                    return Ok(ServerCertVerified::assertion());
                }
                let authority = intermediates.iter().find(|one| Fingerprint::of(one) == *pinned);
                let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
                let roots =
                    roots_of(authority.ok_or(unknown)?).map_err(|error| TlsError::General(error.to_string()))?;
                let verifier = by_roots(roots).map_err(|error| TlsError::General(error.to_string()))?;
                verifier.verify_server_cert(end_entity, intermediates, &own_name()?, ocsp_response, now)
            }
            Belief::Roots(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Belief::Anybody(seen) => {
                *seen.lock() = Some(Fingerprint::of(intermediates.last().unwrap_or(end_entity)));
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::{Clock, SystemClock};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{CertificateFiles, Daemon, Peer, ServerCertificate, server_config};

    /// A server with an authority of its own.
    struct Server {
        authority: Arc<Authority>,
        port: u16,
        /// The daemon that the first accepted client was.
        seen: tokio::task::JoinHandle<Option<Option<Peer>>>,
        directory: tempfile::TempDir,
    }

    async fn server(files: Option<CertificateFiles>) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Arc::new(Authority::open(directory.path(), now).unwrap());
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let shown = Arc::new(ServerCertificate::new(Arc::clone(&authority), names, files, now).unwrap());
        let acceptor = TlsAcceptor::from(server_config(&authority, shown).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    // The client's word is read once it has sent some.
                    let certificates = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
                    return certificates.and_then(|all| Peer::of(&all[0]));
                }
            }
        };
        let seen = mooring_ops::Lifecycle::new().tasks().spawn("server", serve);
        Server { authority, port, seen, directory }
    }

    async fn connect(
        server: &Server,
        trust: &Trust,
        name: &str,
        identity: Option<Arc<Identity>>,
    ) -> std::io::Result<()> {
        let config = client_config(trust, identity).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn server_is_believed_by_its_authority_alone() {
        let (server, other) = (server(None).await, server(None).await);
        let own = Trust::Pinned(server.authority.fingerprint());
        let file = server.directory.path().join("ca.pem");
        assert_eq!(Trust::read(file.to_str().unwrap()).unwrap(), own);
        assert_eq!(Trust::read(&own.to_string()).unwrap(), own);
        for wrong in [Trust::System, Trust::Pinned(other.authority.fingerprint())] {
            assert!(connect(&server, &wrong, "localhost", None).await.is_err(), "{wrong:?}");
        }
        connect(&server, &own, OPCENTER_NAME, None).await.unwrap();
        assert_eq!(server.seen.await.unwrap().unwrap(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn first_contact_finds_the_authority() {
        let server = server(None).await;
        let found = first_contact("127.0.0.1", server.port).await.unwrap();
        assert_eq!(found, Trust::Pinned(server.authority.fingerprint()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn daemon_is_known_by_its_certificate() {
        let (server, other) = (server(None).await, server(None).await);
        let own = Trust::Pinned(server.authority.fingerprint());
        let identity = Arc::new(Identity::generate().unwrap());
        let daemon = Daemon::Host(mooring_types::HostId::random(&mut rand::rng()));
        let (request, now) = (identity.request().unwrap(), SystemClock.now());
        // TLS 1.3: a client learns of a refusal with its first read, and the server refuses.
        let stranger = Arc::new(Identity::generate().unwrap());
        let of_other = other.authority.issue(&daemon, &stranger.request().unwrap(), now).unwrap();
        stranger.set_certificate(&of_other).unwrap();
        let _ = connect(&server, &own, OPCENTER_NAME, Some(stranger)).await;
        // One whose life is over.
        let long_ago = now - crate::DAEMON_LIFE - Duration::from_secs(60);
        identity.set_certificate(&server.authority.issue(&daemon, &request, long_ago).unwrap()).unwrap();
        let _ = connect(&server, &own, OPCENTER_NAME, Some(Arc::clone(&identity))).await;
        identity.set_certificate(&server.authority.issue(&daemon, &request, now).unwrap()).unwrap();
        connect(&server, &own, OPCENTER_NAME, Some(Arc::clone(&identity))).await.unwrap();
        // The first that was let in is the one with a valid certificate.
        let peer = server.seen.await.unwrap().unwrap().unwrap();
        assert_eq!((peer.daemon, peer.key), (daemon, identity.key_fingerprint()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn certificate_of_a_daemon_is_not_believed_as_opcenter() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::open(directory.path(), now).unwrap();
        let identity = Identity::generate().unwrap();
        let daemon = Daemon::Host(mooring_types::HostId::random(&mut rand::rng()));
        identity.set_certificate(&authority.issue(&daemon, &identity.request().unwrap(), now).unwrap()).unwrap();
        let certificate = identity.certificate().unwrap();
        let verifier = Verifier::new(&Trust::Pinned(authority.fingerprint())).unwrap();
        let chain = [authority.certificate().clone()];
        let verified = verifier.verify_server_cert(&certificate, &chain, &own_name().unwrap(), &[], UnixTime::now());
        let error = verified.unwrap_err();
        assert!(
            matches!(error, TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { .. })),
            "{error}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_are_shown_to_browsers_and_the_authority_s_to_daemons() {
        let directory = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { certificate: directory.path().join("c.pem"), key: directory.path().join("k.pem") };
        let made = rcgen::generate_simple_self_signed(vec!["lab.example.org".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let server = server(Some(files.clone())).await;
        let of_files = Trust::read(files.certificate.to_str().unwrap()).unwrap();
        assert!(matches!(of_files, Trust::Authorities(_)));
        assert!(connect(&server, &of_files, "localhost", None).await.is_err());
        connect(&server, &Trust::Pinned(server.authority.fingerprint()), OPCENTER_NAME, None).await.unwrap();
    }
}

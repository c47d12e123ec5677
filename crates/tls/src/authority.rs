//! The authority: OpCenter's own CA.
//!
//! Its key is made at OpCenter's first start, and never leaves the state directory.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mooring_ops::file::{self, Durability, Mode};
use mooring_types::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::port::PORT_LIFE;
use crate::{Daemon, Error, Fingerprint, INTERNAL_DOMAIN, OPCENTER_NAME, provider};

/// The file with the authority's key and certificate, for OpCenter alone.
const KEY_FILE: &str = "ca-key.pem";
/// The file with the authority's certificate, to be given to clients.
const CERTIFICATE_FILE: &str = "ca.pem";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The subject of the authority's certificate.
const SUBJECT: &str = "Mooring OpCenter CA";

/// The life of the authority: all that it has issued ends with it.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);
/// The life of OpCenter's own certificates.
pub(crate) const SERVER_LIFE: Duration = DAY.saturating_mul(90);
/// The life of the certificates of daemons.
pub const DAEMON_LIFE: Duration = DAY;
/// The time by which the clock of another machine may be behind OpCenter's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// OpCenter's own CA.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in a state directory, or makes it.
    ///
    /// # Errors
    /// The files can't be read or written, or do not hold an authority.
    pub fn open(state_dir: &Path, now: Timestamp) -> Result<Self, Error> {
        let path = state_dir.join(KEY_FILE);
        let make = || generate(now).map_err(io::Error::other);
        let text = file::secret(&path, make).map_err(|source| Error::Unreadable { path: path.clone(), source })?;
        let missing = |missing| move |_| Error::Missing { what: path.display().to_string(), missing };
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(missing("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Error::Missing { what: state_dir.join(KEY_FILE).display().to_string(), missing: "key" })?;
        let unusable = |source| Error::Make { what: "an issuer of the authority's key", source };
        let key = KeyPair::try_from(&key).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unusable)?;
        let pem = pem_of(&certificate);
        let authority = Self { certificate, pem, issuer };
        authority.publish(state_dir)?;
        Ok(authority)
    }

    /// Writes the certificate for those who copy it to clients.
    fn publish(&self, state_dir: &Path) -> Result<(), Error> {
        let path = state_dir.join(CERTIFICATE_FILE);
        if std::fs::read_to_string(&path).is_ok_and(|text| text == self.pem) {
            return Ok(());
        }
        file::replace(&path, Durability::Synced, Mode::Private, self.pem.as_bytes())
            .map_err(|source| Error::Unwritable { path, source })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The fingerprint of the authority's certificate, by which clients trust it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Returns whether a certificate has the name of an OpCenter's authority.
    pub(crate) fn is_name_of(certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        parsed.subject().iter_common_name().any(|name| name.as_str() == Ok(SUBJECT))
    }

    /// Signs a daemon's request for a certificate. Of the request, only the public key counts.
    ///
    /// # Errors
    /// The request is no request, or not signed by the key that it is for.
    pub fn issue(&self, daemon: &Daemon, request: &str, now: Timestamp) -> Result<String, Error> {
        let refused = |source| Error::Make { what: "a certificate of this request", source };
        let request = CertificateSigningRequestParams::from_pem(request).map_err(refused)?;
        let uses = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let params = params(&daemon.to_string(), &[daemon.dns_name()], &uses, now, DAEMON_LIFE)?;
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(refused)?;
        Ok(signed.pem())
    }

    /// Signs a request for the certificate of a gateway's ports, under names and addresses that
    /// OpCenter has chosen. Of the request, only the public key counts. Returns the certificate and
    /// the authority's, in PEM.
    ///
    /// # Errors
    /// The request is no request, or a name belongs to OpCenter and its daemons or can't stand in a
    /// certificate.
    pub fn issue_for_ports(&self, names: &[String], request: &str, now: Timestamp) -> Result<String, Error> {
        if let Some(name) = names.iter().find(|name| is_internal(name)) {
            return Err(Error::Reserved { name: name.clone() });
        }
        let refused = |source| Error::Make { what: "a certificate of this request", source };
        let request = CertificateSigningRequestParams::from_pem(request).map_err(refused)?;
        let params = params("Mooring gateway", names, &[ExtendedKeyUsagePurpose::ServerAuth], now, PORT_LIFE)?;
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(refused)?;
        Ok(format!("{}{}", signed.pem(), self.pem))
    }

    /// Makes a key and a certificate for OpCenter itself, under its own name and the names and
    /// addresses that users know.
    ///
    /// # Errors
    /// A name can't stand in a certificate.
    pub(crate) fn issue_server(&self, names: &[String], now: Timestamp) -> Result<CertifiedKey, Error> {
        let all: Vec<String> = std::iter::once(OPCENTER_NAME.to_owned()).chain(names.iter().cloned()).collect();
        let made = |source| Error::Make { what: "OpCenter's certificate", source };
        let key = KeyPair::generate().map_err(made)?;
        let params = params("OpCenter", &all, &[ExtendedKeyUsagePurpose::ServerAuth], now, SERVER_LIFE)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        // The authority's certificate goes with it: clients find it there by its fingerprint.
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        certified(&provider(), chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}

/// Returns whether a name is one by which OpCenter and daemons believe each other.
fn is_internal(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(INTERNAL_DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Pairs a certificate with its key.
pub(crate) fn certified(
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| Error::Refused { what: "the certificate with its key", source })
}

/// Makes an authority: its certificate and its key in PEM.
fn generate(now: Timestamp) -> Result<String, Error> {
    let made = |source| Error::Make { what: "the authority", source };
    let key = KeyPair::generate().map_err(made)?;
    let mut params = params(SUBJECT, &[], &[], now, AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(made)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn params(
    subject: &str,
    names: &[String],
    uses: &[ExtendedKeyUsagePurpose],
    now: Timestamp,
    life: Duration,
) -> Result<CertificateParams, Error> {
    let made = |source| Error::Make { what: "a certificate with these names", source };
    let mut params = CertificateParams::new(names).map_err(made)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.extended_key_usages = uses.to_vec();
    params.use_authority_key_identifier_extension = !uses.is_empty();
    if !uses.is_empty() {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }
    params.serial_number = Some(SerialNumber::from(serial()?));
    let now = SystemTime::from(now);
    (params.not_before, params.not_after) = ((now - CLOCK_TOLERANCE).into(), (now + life).into());
    Ok(params)
}

/// Draws a serial number: 16 bytes, a positive number.
fn serial() -> Result<Vec<u8>, Error> {
    let mut bytes = [0; 16];
    let unavailable = |_| Error::Refused { what: "the random numbers", source: rustls::Error::FailedToGetRandomBytes };
    provider().secure_random.fill(&mut bytes).map_err(unavailable)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes.to_vec())
}

/// Returns a certificate in PEM.
fn pem_of(certificate: &CertificateDer<'_>) -> String {
    // A newline is what every other tool expects.
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", certificate.to_vec()), config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Peer};

    fn now() -> Timestamp {
        "2026-03-01T09:00:00Z".parse().unwrap()
    }

    #[test]
    fn authority_stays_the_same_and_its_certificate_is_published() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path(), now()).unwrap();
        let again = Authority::open(directory.path(), now()).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        let published = CertificateDer::from_pem_file(directory.path().join(CERTIFICATE_FILE)).unwrap();
        assert_eq!(Fingerprint::of(&published), first.fingerprint());
    }

    #[test]
    fn request_gets_the_name_that_the_authority_gives() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), now()).unwrap();
        let identity = Identity::generate().unwrap();
        let host = Daemon::Host(mooring_types::HostId::random(&mut rand::rng()));
        let pem = authority.issue(&host, &identity.request().unwrap(), now()).unwrap();
        let peer = Peer::of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        assert_eq!((peer.daemon, peer.key), (host, identity.key_fingerprint()));
        assert_eq!(peer.expires_at, now() + DAEMON_LIFE);
    }

    #[test]
    fn request_that_its_key_has_not_signed_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), now()).unwrap();
        let request = Identity::generate().unwrap().request().unwrap();
        let der = pem::parse(&request).unwrap().into_contents();
        let host = Daemon::Host(mooring_types::HostId::random(&mut rand::rng()));
        // The last byte belongs to the signature, one in the middle to the key.
        for at in [der.len() - 1, der.len() / 2] {
            let mut forged = der.clone();
            forged[at] ^= 1;
            let forged = pem::encode(&Pem::new("CERTIFICATE REQUEST", forged));
            assert!(authority.issue(&host, &forged, now()).is_err(), "{at}");
        }
        for text in ["", "-----BEGIN CERTIFICATE REQUEST-----", authority.pem()] {
            assert!(authority.issue(&host, text, now()).is_err(), "{text}");
        }
    }
}

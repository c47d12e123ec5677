//! Certificates of gateway ports: those of users, and that of the authority.
//!
//! A client that names a host (SNI) gets the certificate for that name. One that names none has
//! connected to an address, and gets the certificate for the address.
//!
//! | the client names | it gets |
//! |---|---|
//! | a host | a user's certificate with that name, then one with `*.` and its domain, then the authority's with either |
//! | no host | a user's certificate with the gateway's address, then the authority's |
//! | a host of no certificate | the first of the users' certificates, then the authority's |

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_types::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::{Error, provider};

/// The life of the certificates that the authority issues for gateway ports.
pub const PORT_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The protocols in which gateway ports answer HTTP, as ALPN names them.
pub const HTTP_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate for gateway ports, with its key.
#[derive(Debug, Clone)]
pub struct PortCertificate {
    certified: Arc<CertifiedKey>,
    facts: Facts,
}

/// The content of a certificate, as far as it matters here.
#[derive(Debug, Clone)]
struct Facts {
    names: Vec<String>,
    begins_at: Timestamp,
    expires_at: Timestamp,
}

impl Facts {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, Unusable> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Unusable::Damaged)?;
        let names = names(&parsed);
        if names.is_empty() {
            return Err(Unusable::NoNames);
        }
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| Unusable::Damaged);
        let validity = parsed.validity();
        let (begins_at, expires_at) = (time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?);
        Ok(Self { names, begins_at, expires_at })
    }
}

/// Returns the names in the first certificate of a text in PEM, and the end of its life.
#[must_use]
pub fn names_and_end(certificate: &str) -> Option<(Vec<String>, Timestamp)> {
    life(certificate).map(|(names, _, expires_at)| (names, expires_at))
}

/// Returns the names in the first certificate of a text in PEM, and the beginning and the end of
/// its life.
#[must_use]
pub fn life(certificate: &str) -> Option<(Vec<String>, Timestamp, Timestamp)> {
    let first = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let Facts { names, begins_at, expires_at } = Facts::of(&first).ok()?;
    Some((names, begins_at, expires_at))
}

/// A certificate or a key that can't serve a gateway's ports.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("the certificate is not PEM: it has no part that begins with `-----BEGIN CERTIFICATE-----`")]
    NoCertificate,
    #[error("the certificate can't be read")]
    Damaged,
    #[error("the key is not PEM: it has no part that begins with `-----BEGIN PRIVATE KEY-----`")]
    NoKey,
    #[error("the key is encrypted; give it without a passphrase")]
    EncryptedKey,
    #[error("the key does not fit the certificate; the certificate of the key has to be the first in its file")]
    OtherKey,
    #[error("the kind of the key is not supported; use ECDSA (P-256, P-384), Ed25519 or RSA of at least 2048 bits")]
    KindOfKey,
    #[error("the certificate has no names of hosts or addresses (subject alternative names), which browsers ask for")]
    NoNames,
    #[error("the certificate has expired at {0}")]
    Expired(Timestamp),
    #[error("the certificate is not valid before {0}")]
    NotYet(Timestamp),
}

impl Unusable {
    /// Returns whether the key is to blame, and not the certificate.
    #[must_use]
    pub fn is_of_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::EncryptedKey | Self::OtherKey | Self::KindOfKey)
    }
}

impl PortCertificate {
    /// Reads a certificate, with those between it and its root, and its key from PEM. Both may be
    /// parts of one text.
    ///
    /// # Errors
    /// Either is unusable, or they do not fit. The time is not checked.
    pub fn read(certificate: &str, key: &str) -> Result<Self, Unusable> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| Unusable::Damaged)?;
        let facts = Facts::of(chain.first().ok_or(Unusable::NoCertificate)?)?;
        Ok(Self { certified: Arc::new(certified(chain, key)?), facts })
    }

    /// Checks that the certificate is valid at a time.
    ///
    /// # Errors
    /// It has expired, or is not valid yet.
    pub fn check(&self, now: Timestamp) -> Result<(), Unusable> {
        match () {
            () if now >= self.facts.expires_at => Err(Unusable::Expired(self.facts.expires_at)),
            () if now < self.facts.begins_at => Err(Unusable::NotYet(self.facts.begins_at)),
            () => Ok(()),
        }
    }

    /// The hosts and addresses that it is for, in the order of the certificate; at least one.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.facts.names
    }

    /// The end of its life.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.facts.expires_at
    }

    /// Returns whether the authority's certificate should be replaced: it lacks a name or has one
    /// too many, or two thirds of its life are over.
    #[must_use]
    pub fn is_due(&self, names: &[String], now: Timestamp) -> bool {
        let lacks = |all: &[String], one: &String| !all.contains(one);
        names.iter().any(|name| lacks(&self.facts.names, name))
            || self.facts.names.iter().any(|name| lacks(names, name))
            || self.facts.expires_at < now + PORT_LIFE / 3
    }

    fn has_name(&self, host: &str) -> bool {
        self.facts.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Returns whether it is for all names of a domain, and `host` is one (RFC 6125, section
    /// 6.4.3).
    fn has_domain_of(&self, host: &str) -> bool {
        let Some((_, domain)) = host.split_once('.') else { return false };
        let of = |name: &String| name.strip_prefix("*.").is_some_and(|name| name.eq_ignore_ascii_case(domain));
        self.facts.names.iter().any(of)
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &str) -> Result<CertifiedKey, Unusable> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| match key.contains("ENCRYPTED") {
        true => Unusable::EncryptedKey,
        false => Unusable::NoKey,
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Unusable::OtherKey,
        _ => Unusable::KindOfKey,
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

/// A request for the authority's certificate of a gateway's ports, with the key that was made for
/// it.
#[derive(Debug)]
pub struct PortRequest {
    key: KeyPair,
}

impl PortRequest {
    /// Makes a key.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(|source| Error::Make { what: "a key", source })?;
        Ok(Self { key })
    }

    /// The request in PEM, signed by the key.
    ///
    /// # Errors
    /// The key can't sign.
    pub fn pem(&self) -> Result<String, Error> {
        let made = |source| Error::Make { what: "a request for a certificate", source };
        CertificateParams::default().serialize_request(&self.key).and_then(|request| request.pem()).map_err(made)
    }

    /// Returns the certificate that was issued and the key in one text, for
    /// [`PortCertificate::read`]. It has to stay on this machine.
    #[must_use]
    pub fn with_certificate(&self, chain: &str) -> String {
        format!("{chain}{}", self.key.serialize_pem())
    }
}

/// The certificates of a gateway.
#[derive(Debug)]
pub struct PortCertificates {
    /// The address at which the gateway listens.
    pub address: IpAddr,
    /// The certificates of users.
    pub given: Vec<PortCertificate>,
    /// The authority's, once there is one.
    pub own: Option<PortCertificate>,
}

impl PortCertificates {
    /// Returns the certificate for a client that names a host, or none.
    #[must_use]
    pub fn choose(&self, host: Option<&str>) -> Option<&PortCertificate> {
        let own = self.own.as_ref();
        let given = |is_it: &dyn Fn(&PortCertificate) -> bool| self.given.iter().find(|one| is_it(one));
        let Some(host) = host else {
            let address = self.address.to_string();
            return given(&|one| one.has_name(&address)).or(own).or(self.given.first());
        };
        given(&|one| one.has_name(host))
            .or_else(|| given(&|one| one.has_domain_of(host)))
            .or(own.filter(|own| own.has_name(host) || own.has_domain_of(host)))
            .or(self.given.first())
            .or(own)
    }
}

impl ResolvesServerCert for PortCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.choose(hello.server_name())?.certified))
    }
}

/// Returns the configuration of gateway ports: TLS 1.2 and 1.3, and a protocol of `alpn`.
///
/// Without protocols, the client may be one that only sends. It gets no tickets for later sessions.
/// It would not read them, and the kernel resets a connection that is closed with unread bytes:
/// what was sent last would be lost.
///
/// # Errors
/// The ciphers can't be used.
pub fn port_config(certificates: Arc<PortCertificates>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| Error::Refused { what: "the TLS of gateway ports", source })?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    if alpn.is_empty() {
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    fn now() -> Timestamp {
        "2026-03-01T09:00:00Z".parse().unwrap()
    }

    /// A user's certificate and its key.
    fn made(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn given(names: &[&str]) -> PortCertificate {
        let (certificate, key) = made(names);
        PortCertificate::read(&certificate, &key).unwrap()
    }

    #[test]
    fn certificate_is_chosen_by_name() {
        let mut all = PortCertificates {
            address: [192, 0, 2, 1].into(),
            given: vec![given(&["*.example.org"]), given(&["lab.example.org", "192.0.2.1"]), given(&["other.net"])],
            own: Some(given(&["192.0.2.1", "*.own.net", "lab.own.net"])),
        };
        let first = |all: &PortCertificates, host| all.choose(host).map(|one| one.names()[0].clone()).unwrap();
        for (host, expected) in [
            (Some("lab.example.org"), "lab.example.org"),
            (Some("LAB.example.ORG"), "lab.example.org"),
            (Some("two.example.org"), "*.example.org"),
            (Some("example.org"), "*.example.org"),
            (Some("a.two.example.org"), "*.example.org"),
            (Some("other.net"), "other.net"),
            (Some("lab.own.net"), "192.0.2.1"),
            (Some("two.own.net"), "192.0.2.1"),
            (Some("unknown"), "*.example.org"),
            (None, "lab.example.org"),
        ] {
            assert_eq!(first(&all, host), expected, "{host:?}");
        }
        all.given.remove(1);
        assert_eq!(first(&all, None), "192.0.2.1");
        all.given.clear();
        assert_eq!(first(&all, Some("unknown")), "192.0.2.1");
        all.own = None;
        assert!(all.choose(None).is_none() && all.choose(Some("unknown")).is_none());
    }

    #[test]
    fn unusable_certificates_are_refused_in_words() {
        let ((certificate, key), (_, other_key)) = (made(&["lab.example.org"]), made(&["lab.example.org"]));
        let nameless = {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for (certificate, key, expected) in [
            (certificate.as_str(), other_key.as_str(), "does not fit"),
            ("no certificate", &key, "not PEM"),
            (&key, &key, "not PEM"),
            (damaged, &key, "can't be read"),
            (&certificate, "", "the key is not PEM"),
            (&certificate, &certificate, "the key is not PEM"),
            (&certificate, encrypted, "encrypted"),
            (&nameless.0, &nameless.1, "names of hosts"),
        ] {
            let error = PortCertificate::read(certificate, key).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}: {expected}");
        }
        let both = format!("{key}{certificate}");
        assert_eq!(PortCertificate::read(&both, &both).unwrap().names(), ["lab.example.org"]);
    }

    #[test]
    fn certificate_is_valid_for_its_life() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["lab.example.org".to_owned()]).unwrap();
        let time = |time: Timestamp| std::time::SystemTime::from(time).into();
        (params.not_before, params.not_after) = (time(now()), time(now() + PORT_LIFE));
        let certificate = params.self_signed(&key).unwrap();
        let read = PortCertificate::read(&certificate.pem(), &key.serialize_pem()).unwrap();
        assert!(read.check(now()).is_ok() && read.check(now() + PORT_LIFE / 2).is_ok());
        assert!(matches!(read.check(now() - PORT_LIFE), Err(Unusable::NotYet(_))));
        assert!(matches!(read.check(now() + PORT_LIFE), Err(Unusable::Expired(_))));
    }

    #[test]
    fn authority_issues_certificates_for_ports_and_replaces_them_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), now()).unwrap();
        let names = ["192.0.2.1", "lab.example.org", "*.example.org"].map(str::to_owned);
        let request = PortRequest::generate().unwrap();
        let chain = authority.issue_for_ports(&names, &request.pem().unwrap(), now()).unwrap();
        let text = request.with_certificate(&chain);
        let certificate = PortCertificate::read(&text, &text).unwrap();
        assert_eq!(certificate.names(), names);
        assert_eq!(certificate.expires_at(), now() + PORT_LIFE);
        assert_eq!(certificate.certified.cert[1], *authority.certificate());
        assert!(!certificate.is_due(&names, now() + PORT_LIFE / 2));
        assert!(certificate.is_due(&names, now() + PORT_LIFE / 4 * 3));
        assert!(certificate.is_due(&names[..2], now()));
        assert!(certificate.is_due(&[&names[..], &["new.net".to_owned()]].concat(), now()));
    }

    #[test]
    fn authority_gives_gateways_no_names_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), now()).unwrap();
        let request = PortRequest::generate().unwrap().pem().unwrap();
        for name in [crate::OPCENTER_NAME, "OpCenter.Mooring.Internal", "*.mooring.internal", "mooring.internal"] {
            assert!(authority.issue_for_ports(&[name.to_owned()], &request, now()).is_err(), "{name}");
        }
    }
}

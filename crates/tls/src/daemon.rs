//! The name of a daemon in its certificate.

use std::fmt;

use mooring_types::{GatewayId, HostId, Timestamp};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::Fingerprint;

const HOST_SUFFIX: &str = ".host.mooring.internal";
const GATEWAY_SUFFIX: &str = ".gateway.mooring.internal";

/// A daemon with a certificate of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// The agent of a host.
    Host(HostId),
    /// The processes of a gateway.
    Gateway(GatewayId),
}

impl Daemon {
    /// Returns the daemon's name in its certificate.
    #[must_use]
    pub fn dns_name(&self) -> String {
        match self {
            Self::Host(id) => format!("{id}{HOST_SUFFIX}"),
            Self::Gateway(id) => format!("{id}{GATEWAY_SUFFIX}"),
        }
    }

    fn of_dns_name(name: &str) -> Option<Self> {
        if let Some(id) = name.strip_suffix(HOST_SUFFIX) {
            return Some(Self::Host(id.parse().ok()?));
        }
        Some(Self::Gateway(name.strip_suffix(GATEWAY_SUFFIX)?.parse().ok()?))
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "host {id}"),
            Self::Gateway(id) => write!(f, "gateway {id}"),
        }
    }
}

/// The daemon at the other end of a connection, by a certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub daemon: Daemon,
    /// The fingerprint of its public key.
    pub key: Fingerprint,
    /// The end of its certificate's life.
    pub expires_at: Timestamp,
}

impl Peer {
    /// Reads a certificate that was verified; `None` if it is of no daemon.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let daemon = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Daemon::of_dns_name(name),
            _ => None,
        })?;
        let expires_at = Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?;
        Some(Self { daemon, key: Fingerprint::of(parsed.public_key().raw), expires_at })
    }
}

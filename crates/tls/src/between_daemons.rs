//! Connections between daemons of one OpCenter: both ends show a certificate of its authority.
//!
//! The client names the daemon that it expects ([`crate::Daemon::dns_name`]). Either end compares
//! the other's key with the one that OpCenter has told it ([`crate::Peer::of`]).

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::identity::roots_of;
use crate::{Error, Identity, provider};

/// Returns the configuration of the end that connects.
///
/// # Errors
/// The authority's certificate can't be used.
pub fn connect_to_daemons(identity: Arc<Identity>, authority_pem: &str) -> Result<Arc<ClientConfig>, Error> {
    let refused = |source| Error::Refused { what: "TLS between daemons", source };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_root_certificates(roots(authority_pem)?)
        .with_client_cert_resolver(identity);
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Returns the configuration of the end that accepts.
///
/// # Errors
/// The authority's certificate can't be used.
pub fn accept_daemons(identity: Arc<Identity>, authority_pem: &str) -> Result<Arc<ServerConfig>, Error> {
    let refused = |source| Error::Refused { what: "TLS between daemons", source };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority_pem)?), provider())
        .build()
        .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    Ok(Arc::new(config))
}

fn roots(authority_pem: &str) -> Result<RootCertStore, Error> {
    let certificate = CertificateDer::from_pem_slice(authority_pem.as_bytes())
        .map_err(|_| Error::Missing { what: "the authority's text".to_owned(), missing: "certificate" })?;
    roots_of(&certificate)
}

//! The proof for an ACME server that a name leads to this machine: TLS-ALPN-01 of RFC 8737.
//!
//! The server connects to port 443 of the name. It asks for the name and for the protocol
//! [`ACME_PROTOCOL`], and takes a certificate with the digest that it knows. No other client
//! asks for that protocol, so nobody else sees these certificates.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use crate::{Error, provider};

/// The protocol that an ACME server asks for, as ALPN names it.
pub const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The answers that are good at the moment, by name.
#[derive(Debug, Default)]
pub(crate) struct Challenges(RwLock<HashMap<String, Arc<CertifiedKey>>>);

impl Challenges {
    /// Answers for a name with a digest, until the answers are cleared.
    pub(crate) fn answer(&self, name: &str, digest: &[u8]) -> Result<(), Error> {
        let made = |source| Error::Make { what: "the answer for an ACME server", source };
        let key = KeyPair::generate().map_err(made)?;
        let mut params = CertificateParams::new([name.to_owned()]).map_err(made)?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key).map_err(made)?;
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let refused = |source| Error::Refused { what: "the key of the answer for an ACME server", source };
        let key = provider().key_provider.load_private_key(private).map_err(refused)?;
        // The certificate has a critical extension, which the usual check of a pair does not know.
        let answer = CertifiedKey::new(vec![certificate.der().clone()], key);
        self.0.write().insert(name.to_owned(), Arc::new(answer));
        Ok(())
    }

    /// Forgets the answers.
    pub(crate) fn clear(&self) {
        self.0.write().clear();
    }

    /// Returns the answer for a client.
    pub(crate) fn find(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().get(hello.server_name()?).cloned()
    }
}

/// Returns whether a client is an ACME server.
pub(crate) fn asks(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_PROTOCOL))
}

//! The identity of this host towards other hosts: a private key and a self-signed certificate.
//!
//! A certificate is known by its SHA-256. OpCenter gives each end of a migration the fingerprint of
//! the other end, and a token to both. Without a known certificate no connection passes the
//! handshake.

use std::path::Path;
use std::sync::Arc;

use mooring_ops::file::{self, Durability, Mode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const FILE: &str = "identity.pem";

/// This host's key and certificate.
#[derive(Debug)]
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the identity in `state_dir`, or creates it.
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(FILE);
        if !path.exists() {
            make(&path)?;
        }
        let unreadable = |error: rustls::pki_types::pem::Error| Error::Tls {
            attempt: "read this host's identity",
            reason: error.to_string(),
        };
        Ok(Self {
            certificate: CertificateDer::from_pem_file(&path).map_err(unreadable)?,
            key: PrivateKeyDer::from_pem_file(&path).map_err(unreadable)?,
        })
    }

    /// The certificate's SHA-256, in hex.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// The key that proves a join under this host's name, in hex: derived from the private key,
    /// which stays here.
    pub(crate) fn join_key(&self) -> String {
        hex::encode(Sha256::new().chain_update(b"mooring join\0").chain_update(self.key.secret_der()).finalize())
    }

    /// Returns the configuration for connections to the host with that fingerprint.
    ///
    /// # Errors
    /// The key does not fit the certificate.
    pub(crate) fn client(&self, expected: String) -> Result<Arc<ClientConfig>> {
        let provider = provider();
        let verifier =
            Arc::new(Pinned { expected: Some(expected), algorithms: provider.signature_verification_algorithms });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
                    .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            })
            .map_err(|error| refused("prepare to connect", &error))?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Returns the configuration for connections from any host with a certificate. The hello names
    /// the migration, and with it the certificate that is expected.
    ///
    /// # Errors
    /// The key does not fit the certificate.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let provider = provider();
        let verifier = Arc::new(Pinned { expected: None, algorithms: provider.signature_verification_algorithms });
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            })
            .map(Arc::new)
            .map_err(|error| refused("prepare to accept", &error))
    }
}

/// A certificate's SHA-256, in hex.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(certificate))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn refused(attempt: &'static str, error: &rustls::Error) -> Error {
    Error::Tls { attempt, reason: error.to_string() }
}

fn make(path: &Path) -> Result<()> {
    let failed = |error: rcgen::Error| Error::Tls { attempt: "make this host's identity", reason: error.to_string() };
    let made = rcgen::generate_simple_self_signed(vec!["mooring-host".to_owned()]).map_err(failed)?;
    let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    file::replace(path, Durability::Synced, Mode::Private, pem.as_bytes())
        .map_err(Error::system(format!("keep this host's identity in {}", path.display())))
}

/// Accepts one certificate by its fingerprint, or any. The peer always proves that it has the key.
#[derive(Debug)]
struct Pinned {
    expected: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        match &self.expected {
            Some(expected) if *expected != fingerprint(certificate) => {
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

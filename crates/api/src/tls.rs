//! TLS of the programs that connect to OpCenter or to a metadata service.

use rustls::{ClientConfig, RootCertStore};

/// Returns a TLS configuration that trusts the certificates of this machine.
///
/// A machine without certificates gets one that trusts nobody: `http://` works there as well.
#[must_use]
pub fn client_config() -> ClientConfig {
    // The first provider stays; a second installation is a no-op by intent.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    // A machine's certificates often include some that are unreadable: those are left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

//! Certificates of daemons, signed by OpCenter's authority.

use mooring_tls::{Daemon, Peer};
use mooring_types::{Clock, SystemClock};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// A certificate and the key that it is for.
pub(super) struct Issued {
    /// The certificate in PEM.
    pub(super) certificate: String,
    /// The fingerprint of the public key.
    pub(super) key: String,
}

/// Signs a daemon's request.
pub(super) fn issue(context: &Context, daemon: &Daemon, request: &str) -> ApiResult<Issued> {
    let unusable = || ApiError::invalid("the request for a certificate is not one, or is not signed by its key");
    // Its peers check a certificate by the machine's clock.
    let certificate = context.authority.issue(daemon, request, SystemClock.now()).map_err(|_| unusable())?;
    let peer = CertificateDer::from_pem_slice(certificate.as_bytes()).ok().and_then(|der| Peer::of(&der));
    let key = peer.ok_or_else(unusable)?.key.to_string();
    Ok(Issued { certificate, key })
}

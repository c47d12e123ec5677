//! TLS between OpCenter, the daemons and the users: who is who, and who trusts whom. And the
//! certificates of gateway ports.
//!
//! ```text
//!               authority (OpCenter's own CA, made at its first start)
//!               │ issues                               │ issues
//!               ▼                                      ▼
//!     OpCenter's certificate                 a daemon's certificate
//!     for `opcenter.mooring.internal`        for `<id>.host.mooring.internal`
//!     and the names that users know          or `<id>.gateway.mooring.internal`
//!               ▲                                      ▲
//!               │ checked by every client,             │ checked by OpCenter, and by
//!               │ as its [`Trust`] says                │ the other end of a migration
//! ```
//!
//! OpCenter and daemons take TLS 1.3 alone. A client that trusts this machine's certificates also
//! takes TLS 1.2, of a proxy before OpCenter. A daemon's key is made on the host of the daemon and
//! stays there. The authority signs a request for a certificate ([`Identity::request`]). A
//! certificate of a daemon is good for [`DAEMON_LIFE`]. OpCenter also compares the fingerprint of
//! the public key with the one in its database. So the certificate of a daemon that was removed
//! counts no more.
//!
//! | file | holds |
//! |---|---|
//! | `authority` | the CA: its key, what it issues |
//! | `between_daemons` | connections between hosts |
//! | `challenge` | the proof of a name for an ACME server |
//! | `daemon` | the name of a daemon in its certificate |
//! | `identity` | a daemon's key and certificate |
//! | `port` | certificates of gateway ports, the choice between them |
//! | `server` | OpCenter's end: its certificate, the check of daemons |
//! | `trust` | a client's end: which OpCenter it believes |

#![forbid(unsafe_code)]

mod authority;
mod between_daemons;
mod challenge;
mod daemon;
mod error;
mod fingerprint;
mod identity;
mod port;
mod server;
mod trust;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use crate::authority::{Authority, DAEMON_LIFE};
pub use crate::between_daemons::{accept_daemons, connect_to_daemons};
pub use crate::challenge::ACME_PROTOCOL;
pub use crate::daemon::{Daemon, Peer};
pub use crate::error::Error;
pub use crate::fingerprint::Fingerprint;
pub use crate::identity::Identity;
pub use crate::port::{
    HTTP_PROTOCOLS, PORT_LIFE, PortCertificate, PortCertificates, PortRequest, Unusable, life, names_and_end,
    port_config,
};
pub use crate::server::{CertificateFiles, ServerCertificate, server_config};
pub use crate::trust::{Trust, client_config, client_config_for_others, first_contact};

/// The domain of the names by which OpCenter and daemons believe each other.
pub(crate) const INTERNAL_DOMAIN: &str = "mooring.internal";

/// The name in OpCenter's certificate for all clients that trust the authority, at any address.
pub const OPCENTER_NAME: &str = "opcenter.mooring.internal";

/// Returns the implementation of the ciphers.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

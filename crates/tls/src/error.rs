//! Failures before there is a connection.

use std::io;
use std::path::PathBuf;

/// A key or a certificate that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't read {}", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("can't keep {}", .path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file or text does not hold what it should.
    #[error("{what} has no {missing}")]
    Missing { what: String, missing: &'static str },
    /// A certificate can't be made.
    #[error("can't make {what}")]
    Make {
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("can't use {what}")]
    Refused {
        what: &'static str,
        #[source]
        source: rustls::Error,
    },
    /// A name by which OpCenter and daemons believe each other.
    #[error("`{name}` can't be the name of a gateway")]
    Reserved { name: String },
    /// The server did not complete a handshake.
    #[error("{address} does not speak TLS")]
    NoHandshake {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` is no fingerprint: it is `sha256:` and 64 hex digits")]
    NoFingerprint(String),
}

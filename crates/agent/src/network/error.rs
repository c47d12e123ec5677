//! Errors of a host's network.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use mooring_types::HostId;

/// An attempt on the host's network that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The prefix of device names is unusable.
    #[error("invalid device prefix {0:?}: it takes 1 to 8 lower-case letters and digits")]
    Prefix(String),
    /// The WireGuard key could not be read or made.
    #[error("can't keep the WireGuard key in {}", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The slice does not list the host itself.
    #[error("the network has no line for this host, {0}")]
    Unlisted(HostId),
    /// No interface has the host's own address.
    #[error("no interface of this host has the address {0}")]
    Underlay(Ipv4Addr),
    /// The machine refused.
    #[error("can't {attempt}")]
    Linux {
        attempt: &'static str,
        #[source]
        source: mooring_linux::Error,
    },
    /// A tool printed something unexpected.
    #[error("can't understand what `{tool}` printed")]
    Printed {
        tool: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The tunnel in this process.
    #[error("can't {attempt}")]
    Tunnel {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
}

impl NetworkError {
    pub(super) fn linux(attempt: &'static str) -> impl FnOnce(mooring_linux::Error) -> Self {
        move |source| Self::Linux { attempt, source }
    }

    pub(super) fn tunnel(attempt: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Tunnel { attempt, source }
    }

    pub(super) fn printed(tool: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Printed { tool, source }
    }
}

//! The overlay's kinds: how packets between jobs cross the network between hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The backend by which the hosts of a cluster reach each other's jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// The kernel's VXLAN, over any trusted IP network.
    #[default]
    Vxlan,
    /// Plain routes, between hosts on one subnet.
    Direct,
    /// WireGuard: encrypted, over any IP network.
    Wireguard,
}

/// A text that names no [`Backend`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown network backend `{0}`: write vxlan, direct or wireguard")]
pub struct UnknownBackend(String);

impl Backend {
    /// All backends.
    pub const ALL: [Self; 3] = [Self::Vxlan, Self::Direct, Self::Wireguard];

    /// The name in options, on the wire and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
            Self::Wireguard => "wireguard",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        let found = Self::ALL.into_iter().find(|backend| backend.name() == text);
        found.ok_or_else(|| UnknownBackend(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_has_one_name() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
            assert_eq!(serde_json::to_string(&backend).unwrap(), format!("\"{backend}\""));
        }
        assert!("VXLAN".parse::<Backend>().is_err());
    }
}

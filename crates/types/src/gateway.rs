//! Gateways and their connections.

use serde::{Deserialize, Serialize};

use crate::host::Resources;
use crate::{Name, PortRange};

/// What a gateway should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The name that its users chose.
    pub name: Name,
    /// The least it is given of a host.
    pub resources: Resources,
    /// The ports it assigns from.
    pub port_range: PortRange,
}

/// How the bytes of a connected port are treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Decided by the first bytes of each client connection.
    #[default]
    Auto,
    /// HTTP.
    Http,
    /// Bytes.
    Tcp,
}

/// Whether a gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatewayStatus {
    /// Its process has not reported yet.
    Starting,
    /// It serves.
    Running,
    /// Its host or its process is not heard from.
    Unreachable,
}

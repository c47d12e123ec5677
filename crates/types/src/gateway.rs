//! Gateways and their connections.

use serde::{Deserialize, Serialize};

use crate::host::Resources;
use crate::{Name, PortRange, SecurityGroupId};

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
    /// Which address of its host it listens on.
    #[serde(default)]
    pub exposure: Exposure,
    /// Who may connect: whom any of these lets in; nobody where there is none.
    #[serde(default)]
    pub security_groups: Vec<SecurityGroupId>,
}

/// Which address of its host a gateway listens on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exposure {
    /// The one by which clients from outside reach it.
    #[default]
    Public,
    /// The one by which other hosts reach it.
    Private,
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

/// For how long, and for how many, a connection waits for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldLimits {
    /// How long a new request waits before it is answered with 503, in seconds.
    pub hold_seconds: u32,
    /// How long a browser's page load waits before it gets the waiting page, in seconds.
    pub page_seconds: u32,
    /// How many new requests may wait at a time, for all connections of the job together.
    pub held_max: u32,
}

impl Default for HoldLimits {
    /// Ten minutes, as long as a large job takes to move; five seconds, as long as people wait
    /// without a sign; and 10,000 requests.
    fn default() -> Self {
        Self { hold_seconds: 600, page_seconds: 5, held_max: 10_000 }
    }
}

/// Whether the gateway puts its widget into the pages of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Widget {
    /// It does.
    #[default]
    Shown,
    /// Pages stay as the job sends them.
    Hidden,
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

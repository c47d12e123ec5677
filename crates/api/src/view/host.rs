//! Hosts, and draining them.

use mooring_types::host::{HostRole, Purchase};
use mooring_types::{HostId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its address between hosts.
    pub address: String,
    /// `ready`, `draining`, `drained`, `notReady: …` or `unreachable`.
    pub status: String,
    /// What it offers itself for.
    #[schema(value_type = String)]
    pub role: HostRole,
    /// How it is paid for: `spot` or `onDemand`.
    #[schema(value_type = String)]
    #[serde(default)]
    pub purchase: Purchase,
    /// Cores.
    pub cores: u32,
    /// Memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// Cores that its jobs take.
    pub cores_used: u32,
    /// Memory in GB that its jobs take.
    #[serde(rename = "memGBUsed")]
    pub mem_gb_used: f64,
    /// The kernel's release.
    pub kernel: String,
    /// CRIU's version.
    pub criu: String,
    /// runc's version.
    pub runc: String,
    /// How many jobs it carries.
    pub jobs: u32,
    /// When it was last heard from.
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<Timestamp>,
    /// What keeps it from doing as it should.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What its jobs leave for, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
}

/// That the jobs of a host leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    /// Since when.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// Until when they should have left.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// How a host is to be drained.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DrainRequest {
    /// Within how much time, like `2m`; as long as it takes when empty.
    pub within: String,
}

/// A host that is drained from now on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainAnswer {
    /// The host.
    pub host: HostView,
    /// The gateways on it, which stay.
    pub gateways: Vec<String>,
}

//! How everything is, in numbers.

use mooring_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How everything is, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// OpCenter's version.
    pub version: String,
    /// Since when it runs.
    #[schema(value_type = String)]
    pub start_time: Timestamp,
    /// The hosts.
    pub hosts: HostCounts,
    /// The gateways.
    pub gateways: GatewayCounts,
    /// The jobs that are the user's business.
    pub jobs: JobCounts,
}

/// How many hosts there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostCounts {
    /// All.
    pub total: u32,
    /// Those that take jobs or gateways.
    pub ready: u32,
    /// Those that are drained, or are about to be.
    pub draining: u32,
    /// Those that are heard from and can take nothing.
    pub not_ready: u32,
    /// Those that are not heard from.
    pub unreachable: u32,
}

/// How many gateways there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCounts {
    /// All.
    pub total: u32,
    /// Those that serve.
    pub running: u32,
    /// Those that have not reported yet.
    pub starting: u32,
    /// Those that are not heard from.
    pub unreachable: u32,
}

/// How many jobs there are, by category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    /// All.
    pub total: u32,
    /// Those that have yet to run.
    pub pending: u32,
    /// Those that run, or will again without anyone's asking for them anew.
    pub running: u32,
    /// Those that ended well.
    pub success: u32,
    /// Those that ended otherwise.
    pub failed: u32,
}

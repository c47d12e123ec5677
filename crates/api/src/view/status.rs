//! The status of OpCenter: its version, and the numbers of hosts, gateways and jobs.

use mooring_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The status of OpCenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    pub version: String,
    /// The start of OpCenter's process.
    #[schema(value_type = String)]
    pub start_time: Timestamp,
    pub hosts: HostCounts,
    pub gateways: GatewayCounts,
    /// The jobs that the user may see.
    pub jobs: JobTotals,
}

/// The numbers of hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostCounts {
    pub total: u32,
    pub ready: u32,
    /// Hosts that are drained or draining.
    pub draining: u32,
    /// Hosts that report and can't take jobs or gateways.
    pub not_ready: u32,
    pub unreachable: u32,
}

/// The numbers of gateways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCounts {
    pub total: u32,
    pub running: u32,
    /// Gateways without a report yet.
    pub starting: u32,
    pub unreachable: u32,
}

/// The numbers of jobs by how they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTotals {
    pub total: u32,
    pub pending: u32,
    pub running: u32,
    pub success: u32,
    /// Jobs that failed, without those that a user cancelled.
    pub failed: u32,
    pub cancelled: u32,
}

/// The numbers of jobs by category. A job that was cancelled counts as failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    pub total: u32,
    pub pending: u32,
    pub running: u32,
    pub success: u32,
    pub failed: u32,
}

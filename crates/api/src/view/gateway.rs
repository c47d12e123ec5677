//! Gateways and their connections.

use mooring_types::gateway::{GatewayStatus, HoldLimits, Protocol, Widget};
use mooring_types::{GatewayId, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::watch::ClientObservation;

/// A gateway to be created.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayCreateRequest {
    /// Its name.
    pub name: String,
    /// Least cores; 1 when absent.
    pub cpu: Option<u32>,
    /// Least memory in GB; 1 when absent.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
    /// `<min>:<max>`; `10000:10500` when empty.
    pub port_range: String,
    /// Who may connect, by id or name; `default` when empty.
    pub security_groups: Vec<String>,
    /// Whether it listens on its host's private address alone.
    #[serde(rename = "noPublicIP")]
    pub no_public_ip: bool,
}

/// What is to change of a gateway; what is absent or empty stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayModifyRequest {
    /// Its new name.
    pub name: String,
    /// Least cores.
    pub cpu: Option<u32>,
    /// Least memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
    /// `<min>:<max>`.
    pub port_range: String,
    /// Security groups to be added, by id or name.
    pub add_security_groups: Vec<String>,
    /// Security groups to be removed, by id or name.
    pub remove_security_groups: Vec<String>,
}

/// A gateway.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: GatewayId,
    /// Its name.
    pub name: String,
    /// Its status.
    #[schema(value_type = String)]
    pub status: GatewayStatus,
    /// The address that clients use.
    pub address: String,
    /// Whether that is its host's private address.
    #[serde(rename = "noPublicIP")]
    pub no_public_ip: bool,
    /// Its ports, `<min>:<max>`.
    pub port_range: String,
    /// The names of the security groups that say who may connect.
    pub security_groups: Vec<String>,
    /// Cores.
    pub cpu: u32,
    /// Memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// The host it is placed on.
    pub host_name: String,
    /// When it was created.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// What is connected.
    pub connections: Vec<ConnectionView>,
}

/// A connection.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    /// The job.
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// The job's name.
    pub job_name: String,
    /// The published port that is connected.
    pub target_port: u16,
    /// The gateway's port.
    pub gateway_port: u16,
    /// What one pastes into a browser.
    pub access_url: String,
    /// `open`, `waiting` (for the job), or `failed: …`.
    pub state: String,
    /// How its bytes are treated.
    #[schema(value_type = String)]
    pub protocol: Protocol,
    /// For how long, and for how many, it waits for its job.
    #[schema(value_type = Object)]
    pub hold_limits: HoldLimits,
    /// Whether its pages get the widget: `shown` or `hidden`.
    #[schema(value_type = String)]
    pub widget: Widget,
    /// Its clients.
    pub clients: Vec<ClientObservation>,
}

/// Ports of a job to be connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectRequest {
    /// The job, by id.
    pub job_id: String,
    /// Published ports; all when empty.
    #[serde(default)]
    pub target_ports: Vec<u16>,
    /// How their bytes are treated: `auto`, `http` or `tcp`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub protocol: Protocol,
    /// How long a new request waits for the job before it is answered with 503, in seconds; 600 when absent.
    #[serde(default)]
    pub hold_limit: Option<u32>,
    /// How long a browser's page load waits before it gets the waiting page, in seconds; 5 when absent.
    #[serde(default)]
    pub page_patience: Option<u32>,
    /// How many new requests may wait at a time; 10000 when absent.
    #[serde(default)]
    pub held_max: Option<u32>,
    /// Whether their pages get the widget: `shown` or `hidden`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub widget: Widget,
}

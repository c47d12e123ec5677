//! What users ask for and read. The order of the keys is part of the contract: `id` comes first.

use std::collections::BTreeMap;

use mooring_types::gateway::{GatewayStatus, Patience, Protocol};
use mooring_types::host::HostRole;
use mooring_types::job::{Category, JobStatus};
use mooring_types::migration::PhaseTime;
use mooring_types::{GatewayId, HostId, JobId, MigrationId, SecurityGroupId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::watch::ClientObservation;

/// Credentials.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoginRequest {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The bearer token; empty when an existing session is shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// The user.
    pub username: String,
    /// `admin` or `user`.
    pub role: String,
    /// When it ends at the latest.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// A job to be submitted. All text is parsed by OpCenter, so that one place words the errors.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubmitRequest {
    /// The job's name; one is made up when empty.
    pub name: String,
    /// A template, `name` or `name:tag`; what is given beside it overrides it.
    pub template: String,
    /// `dir:/…`, `oci:/…` or `oci-archive:/…`.
    pub image: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE` each.
    pub env: Vec<String>,
    /// Working directory inside the container.
    pub working_dir: String,
    /// Cores; 1 when absent.
    pub cpu: Option<u32>,
    /// Memory in GB; 2 when absent.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
    /// `host:container` or one number each.
    pub publish: Vec<String>,
    /// The gateway to connect to, by id or name.
    pub gateway: String,
    /// Which published ports to connect; all when empty.
    pub target_ports: Vec<u16>,
    /// The host it has to start on, by name; chosen when empty.
    pub host: String,
    /// Who may connect to its published ports, by id or name; `default` when empty.
    pub security_groups: Vec<String>,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Address and size of the host that executes it, like `198.18.0.2 (2Core4GB)`; empty when there is none.
    pub working_host: String,
    /// The name of that host; empty when there is none.
    pub host_name: String,
    /// Who submitted it.
    pub user: String,
    /// Its image.
    pub image: String,
    /// Its status.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// The status's group.
    #[schema(value_type = String)]
    pub category: Category,
    /// Why it is so, where there is something to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_reason: String,
    /// When it was submitted.
    #[schema(value_type = String)]
    pub submit_time: Timestamp,
    /// When it started to execute.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_time: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// When this record last changed.
    #[schema(value_type = String)]
    pub last_update: Timestamp,
    /// From its first execution to its end or now, like `3m5s`; `0s` before it executes.
    pub duration: String,
    /// Its exit code; empty while it has none.
    pub rc: String,
    /// Cores.
    pub cpu: u32,
    /// Memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// Its overlay address.
    pub address: String,
    /// How often it has been placed.
    pub generation: u64,
    /// `<targetPort> -> <gatewayAddress>:<gatewayPort>` for each connection.
    pub port_mappings: Vec<String>,
    /// The URLs of its connections, ready to be pasted into a browser.
    pub access_urls: Vec<String>,
    /// Published ports, `host:container`.
    pub publish: Vec<String>,
    /// Where it listens if somebody else runs it, `<targetPort>=<host>:<port>` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The names of the security groups that say who may connect to them.
    pub security_groups: Vec<String>,
    /// Its environment, without what looks like a secret.
    pub env: BTreeMap<String, String>,
    /// Its moves, oldest first.
    pub migrations: Vec<MigrationView>,
}

/// A move of a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: MigrationId,
    /// The name of the host that it left.
    pub from: String,
    /// The name of the host that it went to.
    pub to: String,
    /// When it began.
    #[schema(value_type = String)]
    pub start_time: Timestamp,
    /// Why it was moved, like `requested by admin`.
    pub reason: String,
    /// `running`, `succeeded`, or `failed: …`.
    pub outcome: String,
    /// What each phase took.
    #[schema(value_type = Vec<Object>)]
    pub phases: Vec<PhaseTime>,
    /// For how long the job stood still.
    pub pause_seconds: f64,
    /// How much was sent.
    pub bytes_moved: u64,
}

/// A move to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MigrateRequest {
    /// The destination's name; chosen when empty.
    pub host: String,
}

/// A job that somebody else runs, to be registered.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalRegisterRequest {
    /// Its name; one is made up when empty.
    pub name: String,
    /// Where it listens, `[<targetPort>=]<host>:<port>` each, or several separated by commas.
    pub endpoints: Vec<String>,
    /// How it is; `Executing` when empty.
    pub status: String,
    /// The path and query of its URL; `/` when empty.
    pub access_path: String,
    /// The gateway to connect to, by id or name.
    pub gateway: String,
    /// Which target ports to connect; all when empty.
    pub target_ports: Vec<u16>,
}

/// What has become of a job that somebody else runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalUpdateRequest {
    /// Where it listens from now on; as before when empty.
    pub endpoints: Vec<String>,
    /// How it is; as before when empty.
    pub status: String,
}

/// An entry of a job's event log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// When.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// `status`, `phase` or `note`.
    pub kind: String,
    /// What.
    pub message: String,
}

/// A piece of a job's output.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogPiece {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// The text; what is not UTF-8 is replaced.
    pub text: String,
    /// Where the next piece starts.
    pub next: u64,
    /// Whether the job has ended and nothing more will come.
    pub ended: bool,
}

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
    pub patience: Patience,
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
}

/// A security group to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityGroupCreateRequest {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What it allows, `tcp:<port>[-<port>]:<source>` each.
    pub rules: Vec<String>,
}

/// What is to change of a security group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityGroupModifyRequest {
    /// Rules to be added.
    pub add_rules: Vec<String>,
    /// Rules to be removed.
    pub remove_rules: Vec<String>,
}

/// A security group.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it allows, `tcp:<port>[-<port>]:<source>` each.
    pub rules: Vec<String>,
    /// Who created it.
    pub user: String,
    /// When it was created.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The gateways and the jobs that have it.
    pub used_by: Vec<String>,
}

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
    /// `ready`, `notReady: …` or `unreachable`.
    pub status: String,
    /// What it offers itself for.
    #[schema(value_type = String)]
    pub role: HostRole,
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
}

/// What serves.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The version.
    pub version: String,
}

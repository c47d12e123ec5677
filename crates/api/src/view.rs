//! What users ask for and read. The order of the keys is part of the contract: `id` comes first.

mod account;
mod gateway;
mod host;
mod secret;
mod security_group;
mod status;
mod template;

pub use account::{GroupAddRequest, GroupUpdateRequest, GroupView, UserAddRequest, UserUpdateRequest, UserView};
pub use gateway::{ConnectRequest, ConnectionView, GatewayCreateRequest, GatewayModifyRequest, GatewayView};
pub use host::{DrainAnswer, DrainRequest, DrainView, HostView};
pub use secret::{SecretSetRequest, SecretValue, SecretView};
pub use security_group::{SecurityGroupCreateRequest, SecurityGroupModifyRequest, SecurityGroupView};
pub use status::{GatewayCounts, HostCounts, JobCounts, StatusView};
pub use template::{TemplateCreateRequest, TemplateView};

use std::collections::BTreeMap;

use mooring_types::job::{Category, JobStatus};
use mooring_types::migration::PhaseTime;
use mooring_types::policy::{DumpMode, Egress, VmPolicy};
use mooring_types::{JobId, MigrationId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubmitRequest {
    /// The job's name; one is made up when empty.
    pub name: String,
    /// A template, `name` or `name:tag`; what is given beside it overrides it.
    pub template: String,
    /// `name:tag`, `host:port/name:tag`, `name@sha256:…`, `dir:/…`, `oci:/…` or `oci-archive:/…`.
    pub image: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// What its job script holds, which is run in place of a command; empty for none.
    #[serde(alias = "jobContent")]
    pub script: String,
    /// `KEY=VALUE` each.
    #[serde(alias = "envs")]
    pub env: Vec<String>,
    /// Working directory inside the container.
    pub working_dir: String,
    /// Cores; 1 when absent.
    pub cpu: Option<u32>,
    /// The most cores that a move may give it.
    pub cpu_max: Option<u32>,
    /// Memory in GB; 2 when absent.
    #[serde(rename = "memGB", alias = "mem")]
    pub mem_gb: Option<f64>,
    /// The most memory in GB that a move may give it.
    #[serde(rename = "memGBMax")]
    pub mem_gb_max: Option<f64>,
    /// Whether it runs as root, whatever user its image names.
    pub with_root: bool,
    /// Data under paths of its own, `[options]source:mount[:ro]` each.
    pub data_volumes: Vec<String>,
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
    /// `[spotOnly=true|spotFirst=true|onDemand=true,retryLimit=3,retryInterval=600s]`.
    pub vm_policy: String,
    /// `[cpu.upperBoundRatio=90,evadeOOM=true,…]`; it does not move by itself when empty.
    pub migrate_policy: String,
    /// How long it may execute, like `3600s` or `2h30m`; without end when empty.
    pub time_limit: String,
    /// After how long without client traffic and CPU work it is suspended; never when empty.
    pub idle: String,
    /// Whether a client's connection resumes it while it is suspended.
    pub resume_on_connect: bool,
    /// How often a capsule of it is taken while it runs; never when empty.
    pub snapshot_interval: String,
    /// What these capsules hold, `incremental` or `full`; `incremental` when empty.
    pub dump_mode: String,
    /// How it reaches the outside, `host` or `gateway`; `host` when empty.
    pub egress: String,
    /// Its tags.
    pub custom_tags: BTreeMap<String, String>,
    /// Whether it may not be submitted anew as it was.
    pub disable_rerun: bool,
    /// Whether it is never moved, also not by hand.
    pub disable_migrate: bool,
}

/// What is to change of a job; what is absent or empty stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobModifyRequest {
    /// Its new name.
    pub name: String,
    /// Tags to be added; one of the same key is replaced.
    pub add_custom_tags: BTreeMap<String, String>,
    /// Keys of tags to be removed.
    pub remove_custom_tags: Vec<String>,
    /// As in a submission; it replaces the whole policy.
    pub vm_policy: String,
    /// As in a submission; it replaces the whole policy.
    pub migrate_policy: String,
    /// How long it may execute; `0s` for without end.
    pub time_limit: String,
    /// After how long without client traffic and CPU work it is suspended; `0s` for never.
    pub idle: String,
    /// Whether a client's connection resumes it while it is suspended.
    pub resume_on_connect: Option<bool>,
    /// How often a capsule of it is taken while it runs; `0s` for never.
    pub snapshot_interval: String,
}

/// A job. The keys that the users' scripts know come in the order that they know.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Address and size of the host that executes it, like `198.18.0.2 (2Core4GB/Spot)`; empty when there is none.
    pub working_host: String,
    /// The name of that host; empty when there is none.
    pub host_name: String,
    /// Who submitted it.
    pub user: String,
    /// Its image.
    #[serde(rename = "imageID")]
    pub image: String,
    /// The digest of what its image's tag meant when it was pulled; empty before, and for images that no registry has.
    pub image_digest: String,
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
    /// For how long it waited before it first executed.
    pub queue_time: String,
    /// Its exit code; empty while it has none.
    pub rc: String,
    /// The file with its standard output; empty where somebody else runs it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// The file with its standard error; empty where somebody else runs it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// What `float submit` is given for the same job, without what looks like a secret.
    pub input_args: String,
    /// What kind of host it wants, and how often it is tried.
    #[schema(value_type = Object)]
    pub vm_policy: VmPolicy,
    /// When it moves by itself.
    pub migrate_policy: String,
    /// How long it may execute; empty for without end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_limit: String,
    /// After how long without use it is suspended; empty for never.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub idle: String,
    /// Whether a client's connection resumes it while it is suspended.
    pub resume_on_connect: bool,
    /// How often a capsule of it is taken while it runs; empty for never.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub snapshot_interval: String,
    /// What these capsules hold.
    #[schema(value_type = String)]
    pub dump_mode: DumpMode,
    /// How it reaches the outside.
    #[schema(value_type = String)]
    pub egress: Egress,
    /// Its tags.
    pub custom_tags: BTreeMap<String, String>,
    /// Cores.
    pub cpu: u32,
    /// The most cores that a move may give it; as many as it has where nothing was said.
    pub cpu_max: u32,
    /// Memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// The most memory in GB that a move may give it; as much as it has where nothing was said.
    #[serde(rename = "memGBMax")]
    pub mem_gb_max: f64,
    /// Memory in GB that it used when that was last measured; absent while it does not execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_used: Option<f64>,
    /// Cores that were at work then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_used: Option<f64>,
    /// Cores times the hours for which it has executed.
    pub core_hours: f64,
    /// Who runs it: `mooring`, or `external` for somebody else.
    pub scheduler: String,
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
    /// Its data, `source:mount` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_volumes: Vec<String>,
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
    /// `migrate`, `suspend`, `snapshot`, `resume` or `recover`.
    pub kind: String,
    /// The name of the host that it left, or `the capsule store`.
    pub from: String,
    /// The name of the host that it went to, or `the capsule store`.
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

/// What a job used: amounts of a moment, and rates of the time before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricView {
    /// When it was measured.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// The job's status then.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// Cores that were at work, on average.
    pub cpu_used: f64,
    /// Cores that it had.
    pub cpu: f64,
    /// Memory in use, in GB, without files that can be read again.
    pub mem_used: f64,
    /// Memory that it had, in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// Files that were kept in memory for it, in GB.
    pub page_cache: f64,
    /// What lay in the swap area, in GB.
    pub swap: f64,
    /// Processes and threads.
    pub processes: u32,
    /// Bytes that it received in a second, on average.
    pub received_per_second: u64,
    /// Bytes that it sent in a second, on average.
    pub sent_per_second: u64,
    /// The files that it had changed, in GB; absent where there were too many to be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<f64>,
}

/// A move to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MigrateRequest {
    /// The destination's name; chosen when empty.
    pub host: String,
    /// Cores that it has afterwards; as before when absent.
    pub cpu: Option<u32>,
    /// Memory in GB that it has afterwards; as before when absent.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
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

/// A file that is kept of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFileView {
    /// `stdout.autosave`, `stderr.autosave`, or `results/<name>`.
    pub name: String,
    /// How large it is, in bytes.
    pub size: u64,
}

/// What serves.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The version.
    pub version: String,
}

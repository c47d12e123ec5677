//! The requests and answers of users. The order of the keys is part of the contract: `id` comes
//! first.

mod account;
mod api_token;
mod audit;
mod event;
mod finding;
mod gateway;
mod host;
mod job_page;
mod join_token;
mod key;
mod outcome;
mod quota;
mod secret;
mod security_group;
mod session;
mod setting;
mod status;
mod template;

pub use account::{GroupAddRequest, GroupUpdateRequest, GroupView, UserAddRequest, UserUpdateRequest, UserView};
pub use api_token::{ApiTokenAnswer, ApiTokenRequest, ApiTokenView};
pub use audit::{AuditPage, AuditQuery, AuditView};
pub use event::EventView;
pub use finding::FindingView;
pub use gateway::{
    ConnectRequest, ConnectionState, ConnectionView, GatewayCertificateRequest, GatewayCertificateView,
    GatewayCreateRequest, GatewayMetricView, GatewayModifyRequest, GatewayView,
};
pub use host::{DrainAnswer, DrainJobView, DrainRequest, DrainView, HostRemoval, HostStatus, HostView};
pub use job_page::{JobPage, JobPageRequest, JobPages, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, SubmittedView};
pub use join_token::{JoinTokenAnswer, JoinTokenRequest, JoinTokenView};
pub use key::KeyView;
pub use quota::{Change, HoldingView, QuotaChange, QuotaView};
pub use secret::{SecretSetRequest, SecretValue, SecretView};
pub use security_group::{SecurityGroupCreateRequest, SecurityGroupModifyRequest, SecurityGroupView};
pub use session::{LinkRequest, LinkView, OpenSessionView, SessionRequest, SessionRequestState, SessionRequestView};
pub use setting::{SettingView, SettingsView};
pub use status::{GatewayCounts, HostCounts, JobCounts, JobTotals, StatusView};
pub use template::{TemplateCreateRequest, TemplateView};

use std::collections::BTreeMap;
use std::time::Duration;

use mooring_types::gateway::WakeOn;
use mooring_types::job::{Category, JobStatus};
use mooring_types::migration::{MigrationKind, Outcome, PhaseTime};
use mooring_types::policy::{DumpMode, Egress, MigratePolicy, VmPolicy};
use mooring_types::{GatewayId, JobId, MigrationId, Name, Reference, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::submission::text;

/// The credentials of a login.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoginRequest {
    pub username: String,
    pub password: String,
}

/// The code of a permission that OpCenter's own page gave, for a session for one job.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSessionRequest {
    /// The code, which is good once, for a minute.
    pub code: String,
    /// The random text whose SHA-256 the page was asked with.
    pub verifier: String,
    /// The origin of the job's page, like `http://192.0.2.1:10000`.
    pub origin: String,
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The bearer token; empty when an existing session is shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    pub username: String,
    /// `admin` or `user`.
    pub role: String,
    /// The latest end of the session.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
}

/// Changes to a job; absent values stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobModifyRequest {
    /// The new name.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Name>,
    /// Tags to add; a tag with the same key is replaced.
    pub add_custom_tags: BTreeMap<String, String>,
    /// The keys of tags to remove.
    pub remove_custom_tags: Vec<String>,
    /// The new VM policy as a whole, as in a submission.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub vm_policy: Option<VmPolicy>,
    /// The new migrate policy as a whole, as in a submission.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub migrate_policy: Option<MigratePolicy>,
    /// The limit of the execution time; `0s` for none.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub time_limit: Option<Duration>,
    /// The time without client traffic and CPU usage before a suspend; `0s` for never.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub idle: Option<Duration>,
    /// The longest time for which waiting connections, kernels and terminals alone keep the job
    /// awake; `0s` if they do not count.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub awake_limit: Option<Duration>,
    /// `true` if a client's connection resumes the job while it is suspended.
    pub resume_on_connect: Option<bool>,
    /// The clients that do: `page`, `request` or `connection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub wake_on: Option<WakeOn>,
    /// The interval of snapshots; `0s` for none.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub snapshot_interval: Option<Duration>,
}

/// A job. The keys that users' scripts know come in the order that they expect.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    #[schema(value_type = String)]
    pub id: JobId,
    pub name: String,
    /// The address and size of the host that executes the job, like `198.18.0.2 (2Core4GB/Spot)`;
    /// empty without one.
    pub working_host: String,
    /// The name of that host; empty without one.
    pub host_name: String,
    /// The user who submitted the job.
    pub user: String,
    /// The image.
    #[serde(rename = "imageID")]
    pub image: String,
    /// The digest of the image as it was pulled; empty before, and for images that are not from a
    /// registry.
    pub image_digest: String,
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// The group of the status.
    #[schema(value_type = String)]
    pub category: Category,
    /// The reason for the status, if any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_reason: String,
    /// The time of the submission.
    #[schema(value_type = String)]
    pub submit_time: Timestamp,
    /// The start of the first execution.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_time: Option<Timestamp>,
    /// The end of the job.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// The last change of this record.
    #[schema(value_type = String)]
    pub last_update: Timestamp,
    /// The time from the first execution to the end or to now, like `3m5s`; `0s` before the first
    /// execution.
    pub duration: String,
    /// The time from the submission to the first execution.
    pub queue_time: String,
    /// The exit code; empty before the end.
    pub rc: String,
    /// The file with the standard output; empty for external jobs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// The file with the standard error; empty for external jobs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// The arguments of `float submit` for the same job, with secrets masked.
    pub input_args: String,
    /// The kind of host, and how long the job waits for one.
    #[schema(value_type = Object)]
    pub vm_policy: VmPolicy,
    /// When the job migrates automatically.
    pub migrate_policy: String,
    /// The limit of the execution time; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_limit: String,
    /// The time without use before a suspend; empty for never.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub idle: String,
    /// The longest time for which what the job does on its own keeps it awake; empty without
    /// `idle`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub awake_limit: String,
    /// The activity of the job on its own, a sentence each. It keeps the job from being idle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<String>,
    /// The peers of connections that the job has opened. A suspend ends them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outward: Vec<String>,
    /// `true` if a client's connection resumes the job while it is suspended.
    pub resume_on_connect: bool,
    /// The clients that do: `page`, `request` or `connection`. A connection may have others.
    #[serde(default)]
    #[schema(value_type = String)]
    pub wake_on: WakeOn,
    /// The interval of snapshots; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub snapshot_interval: String,
    /// The content of snapshots.
    #[schema(value_type = String)]
    pub dump_mode: DumpMode,
    /// The path of the job's own connections to the outside.
    #[schema(value_type = String)]
    pub egress: Egress,
    pub custom_tags: BTreeMap<String, String>,
    /// The cores of the job.
    pub cpu: u32,
    /// The most cores that a migration may give the job; `cpu` without a range.
    pub cpu_max: u32,
    /// Memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// The most memory in GB that a migration may give the job; `memGB` without a range.
    #[serde(rename = "memGBMax")]
    pub mem_gb_max: f64,
    /// The used memory in GB in the latest measurement; absent while the job does not execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_used: Option<f64>,
    /// The used cores in the latest measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_used: Option<f64>,
    /// Cores multiplied by the hours of execution.
    pub core_hours: f64,
    /// `mooring`, or `external` for external jobs.
    pub scheduler: String,
    /// The overlay address.
    pub address: String,
    /// The number of commits of migrations.
    pub generation: u64,
    /// `<targetPort> -> <gatewayAddress>:<gatewayPort>` for each connection.
    pub port_mappings: Vec<String>,
    /// A sentence for each published port on which nothing listens for others, while the job
    /// listens elsewhere: the addresses and the remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved_ports: Vec<String>,
    /// The URLs of the connections, for a browser.
    pub access_urls: Vec<String>,
    /// The published ports, `host:container`.
    pub publish: Vec<String>,
    /// The endpoints of an external job, `<targetPort>=<host>:<port>` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// The names of the security groups for connections to the published ports.
    pub security_groups: Vec<String>,
    /// The volumes, `source:mount` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_volumes: Vec<String>,
    /// The environment, with secrets masked.
    pub env: BTreeMap<String, String>,
    /// The migrations, oldest first.
    pub migrations: Vec<MigrationView>,
}

/// A migration of a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationView {
    #[schema(value_type = String)]
    pub id: MigrationId,
    /// `migrate`, `suspend`, `snapshot`, `resume` or `recover`.
    #[schema(value_type = String)]
    pub kind: MigrationKind,
    /// The name of the source host, or `the capsule store`.
    pub from: String,
    /// The name of the destination host, or `the capsule store`.
    pub to: String,
    /// The start of the migration.
    #[schema(value_type = String)]
    pub start_time: Timestamp,
    /// The reason, like `requested by admin`.
    pub reason: String,
    /// The outcome, as `outcome`; after a failure also `failedPhase` and `failure`.
    #[serde(flatten, with = "outcome")]
    #[schema(value_type = outcome::OutcomeKeys)]
    pub outcome: Outcome,
    /// The duration of each phase.
    #[schema(value_type = Vec<Object>)]
    pub phases: Vec<PhaseTime>,
    /// For how long the job was frozen.
    pub pause_seconds: f64,
    /// The number of bytes sent.
    pub bytes_moved: u64,
}

/// A measurement of a job's resource usage: amounts at that time, and rates since the measurement
/// before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricView {
    /// The time of the measurement.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// The job's status at that time.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// The used cores, on average.
    pub cpu_used: f64,
    /// The cores of the job.
    pub cpu: f64,
    /// The used memory in GB, without the page cache.
    pub mem_used: f64,
    /// The memory of the job in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// The page cache in GB.
    pub page_cache: f64,
    /// The used swap in GB.
    pub swap: f64,
    /// The number of processes and threads.
    pub processes: u32,
    /// The bytes received in a second, on average.
    pub received_per_second: u64,
    /// The bytes sent in a second, on average.
    pub sent_per_second: u64,
    /// The size of changed files in GB; absent when there are too many to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<f64>,
}

/// A migration to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MigrateRequest {
    /// The destination's name; OpCenter chooses when empty.
    pub host: String,
    /// The cores on the destination; unchanged when absent.
    pub cpu: Option<u32>,
    /// The memory in GB on the destination; unchanged when absent.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
}

/// An external job to register.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalRegisterRequest {
    /// The job name; generated when empty.
    pub name: String,
    /// The endpoints, `[<targetPort>=]<host>:<port>` each, or several separated by commas.
    pub endpoints: Vec<String>,
    /// The status; `Executing` when empty.
    pub status: String,
    /// The path and query of the access URL; `/` when empty.
    pub access_path: String,
    /// The gateway to connect to, by id or name.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<Reference<GatewayId>>,
    /// The target ports to connect; all when empty.
    pub target_ports: Vec<u16>,
}

/// An update of an external job.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalUpdateRequest {
    /// The endpoints that replace all others; unchanged when empty.
    pub endpoints: Vec<String>,
    /// The status; unchanged when empty.
    pub status: String,
}

/// A piece of a job's output file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogPiece {
    /// The offset of the piece in bytes.
    pub offset: u64,
    /// The text; invalid UTF-8 is replaced.
    pub text: String,
    /// The offset of the next piece.
    pub next: u64,
    /// `true` if the job has ended and there is no more output.
    pub ended: bool,
}

/// An output file of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFileView {
    /// `stdout.autosave`, `stderr.autosave`, or `results/<name>`.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
}

/// The version of OpCenter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    pub version: String,
}

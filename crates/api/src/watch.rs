//! Slices: the desired state, pushed to agents and gateways. Reports: their observed state, sent to
//! OpCenter.
//!
//! An agent or a gateway holds one stream of slices. OpCenter sends a line of JSON for each new
//! slice: the first at once, another after each change. An empty line every [`KEEPALIVE`] shows
//! that the peer lives. A slice is whole: the receiver compares it with its own state and acts on
//! the differences. A report is whole as well. It is sent at each change and every [`HEARTBEAT`]. A
//! lost slice or report does no harm, since the next one has everything.
//!
//! # The orders of an agent
//!
//! | [`JobOrder`] | the agent | reports |
//! |---|---|---|
//! | `Run` | starts the job unless it has started, and keeps it | `Starting`, `Running`, `Exited`, `FailedToStart`, `Lost` |
//! | `MigrateIn` | prepares, receives the capsule, restores the job frozen and without packets, verifies it, records that the job is here, lets it execute | `Prepared`, `Restored`, `MigrateInFailed` |
//! | `MigrateOut`, stage `PreCopy` | sends changed files while the job executes | `PreCopied`, `MigrateOutFailed` |
//! | `MigrateOut`, stage `Freeze` | checkpoints, streams the capsule, keeps its own copy | `Frozen`, `Sent`, `MigrateOutFailed` |
//! | `Abort` | destination: removes everything of this migration; a restored job stays, which is final | `Gone`, `Restored` |
//! | `Rollback` | source: executes the job again, from its own capsule if it was frozen | `Running` |
//! | `Retire` | source: removes everything of the job, including its capsule | `Gone` |
//! | `Stop` | ends the job and removes it | `Gone` |
//!
//! The capsule store may be the [`Destination`] or the [`Origin`] of a migration. A source reports
//! `Stored` when the complete capsule is in the store. A destination that reads from the store goes
//! from `Prepared` to `Restored` without another order. The source of a stored capsule may still be
//! told to roll back: a capsule counts only once OpCenter has recorded it.
//!
//! A job without an order is left alone, so an empty slice ends nothing. Every order is idempotent.
//! An observation has the generation and the migration that it belongs to.
//!
//! # The lease of a host
//!
//! An answered report renews the host's lease to 8 seconds after it was sent. A host without a
//! lease keeps the jobs frozen that OpCenter may recover elsewhere.

mod gateway;
mod store_access;

pub use gateway::{
    Call, CallerObservation, ClientObservation, ConnectionDirective, ConnectionObservation, FarewellDirective, Flow,
    GatewayReport, GatewaySlice, GivenCertificate, Quiesced, Target, TlsDirective, VisitAnswer, VisitRequest,
};
pub use store_access::{StoreAccess, StorePlace};

pub use mooring_types::network::Backend;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mooring_tls::Fingerprint;
use mooring_types::address::Overlay;
use mooring_types::capsule::CapsuleName;
use mooring_types::finding::Finding;
use mooring_types::host::{HostFacts, HostRole, Resources};
use mooring_types::job::{Activity, JobSpec, Unserved};
use mooring_types::migration::{Phase, PhaseTime};
use mooring_types::security::InboundRule;
use mooring_types::usage::Usage;
use mooring_types::{GatewayId, Generation, HostId, JobId, MigrationId, Name, Port, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest time between two lines of a stream of slices.
pub const KEEPALIVE: Duration = Duration::from_secs(5);
/// The longest time between two reports.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// The name of the server-sent event that carries a view.
pub const WATCH_CHANGED: &str = "changed";
/// The name of the last server-sent event of a watch: the object is gone, or the session has ended.
pub const WATCH_ENDED: &str = "ended";
/// The answer for a job's file of which OpCenter takes no more.
pub const OUTPUT_ENOUGH: u64 = u64::MAX;
/// The reason of an end of a migration whose connection to the other end was closed.
pub const OTHER_END_CLOSED: &str = "the other host closed the connection";
/// The reason of an end of a migration that was told to give up.
pub const SUPERSEDED: &str = "another order took its place";

/// Returns whether the reason of a failed end only says that the migration has failed elsewhere.
#[must_use]
pub fn is_consequence(reason: &str) -> bool {
    [OTHER_END_CLOSED, SUPERSEDED].iter().any(|consequence| reason.ends_with(consequence))
}

/// The request of a host to join. A known name keeps its id and gets a new certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// The cluster's join token.
    pub join_token: String,
    /// The key that the host drew at its first start, in hex. A join under the name of a known host
    /// is refused without that host's key.
    #[serde(default)]
    pub host_key: String,
    pub name: Name,
    /// The role: jobs, gateways or both.
    pub role: HostRole,
    /// The address for other hosts.
    pub address: Ipv4Addr,
    /// The address of its gateways for clients.
    pub public_address: IpAddr,
    /// The port for incoming migrations, at the same address.
    pub migration_port: u16,
    /// A request for a certificate, in PEM, signed by the key that the host made at its first
    /// start.
    pub certificate_request: String,
    /// The WireGuard public key in base64; empty without one.
    pub wireguard_key: String,
    /// The resources and versions of the host.
    pub facts: HostFacts,
    /// The jobs that the host still has: after a lost database, none may be executed twice.
    pub jobs: Vec<JobObservation>,
}

/// The answer to [`JoinRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    pub host: HostId,
    /// The host's certificate in PEM, for slices, reports and migrations.
    pub certificate: String,
    /// The certificate of OpCenter's authority in PEM, by which hosts know each other.
    pub authority: String,
}

/// A request for the next certificate of a host or gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequest {
    /// A request for a certificate, in PEM, signed by the daemon's key.
    pub certificate_request: String,
}

/// The answer to [`CertificateRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAnswer {
    /// The certificate in PEM.
    pub certificate: String,
}

/// The desired state of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSlice {
    /// The number of the slice, which grows with every change.
    pub sequence: u64,
    /// The lapse of the host's lease that its last report named; see [`HostReport::lapse`].
    #[serde(default)]
    pub lapse: u64,
    pub host: HostId,
    /// The overlay network.
    pub network: Network,
    /// The directives for jobs of this host.
    pub jobs: Vec<JobDirective>,
    /// The gateways on this host.
    pub gateways: Vec<GatewayPlacement>,
    /// The published ports of jobs on this host.
    #[serde(default)]
    pub published: Vec<PublishedPort>,
    /// The place of the capsule store, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StorePlace>,
}

/// The overlay network: its hosts, and the host of each job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The address range.
    pub overlay: Overlay,
    /// The network backend between hosts.
    pub backend: Backend,
    /// All hosts, including this one.
    pub peers: Vec<Peer>,
    /// The host of each job's address.
    pub routes: Vec<JobRoute>,
    /// The jobs whose own connections leave through one fixed host.
    #[serde(default)]
    pub egress: Vec<JobRoute>,
    /// The addresses of jobs that reach each other: a list for each user.
    #[serde(default)]
    pub neighbours: Vec<Vec<Ipv4Addr>>,
}

/// A host as seen by other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    pub host: HostId,
    /// The underlay address.
    pub underlay: Ipv4Addr,
    /// The overlay address.
    pub overlay: Ipv4Addr,
    /// The WireGuard public key in base64; empty without one.
    pub wireguard_key: String,
}

/// A route of the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRoute {
    /// The job's overlay address.
    pub address: Ipv4Addr,
    /// The host of the job.
    pub host: HostId,
}

/// The part of a slice for a job: the order and its data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDirective {
    pub job: JobId,
    /// The generation on this host: the new one for `MigrateIn` and `Abort`, the old one on the
    /// source.
    pub generation: Generation,
    /// The overlay address.
    pub address: Ipv4Addr,
    /// The spec of the job. Without environment, volumes and script where the order executes
    /// nothing; see [`JobOrder::executes`].
    pub spec: JobSpec,
    pub order: JobOrder,
    /// The access to the capsule store, where the order leads there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreAccess>,
    /// `true` if the job may be recovered on another host. This host freezes it when it can't reach
    /// OpCenter.
    #[serde(default)]
    pub recoverable: bool,
    /// The grant, where the host is the job's owner in this generation; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub grant: String,
}

/// The order for a job; the table in the module's documentation has the details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JobOrder {
    /// Execute the job.
    Run {
        /// `true` if the job was observed to execute. Such a job is lost if it is missing, and not
        /// started again.
        begun: bool,
    },
    /// Receive the job.
    MigrateIn {
        /// The migration.
        migration: MigrationId,
        /// The origin of the capsule.
        from: Origin,
    },
    /// Send the job.
    MigrateOut {
        /// The migration.
        migration: MigrationId,
        /// The stage to reach.
        stage: MigrateOutStage,
        /// The destination of the capsule.
        to: Destination,
    },
    /// Abort a [`JobOrder::MigrateIn`].
    Abort {
        /// The migration.
        migration: MigrationId,
    },
    /// Roll a [`JobOrder::MigrateOut`] back.
    Rollback {
        /// The migration.
        migration: MigrationId,
        /// The fate of the job's connections.
        connections: Connections,
    },
    /// Remove a job that has migrated away.
    Retire {
        /// The migration.
        migration: MigrationId,
    },
    /// End the job.
    Stop,
}

impl JobOrder {
    /// Returns whether a host that follows the order executes the job, or goes on executing it.
    #[must_use]
    pub fn executes(&self) -> bool {
        match self {
            Self::Run { .. } | Self::MigrateIn { .. } | Self::MigrateOut { .. } | Self::Rollback { .. } => true,
            Self::Abort { .. } | Self::Retire { .. } | Self::Stop => false,
        }
    }

    /// Returns whether the order reads or writes a capsule of the store.
    #[must_use]
    pub fn uses_store(&self) -> bool {
        matches!(
            self,
            Self::MigrateIn { from: Origin::Store { .. }, .. } | Self::MigrateOut { to: Destination::Store { .. }, .. }
        )
    }
}

/// The origin of an incoming job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Origin {
    /// Another host.
    Host {
        host: HostId,
        /// The fingerprint of the host's public key.
        key: Fingerprint,
        /// The token that the peer must present.
        token: String,
    },
    /// The capsule store.
    Store {
        capsule: CapsuleName,
        /// The fate of the job's connections.
        connections: Connections,
    },
}

/// The fate of the connections of a restored job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Connections {
    /// The connections continue.
    Kept,
    /// The peers have received more than the restored job has sent: its connections are closed.
    Reset,
}

/// The destination of an outgoing job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Destination {
    /// Another host.
    Host {
        host: HostId,
        /// The address for incoming migrations.
        address: SocketAddr,
        /// The fingerprint of the host's public key.
        key: Fingerprint,
        /// The token to present.
        token: String,
    },
    /// The capsule store.
    Store {
        /// The name of the new capsule.
        capsule: CapsuleName,
        /// The continuation after the checkpoint.
        then: AfterCheckpoint,
        /// The base of an incremental capsule: unchanged memory is not stored again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<CapsuleName>,
    },
}

/// The continuation of a job after its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AfterCheckpoint {
    /// The job stays frozen until it is retired or rolled back.
    StayFrozen,
    /// The job continues while the capsule is stored.
    GoOn,
}

/// The stages of an outgoing migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MigrateOutStage {
    /// Send changed files while the job executes.
    PreCopy,
    /// Checkpoint the job and send it.
    Freeze,
}

/// A gateway to run on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPlacement {
    pub gateway: GatewayId,
    /// The resources of the gateway.
    pub resources: Resources,
    /// Grows with every requested restart: a process with an older number hands over to a new
    /// process.
    #[serde(default)]
    pub restart: u64,
}

/// A published port of a job on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    pub job: JobId,
    /// The job's overlay address.
    pub address: Ipv4Addr,
    /// The port of the host.
    pub host_port: Port,
    /// The port in the container.
    pub container_port: Port,
    /// The rules; without a rule nobody may connect.
    pub rules: Vec<InboundRule>,
}

/// The report of an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// The number of the latest applied slice.
    pub sequence: u64,
    /// The number of the last lapse of the host's lease. A job that was frozen then goes on once a
    /// slice repeats it: OpCenter has decided on the job since.
    #[serde(default)]
    pub lapse: u64,
    /// The resources and versions of the host.
    pub facts: HostFacts,
    /// All jobs of which the host has anything.
    pub jobs: Vec<JobObservation>,
    /// Problems that prevent the desired state, for people.
    pub problems: Vec<String>,
    /// The cloud's notice about the machine; absent while unknown.
    #[serde(default)]
    pub notice: Option<Notice>,
}

/// A cloud's notice about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Notice {
    /// The machine stays.
    Stays,
    /// The machine has a higher risk of being reclaimed.
    AtRisk,
    /// The machine is reclaimed.
    Reclaimed {
        /// The time of the reclaim.
        at: Timestamp,
    },
}

/// The observed state of a job on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobObservation {
    pub job: JobId,
    /// The generation on the host.
    pub generation: Generation,
    /// The grant that came with the directive; empty as long as the host is not the owner. It
    /// proves to OpCenter that the job was given to this host in this generation, also when
    /// OpCenter's database is an older one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub grant: String,
    /// The state of the job.
    pub state: JobState,
    /// The durations of this host's phases of the current migration.
    pub phases: Vec<PhaseTime>,
    /// The bytes sent or received in the current migration.
    pub bytes_moved: u64,
    /// The progress of a long step, like `pulling ubuntu:22.04: 12 of 80 MB`; empty for none.
    #[serde(default)]
    pub progress: String,
    /// The digest of the image once it is known; empty for images without one.
    #[serde(default)]
    pub image_digest: String,
    /// The latest measurement while the job executes here.
    #[serde(default)]
    pub usage: Option<UsageSample>,
    /// The published ports that the job does not serve, while it executes here; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved: Option<Unserved>,
    /// The activity of the job on its own, while it executes here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// The kills for lack of memory in this generation; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_memory: Option<OutOfMemory>,
    /// True while the job is frozen, since the disk of the host lacks room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_short_of_disk: bool,
    /// The findings of the last look at the job, while it executes here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The differences that the last restore of the job has made, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// The connections that the job lacks since it was restored here; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaccepted: Option<Unaccepted>,
}

/// The connections of gateways that a restored job lacks: its programs had not accepted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unaccepted {
    /// The random number of the checkpoint without them.
    pub checkpoint: u64,
    pub connections: Vec<UnacceptedConnection>,
}

/// A connection that was in the queue of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnacceptedConnection {
    /// The job's port.
    pub port: u16,
    /// The gateway's end.
    pub peer: SocketAddr,
}

/// Processes of a job that the kernel has killed for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutOfMemory {
    /// The number of kills.
    pub kills: u64,
    /// The id of the last one as the job saw it; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The name of the last one's program; empty while unknown.
    #[serde(default)]
    pub program: String,
}

/// A measurement of a job's usage. Every report repeats it until the next measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageSample {
    /// The time of the measurement by the host's clock, unique for the job.
    pub time: Timestamp,
    pub usage: Usage,
}

/// The state of a job on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JobState {
    /// The container is being created.
    Starting,
    /// The job executes.
    Running,
    /// The job's process ended.
    Exited {
        /// The exit code; 128 + n for signal n.
        code: i32,
    },
    /// The start failed.
    FailedToStart {
        /// The reason, for users.
        reason: String,
    },
    /// Destination: ready to receive the job.
    Prepared {
        /// The migration.
        migration: MigrationId,
    },
    /// Source: the changed files are sent, and the job executes.
    PreCopied {
        /// The migration.
        migration: MigrationId,
    },
    /// Source: checkpointed and frozen; the capsule is complete.
    Frozen {
        /// The migration.
        migration: MigrationId,
    },
    /// Source: the receiver has confirmed the complete capsule.
    Sent {
        /// The migration.
        migration: MigrationId,
    },
    /// Source: checkpointed and executing again; the capsule is being stored.
    SnapshotTaken {
        /// The migration.
        migration: MigrationId,
    },
    /// Source: the complete capsule is in the store.
    Stored {
        /// The migration.
        migration: MigrationId,
        /// The bytes in the store.
        stored_bytes: u64,
        /// The base of an incremental capsule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<CapsuleName>,
    },
    /// Destination: the job executes here and is verified.
    Restored {
        /// The migration.
        migration: MigrationId,
    },
    /// Destination: receive or restore failed; nothing of the job runs here.
    MigrateInFailed {
        /// The migration.
        migration: MigrationId,
        /// The phase that failed.
        phase: Phase,
        /// The reason.
        reason: String,
    },
    /// Source: checkpoint or send failed; the job executes, or its capsule is complete.
    MigrateOutFailed {
        /// The migration.
        migration: MigrationId,
        /// The phase that failed.
        phase: Phase,
        /// The reason.
        reason: String,
    },
    /// Neither processes nor files of the job are here.
    Gone,
    /// The job should be here and is lost, for example after a restart of the host.
    Lost {
        /// The reason.
        reason: String,
    },
}

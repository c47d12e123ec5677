//! Desired state, pushed; observed state, reported.
//!
//! An agent and a gateway each hold one watch: `GET …/watch` answers with a line of JSON for each new slice (the first at once, then
//! whenever anything in it changes, and an empty line every [`KEEPALIVE`] so that a dead peer is noticed). A slice is always whole;
//! the receiver makes it so and derives for itself what is new. Whatever is observed is reported whole as well, at once when it
//! changes and every [`HEARTBEAT`]. A line or a report that is lost does no harm: the next one says everything again.
//!
//! # What an agent does for each [`JobOrder`]
//!
//! | order | the agent | reports |
//! |---|---|---|
//! | `Run` | starts the job if it has not begun, keeps it | `Starting`, `Running`, `Exited`, `FailedToStart`, `Lost` |
//! | `MigrateIn` | makes ready (Prepare), receives the capsule, restores (frozen, and no packet reaches it), verifies, puts on record that the job is here, lets it go on | `Prepared`, `Restored`, `MigrateInFailed` |
//! | `MigrateOut` stage `PreCopy` | sends changed files ahead | `PreCopied`, `MigrateOutFailed` |
//! | `MigrateOut` stage `Freeze` | checkpoints, then streams the capsule, keeps its copy | `Frozen`, `Sent`, `MigrateOutFailed` |
//! | `Abort` | destination: ends and removes everything of this job and attempt; one that was restored stays, and that is final | `Gone`, `Restored` |
//! | `Rollback` | source: has the job execute again, from its own capsule if it was frozen | `Running` |
//! | `Retire` | source: removes what it holds, the capsule included | `Gone` |
//! | `Stop` | ends the job, removes it | `Gone` |
//!
//! Either end of a move may be the capsule store ([`Destination`], [`Origin`]). A host that sends a job there reports `Stored` when the
//! capsule is whole; one that takes a job from there goes from `Prepared` to `Restored` by itself. Whatever is in the store, the source may
//! be told to roll back: nobody takes a capsule that OpCenter has no note of.
//!
//! A job that is in no order is left alone: a slice that is empty by mistake ends nothing. Every order is idempotent, and an
//! observation carries the generation and the migration it belongs to.

mod gateway;

pub use gateway::{
    ClientObservation, ConnectionDirective, ConnectionObservation, FarewellDirective, Flow, GatewayReport,
    GatewaySlice, Quiesced, Target,
};

pub use mooring_types::network::Backend;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mooring_types::address::Overlay;
use mooring_types::capsule::CapsuleName;
use mooring_types::host::{HostFacts, HostRole, Resources};
use mooring_types::job::JobSpec;
use mooring_types::migration::{Phase, PhaseTime};
use mooring_types::security::InboundRule;
use mooring_types::usage::Usage;
use mooring_types::{GatewayId, Generation, HostId, JobId, MigrationId, Name, Port, Timestamp};
use serde::{Deserialize, Serialize};

/// How often a watch carries at least an empty line.
pub const KEEPALIVE: Duration = Duration::from_secs(5);
/// How often a report is sent at least.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// The name of the server-sent event that carries a view.
pub const WATCH_CHANGED: &str = "changed";
/// The name of the last server-sent event of a watch: the object is gone, or the session has ended.
pub const WATCH_ENDED: &str = "ended";
/// The offset that OpCenter wants next of a file of a job of which it keeps no more.
pub const OUTPUT_ENOUGH: u64 = u64::MAX;

/// A host introduces itself. A host of that name that joined before keeps its id (and gets a new token).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// The cluster's join token.
    pub join_token: String,
    /// The key that the host drew at its first start, in hex. A join under the name of a known host is
    /// refused without that host's key.
    #[serde(default)]
    pub host_key: String,
    /// The host's name.
    pub name: Name,
    /// What it offers itself for.
    pub role: HostRole,
    /// The address by which other hosts reach it.
    pub address: Ipv4Addr,
    /// The address by which clients reach its gateways.
    pub public_address: IpAddr,
    /// Where its agent takes capsules: same address, this port.
    pub migration_port: u16,
    /// The SHA-256 of its agent's certificate, in hex.
    pub certificate: String,
    /// Its WireGuard public key in base64; empty where it has none.
    pub wireguard_key: String,
    /// What it has.
    pub facts: HostFacts,
    /// The jobs that it still carries, so that a lost database can't make two of one.
    pub jobs: Vec<JobObservation>,
}

/// The answer to [`JoinRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// The host's id.
    pub host: HostId,
    /// The token for its watch and reports.
    pub token: String,
}

/// All that one agent should know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSlice {
    /// Grows with every change.
    pub sequence: u64,
    /// The host's id.
    pub host: HostId,
    /// The overlay network.
    pub network: Network,
    /// The jobs in which this host has a part.
    pub jobs: Vec<JobDirective>,
    /// The gateways placed on this host.
    pub gateways: Vec<GatewayPlacement>,
    /// The ports of this host that lead to the jobs that it carries.
    #[serde(default)]
    pub published: Vec<PublishedPort>,
    /// Where capsules are kept, if they are.
    #[serde(default)]
    pub store: Option<StoreAccess>,
}

/// How a capsule store is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreAccess {
    /// `dir:/path` or `s3://bucket/prefix`.
    pub location: String,
    /// The address of an S3-compatible server; empty for the cloud provider's own.
    #[serde(default)]
    pub endpoint: String,
    /// Its region.
    #[serde(default)]
    pub region: String,
    /// Who asks; empty for what the machine itself may do.
    #[serde(default)]
    pub access_key: String,
    /// What shows that it is them.
    #[serde(default)]
    pub secret_key: String,
    /// What capsules are sealed with, in hex.
    pub seal: String,
}

impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAccess")
            .field("location", &self.location)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The overlay network: who is in it, and which host carries which job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The address range.
    pub overlay: Overlay,
    /// How hosts reach each other.
    pub backend: Backend,
    /// All hosts, this one included.
    pub peers: Vec<Peer>,
    /// Which host carries which job's address now.
    pub routes: Vec<JobRoute>,
    /// The jobs whose own connections leave through one host, whoever carries them.
    #[serde(default)]
    pub egress: Vec<JobRoute>,
}

/// A host as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The host.
    pub host: HostId,
    /// Its address on the network between the hosts.
    pub underlay: Ipv4Addr,
    /// Its address in the overlay.
    pub overlay: Ipv4Addr,
    /// Its WireGuard public key in base64; empty where it has none.
    pub wireguard_key: String,
}

/// One line of the table that all agents keep true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRoute {
    /// The job's overlay address.
    pub address: Ipv4Addr,
    /// The host that carries it.
    pub host: HostId,
}

/// A job in which the host has a part, and what it should do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDirective {
    /// The job.
    pub job: JobId,
    /// The generation that this host holds or should hold: the new one for `MigrateIn` and `Abort`, the old one for the source.
    pub generation: Generation,
    /// Its overlay address.
    pub address: Ipv4Addr,
    /// What to run.
    pub spec: JobSpec,
    /// What to do.
    pub order: JobOrder,
}

/// What a host should do with a job; the module's table says how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JobOrder {
    /// Execute it.
    Run {
        /// Whether it was seen to execute before: then, where it isn't any more, it is lost and not started anew.
        begun: bool,
    },
    /// Receive it.
    MigrateIn {
        /// The attempt.
        migration: MigrationId,
        /// From where.
        from: Origin,
    },
    /// Send it.
    MigrateOut {
        /// The attempt.
        migration: MigrationId,
        /// How far to go.
        stage: MigrateOutStage,
        /// Where to.
        to: Destination,
    },
    /// Undo a [`JobOrder::MigrateIn`].
    Abort {
        /// The attempt.
        migration: MigrationId,
    },
    /// Undo a [`JobOrder::MigrateOut`].
    Rollback {
        /// The attempt.
        migration: MigrationId,
        /// What becomes of the job's connections.
        connections: Connections,
    },
    /// Let go of a job that has moved away.
    Retire {
        /// The attempt.
        migration: MigrationId,
    },
    /// End it.
    Stop,
}

/// From where a job comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Origin {
    /// Another host.
    Host {
        /// The SHA-256 of its certificate, in hex.
        certificate: String,
        /// What it must present.
        token: String,
    },
    /// The capsule store.
    Store {
        /// The capsule.
        capsule: CapsuleName,
        /// What becomes of the connections that the job had.
        connections: Connections,
    },
}

/// What becomes of the connections of a job that is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Connections {
    /// They go on.
    Kept,
    /// The other ends have seen more of the job than it knows of: it is told that they have ended.
    Reset,
}

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Destination {
    /// Another host.
    Host {
        /// Where it takes capsules.
        address: SocketAddr,
        /// The SHA-256 of its certificate, in hex.
        certificate: String,
        /// What to present to it.
        token: String,
    },
    /// The capsule store.
    Store {
        /// The capsule to be made.
        capsule: CapsuleName,
        /// What the job does once its state is taken.
        then: AfterCheckpoint,
        /// A capsule on which that one may build: memory that is the same need not be stored again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<CapsuleName>,
    },
}

/// What a job does once its state is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AfterCheckpoint {
    /// It stands still until it is retired or rolled back.
    StayFrozen,
    /// It goes on while the capsule is stored.
    GoOn,
}

/// How far a source should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MigrateOutStage {
    /// Send changed files ahead; the job goes on.
    PreCopy,
    /// Checkpoint it and send it.
    Freeze,
}

/// A gateway that runs on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPlacement {
    /// The gateway.
    pub gateway: GatewayId,
    /// The token for its watch and reports.
    pub token: String,
    /// Its share of the host.
    pub resources: Resources,
    /// Grows with every restart that was asked for: a process of an older number hands over to a new one.
    #[serde(default)]
    pub restart: u64,
}

/// A port of a host that leads to a job on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// The job.
    pub job: JobId,
    /// The job's overlay address.
    pub address: Ipv4Addr,
    /// The host's port.
    pub host_port: Port,
    /// The port inside the container.
    pub container_port: Port,
    /// Who may connect; nobody when empty.
    pub rules: Vec<InboundRule>,
}

/// What an agent observed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// The last slice that it has taken in.
    pub sequence: u64,
    /// What the host has now.
    pub facts: HostFacts,
    /// Every job that it holds anything of.
    pub jobs: Vec<JobObservation>,
    /// What keeps it from making its slice so, for people to read.
    pub problems: Vec<String>,
    /// What its cloud says of the machine's future; absent while that is not known.
    #[serde(default)]
    pub notice: Option<Notice>,
}

/// What a cloud says of a machine's future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Notice {
    /// Nothing: it stays.
    Stays,
    /// It is likelier than others to be taken away.
    AtRisk,
    /// It is taken away.
    Reclaimed {
        /// When.
        at: Timestamp,
    },
}

/// A job as a host sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobObservation {
    /// The job.
    pub job: JobId,
    /// The generation that the host acts for.
    pub generation: Generation,
    /// What is so.
    pub state: JobState,
    /// How long the phases took that this host did for the attempt under way.
    pub phases: Vec<PhaseTime>,
    /// Bytes sent or received for the attempt under way.
    pub bytes_moved: u64,
    /// How far it has come with what takes long, like `pulling ubuntu:22.04: 12 of 80 MB`; empty where there is nothing to tell.
    #[serde(default)]
    pub progress: String,
    /// The digest of its image, once it is known; empty for images that have none.
    #[serde(default)]
    pub image_digest: String,
    /// What it used when that was last measured, while it executes here.
    #[serde(default)]
    pub usage: Option<UsageSample>,
}

/// A measurement of what a job uses. It is reported again and again, until there is the next one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageSample {
    /// When it was made, by the host's clock; no other of the job has the same time.
    pub time: Timestamp,
    /// What was measured.
    pub usage: Usage,
}

/// What is so of a job on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JobState {
    /// Its container is being made.
    Starting,
    /// It executes.
    Running,
    /// It ended by itself.
    Exited {
        /// The exit code; 128 + n for signal n.
        code: i32,
    },
    /// It could not be started.
    FailedToStart {
        /// Why, as a user reads it.
        reason: String,
    },
    /// Destination: ready to receive.
    Prepared {
        /// The attempt.
        migration: MigrationId,
    },
    /// Source: files are ahead, the job executes.
    PreCopied {
        /// The attempt.
        migration: MigrationId,
    },
    /// Source: checkpointed; it stands still, the capsule is whole.
    Frozen {
        /// The attempt.
        migration: MigrationId,
    },
    /// Source: the receiver has confirmed the whole capsule.
    Sent {
        /// The attempt.
        migration: MigrationId,
    },
    /// Source: its state is taken, and it goes on; the capsule is on its way to the store.
    SnapshotTaken {
        /// The attempt.
        migration: MigrationId,
    },
    /// Source: the capsule is in the store, whole.
    Stored {
        /// The attempt.
        migration: MigrationId,
        /// How much it takes there.
        stored_bytes: u64,
        /// The capsule that it builds on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<CapsuleName>,
    },
    /// Destination: the job executes here and was seen to live.
    Restored {
        /// The attempt.
        migration: MigrationId,
    },
    /// Destination: it could not be received or restored; nothing of it runs here.
    MigrateInFailed {
        /// The attempt.
        migration: MigrationId,
        /// The phase that failed.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// Source: it could not be checkpointed or sent; the job executes or its capsule is whole.
    MigrateOutFailed {
        /// The attempt.
        migration: MigrationId,
        /// The phase that failed.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// Neither its process nor its files are here.
    Gone,
    /// It should be here and is not, and can't be brought back: the host was restarted, say.
    Lost {
        /// Why.
        reason: String,
    },
}

//! What a gateway is told, and what it says.

use std::net::{IpAddr, SocketAddr};

use mooring_types::endpoint::Endpoint;
use mooring_types::gateway::{HoldLimits, Protocol, Widget};
use mooring_types::job::JobStatus;
use mooring_types::security::InboundRule;
use mooring_types::{ConnectionId, GatewayId, JobId, MigrationId, Name, Port, PortRange, Timestamp};
use serde::{Deserialize, Serialize};

/// All that one gateway should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySlice {
    /// Grows with every change.
    pub sequence: u64,
    /// The gateway.
    pub gateway: GatewayId,
    /// Its name.
    pub name: Name,
    /// The address that it listens on.
    pub bind: IpAddr,
    /// The ports it may use.
    pub port_range: PortRange,
    /// Who may connect to which of its ports, from all of its security groups; nobody when empty.
    #[serde(default)]
    pub rules: Vec<InboundRule>,
    /// What is connected.
    pub connections: Vec<ConnectionDirective>,
    /// What was connected to jobs that have ended since.
    #[serde(default)]
    pub farewells: Vec<FarewellDirective>,
}

/// A port to listen on and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionDirective {
    /// The connection.
    pub connection: ConnectionId,
    /// The job.
    pub job: JobId,
    /// The job's name.
    pub job_name: Name,
    /// The job's status, for people.
    pub job_status: JobStatus,
    /// The port to listen on.
    pub gateway_port: Port,
    /// Where the job listens.
    pub target: Target,
    /// Grows when the job is another one than before for its open connections: it was recovered without them, or somebody else moved
    /// it. They can't go on then, and are ended as their application understands, once `flow` is open.
    #[serde(default)]
    pub epoch: u64,
    /// How its bytes are treated.
    pub protocol: Protocol,
    /// For how long new requests wait.
    #[serde(default)]
    pub hold_limits: HoldLimits,
    /// Whether its pages get the widget.
    #[serde(default)]
    pub widget: Widget,
    /// Whether bytes flow.
    pub flow: Flow,
}

/// A port that tells for a while what became of its job. It is free all the same: a connection that has the port is the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FarewellDirective {
    /// The connection that it was.
    pub connection: ConnectionId,
    /// The job.
    pub job: JobId,
    /// The job's name.
    pub job_name: Name,
    /// The status that it has ended with.
    pub job_status: JobStatus,
    /// Why; empty where there is nothing to say.
    #[serde(default)]
    pub status_reason: String,
    /// Its exit code, where it has one.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// When it ended.
    pub end_time: Timestamp,
    /// The port to listen on.
    pub gateway_port: Port,
    /// How bytes were treated.
    pub protocol: Protocol,
    /// Whether its pages got the widget.
    #[serde(default)]
    pub widget: Widget,
}

/// Where a job listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// At its overlay address, which is the same for its whole life.
    Overlay(SocketAddr),
    /// Where somebody else runs it: the first of these that takes a connection.
    Endpoints(Vec<Endpoint>),
}

/// Whether bytes flow to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "flow", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Flow {
    /// They do.
    Open,
    /// They wait: the job is pending, suspended or floating.
    Held {
        /// The attempt that wants to be told, in [`GatewayReport::quiesced`], when nothing is unacknowledged any more.
        quiesce: Option<MigrationId>,
    },
}

/// What a gateway observed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReport {
    /// Which of its processes says this, drawn at the process's start: while a restart is under way there are several, each with its own
    /// clients. 0 from one that does not know of it.
    #[serde(default)]
    pub incarnation: u64,
    /// The process that served before this one and left nothing, if it died: nobody has to wait for it.
    #[serde(default)]
    pub replaces: Option<u64>,
    /// Whether this is the process's last report.
    #[serde(default)]
    pub finished: bool,
    /// The last slice that it has taken in.
    pub sequence: u64,
    /// The moves for which it has gone quiet.
    pub quiesced: Vec<Quiesced>,
    /// Every connection with its clients.
    pub connections: Vec<ConnectionObservation>,
}

/// A gateway writes nothing more to a job, and nothing is unacknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quiesced {
    /// The attempt.
    pub migration: MigrationId,
    /// What was still unacknowledged when the time was up; 0 is usual.
    pub unacknowledged: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A connection as its gateway sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionObservation {
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the gateway listens, or why not.
    pub problem: Option<String>,
    /// Its clients.
    pub clients: Vec<ClientObservation>,
    /// How many of those who wait for the job want it to be resumed; a page that asks again and again by itself does not.
    #[serde(default)]
    pub calling: u32,
    /// Bytes from all clients to the job, of those as well that have gone, since the process was started.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes from the job to all clients.
    #[serde(default)]
    pub bytes_out: u64,
}

/// A client of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientObservation {
    /// Its address and port.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Since when.
    #[schema(value_type = String)]
    pub connected_at: Timestamp,
    /// Bytes from the client to the job.
    pub bytes_in: u64,
    /// Bytes from the job to the client.
    pub bytes_out: u64,
}

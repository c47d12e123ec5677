//! The slice and the report of a gateway.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use mooring_types::endpoint::Endpoint;
use mooring_types::external::{EndpointRules, IpNet};
use mooring_types::external_url::ExternalUrl;
use mooring_types::gateway::{self, Access, Cookies, HoldLimits, Protocol, WakeOn, Widget};
use mooring_types::host_name::HostPattern;
use mooring_types::job::JobStatus;
use mooring_types::security::InboundRule;
use mooring_types::{ConnectionId, GatewayId, JobId, MigrationId, Name, Port, PortRange, Timestamp};
use serde::{Deserialize, Serialize};

use super::Unaccepted;

/// The desired state of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySlice {
    /// The number of the slice, which grows with every change.
    pub sequence: u64,
    pub gateway: GatewayId,
    pub name: Name,
    /// The address to listen at.
    pub bind: IpAddr,
    /// The ports that it may assign.
    pub port_range: PortRange,
    /// The rules of all its security groups; without a rule nobody may connect.
    #[serde(default)]
    pub rules: Vec<InboundRule>,
    /// The addresses that endpoints of external jobs may have.
    #[serde(default)]
    pub endpoints: EndpointRules,
    /// The names by which browsers may reach it, beside addresses and names without a dot.
    #[serde(default)]
    pub host_names: Vec<HostPattern>,
    /// The proxies before it, whose word about clients is believed.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Words in the user agents of clients that only look whether a job answers.
    #[serde(default = "gateway::usual_checkers")]
    pub checkers: Vec<String>,
    /// The TLS of its ports; absent if they are plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsDirective>,
    /// The URL by which browsers reach OpCenter; empty where it is the one by which the gateway
    /// does.
    #[serde(default)]
    pub opcenter: String,
    /// The connections.
    pub connections: Vec<ConnectionDirective>,
    /// The farewells of ended jobs.
    #[serde(default)]
    pub farewells: Vec<FarewellDirective>,
}

/// TLS on the ports of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsDirective {
    /// The names and addresses for which the gateway asks the authority for a certificate.
    pub names: Vec<String>,
    /// The certificates that users have given it.
    #[serde(default)]
    pub certificates: Vec<GivenCertificate>,
}

/// A certificate of a user, for the ports of one gateway. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenCertificate {
    /// The certificate and those between it and its root, in PEM.
    pub certificate: String,
    /// The key in PEM.
    pub key: String,
}

impl fmt::Debug for GivenCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A connection: a gateway port and the job that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionDirective {
    pub connection: ConnectionId,
    pub job: JobId,
    pub job_name: Name,
    /// The job's status, for people.
    pub job_status: JobStatus,
    /// The gateway port.
    pub gateway_port: Port,
    /// The address of the job.
    pub target: Target,
    /// Grows when open connections of the job can't continue: the job was recovered without them,
    /// or an external job moved. The gateway ends them in the way of their protocol once `flow` is
    /// open.
    #[serde(default)]
    pub epoch: u64,
    /// The protocol of the target port.
    pub protocol: Protocol,
    /// The limits of requests that wait.
    #[serde(default)]
    pub hold_limits: HoldLimits,
    /// The clients that wake the job while it is suspended.
    #[serde(default)]
    pub wake_on: WakeOn,
    /// True if they do: a job may wait for its user.
    #[serde(default)]
    pub resumes: bool,
    /// The idle time after which the job is suspended, in seconds; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// True while the job is suspended because of that.
    #[serde(default)]
    pub is_idle: bool,
    /// The widget in HTML pages.
    #[serde(default)]
    pub widget: Widget,
    /// The cookies of the job.
    #[serde(default)]
    pub cookies: Cookies,
    /// The users whom the connection lets in.
    #[serde(default)]
    pub access: Access,
    /// The SHA-256 of the tokens with which browsers are let in, in hex, sorted.
    #[serde(default)]
    pub visits: Vec<String>,
    /// The sentence about a job that listens elsewhere than at its target; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unserved: String,
    /// The URL by which browsers reach the port through a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_url: Option<ExternalUrl>,
    /// The gate: bytes pass or are held.
    pub flow: Flow,
    /// The connections that the restored job lacks. The gateway makes them again once for each
    /// checkpoint, when `flow` is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaccepted: Option<Unaccepted>,
}

/// A port that tells the outcome of an ended job for a while. The port is free: a connection with
/// the same port has precedence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FarewellDirective {
    /// The former connection.
    pub connection: ConnectionId,
    pub job: JobId,
    pub job_name: Name,
    /// The final status.
    pub job_status: JobStatus,
    /// The reason for the status, if any.
    #[serde(default)]
    pub status_reason: String,
    /// The exit code, if there is one.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The end of the job.
    pub end_time: Timestamp,
    /// The gateway port.
    pub gateway_port: Port,
    /// The protocol of the former connection.
    pub protocol: Protocol,
    /// The widget in HTML pages.
    #[serde(default)]
    pub widget: Widget,
}

/// A browser that OpCenter has sent back to a gateway.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VisitRequest {
    pub connection: ConnectionId,
    /// OpCenter's code, which is good once.
    pub code: String,
    /// The origin at which the browser is.
    pub origin: String,
}

/// The answer to [`VisitRequest`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VisitAnswer {
    /// The secret that the browser keeps.
    pub token: String,
}

/// The address of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The overlay address, which never changes.
    Overlay(SocketAddr),
    /// The endpoints of an external job; the first that accepts a connection is used.
    Endpoints(Vec<Endpoint>),
}

/// The gate of a job: bytes pass or are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "flow", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Flow {
    /// Bytes pass.
    Open,
    /// Bytes are held: the job is pending, suspended or floating.
    Held {
        /// The migration to quiesce for; [`GatewayReport::quiesced`] reports when nothing is
        /// unacknowledged.
        quiesce: Option<MigrationId>,
    },
}

/// The report of a gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReport {
    /// The random number of the reporting process. During a restart there are several processes,
    /// each with its own clients. 0 from versions without the number.
    #[serde(default)]
    pub incarnation: u64,
    /// The number of the process before this one, if it died and left no connections.
    #[serde(default)]
    pub replaces: Option<u64>,
    /// `true` in the last report of the process.
    #[serde(default)]
    pub finished: bool,
    /// The number of the latest applied slice.
    pub sequence: u64,
    /// The migrations for which connections are quiesced.
    pub quiesced: Vec<Quiesced>,
    /// All connections with their clients.
    pub connections: Vec<ConnectionObservation>,
}

/// The gateway has stopped writing to a job, and nothing is unacknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quiesced {
    /// The migration.
    pub migration: MigrationId,
    /// The bytes that were still unacknowledged at the time limit; usually 0.
    pub unacknowledged: u64,
    /// The duration in seconds.
    pub seconds: f64,
}

/// The observed state of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionObservation {
    pub connection: ConnectionId,
    /// The reason why the gateway can't listen, if it can't.
    pub problem: Option<String>,
    /// True where the reason is that another program listens at the port.
    #[serde(default)]
    pub is_port_taken: bool,
    /// The client connections.
    pub clients: Vec<ClientObservation>,
    /// The number of callers: waiting clients that should wake the suspended job.
    #[serde(default)]
    pub calling: u32,
    /// The first of the callers; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<CallerObservation>,
    /// The number of held requests.
    #[serde(default)]
    pub held: u32,
    /// The bytes from all clients to the job since the start of the process, including closed
    /// connections.
    #[serde(default)]
    pub bytes_in: u64,
    /// The bytes from the job to all clients.
    #[serde(default)]
    pub bytes_out: u64,
}

/// A client that should wake a suspended job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerObservation {
    /// The client's address, behind the proxies that are trusted.
    pub address: IpAddr,
    /// The act of the client.
    pub call: Call,
}

/// The act of a client by which it wakes a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Call {
    /// It sent a request of HTTP.
    Request {
        method: String,
        /// The path without its query, which may have secrets.
        path: String,
    },
    /// It connected, or sent the first bytes of another protocol.
    Connection,
    /// Somebody has clicked, typed or tapped in an open page.
    Page,
}

impl fmt::Display for CallerObservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.call {
            Call::Request { method, path } => write!(f, "{method} {path}")?,
            Call::Connection => f.write_str("a connection")?,
            Call::Page => f.write_str("somebody at the open page")?,
        }
        write!(f, " from {}", self.address)
    }
}

/// A client connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientObservation {
    /// The client's address and port.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// The start of the client connection.
    #[schema(value_type = String)]
    pub connected_at: Timestamp,
    /// The bytes from the client to the job.
    pub bytes_in: u64,
    /// The bytes from the job to the client.
    pub bytes_out: u64,
}

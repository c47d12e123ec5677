//! Gateways and their connections.

use std::fmt;

use mooring_types::external::IpNet;
use mooring_types::gateway::{Access, Cookies, GatewayStatus, HoldLimits, Protocol, Tls, WakeOn, Widget};
use mooring_types::{GatewayId, JobId, Reference, SecurityGroupId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::watch::ClientObservation;

/// A gateway to create.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayCreateRequest {
    pub name: String,
    /// The minimum of cores; 1 when absent.
    pub cpu: Option<u32>,
    /// The minimum of memory in GB; 1 when absent.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
    /// `<min>:<max>`; `10000:10500` when empty.
    pub port_range: String,
    /// The security groups, by id or name; `default` when empty.
    #[schema(value_type = Vec<String>)]
    pub security_groups: Vec<Reference<SecurityGroupId>>,
    /// `true` if the gateway listens only on the private address of its host.
    #[serde(rename = "noPublicIP")]
    pub no_public_ip: bool,
    /// TLS on its ports: `on`, or `off` when absent.
    #[schema(value_type = String)]
    pub tls: Tls,
    /// The proxies in front of it, whose word about clients is believed: addresses or ranges.
    #[schema(value_type = Vec<String>)]
    pub trusted_proxies: Vec<IpNet>,
    /// The URL by which browsers reach it through them. `{port}` in it stands for the gateway port.
    pub external_url: String,
}

/// Changes to a gateway; absent or empty values stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayModifyRequest {
    /// The new name.
    pub name: String,
    /// The minimum of cores.
    pub cpu: Option<u32>,
    /// The minimum of memory in GB.
    #[serde(rename = "memGB")]
    pub mem_gb: Option<f64>,
    /// The ports to assign, `<min>:<max>`.
    pub port_range: String,
    /// The security groups to add, by id or name.
    #[schema(value_type = Vec<String>)]
    pub add_security_groups: Vec<Reference<SecurityGroupId>>,
    /// The security groups to remove, by id or name.
    #[schema(value_type = Vec<String>)]
    pub remove_security_groups: Vec<Reference<SecurityGroupId>>,
    /// TLS on its ports: `on` or `off`.
    #[schema(value_type = Option<String>)]
    pub tls: Option<Tls>,
    /// The proxies whose word about clients is believed; an empty list is none.
    #[schema(value_type = Option<Vec<String>>)]
    pub trusted_proxies: Option<Vec<IpNet>>,
    /// The URL by which browsers reach it through them; an empty text is none.
    pub external_url: Option<String>,
}

/// A certificate for the ports of a gateway, in place of the one by OpCenter's authority. One with
/// the same first name is replaced.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayCertificateRequest {
    /// The certificate and those between it and its root, in PEM.
    pub certificate: String,
    /// The key in PEM, without a passphrase.
    pub key: String,
}

impl fmt::Debug for GatewayCertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayCertificateRequest").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate that a user has given a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayCertificateView {
    /// The names and addresses that it is for. It is known by the first.
    pub names: Vec<String>,
    /// The end of its life.
    #[schema(value_type = String)]
    pub expire_time: Timestamp,
    /// The time at which it was given.
    #[schema(value_type = String)]
    pub set_time: Timestamp,
}

/// A gateway.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayView {
    #[schema(value_type = String)]
    pub id: GatewayId,
    pub name: String,
    #[schema(value_type = String)]
    pub status: GatewayStatus,
    /// The address for clients.
    pub address: String,
    /// `true` if that is the private address of its host.
    #[serde(rename = "noPublicIP")]
    pub no_public_ip: bool,
    /// The ports to assign, `<min>:<max>`.
    pub port_range: String,
    /// The names of the security groups.
    pub security_groups: Vec<String>,
    /// TLS on its ports: `on` or `off`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub tls: Tls,
    /// The proxies in front of it, whose word about clients is believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub trusted_proxies: Vec<IpNet>,
    /// The URL by which browsers reach it through them; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub external_url: String,
    /// The certificates that users have given it. Names that none of them has are served with one
    /// by OpCenter's authority.
    #[serde(default)]
    pub certificates: Vec<GatewayCertificateView>,
    pub cpu: u32,
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// The name of the host of the gateway.
    pub host_name: String,
    /// The time of the creation.
    #[schema(value_type = String)]
    pub create_time: Timestamp,
    /// The user who created the gateway.
    pub user: String,
    /// The number of ports that are assigned, to jobs of all users.
    pub ports_used: usize,
    /// The connections of jobs that the user may see.
    pub connections: Vec<ConnectionView>,
}

/// The state of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ConnectionState {
    /// The gateway listens and the job answers.
    Open,
    /// The connection waits for the job or the gateway.
    Waiting,
    /// The gateway listens, and the job listens elsewhere than at the target port.
    Unserved {
        /// The addresses and the remedy.
        problem: String,
    },
    /// The gateway can't listen.
    Failed {
        /// The reason.
        problem: String,
    },
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Waiting => f.write_str("waiting"),
            Self::Unserved { problem } => write!(f, "unserved: {problem}"),
            Self::Failed { problem } => write!(f, "failed: {problem}"),
        }
    }
}

/// A connection.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    #[schema(value_type = String)]
    pub job_id: JobId,
    pub job_name: String,
    /// The published port of the job.
    pub target_port: u16,
    /// The port of the gateway.
    pub gateway_port: u16,
    /// The URL for a browser.
    pub access_url: String,
    /// The state, as `state`; where it is `unserved` or `failed` also `problem`.
    #[serde(flatten)]
    pub state: ConnectionState,
    /// The protocol that clients speak.
    #[schema(value_type = String)]
    pub protocol: Protocol,
    /// The limits of requests that wait for the job.
    #[schema(value_type = Object)]
    pub hold_limits: HoldLimits,
    /// The widget in HTML pages: `shown` or `hidden`.
    #[schema(value_type = String)]
    pub widget: Widget,
    /// The clients that wake the suspended job: `page`, `request` or `connection`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub wake_on: WakeOn,
    /// The cookies of the job: `own`, or `shared` with other connections whose cookies are.
    #[serde(default)]
    #[schema(value_type = String)]
    pub cookies: Cookies,
    /// The users whom the connection lets in: `open`, `private`, `group` or `link`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub access: Access,
    /// The users with whom it is shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<String>,
    /// The number of requests that wait for the job.
    #[serde(default)]
    pub held: u32,
    /// The client connections.
    pub clients: Vec<ClientObservation>,
}

/// A measurement of a gateway's traffic: numbers at that time, and rates since the measurement
/// before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayMetricView {
    /// The time of the measurement.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// The number of client connections.
    pub connections: u32,
    /// The number of requests that wait for jobs.
    pub held: u32,
    /// The bytes received from clients in a second, on average.
    pub received_per_second: u64,
    /// The bytes sent to clients in a second, on average.
    pub sent_per_second: u64,
}

impl ConnectRequest {
    /// A request for all published ports of a job.
    #[must_use]
    pub fn new(job_id: JobId) -> Self {
        Self {
            job_id,
            target_ports: Vec::new(),
            protocol: Protocol::default(),
            hold_limit: None,
            page_patience: None,
            held_max: None,
            wake_on: None,
            widget: Widget::default(),
            cookies: Cookies::default(),
            access: Access::default(),
            shares: Vec::new(),
        }
    }
}

/// Ports of a job to connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectRequest {
    /// The job.
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// The published ports; all when empty.
    #[serde(default)]
    pub target_ports: Vec<u16>,
    /// The protocol that clients speak; `float gateway connect --help` lists all.
    #[serde(default)]
    #[schema(value_type = String)]
    pub protocol: Protocol,
    /// The longest wait of a new request for the job before a 503, in seconds; 600 when absent.
    #[serde(default)]
    pub hold_limit: Option<u32>,
    /// The wait of a browser's page load before the waiting page, in seconds; 5 when absent.
    #[serde(default)]
    pub page_patience: Option<u32>,
    /// The most waiting requests; 10000 when absent.
    #[serde(default)]
    pub held_max: Option<u32>,
    /// The clients that wake the suspended job: `page`, `request` or `connection`; as the job says
    /// when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub wake_on: Option<WakeOn>,
    /// The widget in HTML pages: `shown` or `hidden`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub widget: Widget,
    /// The cookies of the job: `own`, or `shared` with other connections whose cookies are.
    #[serde(default)]
    #[schema(value_type = String)]
    pub cookies: Cookies,
    /// The users whom the connection lets in: `open` for all whom the security groups admit,
    /// `private`, `group`, or `link`. The link is in the answer, and shown once.
    #[serde(default)]
    #[schema(value_type = String)]
    pub access: Access,
    /// The users with whom it is shared, by name.
    #[serde(default)]
    pub shares: Vec<String>,
}

//! Gateways and their connections.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::external::IpNet;
use crate::external_url::ExternalUrl;
use crate::host::Resources;
use crate::{Name, Port, PortRange, SecurityGroupId};

/// The desired state of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The name, chosen by its user.
    pub name: Name,
    /// The least resources of its host.
    pub resources: Resources,
    /// The gateway ports that it may assign.
    pub port_range: PortRange,
    /// The address of its host on which it listens.
    #[serde(default)]
    pub exposure: Exposure,
    /// The security groups that admit clients. Without a group, nobody may connect.
    #[serde(default)]
    pub security_groups: Vec<SecurityGroupId>,
    /// TLS on its ports.
    #[serde(default)]
    pub tls: Tls,
    /// The proxies in front of it, whose word about clients is believed.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// The URL by which browsers reach it through them.
    #[serde(default)]
    pub external_url: Option<ExternalUrl>,
}

impl GatewaySpec {
    /// Returns the external URL of a gateway port, if it has one. `connected` are the gateway ports
    /// that are connected.
    ///
    /// A URL without a place for the port stands for one port: the first of the range, else the
    /// only one that is connected. A proxy can lead it to no other, and an Access URL may have a
    /// token in it.
    #[must_use]
    pub fn external_url_of(&self, port: Port, mut connected: impl Iterator<Item = Port>) -> Option<ExternalUrl> {
        let url = self.external_url.as_ref()?;
        let is_its = url.holds_port() || port.get() == self.port_range.first() || connected.all(|other| other == port);
        is_its.then(|| url.of_port(port))
    }
}

/// TLS on the ports of a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tls {
    /// Bytes pass as they are.
    #[default]
    Off,
    /// Each port speaks TLS, which ends at the gateway.
    On,
}

/// A text that is neither `on` nor `off`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS is `on` or `off`, not `{0}`")]
pub struct UnknownTls(String);

impl Tls {
    pub const ALL: [Self; 2] = [Self::Off, Self::On];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }

    /// A phrase for the help.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Off => "plain HTTP and TCP",
            Self::On => "TLS 1.2 or 1.3 on every port",
        }
    }

    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Off => "http",
            Self::On => "https",
        }
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tls {
    type Err = UnknownTls;

    fn from_str(text: &str) -> Result<Self, UnknownTls> {
        Self::ALL.into_iter().find(|tls| tls.name() == text).ok_or_else(|| UnknownTls(text.to_owned()))
    }
}

/// The address of its host on which a gateway listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exposure {
    /// The address by which outside clients reach the host.
    #[default]
    Public,
    /// The address by which other hosts reach the host.
    Private,
}

/// The protocol that clients speak on a connected port.
///
/// All that differs between protocols is asked here, or decided by the gateway's session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Decided by the first bytes of each client connection.
    #[default]
    Auto,
    Http,
    /// Any bytes.
    Tcp,
}

/// The traffic of a client that does not use its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chatter {
    /// An open page polls.
    Pages,
    /// The client sends keep-alives.
    KeepAlives,
}

/// A text that names no protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol `{0}`")]
pub struct UnknownProtocol(String);

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Http, Self::Tcp];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }

    /// A phrase for the help.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Auto => "detected from the first bytes of each client",
            Self::Http => "HTTP",
            Self::Tcp => "any TCP protocol",
        }
    }

    /// Returns whether a client may speak HTTP.
    #[must_use]
    pub fn speaks_http(self) -> bool {
        match self {
            Self::Auto | Self::Http => true,
            Self::Tcp => false,
        }
    }

    #[must_use]
    pub fn chatter(self) -> Chatter {
        match self {
            Self::Auto | Self::Http => Chatter::Pages,
            Self::Tcp => Chatter::KeepAlives,
        }
    }

    /// Returns whether the port tells of the job's end: only HTTP has a response for that.
    #[must_use]
    pub fn leaves_farewell(self) -> bool {
        self.speaks_http()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

/// The clients for whom a suspended job is resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WakeOn {
    /// A person who loads a page or sends a form.
    Page,
    /// A page load, a program's request, or the first byte of any other protocol.
    #[default]
    Request,
    /// Any client, before it says a word.
    Connection,
}

/// A text that names no kind of client to wake for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job wakes on `page`, `request` or `connection`, not on `{0}`")]
pub struct UnknownWakeOn(String);

impl WakeOn {
    pub const ALL: [Self; 3] = [Self::Page, Self::Request, Self::Connection];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Request => "request",
            Self::Connection => "connection",
        }
    }

    /// A phrase for the help.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Page => "a person who loads a page or sends a form",
            Self::Request => "that, a program's request, or the first byte of another protocol than HTTP",
            Self::Connection => "any client, as for servers that speak first",
        }
    }
}

impl fmt::Display for WakeOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WakeOn {
    type Err = UnknownWakeOn;

    fn from_str(text: &str) -> Result<Self, UnknownWakeOn> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownWakeOn(text.to_owned()))
    }
}

/// Words in the user agents of programs that only look whether a server answers: health checks of
/// load balancers, monitors, scanners. Case does not matter.
pub const USUAL_CHECKERS: [&str; 34] = [
    "kube-probe",
    "ELB-HealthChecker",
    "GoogleHC",
    "GoogleStackdriverMonitoring",
    "Route53-Health-Check",
    "Load Balancer Agent",
    "Edge Health Probe",
    "Azure Traffic Manager",
    "Cloudflare-Healthchecks",
    "Cloudflare-Traffic-Manager",
    "DigitalOcean Uptime",
    "Envoy/HC",
    "Consul Health Check",
    "Prometheus",
    "Blackbox Exporter",
    "check_http",
    "Nagios",
    "Zabbix",
    "Icinga",
    "Datadog",
    "NewRelicPinger",
    "Uptime-Kuma",
    "UptimeRobot",
    "Better Uptime",
    "Better Stack",
    "Pingdom",
    "StatusCake",
    "Site24x7",
    "HetrixTools",
    "Gatus",
    "zgrab",
    "masscan",
    "Nmap Scripting Engine",
    "CensysInspect",
];

/// Returns the usual words of checkers.
#[must_use]
pub fn usual_checkers() -> Vec<String> {
    USUAL_CHECKERS.map(str::to_owned).to_vec()
}

/// For how long, and for how many, a connection waits for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldLimits {
    /// The longest wait of a new request before it is answered with 503, in seconds.
    pub hold_seconds: u32,
    /// The longest wait of a browser's page load before it gets the waiting page, in seconds.
    pub page_seconds: u32,
    /// The most new requests that wait at once, of all connections of the job together.
    pub held_max: u32,
}

impl Default for HoldLimits {
    /// Ten minutes, in which a large job migrates; five seconds, which people wait without a sign;
    /// and 10,000 requests.
    fn default() -> Self {
        Self { hold_seconds: 600, page_seconds: 5, held_max: 10_000 }
    }
}

/// The widget in the pages of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Widget {
    /// The gateway adds the widget.
    #[default]
    Shown,
    /// Pages stay unchanged.
    Hidden,
}

/// The cookies of a connection, which browsers keep for all ports of a host name together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cookies {
    /// The job gets its own, under the names that it chose.
    #[default]
    Own,
    /// The job shares its cookies with all others that share theirs.
    Shared,
}

/// The users whom a connection lets in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Everybody whom the security groups admit.
    #[default]
    Open,
    /// The owner of the job, admins, and users with whom it is shared.
    Private,
    /// These, and the members of the owner's groups.
    Group,
    /// These without the groups, and everybody who has the link.
    Link,
}

/// A text that names no access.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown access `{0}`")]
pub struct UnknownAccess(String);

impl Access {
    pub const ALL: [Self; 4] = [Self::Open, Self::Private, Self::Group, Self::Link];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Private => "private",
            Self::Group => "group",
            Self::Link => "link",
        }
    }

    /// A phrase for the help.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Open => "everybody whom the security groups admit",
            Self::Private => "the job's owner, admins, and users of --share, after OpCenter's login",
            Self::Group => "these, and members of the owner's groups",
            Self::Link => "the job's owner, admins, users of --share, and everybody with the link",
        }
    }

    /// Returns whether nothing passes without a login or a link.
    #[must_use]
    pub fn is_guarded(self) -> bool {
        self != Self::Open
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Access {
    type Err = UnknownAccess;

    fn from_str(text: &str) -> Result<Self, UnknownAccess> {
        Self::ALL.into_iter().find(|access| access.name() == text).ok_or_else(|| UnknownAccess(text.to_owned()))
    }
}

/// The state of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GatewayStatus {
    /// Its process has sent no report yet.
    Starting,
    /// Its process serves.
    Running,
    /// The reports of its host or its process have stopped.
    Unreachable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_names_are_those_of_serde() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.name());
        }
        assert!("udp".parse::<Protocol>().is_err());
    }

    #[test]
    fn url_without_a_place_for_the_port_stands_for_one_port() {
        let stored = r#"{"name": "lab", "resources": {"cpu": 1, "memGb": 1.0}, "portRange": "10000:10500"}"#;
        // One that was stored before there were proxies.
        let spec: GatewaySpec = serde_json::from_str(stored).unwrap();
        assert_eq!((spec.trusted_proxies.len(), spec.external_url.as_ref()), (0, None));
        let ports = |numbers: &[u16]| numbers.iter().map(|port| Port::new(*port).unwrap()).collect::<Vec<_>>();
        let of = |url: &str, port: u16, connected: &[u16]| {
            let spec = GatewaySpec { external_url: Some(url.parse().unwrap()), ..spec.clone() };
            let url = spec.external_url_of(Port::new(port).unwrap(), ports(connected).into_iter());
            url.map(|url| url.to_string()).unwrap_or_default()
        };
        for (url, port, connected, expected) in [
            ("https://lab", 10_000, &[10_000, 10_001][..], "https://lab"),
            ("https://lab", 10_001, &[10_000, 10_001], ""),
            ("https://lab", 10_003, &[10_003], "https://lab"),
            ("https://lab:{port}", 10_001, &[10_000, 10_001], "https://lab:10001"),
        ] {
            assert_eq!(of(url, port, connected), expected, "{url} {port}");
        }
    }

    #[test]
    fn kinds_to_wake_for_have_the_names_of_serde() {
        for kind in WakeOn::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert!("probe".parse::<WakeOn>().is_err());
    }

    #[test]
    fn tls_names_are_those_of_serde() {
        for tls in Tls::ALL {
            assert_eq!(tls.to_string().parse(), Ok(tls));
            assert_eq!(serde_json::to_value(tls).unwrap(), tls.name());
        }
        assert!("yes".parse::<Tls>().is_err());
    }
}

//! The endpoints of external jobs: a host, by name or address, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::port::{Port, parse_port};

/// The longest host name (RFC 1035).
const HOST_MAX: usize = 253;

/// A host and a port, written `host:port`, with brackets around an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: Port,
}

/// A text that is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint `{text}`: write it as `<host>:<port>`, like node17:8888 or [fd00::7]:8888")]
pub struct InvalidEndpoint {
    text: String,
}

impl Endpoint {
    /// Returns the name or address of the host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = parse_port(port).ok()?;
            if let Some(inner) = host.strip_prefix('[') {
                let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
                return Some(Self { host: address.to_string(), port });
            }
            is_host(host).then(|| Self { host: host.to_ascii_lowercase(), port })
        };
        parse().ok_or_else(|| InvalidEndpoint { text: text.chars().take(100).collect() })
    }
}

/// A target port of an external job and its endpoint: `<targetPort>=<host>:<port>`, or
/// `<host>:<port>` where both ports are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalEndpoint {
    /// The target port.
    pub target: Port,
    /// The endpoint behind the target port.
    pub endpoint: Endpoint,
}

impl FromStr for ExternalEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let Some((target, endpoint)) = text.split_once('=') else {
            let endpoint: Endpoint = text.parse()?;
            return Ok(Self { target: endpoint.port(), endpoint });
        };
        let target = parse_port(target).map_err(|_| InvalidEndpoint { text: text.chars().take(100).collect() })?;
        Ok(Self { target, endpoint: endpoint.parse()? })
    }
}

impl fmt::Display for ExternalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.target, self.endpoint)
    }
}

impl TryFrom<String> for ExternalEndpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl From<ExternalEndpoint> for String {
    fn from(endpoint: ExternalEndpoint) -> Self {
        endpoint.to_string()
    }
}

/// Says whether a text is an IPv4 address or a name of letters, digits, hyphens and dots.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = text.len() <= HOST_MAX && text.split('.').all(is_label);
    // A text that looks like an address has to be a valid one.
    let numbers = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_name && (!numbers || text.parse::<IpAddr>().is_ok())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_an_endpoint_that_reads_back_or_refused(text in "[\\[\\]a-z0-9.:-]{0,30}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }

    #[test]
    fn a_target_port_may_differ_from_the_real_one() {
        let read = |text: &str| text.parse::<ExternalEndpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(read("node17:8888").unwrap(), "8888=node17:8888");
        assert_eq!(read("8888=node17:40001").unwrap(), "8888=node17:40001");
        assert!(read("=node17:1").is_err() && read("0=node17:1").is_err() && read("8888=").is_err());
    }

    #[test]
    fn names_and_addresses_are_endpoints() {
        for text in ["node17:8888", "10.0.0.7:80", "[fd00::7]:8888", "a.b-c.example:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", "node17", ":80", "node17:0", "fd00::7:80", "10.0.0.700:80", "-a:80", "a b:80", "[10.0.0.7]:80"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}

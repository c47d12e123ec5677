//! The URL by which browsers reach a gateway through a proxy.
//!
//! A gateway has many ports and one URL. So the URL may hold `{port}` in its place of the gateway
//! port: as its port, in its first label, or in its path. Without it, the proxy can lead the URL to
//! one port alone.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Port;
use crate::host_name::HostPattern;

/// The text that stands for the gateway port.
pub const PORT: &str = "{port}";
const LENGTH_MAX: usize = 500;

/// An external URL: scheme, host, perhaps a port and a path, without a `/` at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalUrl(String);

/// A text that is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid external URL `{0}`: write it as https://lab.example.org, https://lab.example.org:{{port}}, \
     https://{{port}}.lab.example.org or https://lab.example.org/{{port}}"
)]
pub struct InvalidExternalUrl(String);

impl ExternalUrl {
    /// Returns whether the URL has a place for the gateway port.
    #[must_use]
    pub fn holds_port(&self) -> bool {
        self.0.contains(PORT)
    }

    /// The URL of one gateway port.
    #[must_use]
    pub fn of_port(&self, port: Port) -> Self {
        Self(self.0.replace(PORT, &port.to_string()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The origin of its pages, as browsers write it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0[..self.0.len() - self.path().len()]
    }

    /// Host and port, as a request names them.
    #[must_use]
    pub fn authority(&self) -> &str {
        let origin = self.origin();
        origin.split_once("://").map_or(origin, |(_, authority)| authority)
    }

    /// The host; an IPv6 address is in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        split_port(self.authority()).0
    }

    /// The port to which browsers connect; `None` while that is a place for the gateway port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match split_port(self.authority()).1 {
            Some(port) => port.parse().ok(),
            None => Some(if self.is_https() { 443 } else { 80 }),
        }
    }

    /// The path, which a proxy removes or passes on; empty, or it begins with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        let begin = self.0.find("://").map_or(0, |at| at + 3);
        self.0[begin..].find('/').map_or("", |at| &self.0[begin + at..])
    }

    /// The names by which requests may name the host; `None` for an address.
    #[must_use]
    pub fn host_pattern(&self) -> Option<HostPattern> {
        let host = self.host();
        if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
            return None;
        }
        match host.split_once('.') {
            Some((label, domain)) if label.contains(PORT) => format!("*.{domain}").parse().ok(),
            _ => host.parse().ok(),
        }
    }
}

/// Splits an authority into host and port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

impl FromStr for ExternalUrl {
    type Err = InvalidExternalUrl;

    fn from_str(text: &str) -> Result<Self, InvalidExternalUrl> {
        let invalid = || InvalidExternalUrl(text.chars().take(100).collect());
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(invalid()),
        };
        // Browsers leave it out.
        let authority = authority.strip_suffix(default).unwrap_or(&authority);
        let url = Self(format!("{scheme}://{authority}{}", path.trim_end_matches('/')));
        let is_good = text.len() <= LENGTH_MAX && is_authority(authority) && is_path(url.path());
        if is_good { Ok(url) } else { Err(invalid()) }
    }
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    let is_port = match port {
        None | Some(PORT) => true,
        Some(port) => port.parse::<u16>().is_ok_and(|number| number > 0 && port == number.to_string()),
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    is_port && is_host
}

/// Returns whether a host is a name or an IPv4 address. The place is in the first label, and a
/// domain is behind it.
fn is_name(host: &str) -> bool {
    let (label, domain) = host.split_once('.').unwrap_or((host, ""));
    let has_place = label.contains(PORT);
    let name = if has_place { host.replacen(PORT, "1", 1) } else { host.to_owned() };
    let has_domain = domain.contains('.') || !domain.is_empty();
    (!has_place || has_domain) && !name.contains('*') && name.parse::<HostPattern>().is_ok()
}

/// Returns whether a path can be in a URL and in an attribute as it is.
fn is_path(path: &str) -> bool {
    let path = path.replace(PORT, "1");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%+,:@".contains(&byte);
    path.bytes().all(is_plain)
        && !path.contains("//")
        && path.split('/').all(|segment| segment != "." && segment != "..")
}

impl TryFrom<String> for ExternalUrl {
    type Error = InvalidExternalUrl;

    fn try_from(text: String) -> Result<Self, InvalidExternalUrl> {
        text.parse()
    }
}

impl From<ExternalUrl> for String {
    fn from(url: ExternalUrl) -> Self {
        url.0
    }
}

impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ExternalUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn parts_are_those_of_the_url() {
        for (text, origin, host, port, path) in [
            ("https://lab.example:9443", "https://lab.example:9443", "lab.example", Some(9443), ""),
            ("HTTPS://Lab.Example:443/", "https://lab.example", "lab.example", Some(443), ""),
            ("http://lab/jobs/", "http://lab", "lab", Some(80), "/jobs"),
            ("https://lab:{port}/a/b", "https://lab:{port}", "lab", None, "/a/b"),
            ("https://[2001:DB8::1]", "https://[2001:db8::1]", "[2001:db8::1]", Some(443), ""),
            ("https://[2001:db8::1]:9443/x", "https://[2001:db8::1]:9443", "[2001:db8::1]", Some(9443), "/x"),
        ] {
            let url = url(text);
            assert_eq!((url.origin(), url.host(), url.port(), url.path()), (origin, host, port, path), "{text}");
        }
    }

    #[test]
    fn port_is_put_in_its_place() {
        let port = Port::new(10_003).unwrap();
        for (text, expected, pattern) in [
            ("https://lab.example:{port}", "https://lab.example:10003", "lab.example"),
            ("https://{port}.lab.example", "https://10003.lab.example", "*.lab.example"),
            ("https://job-{port}.lab", "https://job-10003.lab", "*.lab"),
            ("https://lab.example/{port}", "https://lab.example/10003", "lab.example"),
        ] {
            let url = url(text);
            assert!(url.holds_port());
            assert_eq!(url.of_port(port).as_str(), expected);
            assert_eq!(url.host_pattern(), Some(pattern.parse().unwrap()), "{text}");
        }
        assert!(!url("https://lab").holds_port());
        assert_eq!(url("https://192.0.2.1").host_pattern(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "lab.example",
            "ftp://lab",
            "https://",
            "https://a b",
            "https://a@b",
            "https://a:b",
            "https://a:0",
            "https://a:099",
            "https://a?b",
            "https://a/b?c",
            "https://a/#b",
            "https://a/\"b",
            "https://a//b",
            "https://a/../b",
            "https://*.a",
            "https://{port}",
            "https://a.{port}",
            "https://[::1",
            "https://a/{b}",
        ] {
            assert!(text.parse::<ExternalUrl>().is_err(), "{text}");
        }
    }
}

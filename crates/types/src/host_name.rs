//! The names by which browsers may reach gateways.
//!
//! A page of any site may have its name lead to a gateway, and then ask that for pages as its own
//! (DNS rebinding). Such a request names the site as its `Host`. So a
//! request may name an address, or a name without a dot, which no site has. Any other name has to
//! be declared by an admin.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest host name (RFC 1035).
const LENGTH_MAX: usize = 253;

/// A name, `*.` and a domain for all names below it, or `*` for any name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(String);

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid host name `{0}`: write it as lab.example.org, *.example.org, or * for any name")]
pub struct InvalidHostPattern(String);

impl HostPattern {
    fn matches(&self, name: &str) -> bool {
        match self.0.strip_prefix('*') {
            // The dot is part of the rest.
            Some(rest) => name.len() > rest.len() && name.ends_with(rest),
            None => name == self.0,
        }
    }
}

/// Returns whether a request may name a host, with or without a port.
#[must_use]
pub fn may_name(host: &str, declared: &[HostPattern]) -> bool {
    if host.starts_with('[') {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_no_site = name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost");
    is_no_site || declared.iter().any(|pattern| pattern.matches(name))
}

/// Returns whether an admin has declared a name. `*` admits any name and declares none.
#[must_use]
pub fn is_declared(name: &str, declared: &[HostPattern]) -> bool {
    let name = name.to_ascii_lowercase();
    declared.iter().any(|pattern| pattern.0 != "*" && pattern.matches(&name))
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let name = text.to_ascii_lowercase();
        let rest = name.strip_prefix("*.").unwrap_or(&name);
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_name = name.len() <= LENGTH_MAX && rest.split('.').all(is_label);
        if name == "*" || is_name { Ok(Self(name)) } else { Err(InvalidHostPattern(text.chars().take(100).collect())) }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHostPattern;

    fn try_from(text: String) -> Result<Self, InvalidHostPattern> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_have_to_be_declared() {
        for (host, declared, expected) in [
            ("192.0.2.1:10000", vec![], true),
            ("[2001:db8::1]:10000", vec![], true),
            ("localhost:10000", vec![], true),
            ("job.localhost", vec![], true),
            ("lab", vec![], true),
            ("lab.", vec![], true),
            ("evil.example:10000", vec![], false),
            ("evil.example.", vec![], false),
            ("192.0.2.1.evil.example", vec![], false),
            ("LAB.example:10000", vec!["lab.Example"], true),
            ("a.lab.example", vec!["lab.example"], false),
            ("a.lab.example", vec!["*.lab.example"], true),
            ("lab.example", vec!["*.lab.example"], false),
            ("evillab.example", vec!["*.lab.example", "lab.example"], false),
            ("evil.example", vec!["*"], true),
        ] {
            let declared: Vec<HostPattern> = declared.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(may_name(host, &declared), expected, "{host} {declared:?}");
        }
    }

    #[test]
    fn star_admits_names_and_declares_none() {
        let declared = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<HostPattern>>();
        assert!(is_declared("LAB.example", &declared(&["*", "lab.example"])));
        assert!(is_declared("a.lab.example", &declared(&["*.lab.example"])));
        assert!(!is_declared("lab.example", &declared(&["*"])) && !is_declared("lab", &declared(&[])));
    }

    #[test]
    fn only_names_are_declared() {
        for text in ["", "*.", "a..b", "http://a.example", "a.example:80", "a.*.example", "a b"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}

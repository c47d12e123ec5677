//! Security groups: named sets of inbound rules. A connection that no rule allows is refused.
//!
//! A rule is written `tcp:<ports>:<source>`, like `tcp:10000-10500:172.31.0.0/16`. The ports `*`
//! are all ports. A source without a prefix length is one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Name;
use crate::port::{Port, parse_port};

/// The longest rule that is parsed, in bytes.
const LENGTH_MAX: usize = 100;

/// The group of gateways and jobs that name none. It always exists.
pub const DEFAULT_GROUP: &str = "default";

/// The longest description, in characters.
const DESCRIPTION_MAX: usize = 200;

/// The most rules of a group: each new connection is checked against all of them.
pub const RULES_MAX: usize = 256;

/// A set of inbound rules under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupSpec {
    /// The name, chosen by its user.
    pub name: Name,
    /// The purpose of the group, for people.
    pub description: String,
    /// The rules.
    pub rules: Vec<InboundRule>,
}

/// A rule that allows TCP connections to these ports from these addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InboundRule {
    first: Port,
    last: Port,
    source: IpNet,
}

/// An invalid change of a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    #[error("invalid description: it is one line of at most {DESCRIPTION_MAX} characters")]
    Description,
    #[error("a security group has at most {RULES_MAX} rules")]
    TooManyRules,
    #[error("security group `{group}` has rule `{rule}` already")]
    HasRule { group: Name, rule: InboundRule },
    #[error("security group `{group}` has no rule `{rule}`")]
    LacksRule { group: Name, rule: InboundRule },
}

impl SecurityGroupSpec {
    /// Makes a group without rules.
    pub fn new(name: Name, description: &str) -> Result<Self, InvalidGroup> {
        let description = description.trim().to_owned();
        if description.chars().count() > DESCRIPTION_MAX || description.chars().any(char::is_control) {
            return Err(InvalidGroup::Description);
        }
        Ok(Self { name, description, rules: Vec::new() })
    }

    /// Returns the group with some rules removed and others added. Each has to make a difference.
    /// The rules that are added take the places of those that are removed.
    pub fn changed(mut self, remove: &[InboundRule], add: &[InboundRule]) -> Result<Self, InvalidGroup> {
        let mut places: Vec<Option<InboundRule>> = self.rules.iter().copied().map(Some).collect();
        for rule in remove {
            let place = places.iter_mut().find(|known| **known == Some(*rule));
            *place.ok_or_else(|| InvalidGroup::LacksRule { group: self.name.clone(), rule: *rule })? = None;
        }
        for rule in add {
            if places.contains(&Some(*rule)) {
                return Err(InvalidGroup::HasRule { group: self.name.clone(), rule: *rule });
            }
            match places.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(*rule),
                None => places.push(Some(*rule)),
            }
        }
        self.rules = places.into_iter().flatten().collect();
        if self.rules.len() > RULES_MAX {
            return Err(InvalidGroup::TooManyRules);
        }
        Ok(self)
    }
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    #[error("invalid rule `{0}`: write it as `tcp:<ports>:<source>`, like tcp:10000-10500:172.31.0.0/16")]
    Form(String),
    #[error("invalid rule: protocol `{0}` is not `tcp`")]
    Protocol(String),
    #[error("invalid rule: `{0}` is no port from 1 to 65535, no range like 10000-10500 and not `*`")]
    Ports(String),
    #[error("invalid rule: `{0}` is no address and no block of addresses like 172.31.0.0/16 or fd00::/8")]
    Source(String),
}

impl InboundRule {
    /// Makes a rule for the ports `first` to `last` inclusive, from `source`.
    pub fn new(first: Port, last: Port, source: IpNet) -> Result<Self, InvalidRule> {
        if first > last {
            return Err(InvalidRule::Ports(format!("{first}-{last}")));
        }
        Ok(Self { first, last, source: source.trunc() })
    }

    /// Returns the first and the last port.
    #[must_use]
    pub fn ports(&self) -> (Port, Port) {
        (self.first, self.last)
    }

    /// Returns the allowed source addresses.
    #[must_use]
    pub fn source(&self) -> IpNet {
        self.source
    }

    /// Says whether `from` may connect to `port`.
    #[must_use]
    pub fn allows(&self, port: Port, from: IpAddr) -> bool {
        // An IPv6 socket shows an IPv4 client as a mapped address.
        (self.first..=self.last).contains(&port) && self.source.contains(&from.to_canonical())
    }
}

/// Says whether any of the rules lets `from` connect to `port`.
#[must_use]
pub fn allows(rules: &[InboundRule], port: Port, from: IpAddr) -> bool {
    rules.iter().any(|rule| rule.allows(port, from))
}

impl FromStr for InboundRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let told = |text: &str| text.chars().take(LENGTH_MAX).collect::<String>();
        let form = || InvalidRule::Form(told(text));
        if text.len() > LENGTH_MAX {
            return Err(form());
        }
        let (protocol, rest) = text.split_once(':').ok_or_else(form)?;
        // The source may contain colons itself.
        let (ports, source) = rest.split_once(':').ok_or_else(form)?;
        if !protocol.eq_ignore_ascii_case("tcp") {
            return Err(InvalidRule::Protocol(told(protocol)));
        }
        let (first, last) = parse_ports(ports).ok_or_else(|| InvalidRule::Ports(told(ports)))?;
        let source = parse_source(source).ok_or_else(|| InvalidRule::Source(told(source)))?;
        Self::new(first, last, source)
    }
}

fn parse_ports(text: &str) -> Option<(Port, Port)> {
    if text == "*" {
        return Some((Port::MIN, Port::MAX));
    }
    let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
    Some((parse_port(first).ok()?, parse_port(last).ok()?))
}

fn parse_source(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl fmt::Display for InboundRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tcp:")?;
        match (self.first, self.last) {
            (Port::MIN, Port::MAX) => f.write_str("*")?,
            (first, last) if first == last => write!(f, "{first}")?,
            (first, last) => write!(f, "{first}-{last}")?,
        }
        write!(f, ":{}", self.source)
    }
}

impl TryFrom<String> for InboundRule {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<InboundRule> for String {
    fn from(rule: InboundRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn rules() -> impl Strategy<Value = InboundRule> {
        let v4 = (any::<u32>(), 0_u8..=32)
            .prop_map(|(bits, length)| IpNet::new(Ipv4Addr::from_bits(bits).into(), length).expect("a block"));
        let v6 = (any::<u128>(), 0_u8..=128)
            .prop_map(|(bits, length)| IpNet::new(Ipv6Addr::from_bits(bits).into(), length).expect("a block"));
        let ports = (1_u16.., 0_u16..1000).prop_map(|(first, more)| (first, first.saturating_add(more)));
        (ports, prop_oneof![v4, v6]).prop_map(|((first, last), source)| {
            let port = |port| Port::new(port).expect("a port");
            InboundRule::new(port(first), port(last), source).expect("a rule")
        })
    }

    proptest! {
        #[test]
        fn a_rule_reads_back(rule in rules()) {
            prop_assert_eq!(rule.to_string().parse::<InboundRule>(), Ok(rule));
        }

        #[test]
        fn any_text_is_a_rule_or_refused(text in ".{0,60}") {
            if let Ok(rule) = text.parse::<InboundRule>() {
                prop_assert_eq!(rule.to_string().parse::<InboundRule>(), Ok(rule));
            }
        }

        #[test]
        fn a_rule_allows_its_ports_and_sources_alone(rule in rules(), port in 1_u16.., bits: u32) {
            let (port, from) = (Port::new(port).expect("a port"), IpAddr::from(Ipv4Addr::from_bits(bits)));
            let (first, last) = rule.ports();
            let inside = first <= port && port <= last && rule.source().contains(&from);
            prop_assert_eq!(rule.allows(port, from), inside);
            // The same client on a socket of both families.
            let mapped = IpAddr::from(Ipv4Addr::from_bits(bits).to_ipv6_mapped());
            prop_assert_eq!(rule.allows(port, mapped), inside);
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason() {
        for (text, why) in [
            ("tcp:80", "write it as"),
            ("udp:80:0.0.0.0/0", "protocol `udp`"),
            ("tcp:0:0.0.0.0/0", "`0` is no port"),
            ("tcp:90-80:0.0.0.0/0", "`90-80` is no port"),
            ("tcp:80:10.0.0.0/33", "`10.0.0.0/33` is no address"),
            ("tcp:80:nowhere", "`nowhere` is no address"),
        ] {
            let refusal = text.parse::<InboundRule>().unwrap_err().to_string();
            assert!(refusal.contains(why), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_group_is_changed_whole_or_refused() {
        let rule = |text: &str| text.parse::<InboundRule>().unwrap();
        let (web, ssh) = (rule("tcp:80:10.0.0.0/8"), rule("tcp:22:10.0.0.1"));
        let empty = SecurityGroupSpec::new("lab".parse().unwrap(), " for the lab ").unwrap();
        assert_eq!(empty.description, "for the lab");
        let both = empty.changed(&[], &[web, ssh]).unwrap();
        assert_eq!(both.rules, [web, ssh]);
        let has = both.clone().changed(&[], &[rule("tcp:80:10.1.2.3/8")]).unwrap_err();
        assert_eq!(has.to_string(), "security group `lab` has rule `tcp:80:10.0.0.0/8` already");
        assert_eq!(both.clone().changed(&[web], &[web]).unwrap().rules, [web, ssh]);
        let (https, dns) = (rule("tcp:443:10.0.0.0/8"), rule("tcp:53:10.0.0.0/8"));
        assert_eq!(both.clone().changed(&[web], &[https]).unwrap().rules, [https, ssh]);
        assert_eq!(both.clone().changed(&[ssh], &[https, dns]).unwrap().rules, [web, https, dns]);
        let lacks = both.changed(&[ssh, ssh], &[]).unwrap_err();
        assert_eq!(lacks.to_string(), "security group `lab` has no rule `tcp:22:10.0.0.1/32`");
    }

    #[test]
    fn a_group_is_one_line_and_no_book() {
        let name = || "lab".parse::<Name>().unwrap();
        for bad in ["two\nlines".to_owned(), "x".repeat(201)] {
            assert_eq!(SecurityGroupSpec::new(name(), &bad), Err(InvalidGroup::Description));
        }
        let rules: Vec<InboundRule> = (1..=257).map(|port| format!("tcp:{port}:::/0").parse().unwrap()).collect();
        let group = SecurityGroupSpec::new(name(), "").unwrap();
        assert!(group.clone().changed(&[], &rules[1..]).is_ok());
        assert_eq!(group.changed(&[], &rules), Err(InvalidGroup::TooManyRules));
    }

    #[test]
    fn nothing_is_allowed_by_no_rule() {
        assert!(!allows(&[], Port::MIN, Ipv4Addr::LOCALHOST.into()));
    }
}

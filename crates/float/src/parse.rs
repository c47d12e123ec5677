//! Parsers for arguments that become part of a URL path or a number on the wire. OpCenter parses
//! the rest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ipnet::{IpNet, Ipv4Net};
use mooring_types::filter::Filter;
use mooring_types::gateway::{Access, Protocol, Tls, WakeOn};
use mooring_types::id::InvalidId;
use mooring_types::policy::{CustomTag, InvalidTag};
use mooring_types::port::parse_port;
use mooring_types::size::{InvalidSize, Size};
use mooring_types::{ApiTokenId, GatewayId, HostId, Name, Reference, SecurityGroupId, TemplateName};
use serde::de::DeserializeOwned;

use crate::error::invalid;

/// A gateway's id, or its name.
pub(crate) fn gateway(text: &str) -> Result<Reference<GatewayId>> {
    reference(text, "`float gateway list` shows the gateways")
}

/// The parser of a protocol's name, which tells the help of each.
pub(crate) fn protocol() -> impl TypedValueParser<Value = Protocol> {
    let values = Protocol::ALL.map(|protocol| PossibleValue::new(protocol.name()).help(protocol.description()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Protocol>())
}

/// The parser of `on` and `off` for TLS.
pub(crate) fn tls() -> impl TypedValueParser<Value = Tls> {
    let values = Tls::ALL.map(|tls| PossibleValue::new(tls.name()).help(tls.description()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Tls>())
}

/// The parser of the clients that wake a job, which tells the help of each.
pub(crate) fn wake_on() -> impl TypedValueParser<Value = WakeOn> {
    let values = WakeOn::ALL.map(|kind| PossibleValue::new(kind.name()).help(kind.description()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<WakeOn>())
}

/// The parser of an access's name, which tells the help of each.
pub(crate) fn access() -> impl TypedValueParser<Value = Access> {
    let values = Access::ALL.map(|access| PossibleValue::new(access.name()).help(access.description()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Access>())
}

/// A security group's id, or its name.
pub(crate) fn security_group(text: &str) -> Result<Reference<SecurityGroupId>> {
    reference(text, "`float securityGroup list` shows the security groups")
}

/// A host's name, or its id.
pub(crate) fn host(text: &str) -> Result<Reference<HostId>> {
    reference(text, "`float hosts` lists the hosts")
}

/// Ids or names of security groups.
pub(crate) fn security_groups(texts: &[String]) -> Result<Vec<Reference<SecurityGroupId>>> {
    texts.iter().map(|text| security_group(text)).collect()
}

fn reference<Id: FromStr<Err = InvalidId>>(text: &str, hint: &str) -> Result<Reference<Id>> {
    text.parse().map_err(|error: InvalidId| invalid(error.to_string(), hint))
}

/// An API token's name, or its id.
pub(crate) fn api_token(text: &str) -> Result<Reference<ApiTokenId>> {
    reference(text, "`float token list` shows your API tokens")
}

/// A user's name.
pub(crate) fn user(text: &str) -> Result<&str> {
    named(text, "invalid user name", "`float user list` shows the users")
}

/// A range of addresses, or one address.
pub(crate) fn address_range(text: &str) -> Result<IpNet, String> {
    let range = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    range.map_err(|_| "a range is written like 10.0.0.0/8, one address like 10.0.0.7".to_owned())
}

/// A trusted proxy, or `none`.
pub(crate) fn trusted_proxy(text: &str) -> Result<Option<IpNet>, String> {
    if text == "none" { Ok(None) } else { address_range(text).map(Some) }
}

/// A range of IPv4 addresses, or one address.
pub(crate) fn address_range_v4(text: &str) -> Result<Ipv4Net, String> {
    let range = text.parse().or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from));
    range.map_err(|_| "a range is written like 10.0.0.0/8, one address like 10.0.0.7".to_owned())
}

/// A group's name.
pub(crate) fn group(text: &str) -> Result<&str> {
    named(text, "invalid group name", "`float group list` shows the groups")
}

/// A secret's name.
pub(crate) fn secret(text: &str) -> Result<&str> {
    named(text, "invalid secret name", "use letters, digits, `.`, `_` or `-`; `float secret ls` lists your secrets")
}

/// A template's name.
pub(crate) fn template(text: &str) -> Result<&str> {
    match text.parse::<TemplateName>() {
        Ok(_) => Ok(text),
        Err(error) => Err(invalid(error.to_string(), "`float template list` shows the templates")),
    }
}

fn named<'a>(text: &'a str, refusal: &str, hint: &str) -> Result<&'a str> {
    if text.parse::<Name>().is_ok() { Ok(text) } else { Err(invalid(refusal, hint)) }
}

/// Published ports.
pub(crate) fn ports(texts: &[String]) -> Result<Vec<u16>> {
    texts.iter().map(|text| port(text)).collect()
}

/// A published port.
pub(crate) fn port(text: &str) -> Result<u16> {
    parse_port(text).map(u16::from).map_err(|error| invalid(error.to_string(), "give a port that the job publishes"))
}

/// Cores, the minimum of `min` or `min:max`.
pub(crate) fn cores(text: &str) -> Result<u32> {
    core_range(text).map(|size| size.min)
}

/// Memory in GB, the minimum of `min` or `min:max`.
pub(crate) fn memory(text: &str) -> Result<f64> {
    memory_range(text).map(|size| size.min)
}

/// Cores, `min` or `min:max`.
pub(crate) fn core_range(text: &str) -> Result<Size<u32>> {
    let refused = |error: InvalidSize| invalid(error.told("number of cores"), "write `2`, or `2:4` for a range");
    text.parse().map_err(refused)
}

/// Memory in GB, `min` or `min:max`.
pub(crate) fn memory_range(text: &str) -> Result<Size<f64>> {
    let refused = |error: InvalidSize| invalid(error.told("memory"), "write GB: `4`, `0.5`, or `4:8` for a range");
    text.parse().map_err(refused)
}

/// Checks filters; OpCenter applies them.
pub(crate) fn filters(texts: &[String]) -> Result<&[String]> {
    for text in texts {
        text.parse::<Filter>().map_err(|error| invalid(error.to_string(), error.hint()))?;
    }
    Ok(texts)
}

/// Tags, by key.
pub(crate) fn tags(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for text in texts {
        let tag: CustomTag =
            text.parse().map_err(|error: InvalidTag| invalid(error.to_string(), "write it like project:course-7"))?;
        if tags.insert(tag.key.clone(), tag.value).is_some() {
            return Err(invalid(format!("tag `{}` is given twice", tag.key), "give each key once"));
        }
    }
    Ok(tags)
}

/// A parser of enums by their wire names, which are listed in the help.
pub(crate) fn one_of<T>(names: impl IntoIterator<Item = impl Into<PossibleValue>>) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let unknown = |name: String| format!("unknown value `{name}`");
    PossibleValuesParser::new(names).try_map(move |name| from_wire_name(&name).ok_or_else(|| unknown(name)))
}

/// The value with that name on the wire.
pub(crate) fn from_wire_name<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tags_parse() {
        assert_eq!(core_range("2:4").unwrap(), Size { min: 2, max: Some(4) });
        assert_eq!(memory_range("0.5").unwrap(), Size { min: 0.5, max: None });
        assert_eq!((cores("2:4").unwrap(), memory("4:8").unwrap()), (2, 4.0));
        assert!(cores("4:2").is_err());
        assert!(memory("4GB").is_err());
        assert_eq!(tags(&["a:1".into(), "b:2".into()]).unwrap().len(), 2);
        assert!(tags(&["a:1".into(), "a:2".into()]).is_err());
        assert!(tags(&["a".into()]).is_err());
    }

    #[test]
    fn path_parts_are_restricted() {
        for bad in ["", "..", "../hosts", "a/b", "a?b", "a b", "g-%2e"] {
            assert!(gateway(bad).is_err(), "{bad}");
            assert!(security_group(bad).is_err(), "{bad}");
            assert!(user(bad).is_err() && group(bad).is_err() && secret(bad).is_err(), "{bad}");
            assert!(template(bad).is_err() && template(&format!("private::{bad}")).is_err(), "{bad}");
        }
        assert!(gateway("lab").is_ok());
        assert!(gateway("g-sidlpgb7oi9p48kxycpmn").is_ok());
    }

    #[test]
    fn every_port_is_checked() {
        assert_eq!(ports(&["80".into(), "8888".into()]).unwrap(), [80, 8888]);
        assert!(ports(&["80".into(), "0".into()]).is_err());
    }
}

//! Arguments that are checked here, because they become part of a path or of a number on the wire. The rest is parsed by OpCenter.

use std::collections::BTreeMap;

use anyhow::Result;
use mooring_types::filter::Filter;
use mooring_types::policy::{CustomTag, InvalidTag};
use mooring_types::port::parse_port;
use mooring_types::size::Size;
use mooring_types::{GatewayId, JobId, Name, SecurityGroupId, TemplateName};

use crate::error::invalid;

/// A job's id.
pub(crate) fn job_id(text: &str) -> Result<JobId> {
    text.parse()
        .map_err(|error: mooring_types::id::InvalidId| invalid(error.to_string(), "`float list` shows the jobs"))
}

/// A gateway's id, or its name.
pub(crate) fn gateway(text: &str) -> Result<&str> {
    if text.parse::<GatewayId>().is_ok() || text.parse::<Name>().is_ok() {
        Ok(text)
    } else {
        Err(invalid("invalid gateway ID", "`float gateway list` shows the gateways"))
    }
}

/// A security group's id, or its name.
pub(crate) fn security_group(text: &str) -> Result<&str> {
    if text.parse::<SecurityGroupId>().is_ok() || text.parse::<Name>().is_ok() {
        Ok(text)
    } else {
        Err(invalid("invalid security group ID", "`float securityGroup list` shows the security groups"))
    }
}

/// A user's name.
pub(crate) fn user(text: &str) -> Result<&str> {
    named(text, "invalid user name", "`float user list` shows the users")
}

/// A group's name.
pub(crate) fn group(text: &str) -> Result<&str> {
    named(text, "invalid group name", "`float group list` shows the groups")
}

/// A secret's name.
pub(crate) fn secret(text: &str) -> Result<&str> {
    named(
        text,
        "invalid secret name",
        "a name has letters, digits, `.`, `_` or `-`; `float secret ls` shows your secrets",
    )
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

/// Ports that jobs publish.
pub(crate) fn ports(texts: &[String]) -> Result<Vec<u16>> {
    texts.iter().map(|text| port(text)).collect()
}

/// A port that a job publishes.
pub(crate) fn port(text: &str) -> Result<u16> {
    parse_port(text).map(u16::from).map_err(|error| invalid(error.to_string(), "give a port that the job publishes"))
}

/// Cores, `min` or `min:max`, for what gets the least.
pub(crate) fn cores(text: &str) -> Result<u32> {
    core_range(text).map(|size| size.min)
}

/// Memory in GB, `min` or `min:max`, for what gets the least.
pub(crate) fn memory(text: &str) -> Result<f64> {
    memory_range(text).map(|size| size.min)
}

/// Cores, `min` or `min:max`.
pub(crate) fn core_range(text: &str) -> Result<Size<u32>> {
    let refused = |_| invalid(format!("invalid number of cores `{text}`"), "write `2`, or `2:4` for a range");
    text.parse().map_err(refused)
}

/// Memory in GB, `min` or `min:max`.
pub(crate) fn memory_range(text: &str) -> Result<Size<f64>> {
    let refused = |_| invalid(format!("invalid memory `{text}`"), "write GB: `4`, `0.5`, or `4:8` for a range");
    text.parse().map_err(refused)
}

/// Filters that can be read; OpCenter judges by them.
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
            return Err(invalid(format!("tag `{}` is given twice", tag.key), "give every key once"));
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tags_are_checked() {
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
    fn what_becomes_part_of_a_path_can_not_leave_it() {
        for bad in ["", "..", "../hosts", "a/b", "a?b", "a b", "g-%2e"] {
            assert!(job_id(bad).is_err(), "{bad}");
            assert!(gateway(bad).is_err(), "{bad}");
            assert!(security_group(bad).is_err(), "{bad}");
            assert!(user(bad).is_err() && group(bad).is_err() && secret(bad).is_err(), "{bad}");
            assert!(template(bad).is_err() && template(&format!("private::{bad}")).is_err(), "{bad}");
        }
        assert!(gateway("lab").is_ok());
        assert!(gateway("g-sidlpgb7oi9p48kxycpmn").is_ok());
        assert!(job_id("uqaj8l6a407u88v0106ol").is_ok());
    }

    #[test]
    fn ports_are_checked_all() {
        assert_eq!(ports(&["80".into(), "8888".into()]).unwrap(), [80, 8888]);
        assert!(ports(&["80".into(), "0".into()]).is_err());
    }
}

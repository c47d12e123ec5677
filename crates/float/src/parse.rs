//! Arguments that are checked here, because they become part of a path or of a number on the wire. The rest is parsed by OpCenter.

use anyhow::Result;
use mooring_types::port::parse_port;
use mooring_types::{GatewayId, JobId, Name, SecurityGroupId};

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

/// Ports that jobs publish.
pub(crate) fn ports(texts: &[String]) -> Result<Vec<u16>> {
    texts.iter().map(|text| port(text)).collect()
}

/// A port that a job publishes.
pub(crate) fn port(text: &str) -> Result<u16> {
    parse_port(text).map(u16::from).map_err(|error| invalid(error.to_string(), "give a port that the job publishes"))
}

/// Cores, `min` or `min:max`; a job gets the least.
pub(crate) fn cores(text: &str) -> Result<u32> {
    let read = |part: &str| part.parse::<u32>().ok().filter(|cores| *cores > 0);
    least(text, read)
        .ok_or_else(|| invalid(format!("invalid number of cores `{text}`"), "write `2`, or `2:4` for a range"))
}

/// Memory in GB, `min` or `min:max`; a job gets the least.
pub(crate) fn memory(text: &str) -> Result<f64> {
    let read = |part: &str| part.parse::<f64>().ok().filter(|gb| gb.is_finite() && *gb > 0.0);
    least(text, read)
        .ok_or_else(|| invalid(format!("invalid memory `{text}`"), "write GB: `4`, `0.5`, or `4:8` for a range"))
}

fn least<T: PartialOrd + Copy>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let (min, max) = text.split_once(':').unwrap_or((text, text));
    let (min, max) = (read(min)?, read(max)?);
    (min <= max).then_some(min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_or_a_range() {
        assert_eq!(cores("2").unwrap(), 2);
        assert_eq!(cores("2:4").unwrap(), 2);
        assert_eq!(memory("0.5").unwrap(), 0.5);
        assert_eq!(memory("4:8").unwrap(), 4.0);
        for bad in ["", "0", "4:2", "2:", ":2", "a", "2:3:4", "-1", "1.5"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
        for bad in ["", "0", "8:4", "nan", "inf", "-1", "4GB"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_becomes_part_of_a_path_can_not_leave_it() {
        for bad in ["", "..", "../hosts", "a/b", "a?b", "a b", "g-%2e"] {
            assert!(job_id(bad).is_err(), "{bad}");
            assert!(gateway(bad).is_err(), "{bad}");
            assert!(security_group(bad).is_err(), "{bad}");
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

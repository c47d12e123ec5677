//! The policy of a job, read from a submission.

use std::collections::BTreeMap;
use std::time::Duration;

use mooring_api::view::SubmitRequest;
use mooring_types::duration::{format_duration, parse_duration};
use mooring_types::host::Resources;
use mooring_types::policy::{CustomTag, DumpMode, Egress, IdlePolicy, InvalidPolicy, JobPolicy, Moves, Rerun};

use super::parse;
use super::resources::resources;
use crate::error::{ApiError, ApiResult};

/// The shortest time of a policy: the reconciler looks once a second.
const POLICY_TIME_MIN: Duration = Duration::from_secs(1);
/// The most tags of a job.
const TAGS_MAX: usize = 50;

/// Returns the policy of a job that is submitted.
pub(super) fn policy(request: &SubmitRequest, resources: Resources) -> ApiResult<JobPolicy> {
    let usual = JobPolicy::default();
    let (cpu_max, mem_gb_max) = largest(request, resources)?;
    for (key, value) in &request.custom_tags {
        tag(key, value)?;
    }
    let tags = request.custom_tags.clone();
    Ok(JobPolicy {
        resume_on_connect: request.resume_on_connect,
        idle: time("an idle time", &request.idle)?.map(|after| IdlePolicy { after }),
        snapshot_interval: time("a snapshot interval", &request.snapshot_interval)?,
        dump_mode: match request.dump_mode.as_str() {
            "" | "incremental" => DumpMode::Incremental,
            "full" => DumpMode::Full,
            other => {
                return Err(
                    ApiError::invalid(format!("invalid dump mode `{other}`")).hint("write `incremental` or `full`")
                );
            }
        },
        time_limit: time("a time limit", &request.time_limit)?,
        vm_policy: parse_policy(&request.vm_policy)?.unwrap_or(usual.vm_policy),
        migrate_policy: parse_policy(&request.migrate_policy)?.unwrap_or(usual.migrate_policy),
        custom_tags: limited_tags(tags)?,
        rerun: if request.disable_rerun { Rerun::Disabled } else { Rerun::Allowed },
        moves: if request.disable_migrate { Moves::Disabled } else { Moves::Allowed },
        egress: match request.egress.as_str() {
            "" | "host" => Egress::Host,
            "gateway" => Egress::Gateway,
            other => {
                return Err(ApiError::invalid(format!("invalid egress `{other}`")).hint("write `host` or `gateway`"));
            }
        },
        cpu_max,
        mem_gb_max,
    })
}

/// Returns the maximum sizes of a job, which are at least the size that it starts with.
fn largest(request: &SubmitRequest, least: Resources) -> ApiResult<(Option<u32>, Option<f64>)> {
    let most = resources(request.cpu_max.unwrap_or(least.cpu), request.mem_gb_max.unwrap_or(least.mem_gb))?;
    if most.cpu < least.cpu {
        return Err(ApiError::invalid(format!("at most {} cores, but at least {}", most.cpu, least.cpu)));
    }
    if most.mem_gb < least.mem_gb {
        return Err(ApiError::invalid(format!("at most {} GB of memory, but at least {}", most.mem_gb, least.mem_gb)));
    }
    Ok((request.cpu_max, request.mem_gb_max))
}

/// Checks a tag.
pub(super) fn tag(key: &str, value: &str) -> ApiResult<CustomTag> {
    parse(&format!("{key}:{value}")).map_err(|error| error.hint("write key:value, like project:course-7"))
}

/// Refuses more tags than a job may have.
pub(super) fn limited_tags(tags: BTreeMap<String, String>) -> ApiResult<BTreeMap<String, String>> {
    match tags.len() {
        ..=TAGS_MAX => Ok(tags),
        count => Err(ApiError::invalid(format!("{count} tags: a job has at most {TAGS_MAX}"))),
    }
}

/// Parses a policy; an empty text is none.
pub(super) fn parse_policy<T: std::str::FromStr<Err = InvalidPolicy>>(text: &str) -> ApiResult<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: InvalidPolicy| ApiError::invalid(error.to_string()).hint(error.hint()))
}

/// Parses a time; an empty text is none.
fn time(what: &str, text: &str) -> ApiResult<Option<Duration>> {
    if text.is_empty() {
        return Ok(None);
    }
    let time = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()))?;
    if time < POLICY_TIME_MIN {
        return Err(ApiError::invalid(format!("{what} of {}: it takes at least 1s", format_duration(time))));
    }
    Ok(Some(time))
}

/// Parses a time; zero is none.
pub(super) fn time_or_none(what: &str, text: &str) -> ApiResult<Option<Duration>> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Ok(None),
        _ => time(what, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Resources = Resources { cpu: 2, mem_gb: 4.0 };

    fn told(error: &ApiError) -> String {
        error.0.message.clone()
    }

    #[test]
    fn policy_follows_submission() {
        let request = SubmitRequest {
            cpu_max: Some(4),
            vm_policy: "[onDemand=true]".into(),
            migrate_policy: "[cpu.disable=true]".into(),
            time_limit: "2h30m".into(),
            idle: "30m".into(),
            snapshot_interval: "10m".into(),
            dump_mode: "full".into(),
            resume_on_connect: true,
            egress: "gateway".into(),
            custom_tags: [("project".to_owned(), "course-7".to_owned())].into(),
            disable_rerun: true,
            disable_migrate: true,
            ..SubmitRequest::default()
        };
        let policy = policy(&request, SIZE).unwrap();
        assert_eq!((policy.cpu_max, policy.mem_gb_max), (Some(4), None));
        assert_eq!(policy.vm_policy.to_string(), "[onDemand=true,retryLimit=3,retryInterval=10m0s]");
        assert_eq!(policy.migrate_policy.to_string(), "[disable=false,cpu.disable=true]");
        assert_eq!(policy.time_limit, Some(Duration::from_secs(9000)));
        assert_eq!(policy.idle, Some(IdlePolicy { after: Duration::from_secs(1800) }));
        assert_eq!((policy.rerun, policy.moves, policy.egress), (Rerun::Disabled, Moves::Disabled, Egress::Gateway));
        assert!(policy.resume_on_connect && policy.dump_mode == DumpMode::Full);
    }

    #[test]
    fn invalid_policies_are_refused() {
        let usual = SubmitRequest::default;
        for (request, sentence) in [
            (SubmitRequest { cpu_max: Some(1), ..usual() }, "at most 1 cores, but at least 2"),
            (SubmitRequest { mem_gb_max: Some(f64::NAN), ..usual() }, "NaN GB of memory: it takes at least 0.1"),
            (SubmitRequest { time_limit: "0s".into(), ..usual() }, "a time limit of 0s: it takes at least 1s"),
            (SubmitRequest { idle: "soon".into(), ..usual() }, "invalid duration `soon`"),
            (SubmitRequest { egress: "vpn".into(), ..usual() }, "invalid egress `vpn`"),
            (SubmitRequest { dump_mode: "delta".into(), ..usual() }, "invalid dump mode `delta`"),
            (SubmitRequest { vm_policy: "[x=1]".into(), ..usual() }, "invalid VM policy: it has no key `x`"),
            (
                SubmitRequest { custom_tags: [("a b".to_owned(), "c".to_owned())].into(), ..usual() },
                "invalid tag `a b:c`",
            ),
        ] {
            let error = policy(&request, SIZE).unwrap_err();
            assert!(told(&error).starts_with(sentence), "{}", told(&error));
        }
    }
}

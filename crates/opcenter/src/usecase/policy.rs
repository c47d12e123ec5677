//! The policy of a job, read from a submission.

use std::collections::BTreeMap;
use std::time::Duration;

use mooring_api::Submission;
use mooring_types::duration::format_duration;
use mooring_types::host::Resources;
use mooring_types::policy::{CustomTag, IdlePolicy, JobPolicy, Moves, Rerun};

use super::parse;
use super::resources::{cores, memory};
use crate::error::{ApiError, ApiResult, At};

/// The shortest time of a policy: the reconciler looks once a second.
const POLICY_TIME_MIN: Duration = Duration::from_secs(1);
/// The most tags of a job.
const TAGS_MAX: usize = 50;

/// Returns the policy of a job that is submitted.
pub(super) fn policy(submission: &Submission, resources: Resources) -> ApiResult<JobPolicy> {
    let default = JobPolicy::default();
    let (cpu_max, mem_gb_max) = largest(submission, resources)?;
    Ok(JobPolicy {
        resume_on_connect: submission.resume_on_connect,
        wake_on: submission.wake_on.unwrap_or_default(),
        idle: idle(submission)?,
        snapshot_interval: at_least_minimum("a snapshot interval", submission.snapshot_interval)
            .at("snapshotInterval")?,
        dump_mode: submission.dump_mode.unwrap_or_default(),
        time_limit: at_least_minimum("a time limit", submission.time_limit).at("timeLimit")?,
        vm_policy: submission.vm_policy.unwrap_or(default.vm_policy),
        migrate_policy: submission.migrate_policy.unwrap_or(default.migrate_policy),
        custom_tags: limited_tags(submission.custom_tags.0.clone()).at("customTags")?,
        rerun: if submission.disable_rerun { Rerun::Disabled } else { Rerun::Allowed },
        moves: if submission.disable_migrate { Moves::Disabled } else { Moves::Allowed },
        egress: submission.egress.unwrap_or_default(),
        cpu_max,
        mem_gb_max,
    })
}

/// Returns when an unused job is suspended.
fn idle(submission: &Submission) -> ApiResult<Option<IdlePolicy>> {
    let policy = at_least_minimum("an idle time", submission.idle).at("idle")?.map(IdlePolicy::after);
    match (policy, submission.awake_limit) {
        (Some(policy), Some(awake_limit)) => Ok(Some(IdlePolicy { awake_limit, ..policy })),
        (None, Some(_)) => Err(ApiError::invalid("without `idle` the job is never suspended for lack of use")
            .hint("give `--idle` as well"))
        .at("awakeLimit"),
        (policy, None) => Ok(policy),
    }
}

/// Returns the maximum sizes of a job, which are at least the size that it starts with.
fn largest(submission: &Submission, least: Resources) -> ApiResult<(Option<u32>, Option<f64>)> {
    let most = Resources {
        cpu: cores(submission.cpu_max.unwrap_or(least.cpu)).at("cpuMax")?,
        mem_gb: memory(submission.mem_gb_max.unwrap_or(least.mem_gb)).at("memGBMax")?,
    };
    if most.cpu < least.cpu {
        let message = format!("at most {} cores, but at least {}", most.cpu, least.cpu);
        return Err(ApiError::invalid(message).at("cpuMax"));
    }
    if most.mem_gb < least.mem_gb {
        let message = format!("at most {} GB of memory, but at least {}", most.mem_gb, least.mem_gb);
        return Err(ApiError::invalid(message).at("memGBMax"));
    }
    Ok((submission.cpu_max, submission.mem_gb_max))
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

/// Refuses a time below [`POLICY_TIME_MIN`].
fn at_least_minimum(what: &str, time: Option<Duration>) -> ApiResult<Option<Duration>> {
    match time {
        Some(time) if time < POLICY_TIME_MIN => {
            Err(ApiError::invalid(format!("{what} of {}: it takes at least 1s", format_duration(time))))
        }
        time => Ok(time),
    }
}

/// Refuses a time below [`POLICY_TIME_MIN`]; zero stands for none.
pub(super) fn none_for_zero(what: &str, time: Duration) -> ApiResult<Option<Duration>> {
    at_least_minimum(what, Some(time).filter(|time| !time.is_zero()))
}

#[cfg(test)]
mod tests {
    use mooring_types::policy::{DumpMode, Egress};
    use serde_json::{Value, json};

    use super::*;

    const SIZE: Resources = Resources { cpu: 2, mem_gb: 4.0 };

    fn told(error: &ApiError) -> String {
        error.0.message.clone()
    }

    fn submission(values: Value) -> Submission {
        serde_json::from_value(values).unwrap()
    }

    #[test]
    fn policy_follows_submission() {
        let submission = submission(json!({
            "cpuMax": 4, "vmPolicy": "[onDemand=true]", "migratePolicy": "[cpu.disable=true]", "timeLimit": "2h30m",
            "idle": "30m", "snapshotInterval": "10m", "dumpMode": "full", "resumeOnConnect": true, "egress": "gateway",
            "customTags": {"project": "course-7"}, "disableRerun": true, "disableMigrate": true,
        }));
        let policy = policy(&submission, SIZE).unwrap();
        assert_eq!((policy.cpu_max, policy.mem_gb_max), (Some(4), None));
        assert_eq!(policy.vm_policy.to_string(), "[onDemand=true,retryLimit=3,retryInterval=10m0s]");
        assert_eq!(policy.migrate_policy.to_string(), "[disable=false,cpu.disable=true]");
        assert_eq!(policy.time_limit, Some(Duration::from_secs(9000)));
        assert_eq!(policy.idle, Some(IdlePolicy::after(Duration::from_secs(1800))));
        assert_eq!((policy.rerun, policy.moves, policy.egress), (Rerun::Disabled, Moves::Disabled, Egress::Gateway));
        assert!(policy.resume_on_connect && policy.dump_mode == DumpMode::Full);
    }

    #[test]
    fn impossible_policies_are_refused() {
        for (values, sentence) in [
            (json!({"cpuMax": 1}), "at most 1 cores, but at least 2"),
            (json!({"memGBMax": 0.01}), "0.01 GB of memory: it takes at least 0.1"),
            (json!({"timeLimit": "0s"}), "a time limit of 0s: it takes at least 1s"),
        ] {
            let error = policy(&submission(values), SIZE).unwrap_err();
            assert!(told(&error).starts_with(sentence), "{}", told(&error));
        }
    }
}

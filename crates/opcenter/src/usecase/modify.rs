//! Changes of a job after its submission: its policy, its tags, its name.

use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_api::view::JobModifyRequest;
use mooring_types::duration::format_duration;
use mooring_types::job::Image;
use mooring_types::policy::{IdlePolicy, JobPolicy};
use mooring_types::{Clock, Event, JobId};

use super::policy::{limited_tags, none_for_zero, tag};
use super::{allowed, find_job};
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;

/// Changes a job's policy, tags or name.
pub(crate) async fn modify(context: &Context, user: &User, id: &str, request: JobModifyRequest) -> ApiResult<JobId> {
    if request == JobModifyRequest::default() {
        return Err(ApiError::invalid("nothing to modify").hint("see `float modify --help`"));
    }
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    allowed::modify(&job)?;
    if job.spec.image == Image::External && concerns_execution(&request) {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job runs under another scheduler")
            .hint("its name and its tags can be modified here, the rest there"));
    }
    let changed = changed(job.policy.clone(), &request)?;
    let now = context.clock.now();
    let mut changes = differences(&job.policy, &changed);
    if let Some(name) = &request.name {
        changes.push(format!("name {name}"));
        tx.job_name_set(&job.id, name, now).await?;
    }
    tx.job_policy_set(&job.id, &changed, now).await?;
    let event = Event::Modified { user: user.name.clone(), changes };
    tx.event_append(&job.id, &event, now).await?;
    tx.commit().await?;
    tracing::info!(job = %job.id, user = user.name, "job {} is {event}", job.id);
    context.wake();
    Ok(job.id)
}

/// Returns whether more than name and tags of a job is to change.
fn concerns_execution(request: &JobModifyRequest) -> bool {
    let words = JobModifyRequest {
        name: request.name.clone(),
        add_custom_tags: request.add_custom_tags.clone(),
        remove_custom_tags: request.remove_custom_tags.clone(),
        ..JobModifyRequest::default()
    };
    *request != words
}

/// Returns a policy with the requested changes.
fn changed(mut policy: JobPolicy, request: &JobModifyRequest) -> ApiResult<JobPolicy> {
    for key in &request.remove_custom_tags {
        if policy.custom_tags.remove(key).is_none() {
            let keys: Vec<&str> = policy.custom_tags.keys().map(String::as_str).collect();
            return Err(ApiError::not_found(format!("the job has no tag `{key}`"))
                .hint(format!("it has: {}", if keys.is_empty() { "none".into() } else { keys.join(", ") }))
                .at("removeCustomTags"));
        }
    }
    for (key, value) in &request.add_custom_tags {
        tag(key, value).at("addCustomTags")?;
        policy.custom_tags.insert(key.clone(), value.clone());
    }
    policy.custom_tags = limited_tags(policy.custom_tags).at("addCustomTags")?;
    policy.vm_policy = request.vm_policy.unwrap_or(policy.vm_policy);
    policy.migrate_policy = request.migrate_policy.unwrap_or(policy.migrate_policy);
    policy.wake_on = request.wake_on.unwrap_or(policy.wake_on);
    policy.resume_on_connect = request.resume_on_connect.unwrap_or(policy.resume_on_connect);
    if let Some(limit) = request.time_limit {
        policy.time_limit = none_for_zero("a time limit", limit).at("timeLimit")?;
    }
    if let Some(after) = request.idle {
        let awake_limit = policy.idle.map_or(IdlePolicy::AWAKE_LIMIT, |idle| idle.awake_limit);
        let after = none_for_zero("an idle time", after).at("idle")?;
        policy.idle = after.map(|after| IdlePolicy { after, awake_limit });
    }
    if let Some(limit) = request.awake_limit {
        let idle = policy.idle.as_mut().ok_or_else(|| {
            ApiError::invalid("without `idle` the job is never suspended for lack of use").hint("give `--idle` as well")
        });
        idle.at("awakeLimit")?.awake_limit = limit;
    }
    if let Some(interval) = request.snapshot_interval {
        policy.snapshot_interval = none_for_zero("a snapshot interval", interval).at("snapshotInterval")?;
    }
    Ok(policy)
}

/// Describes the differences of two policies.
fn differences(old: &JobPolicy, new: &JobPolicy) -> Vec<String> {
    let time = |time: Option<Duration>| time.map_or_else(|| "none".to_owned(), format_duration);
    let idle = |policy: &JobPolicy| time(policy.idle.map(|idle| idle.after));
    let awake_limit = |policy: &JobPolicy| {
        time(policy.idle.map(|idle| idle.awake_limit).filter(|limit| *limit != IdlePolicy::AWAKE_LIMIT))
    };
    let tags = |policy: &JobPolicy| {
        let words = policy.custom_tags.iter().map(|(key, value)| format!("{key}:{value}"));
        words.collect::<Vec<_>>().join(" ")
    };
    let on = |policy: &JobPolicy| if policy.resume_on_connect { "on" } else { "off" }.to_owned();
    [
        ("VM policy", old.vm_policy.to_string(), new.vm_policy.to_string()),
        ("migrate policy", old.migrate_policy.to_string(), new.migrate_policy.to_string()),
        ("time limit", time(old.time_limit), time(new.time_limit)),
        ("idle time", idle(old), idle(new)),
        ("awake limit", awake_limit(old), awake_limit(new)),
        ("snapshot interval", time(old.snapshot_interval), time(new.snapshot_interval)),
        ("resume on connect", on(old), on(new)),
        ("wake on", old.wake_on.to_string(), new.wake_on.to_string()),
        ("tags", tags(old), tags(new)),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(what, _, new)| format!("{what} {new}").trim_end().to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: &ApiError) -> String {
        error.0.message.clone()
    }

    #[test]
    fn modify_changes_only_the_requested_policy() {
        let before = JobPolicy {
            time_limit: Some(Duration::from_secs(60)),
            custom_tags: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
            ..JobPolicy::default()
        };
        let request = JobModifyRequest {
            add_custom_tags: [("c".to_owned(), "3".to_owned())].into(),
            remove_custom_tags: vec!["a".into()],
            time_limit: Some(Duration::ZERO),
            idle: Some(Duration::from_secs(300)),
            resume_on_connect: Some(true),
            ..JobModifyRequest::default()
        };
        let after = changed(before.clone(), &request).unwrap();
        assert_eq!(after.custom_tags, [("b".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())].into());
        assert_eq!((after.time_limit, after.resume_on_connect), (None, true));
        assert_eq!((after.vm_policy, after.migrate_policy), (before.vm_policy, before.migrate_policy));
        assert_eq!(
            differences(&before, &after),
            ["time limit none", "idle time 5m0s", "resume on connect on", "tags b:2 c:3"]
        );
        let unknown = JobModifyRequest { remove_custom_tags: vec!["x".into()], ..JobModifyRequest::default() };
        assert_eq!(message(&changed(before, &unknown).unwrap_err()), "the job has no tag `x`");
    }
}

//! The options of a job: what is to happen to it by itself, read from what users write, when it is submitted and later.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_api::view::{JobModifyRequest, SubmitRequest};
use mooring_store::{EventKind, JobRow};
use mooring_types::duration::{format_duration, parse_duration};
use mooring_types::host::Resources;
use mooring_types::job::{Bucket, Image, Volume, VolumeSource};
use mooring_types::mounts::Scheme;
use mooring_types::policy::{CustomTag, DumpMode, Egress, IdlePolicy, InvalidPolicy, JobPolicy, Moves, Rerun};
use mooring_types::{Clock, JobId, Name, Role};

use super::{find_job, job, parse};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// A shorter time between two looks would be over before the second.
const TIME_LEAST: Duration = Duration::from_secs(1);
/// No job has more tags.
const TAGS_MAX: usize = 50;
/// No job script is longer: it goes to a host with every change.
const SCRIPT_MAX: usize = 1 << 20;

/// What is to happen to a job that is submitted.
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
        vm_policy: given(&request.vm_policy)?.unwrap_or(usual.vm_policy),
        migrate_policy: given(&request.migrate_policy)?.unwrap_or(usual.migrate_policy),
        custom_tags: few(tags)?,
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

/// The sizes that a move may give it, none of them smaller than what it starts with.
fn largest(request: &SubmitRequest, least: Resources) -> ApiResult<(Option<u32>, Option<f64>)> {
    let most = job::resources(request.cpu_max.unwrap_or(least.cpu), request.mem_gb_max.unwrap_or(least.mem_gb))?;
    if most.cpu < least.cpu {
        return Err(ApiError::invalid(format!("at most {} cores, but at least {}", most.cpu, least.cpu)));
    }
    if most.mem_gb < least.mem_gb {
        return Err(ApiError::invalid(format!("at most {} GB of memory, but at least {}", most.mem_gb, least.mem_gb)));
    }
    Ok((request.cpu_max, request.mem_gb_max))
}

/// The data that a job finds under paths of its own, all of a kind that hosts can mount.
pub(super) fn volumes(texts: &[String]) -> ApiResult<Vec<Volume>> {
    let mut volumes: Vec<Volume> = Vec::new();
    for text in texts {
        let volume: Volume =
            parse(text).map_err(|error| error.hint("write it as /path:/mount, [size=10]:/mount, …"))?;
        if let Some(reason) = volume.unsupported() {
            return Err(ApiError::invalid(format!("volume `{}` can't be mounted: {reason}", volume.redacted()))
                .hint(instead(&volume)));
        }
        if let Some(other) = volumes.iter().find(|other| other.mount == volume.mount) {
            let mount = other.mount.display();
            return Err(ApiError::invalid(format!("two volumes are mounted at `{mount}`")));
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

/// What can be written in place of a volume that can't be mounted.
fn instead(volume: &Volume) -> &'static str {
    match &volume.source {
        VolumeSource::Existing(_) => {
            "use a fresh volume that lives with the job, `[size=10]:/mount`, a path that all hosts have, `/path:/mount`, or a bucket, `s3://bucket/prefix:/mount`"
        }
        VolumeSource::Remote { scheme: Scheme::S3, .. } => {
            "write it as `[mode=rw,endpoint=https://…,accessKey=…,secret=…]s3://bucket/prefix:/mount`"
        }
        VolumeSource::Remote { scheme: Scheme::Nfs, .. } => {
            "write it as `[opts=\"vers=4.2\"]nfs://server/export:/mount`"
        }
        _ => "mount it on every host, and give the path: `--dataVolume /path:/mount`",
    }
}

/// That a user's job may have what it asks for of its host: root on a path is root on the host.
pub(super) fn may_mount(role: Role, allowed: &[PathBuf], volumes: &[Volume]) -> ApiResult<()> {
    if role != Role::Admin {
        volumes.iter().try_for_each(may_reach)?;
    }
    let refused = volumes.iter().find_map(|volume| match &volume.source {
        VolumeSource::HostPath(path) if !allowed.iter().any(|allowed| path.starts_with(allowed)) => Some(path),
        _ => None,
    });
    match refused {
        Some(path) if role != Role::Admin => {
            let all: Vec<String> = allowed.iter().map(|path| path.display().to_string()).collect();
            let hint =
                if all.is_empty() { "an admin can".to_owned() } else { format!("you can below {}", all.join(", ")) };
            Err(ApiError::new(ErrorCode::PermissionDenied, format!("you can't mount `{}` of a host", path.display()))
                .hint(hint))
        }
        _ => Ok(()),
    }
}

/// That a host may speak with a server in its own name for anybody: an NFS server goes by the host that asks, and on a host's network there
/// is what speaks plain HTTP and trusts whoever reaches it, like the metadata service of a cloud.
fn may_reach(volume: &Volume) -> ApiResult<()> {
    let refused = |what: &str, hint: &str| Err(ApiError::new(ErrorCode::PermissionDenied, what.to_owned()).hint(hint));
    match volume.scheme() {
        Some(Scheme::Nfs) => refused("you can't have hosts mount NFS exports", "an admin can"),
        Some(Scheme::S3) if Bucket::of(volume).is_ok_and(|bucket| bucket.endpoint.starts_with("http://")) => refused(
            "you can't have hosts speak with an S3 service without TLS",
            "give an endpoint `https://…`, or ask an admin",
        ),
        _ => Ok(()),
    }
}

/// The job script, if there is one.
pub(super) fn script(request: &SubmitRequest) -> ApiResult<Option<String>> {
    if request.script.is_empty() {
        return Ok(None);
    }
    if !request.command.is_empty() {
        return Err(ApiError::invalid("a job script and a command exclude each other")
            .hint("leave out `--job`, or what follows `--`"));
    }
    if request.script.len() > SCRIPT_MAX {
        let size = request.script.len();
        return Err(ApiError::invalid(format!("a job script of {size} bytes: it takes at most {SCRIPT_MAX}"))
            .hint("mount what is large with `--dataVolume`, or put it into the image"));
    }
    if request.script.contains('\0') {
        return Err(ApiError::invalid("the job script is no text").hint("give a script, not a program"));
    }
    Ok(Some(request.script.clone()))
}

/// Changes what is to happen to a job.
pub(crate) async fn modify(context: &Context, user: &User, id: &str, request: JobModifyRequest) -> ApiResult<JobId> {
    if request == JobModifyRequest::default() {
        return Err(ApiError::invalid("nothing to modify").hint("`float modify --help` lists what can be"));
    }
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    if job.status.is_final() {
        return Err(ApiError::new(ErrorCode::WrongStatus, format!("a job that is {} can't be modified", job.status))
            .hint("the job has ended; submit it again"));
    }
    if job.spec.image == Image::External && request.asks_for_more_than_words() {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job runs under another scheduler")
            .hint("its name and its tags can be modified here, the rest there"));
    }
    let changed = changed(job.policy.clone(), &request)?;
    let now = context.clock.now();
    let mut words = differences(&job.policy, &changed);
    if !request.name.is_empty() {
        let name: Name = parse(&request.name)?;
        words.push(format!("name {name}"));
        tx.job_name_set(&job.id, &name, now).await?;
    }
    tx.job_policy_set(&job.id, &changed, now).await?;
    let message = match words.as_slice() {
        [] => format!("modified by {}: nothing is different", user.name),
        words => format!("modified by {}: {}", user.name, words.join(", ")),
    };
    tx.event_append(&job.id, EventKind::Note, &message, now).await?;
    tx.commit().await?;
    tracing::info!(job = %job.id, user = user.name, "job {} is {message}", job.id);
    context.wake();
    Ok(job.id)
}

trait Asks {
    fn asks_for_more_than_words(&self) -> bool;
}

impl Asks for JobModifyRequest {
    /// Whether more than its name and its tags is to change.
    fn asks_for_more_than_words(&self) -> bool {
        let words = Self {
            name: self.name.clone(),
            add_custom_tags: self.add_custom_tags.clone(),
            remove_custom_tags: self.remove_custom_tags.clone(),
            ..Self::default()
        };
        *self != words
    }
}

/// What becomes of a policy.
fn changed(mut policy: JobPolicy, request: &JobModifyRequest) -> ApiResult<JobPolicy> {
    for key in &request.remove_custom_tags {
        if policy.custom_tags.remove(key).is_none() {
            let keys: Vec<&str> = policy.custom_tags.keys().map(String::as_str).collect();
            return Err(ApiError::not_found(format!("the job has no tag `{key}`"))
                .hint(format!("it has: {}", if keys.is_empty() { "none".into() } else { keys.join(", ") })));
        }
    }
    for (key, value) in &request.add_custom_tags {
        tag(key, value)?;
        policy.custom_tags.insert(key.clone(), value.clone());
    }
    policy.custom_tags = few(policy.custom_tags)?;
    policy.vm_policy = given(&request.vm_policy)?.unwrap_or(policy.vm_policy);
    policy.migrate_policy = given(&request.migrate_policy)?.unwrap_or(policy.migrate_policy);
    policy.resume_on_connect = request.resume_on_connect.unwrap_or(policy.resume_on_connect);
    if !request.time_limit.is_empty() {
        policy.time_limit = time_or_none("a time limit", &request.time_limit)?;
    }
    if !request.idle.is_empty() {
        policy.idle = time_or_none("an idle time", &request.idle)?.map(|after| IdlePolicy { after });
    }
    if !request.snapshot_interval.is_empty() {
        policy.snapshot_interval = time_or_none("a snapshot interval", &request.snapshot_interval)?;
    }
    Ok(policy)
}

/// What is different, in words.
fn differences(old: &JobPolicy, new: &JobPolicy) -> Vec<String> {
    let time = |time: Option<Duration>| time.map_or_else(|| "none".to_owned(), format_duration);
    let idle = |policy: &JobPolicy| time(policy.idle.map(|idle| idle.after));
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
        ("snapshot interval", time(old.snapshot_interval), time(new.snapshot_interval)),
        ("resume on connect", on(old), on(new)),
        ("tags", tags(old), tags(new)),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(what, _, new)| format!("{what} {new}").trim_end().to_owned())
    .collect()
}

fn tag(key: &str, value: &str) -> ApiResult<CustomTag> {
    parse(&format!("{key}:{value}")).map_err(|error| error.hint("write key:value, like project:course-7"))
}

fn few(tags: BTreeMap<String, String>) -> ApiResult<BTreeMap<String, String>> {
    match tags.len() {
        ..=TAGS_MAX => Ok(tags),
        many => Err(ApiError::invalid(format!("{many} tags: a job has at most {TAGS_MAX}"))),
    }
}

/// Reads a policy; an empty text is none.
fn given<T: std::str::FromStr<Err = InvalidPolicy>>(text: &str) -> ApiResult<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: InvalidPolicy| ApiError::invalid(error.to_string()).hint(error.hint()))
}

/// Reads a time; an empty text is none.
fn time(what: &str, text: &str) -> ApiResult<Option<Duration>> {
    if text.is_empty() {
        return Ok(None);
    }
    let time = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()))?;
    if time < TIME_LEAST {
        return Err(ApiError::invalid(format!("{what} of {}: it takes at least 1s", format_duration(time))));
    }
    Ok(Some(time))
}

/// Reads a time; zero is none.
fn time_or_none(what: &str, text: &str) -> ApiResult<Option<Duration>> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Ok(None),
        _ => time(what, text),
    }
}

/// That a job may be moved by hand.
pub(super) fn may_move(job: &JobRow) -> ApiResult<()> {
    match job.policy.moves {
        Moves::Allowed => Ok(()),
        Moves::Disabled => Err(ApiError::new(ErrorCode::WrongStatus, "the job was submitted with `--disableMigrate`")
            .hint("it stays where it is until it ends")),
    }
}

/// That a job may be submitted anew.
pub(super) fn may_rerun(job: &JobRow) -> ApiResult<()> {
    if job.spec.image == Image::External {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job runs under another scheduler")
            .hint("start it there, and register it with `float job register`"));
    }
    match job.policy.rerun {
        Rerun::Allowed => Ok(()),
        Rerun::Disabled => {
            Err(ApiError::new(ErrorCode::PermissionDenied, "the job was submitted with `--disableRerun`")
                .hint("submit it with `float submit`; `inputArgs` of `float show` says with what"))
        }
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
    fn what_is_said_at_submission_is_the_policy() {
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
    fn what_is_wrong_is_refused_with_a_sentence() {
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

    #[test]
    fn volumes_that_no_host_can_mount_are_refused_without_their_secrets() {
        let good = ["/data:/data:ro".to_owned(), "[size=1]:/scratch".to_owned()];
        assert_eq!(volumes(&good).unwrap().len(), 2);
        let error = volumes(&["[secret=SK]s3://bucket:/mnt".to_owned()]).unwrap_err();
        let told_of = told(&error);
        assert!(
            told_of.starts_with("volume `[secret=********]s3://bucket:/mnt` can't be mounted: it takes"),
            "{told_of}"
        );
        let error = volumes(&["vol-0a1b:/mnt".to_owned()]).unwrap_err();
        let told_of = told(&error);
        assert!(told_of.ends_with("can't be mounted: hosts have no volumes that exist apart from jobs"), "{told_of}");
        let error = volumes(&["/a:/x".to_owned(), "/b:/x".to_owned()]).unwrap_err();
        assert_eq!(told(&error), "two volumes are mounted at `/x`");
    }

    #[test]
    fn paths_of_hosts_are_for_admins_and_for_everybody_below_what_is_allowed() {
        let allowed = [PathBuf::from("/srv/data")];
        let may = |role, text: &str| may_mount(role, &allowed, &volumes(&[text.to_owned()]).unwrap());
        for (text, everybody) in [
            ("/srv/data:/x", true),
            ("/srv/data/set:/x:ro", true),
            ("[size=1]:/x", true),
            ("/srv/database:/x", false),
            ("/srv:/x:ro", false),
            ("/:/x", false),
            ("s3://bucket/a:/x", true),
            ("[endpoint=https://minio:9000]s3://bucket/a:/x", true),
            ("[endpoint=http://169.254.169.254]s3://latest/meta-data:/x", false),
            ("nfs://server/a:/x", false),
        ] {
            may(Role::Admin, text).unwrap();
            assert_eq!(may(Role::User, text).is_ok(), everybody, "{text}");
        }
        assert_eq!(told(&may(Role::User, "/etc:/x").unwrap_err()), "you can't mount `/etc` of a host");
    }

    #[test]
    fn a_policy_is_changed_in_what_is_said_and_nothing_else() {
        let before = JobPolicy {
            time_limit: Some(Duration::from_secs(60)),
            custom_tags: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
            ..JobPolicy::default()
        };
        let request = JobModifyRequest {
            add_custom_tags: [("c".to_owned(), "3".to_owned())].into(),
            remove_custom_tags: vec!["a".into()],
            time_limit: "0s".into(),
            idle: "5m".into(),
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
        assert_eq!(told(&changed(before, &unknown).unwrap_err()), "the job has no tag `x`");
    }
}

//! Jobs: submit, rerun, cancel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use mooring_api::{ErrorCode, Submission};
use mooring_capsule::CapsuleKey;
use mooring_store::{GatewayRow, JobRow, Tx, UserRow};
use mooring_types::job::{Image, JobSpec, JobStatus};
use mooring_types::placement::NoHost;
use mooring_types::policy::Wanted;
use mooring_types::quota::Holding;
use mooring_types::{Clock, Event, JobId, Name, Port};

use super::resources::resources;
use super::{
    allowed, connection, find_gateway, find_job, parse, permissions, policy, quota, script, secret, security_group,
    template, volumes,
};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;

const CPU_DEFAULT: u32 = 1;
const MEM_DEFAULT: f64 = 2.0;

/// Submits a job; the reconciler places it.
pub(crate) async fn submit(context: &Context, user: &User, submission: Submission) -> ApiResult<JobId> {
    let (submission, access_path) = template::complete(context, user, submission).await?;
    let id = JobId::random(&mut rand::rng());
    let spec = spec(&submission, access_path, &id)?;
    let policy = policy::policy(&submission, spec.resources)?;
    let mut tx = context.store.begin().await?;
    user.present(&mut tx).await?;
    secret::check(context, &mut tx, &user.id, &spec).await?;
    permissions::may_use(user.role, &context.config.image_paths, &spec.image).at("image")?;
    permissions::may_mount(user.role, &context.config.volume_paths, &spec.volumes).at("dataVolumes")?;
    if let Some(host) = &submission.host {
        check_host(&mut tx, host, policy.vm_policy.policy).await.at("host")?;
    }
    let gateway = match &submission.gateway {
        None if !submission.target_ports.is_empty() => {
            return Err(ApiError::invalid("target ports without a gateway")
                .hint("name the gateway with `--gateway`")
                .at("gateway"));
        }
        None => None,
        Some(gateway) => Some(find_gateway(&mut tx, gateway).await.at("gateway")?),
    };
    let address = free_address(context, &mut tx).await?;
    let security_groups = security_group::resolve(&mut tx, &submission.security_groups).await.at("securityGroups")?;
    let job = JobRow {
        policy,
        address: Some(address),
        requested_host: submission.host,
        requested_gateway: gateway.as_ref().map(|gateway| gateway.id.clone()),
        target_ports: submission.target_ports.iter().map(|port| port.get()).collect(),
        security_groups,
        ..new_row(context, id, &user.name, spec)?
    };
    check_command(&job.spec)?;
    admit(&mut tx, &job, gateway.as_ref()).await?;
    tx.commit().await?;
    audit::about(Kind::Job, job.id.as_str(), job.spec.name.as_str());
    tracing::info!(job = %job.id, user = user.name, "job {} ({}) is submitted", job.id, job.spec.name);
    context.wake();
    Ok(job.id)
}

/// Checks that there is something to run. Only an image that is a directory has no command of its
/// own; of the others the host finds out.
fn check_command(spec: &JobSpec) -> ApiResult<()> {
    if matches!(spec.image, Image::Directory(_)) && spec.command.is_empty() && spec.script.is_none() {
        return Err(ApiError::invalid("no command, and a directory as an image has none")
            .hint("write the command after `--`, or give a job script with `-j`")
            .at("command"));
    }
    Ok(())
}

/// Checks that a host of that name exists and that a job's VM policy allows it.
async fn check_host(tx: &mut Tx, name: &Name, wanted: Wanted) -> ApiResult<()> {
    let hosts = tx.host_list().await?;
    let Some(host) = hosts.iter().find(|host| host.name == *name) else {
        return Err(ApiError::not_found(format!("no host is named `{name}`")).hint("`float hosts` lists the hosts"));
    };
    let purchase = host.joined.facts.purchase();
    if wanted.admits(purchase) {
        return Ok(());
    }
    let refusal = ApiError::from(NoHost::Forbidden { name: name.to_string(), purchase, wanted });
    Err(refusal.hint("name another host, or give another `--vmPolicy`"))
}

/// Submits a job with the spec and the options of another one, in the name of that one's owner.
///
/// An admin who runs a user's job again lends it neither secrets nor rights.
pub(crate) async fn rerun(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = context.store.begin().await?;
    let old = find_job(&mut tx, user, id).await?;
    allowed::rerun(&old)?;
    let gateway = match &old.requested_gateway {
        Some(gateway) => Some(find_gateway(&mut tx, &gateway.clone().into()).await?),
        None => None,
    };
    let owner = owner(&mut tx, &old).await?;
    secret::check(context, &mut tx, &owner.id, &old.spec).await?;
    permissions::may_use(owner.role, &context.config.image_paths, &old.spec.image)?;
    permissions::may_mount(owner.role, &context.config.volume_paths, &old.spec.volumes)?;
    let mut security_groups = Vec::new();
    for group in tx.security_group_list().await? {
        security_groups.extend(old.security_groups.contains(&group.id).then_some(group.id));
    }
    let id = JobId::random(&mut rand::rng());
    // The submitted size, even if a migration has changed the size since.
    let spec = JobSpec { resources: old.size_asked_for(), ..old.spec };
    let job = JobRow {
        policy: old.policy,
        address: Some(free_address(context, &mut tx).await?),
        requested_host: old.requested_host,
        requested_gateway: old.requested_gateway,
        target_ports: old.target_ports,
        security_groups,
        ..new_row(context, id, &owner.name, spec)?
    };
    admit(&mut tx, &job, gateway.as_ref()).await?;
    tx.event_append(&job.id, &Event::Rerun { original: old.id.clone() }, job.submit_time).await?;
    tx.commit().await?;
    audit::detail(format!("as job {}", job.id));
    tracing::info!(job = %job.id, user = user.name, "job {} ({}) is a rerun of {}", job.id, job.spec.name, old.id);
    context.wake();
    Ok(job.id)
}

/// Returns the owner of a job.
async fn owner(tx: &mut Tx, job: &JobRow) -> ApiResult<UserRow> {
    tx.user_get(&job.user_name).await?.ok_or_else(|| {
        ApiError::new(ErrorCode::WrongStatus, format!("the user {} of job {} is deleted", job.user_name, job.id))
            .hint("submit the job in your own name: `float show` has its arguments")
    })
}

/// Makes the row of a new job with default options, and the key of its capsules.
fn new_row(context: &Context, id: JobId, owner: &str, spec: JobSpec) -> ApiResult<JobRow> {
    let capsule_key = context.vault.seal_capsule_key(&id, &CapsuleKey::random())?;
    let row = JobRow::submitted(id, owner, spec, context.clock.now());
    Ok(JobRow { capsule_key: Some(capsule_key), ..row })
}

/// Adds a job with its connections, if it fits in the quotas of its owner.
async fn admit(tx: &mut Tx, job: &JobRow, gateway: Option<&GatewayRow>) -> ApiResult<()> {
    quota::admit(tx, &job.user_name, Holding::job(job.spec.resources)).await?;
    tx.job_insert(job).await?;
    if let Some(gateway) = gateway {
        connection::insert(tx, gateway, job, &job.target_ports).await?;
    }
    Ok(())
}

async fn free_address(context: &Context, tx: &mut Tx) -> ApiResult<Ipv4Addr> {
    let used: BTreeSet<_> = tx.job_list_live().await?.into_iter().filter_map(|job| job.address).collect();
    context.config.overlay.free_job_address(&used).ok_or_else(|| {
        ApiError::new(ErrorCode::ResourceExhausted, "every overlay address is taken")
            .hint("cancel jobs that are not needed")
    })
}

fn spec(submission: &Submission, access_path: String, id: &JobId) -> ApiResult<JobSpec> {
    let name = match &submission.name {
        Some(name) => name.clone(),
        None => parse(&format!("job-{}", &id.as_str()[..6]))?,
    };
    let image = match &submission.image {
        Some(Image::External) => {
            return Err(ApiError::invalid("image `external` is for external jobs")
                .hint("register such a job with `float job register`")
                .at("image"));
        }
        Some(image) => image.clone(),
        None => {
            return Err(ApiError::invalid("no image")
                .hint("give `--image dir:/`, `oci:/path` or `oci-archive:/path.tar`, or `--template jupyter`")
                .at("image"));
        }
    };
    let distinct: BTreeSet<Port> = submission.publish.iter().map(|publish| publish.host).collect();
    if distinct.len() != submission.publish.len() {
        return Err(ApiError::invalid("a port is published twice").at("publish"));
    }
    let working_dir = submission.working_dir.clone().unwrap_or_default();
    if submission.working_dir.is_some() && !working_dir.is_absolute() {
        let message = format!("working directory `{}` is not absolute", working_dir.display());
        return Err(ApiError::invalid(message).at("workingDir"));
    }
    Ok(JobSpec {
        name,
        image,
        command: submission.command.clone(),
        env: submission.env.0.clone(),
        working_dir,
        resources: resources(submission.cpu.unwrap_or(CPU_DEFAULT), submission.mem_gb.unwrap_or(MEM_DEFAULT))?,
        publish: submission.publish.clone(),
        access_path,
        script: script::script(submission)?,
        with_root: submission.with_root,
        volumes: volumes::volumes(&submission.data_volumes)?,
    })
}

/// Makes sure that a job ends. One that has ended, or is being cancelled, is what the caller wants:
/// nothing changes.
pub(crate) async fn ensure_cancelled(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    match cancel(context, user, id).await {
        Err(refusal) if refusal.0.error_code() == ErrorCode::WrongStatus => parse(id),
        done => done,
    }
}

/// Cancels a job.
pub(crate) async fn cancel(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    allowed::cancel(&job)?;
    let reason = format!("requested by {}", user.name);
    tx.job_status_set(&job, JobStatus::Cancelling, &reason, context.clock.now()).await?;
    tx.commit().await?;
    context.wake();
    Ok(job.id)
}

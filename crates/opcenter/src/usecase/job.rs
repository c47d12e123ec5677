//! Jobs: submit, rerun, cancel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use mooring_api::ErrorCode;
use mooring_api::view::SubmitRequest;
use mooring_store::{EventKind, GatewayRow, JobRow, Tx};
use mooring_types::job::{Action, Image, JobSpec, JobStatus, Publish};
use mooring_types::placement::NoHost;
use mooring_types::policy::Wanted;
use mooring_types::{Clock, JobId, Name, Port};

use super::resources::resources;
use super::{
    connection, find_gateway, find_job, parse, permissions, policy, script, secret, security_group, template, volumes,
};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

const CPU_DEFAULT: u32 = 1;
const MEM_DEFAULT: f64 = 2.0;

/// Submits a job; the reconciler places it.
pub(crate) async fn submit(context: &Context, user: &User, request: SubmitRequest) -> ApiResult<JobId> {
    let (request, access_path) = template::complete(context, user, request).await?;
    let id = JobId::random(&mut rand::rng());
    let spec = spec(&request, access_path, &id)?;
    let policy = policy::policy(&request, spec.resources)?;
    let mut tx = context.store.begin().await?;
    secret::check(context, &mut tx, user, &spec).await?;
    permissions::may_mount(user.role, &context.config.volume_paths, &spec.volumes)?;
    let requested_host = match request.host.as_str() {
        "" => None,
        name => Some(requested_host(&mut tx, name, policy.vm_policy.policy).await?),
    };
    let gateway = match request.gateway.as_str() {
        "" if !request.target_ports.is_empty() => {
            return Err(ApiError::invalid("target ports without a gateway").hint("name the gateway with `--gateway`"));
        }
        "" => None,
        name => Some(find_gateway(&mut tx, name).await?),
    };
    let address = free_address(context, &mut tx).await?;
    let now = context.clock.now();
    let security_groups = security_group::resolve(&mut tx, &request.security_groups).await?;
    let job = JobRow {
        policy,
        address: Some(address),
        requested_host,
        requested_gateway: gateway.as_ref().map(|gateway| gateway.id.clone()),
        target_ports: request.target_ports,
        security_groups,
        ..JobRow::submitted(id, &user.name, spec, now)
    };
    admit(&mut tx, &job, gateway.as_ref()).await?;
    tx.commit().await?;
    tracing::info!(job = %job.id, user = user.name, "job {} ({}) is submitted", job.id, job.spec.name);
    context.wake();
    Ok(job.id)
}

/// Checks that a host of that name exists and that a job's VM policy allows it.
async fn requested_host(tx: &mut Tx, name: &str, wanted: Wanted) -> ApiResult<Name> {
    let hosts = tx.host_list().await?;
    let Some(host) = hosts.iter().find(|host| host.name.as_str() == name) else {
        return Err(ApiError::not_found(format!("no host is named `{name}`")).hint("`float hosts` lists the hosts"));
    };
    let purchase = host.joined.facts.purchase();
    if wanted.admits(purchase) {
        return Ok(host.name.clone());
    }
    let refusal = ApiError::from(NoHost::Forbidden { name: name.to_owned(), purchase, wanted });
    Err(refusal.hint("name another host, or give another `--vmPolicy`"))
}

/// Submits a job with the spec and the options of another one.
pub(crate) async fn rerun(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = context.store.begin().await?;
    let old = find_job(&mut tx, user, id).await?;
    permissions::may_rerun(&old)?;
    let gateway = match &old.requested_gateway {
        Some(gateway) => Some(find_gateway(&mut tx, gateway.as_str()).await?),
        None => None,
    };
    secret::check(context, &mut tx, user, &old.spec).await?;
    permissions::may_mount(user.role, &context.config.volume_paths, &old.spec.volumes)?;
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
        ..JobRow::submitted(id, &user.name, spec, context.clock.now())
    };
    admit(&mut tx, &job, gateway.as_ref()).await?;
    tx.event_append(&job.id, EventKind::Note, &format!("rerun of job {}", old.id), job.submit_time).await?;
    tx.commit().await?;
    tracing::info!(job = %job.id, user = user.name, "job {} ({}) is a rerun of {}", job.id, job.spec.name, old.id);
    context.wake();
    Ok(job.id)
}

/// Adds a job with its connections.
async fn admit(tx: &mut Tx, job: &JobRow, gateway: Option<&GatewayRow>) -> ApiResult<()> {
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

fn spec(request: &SubmitRequest, access_path: String, id: &JobId) -> ApiResult<JobSpec> {
    let name: Name = match request.name.as_str() {
        "" => parse(&format!("job-{}", &id.as_str()[..6]))?,
        name => parse(name)?,
    };
    if request.image.is_empty() {
        return Err(ApiError::invalid("no image")
            .hint("give `--image dir:/`, `oci:/path` or `oci-archive:/path.tar`, or `--template jupyter`"));
    }
    let publish = request.publish.iter().map(|text| parse(text)).collect::<ApiResult<Vec<Publish>>>()?;
    let distinct: BTreeSet<Port> = publish.iter().map(|publish| publish.host).collect();
    if distinct.len() != publish.len() {
        return Err(ApiError::invalid("a port is published twice"));
    }
    let working_dir = PathBuf::from(&request.working_dir);
    if !request.working_dir.is_empty() && !working_dir.is_absolute() {
        return Err(ApiError::invalid(format!("working directory `{}` is not absolute", request.working_dir)));
    }
    Ok(JobSpec {
        name,
        image: match parse(&request.image)? {
            Image::External => {
                return Err(ApiError::invalid("image `external` is for external jobs")
                    .hint("register it with `float job register`"));
            }
            image => image,
        },
        command: request.command.clone(),
        env: environment(&request.env)?,
        working_dir,
        resources: resources(request.cpu.unwrap_or(CPU_DEFAULT), request.mem_gb.unwrap_or(MEM_DEFAULT))?,
        publish,
        access_path,
        script: script::script(request)?,
        with_root: request.with_root,
        volumes: volumes::volumes(&request.data_volumes)?,
    })
}

fn environment(given: &[String]) -> ApiResult<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    for entry in given {
        let (key, value) = entry.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            ApiError::invalid(format!("`{}` is no environment variable", entry.split('=').next().unwrap_or_default()))
                .hint("write KEY=VALUE")
        })?;
        if entry.contains('\0') {
            return Err(ApiError::invalid(format!("environment variable `{}` holds a NUL", key.replace('\0', "?"))));
        }
        env.insert(key.to_owned(), value.to_owned());
    }
    Ok(env)
}

/// Cancels a job.
pub(crate) async fn cancel(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    job.status.allows(Action::Cancel)?;
    let reason = format!("requested by {}", user.name);
    tx.job_status_set(&job, JobStatus::Cancelling, &reason, context.clock.now()).await?;
    tx.commit().await?;
    context.wake();
    Ok(job.id)
}

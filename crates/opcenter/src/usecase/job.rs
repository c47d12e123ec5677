//! Jobs: submit, cancel, migrate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mooring_api::ErrorCode;
use mooring_api::view::{MigrateRequest, SubmitRequest};
use mooring_ops::failpoint;
use mooring_store::{EventKind, JobRow, MigrationRow, Stage, Tx};
use mooring_types::host::Resources;
use mooring_types::job::{Action, Image, JobSpec, JobStatus, Publish};
use mooring_types::migration::{Outcome, Phase};
use mooring_types::placement::{NoHost, choose, choose_named};
use mooring_types::{Clock, Generation, JobId, MigrationId, Name, Port};

use super::{connection, find_gateway, find_job, parse, security_group};
use crate::auth::{User, new_token};
use crate::center::Center;
use crate::error::{ApiError, ApiResult};
use crate::snapshot::Snapshot;
use crate::templates::{self, Template};

const CPU_DEFAULT: u32 = 1;
const MEM_DEFAULT: f64 = 2.0;

/// Takes a job in; it is placed by the reconciler.
pub(crate) async fn submit(center: &Center, user: &User, request: SubmitRequest) -> ApiResult<JobId> {
    let template = templates::find(&request, &center.config.jupyter)?;
    let id = JobId::random(&mut rand::rng());
    let spec = spec(&request, template, &id)?;
    let mut tx = center.store.begin().await?;
    if !request.host.is_empty() && !tx.host_list().await?.iter().any(|host| host.name.as_str() == request.host) {
        return Err(
            ApiError::not_found(format!("no host is named `{}`", request.host)).hint("`float hosts` lists the hosts")
        );
    }
    let used: BTreeSet<_> = tx.job_list_live().await?.into_iter().filter_map(|job| job.address).collect();
    let address = center.config.overlay.free_job_address(&used).ok_or_else(|| {
        ApiError::new(ErrorCode::ResourceExhausted, "every overlay address is taken")
            .hint("cancel jobs that are not needed")
    })?;
    let now = center.clock.now();
    let security_groups = security_group::resolve(&mut tx, &request.security_groups).await?;
    let job = JobRow {
        id,
        user_name: user.name.clone(),
        spec,
        status: JobStatus::Submitted,
        status_reason: String::new(),
        address: Some(address),
        generation: Generation(0),
        host: None,
        host_wanted: request.host,
        security_groups,
        exit_code: None,
        submit_time: now,
        exec_time: None,
        end_time: None,
        last_update: now,
    };
    tx.job_insert(&job).await?;
    if !request.gateway.is_empty() {
        let gateway = find_gateway(&mut tx, &request.gateway).await?;
        connection::insert(&mut tx, &gateway, &job, &request.target_ports).await?;
    } else if !request.target_ports.is_empty() {
        return Err(ApiError::invalid("target ports without a gateway").hint("name the gateway with `--gateway`"));
    }
    tx.commit().await?;
    tracing::info!(job = %job.id, user = user.name, "job {} ({}) is submitted", job.id, job.spec.name);
    center.wake();
    Ok(job.id)
}

fn spec(request: &SubmitRequest, template: Template, id: &JobId) -> ApiResult<JobSpec> {
    let name: Name = match request.name.as_str() {
        "" => parse(&format!("job-{}", &id.as_str()[..6]))?,
        name => parse(name)?,
    };
    let image = if request.image.is_empty() { &template.image } else { &request.image };
    if image.is_empty() {
        return Err(ApiError::invalid("no image")
            .hint("give `--image dir:/`, `oci:/path` or `oci-archive:/path.tar`, or `--template jupyter`"));
    }
    let command = if request.command.is_empty() { template.command } else { request.command.clone() };
    let publish = if request.publish.is_empty() { &template.publish } else { &request.publish };
    let publish = publish.iter().map(|text| parse(text)).collect::<ApiResult<Vec<Publish>>>()?;
    let distinct: BTreeSet<Port> = publish.iter().map(|publish| publish.host).collect();
    if distinct.len() != publish.len() {
        return Err(ApiError::invalid("a port is published twice"));
    }
    let working_dir = PathBuf::from(&request.working_dir);
    if !request.working_dir.is_empty() && !working_dir.is_absolute() {
        return Err(ApiError::invalid(format!("working directory `{}` is not absolute", request.working_dir)));
    }
    let mem_default = if template.mem_gb > 0.0 { template.mem_gb } else { MEM_DEFAULT };
    Ok(JobSpec {
        name,
        image: match parse(image)? {
            Image::External => {
                return Err(ApiError::invalid("image `external` is for jobs that somebody else runs")
                    .hint("`float job register` takes them in"));
            }
            image => image,
        },
        command,
        env: environment(template.env, &request.env)?,
        working_dir,
        resources: resources(request.cpu.unwrap_or(CPU_DEFAULT), request.mem_gb.unwrap_or(mem_default))?,
        publish,
        access_path: template.access_path,
    })
}

/// Checks what is asked of a host.
pub(crate) fn resources(cpu: u32, mem_gb: f64) -> ApiResult<Resources> {
    if !(1..=4096).contains(&cpu) {
        return Err(ApiError::invalid(format!("{cpu} cores: it takes at least 1 and at most 4096")));
    }
    if !mem_gb.is_finite() || !(0.1..=65536.0).contains(&mem_gb) {
        return Err(ApiError::invalid(format!("{mem_gb} GB of memory: it takes at least 0.1 and at most 65536")));
    }
    Ok(Resources { cpu, mem_gb })
}

fn environment(mut env: BTreeMap<String, String>, given: &[String]) -> ApiResult<BTreeMap<String, String>> {
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

/// Ends a job.
pub(crate) async fn cancel(center: &Center, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = center.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    job.status.allows(Action::Cancel)?;
    let reason = format!("requested by {}", user.name);
    tx.job_status_set(&job, JobStatus::Cancelling, &reason, center.clock.now()).await?;
    tx.commit().await?;
    center.wake();
    Ok(job.id)
}

/// Begins to move a job.
pub(crate) async fn migrate(center: &Center, user: &User, id: &str, request: MigrateRequest) -> ApiResult<JobId> {
    let start_time = center.clock.now();
    let mut tx = center.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    job.status.allows(Action::Migrate)?;
    let observed = center.observed().clone();
    let all = Snapshot::read(&mut tx, &observed).await?;
    if all.moves.contains_key(&job.id) {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the last move of the job is not cleaned up yet")
            .hint("try again in a moment"));
    }
    if all.externals.contains_key(&job.id) {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job runs under another scheduler")
            .hint("move it there, and say where it is with `float job update`"));
    }
    let Some(from) = job.host.clone() else {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job has no host to be moved from"));
    };
    let candidates = all.job_candidates(&observed);
    let chosen = match request.host.as_str() {
        "" => choose(&candidates, job.spec.resources, Some(&from)),
        name if all.hosts.iter().any(|host| host.name.as_str() == name && !host.joined.role.takes_jobs()) => {
            Err(NoHost::TakesNoJobs(name.to_owned()))
        }
        name => choose_named(&candidates, name, job.spec.resources, Some(&from)),
    }?;
    failpoint::check(&Phase::Plan.failpoint())
        .await
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    let generation = next_generation(&mut tx, &job).await?;
    let row = MigrationRow {
        id: MigrationId::random(&mut rand::rng()),
        job: job.id.clone(),
        generation,
        from_generation: job.generation,
        from,
        to: chosen.id.clone(),
        token: new_token(),
        reason: format!("requested by {}", user.name),
        start_time,
        stage: Stage::Preparing,
        stage_time: center.clock.now(),
        freeze_time: None,
        outcome: Outcome::Running,
        phases: Vec::new(),
        pause_seconds: 0.0,
        bytes_moved: 0,
    };
    let message =
        format!("to be moved from {} to {}: {} ({})", all.host_name(&row.from), chosen.name, row.reason, row.id);
    tx.migration_insert(&row).await?;
    tx.job_status_set(&job, JobStatus::Floating, &row.reason, row.stage_time).await?;
    tx.event_append(&job.id, EventKind::Note, &message, row.stage_time).await?;
    tx.commit().await?;
    tracing::info!(job = %job.id, migration = %row.id, "job {} is {message}", job.id);
    center.wake();
    Ok(job.id)
}

/// A generation that no attempt of the job ever had: what an old one left behind can't be taken for the new one.
async fn next_generation(tx: &mut Tx, job: &JobRow) -> ApiResult<Generation> {
    let tried = tx.migration_list_of_job(&job.id).await?.into_iter().map(|row| row.generation);
    Ok(tried.chain([job.generation]).max().unwrap_or(job.generation).next())
}

//! External jobs: register and update.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use mooring_api::ErrorCode;
use mooring_api::view::{ExternalRegisterRequest, ExternalUpdateRequest};
use mooring_store::{ExternalRow, JobRow, Tx};
use mooring_types::endpoint::ExternalEndpoint;
use mooring_types::host::Resources;
use mooring_types::job::{Image, JobSpec, JobStatus, Publish};
use mooring_types::quota::Holding;
use mooring_types::{Clock, Event, JobId, Port};

use super::{connection, find_gateway, find_job, parse, quota};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;

const STATUS_HINT: &str =
    "choose Submitted, Starting, Executing, Floating, Suspended, Resuming, Completed, Cancelled or FailToComplete";

/// Registers a job that another system runs.
pub(crate) async fn register(context: &Context, user: &User, request: ExternalRegisterRequest) -> ApiResult<JobId> {
    let endpoints = endpoints(&request.endpoints).at("endpoints")?;
    check(context, &endpoints).at("endpoints")?;
    if endpoints.is_empty() {
        return Err(ApiError::invalid("no endpoint")
            .hint("give where the job listens with `--endpoint <host>:<port>`")
            .at("endpoints"));
    }
    let status = status(&request.status).at("status")?.unwrap_or(JobStatus::Executing);
    let id = JobId::random(&mut rand::rng());
    let now = context.clock.now();
    let targets: BTreeSet<Port> = endpoints.iter().map(|endpoint| endpoint.target).collect();
    let name = match request.name.as_str() {
        "" => parse(&format!("job-{}", &id.as_str()[..6]))?,
        name => parse(name).at("name")?,
    };
    let spec = JobSpec {
        resources: Resources { cpu: 0, mem_gb: 0.0 },
        publish: targets.iter().map(|port| Publish { host: *port, container: *port }).collect(),
        access_path: access_path(&request.access_path).at("accessPath")?,
        ..JobSpec::minimal(name, Image::External)
    };
    let job = JobRow::submitted(id, &user.name, spec, now);
    let mut tx = context.store.begin().await?;
    user.present(&mut tx).await?;
    quota::admit(&mut tx, &user.name, Holding::job(job.spec.resources)).await?;
    tx.job_insert(&job).await?;
    tx.external_insert(&ExternalRow { job: job.id.clone(), endpoints, epoch: 0 }).await?;
    if let Some(gateway) = &request.gateway {
        let gateway = find_gateway(&mut tx, gateway).await.at("gateway")?;
        connection::insert(&mut tx, &gateway, &job, &request.target_ports).await?;
    }
    declare(&mut tx, &job, status, &format!("declared by {}", user.name), now).await?;
    tx.commit().await?;
    audit::about(Kind::Job, job.id.as_str(), job.spec.name.as_str());
    tracing::info!(job = %job.id, user = user.name, "external job {} ({}) is registered", job.id, job.spec.name);
    context.wake();
    Ok(job.id)
}

/// Records new endpoints or a new status.
pub(crate) async fn update(
    context: &Context,
    user: &User,
    id: &str,
    request: ExternalUpdateRequest,
) -> ApiResult<JobId> {
    let status = status(&request.status).at("status")?;
    let new_endpoints = endpoints(&request.endpoints).at("endpoints")?;
    check(context, &new_endpoints).at("endpoints")?;
    if status.is_none() && new_endpoints.is_empty() {
        return Err(ApiError::invalid("nothing to update").hint("give `--endpoint`, `--status` or both"));
    }
    let now = context.clock.now();
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    let Some(mut row) = tx.external_list().await?.into_iter().find(|row| row.job == job.id) else {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job is run by OpCenter itself")
            .hint("`float job update` is for jobs of `float job register`"));
    };
    if job.status.is_final() {
        return Err(ApiError::new(ErrorCode::WrongStatus, format!("the job is {} already", job.status))
            .hint("register it again"));
    }
    if !new_endpoints.is_empty() {
        let endpoints = replaced(&job, &new_endpoints, !request.endpoints.iter().any(|text| text.contains('=')))?;
        if endpoints != row.endpoints {
            row.epoch += 1;
            let all: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            row.endpoints = endpoints;
            tx.external_update(&row).await?;
            tx.event_append(&job.id, &Event::EndpointsChanged { endpoints: all }, now).await?;
        }
    }
    if let Some(status) = status {
        declare(&mut tx, &job, status, &format!("declared by {}", user.name), now).await?;
    }
    tx.commit().await?;
    context.wake();
    Ok(job.id)
}

async fn declare(
    tx: &mut Tx,
    job: &JobRow,
    status: JobStatus,
    reason: &str,
    now: mooring_types::Timestamp,
) -> ApiResult<()> {
    if job.status != status {
        tx.job_status_declare(job, status, reason, now).await?;
    }
    Ok(())
}

/// Parses endpoints. Each text may hold several, separated by commas.
fn endpoints(texts: &[String]) -> ApiResult<Vec<ExternalEndpoint>> {
    let all = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let mut endpoints: Vec<ExternalEndpoint> = Vec::new();
    for text in all {
        let endpoint: ExternalEndpoint = parse(text)?;
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    Ok(endpoints)
}

/// Checks endpoints that have an address. Names are checked by gateways, which resolve them, and so
/// are the addresses of their hosts.
fn check(context: &Context, endpoints: &[ExternalEndpoint]) -> ApiResult<()> {
    let rules = context.config.endpoint_rules();
    for endpoint in endpoints {
        let address = match endpoint.endpoint.host() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.parse().ok(),
        };
        let Some(address) = address else { continue };
        rules.check(address, |_| false).map_err(|forbidden| {
            ApiError::invalid(format!("an external job can't be at {address}: it is {forbidden}"))
                .hint("give an address of its own, or have an admin allow a range with `--external-range`")
        })?;
    }
    Ok(())
}

/// Returns the endpoints after an update. Target ports stay those of the registration, since
/// connections name them. With a single target port, a new endpoint without one is for it.
fn replaced(job: &JobRow, new_endpoints: &[ExternalEndpoint], plain: bool) -> ApiResult<Vec<ExternalEndpoint>> {
    let targets: Vec<Port> = job.spec.publish.iter().map(|publish| publish.host).collect();
    if let ([only], true) = (targets.as_slice(), plain) {
        return Ok(new_endpoints
            .iter()
            .map(|one| ExternalEndpoint { target: *only, endpoint: one.endpoint.clone() })
            .collect());
    }
    if let Some(foreign) = new_endpoints.iter().find(|one| !targets.contains(&one.target)) {
        let ports: Vec<String> = targets.iter().map(ToString::to_string).collect();
        return Err(ApiError::invalid(format!("the job was registered without target port {}", foreign.target))
            .hint(format!("write <targetPort>=<host>:<port>; its target ports are {}", ports.join(", "))));
    }
    Ok(new_endpoints.to_vec())
}

fn status(text: &str) -> ApiResult<Option<JobStatus>> {
    if text.is_empty() {
        return Ok(None);
    }
    let status: JobStatus =
        text.parse().map_err(|_| ApiError::invalid(format!("`{text}` is no status")).hint(STATUS_HINT))?;
    if status.may_be_declared() {
        return Ok(Some(status));
    }
    Err(ApiError::invalid(format!("the status {status} is not one that can be declared")).hint(STATUS_HINT))
}

fn access_path(text: &str) -> ApiResult<String> {
    match text {
        "" => Ok("/".into()),
        path if path.starts_with('/') && !path.contains(char::is_control) => Ok(path.to_owned()),
        other => Err(ApiError::invalid(format!("`{other}` is no path")).hint("an access path starts with `/`")),
    }
}

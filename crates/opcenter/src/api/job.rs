//! Jobs.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use mooring_api::submission::Accepted;
use mooring_api::view::{
    EventView, FindingView, JobModifyRequest, JobPage, JobPages, JobView, MetricView, MigrateRequest, SubmittedView,
};
use mooring_api::{ErrorBody, Submission, paths};
use mooring_types::Clock;
use mooring_types::duration::parse_duration;
use mooring_types::filter::Filter;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Asked, Body, Named};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{job, migration, modify, see_job};
use crate::view::finding::findings;
use crate::view::job::{as_seen_by, event, job as job_view, job_of};
use crate::view::job_list::{self, Listing};
use crate::view::usage;

/// List all jobs that the user may see, newest last. With filters, the jobs that match all of them.
#[utoipa::path(get, path = paths::JOBS, params(("filter" = Option<Vec<String>>, Query)),
    responses((status = 200, body = [JobView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    user: User,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Vec<JobView>>> {
    let query = query.unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "filter");
    let filters = pairs.map(|(_, text)| job_list::filter(&text)).collect::<ApiResult<Vec<Filter>>>()?;
    Ok(Json(job_list::jobs(&context, &user, filters).await?))
}

/// List the jobs that the user may see page by page, newest first, with the numbers of all. A page
/// starts `before` or `after` a job, so it stays in place while new jobs are submitted.
#[utoipa::path(get, path = paths::JOB_PAGE,
    params(("filter" = Option<Vec<String>>, Query), ("category" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("before" = Option<String>, Query), ("after" = Option<String>, Query)),
    responses((status = 200, body = JobPage), (status = "4XX", body = ErrorBody)))]
pub(super) async fn page(
    State(context): State<Context>,
    user: User,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<JobPage>> {
    let listing = Listing::read(&query.unwrap_or_default())?;
    Ok(Json(job_list::page(&context, &user, listing).await?))
}

/// List jobs as clients of the original do: all that the user may see, newest last. With a place or
/// a limit, one page of them, newest first.
#[utoipa::path(get, path = paths::JOB_PAGES,
    params(("filter" = Option<Vec<String>>, Query), ("category" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("before" = Option<String>, Query), ("after" = Option<String>, Query)),
    responses((status = 200, body = JobPages), (status = "4XX", body = ErrorBody)))]
pub(super) async fn pages(
    State(context): State<Context>,
    user: User,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<JobPages>> {
    let query = query.unwrap_or_default();
    let asks_for_page = |key: &str| ["category", "limit", "before", "after"].contains(&key);
    let listing = Listing::read(&query)?;
    let jobs = if form_urlencoded::parse(query.as_bytes()).any(|(key, _)| asks_for_page(&key)) {
        job_list::page(&context, &user, listing).await?.jobs
    } else {
        job_list::jobs(&context, &user, listing.filters).await?
    };
    Ok(Json(JobPages { jobs }))
}

/// Submit a job. Fields of the original that have no effect here are named in `warnings`.
#[utoipa::path(post, path = paths::JOBS, request_body = Submission,
    responses((status = 201, body = SubmittedView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn submit(
    State(context): State<Context>,
    user: User,
    Body(json): Body<Box<RawValue>>,
) -> ApiResult<(StatusCode, Json<SubmittedView>)> {
    let Accepted { submission, warnings } = Submission::of_json(&json)?;
    let id = job::submit(&context, &user, submission).await?;
    Ok((StatusCode::CREATED, Json(SubmittedView { job: job_view(&context, &id).await?, warnings })))
}

/// Show a job with its migrations.
#[utoipa::path(get, path = paths::JOB, params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<JobView>> {
    let mut tx = context.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    Ok(Json(as_seen_by(&user, job_of(&context, &mut tx, &job).await?)))
}

/// Change the policy, the tags or the name of a job.
#[utoipa::path(patch, path = paths::JOB, params(("id" = String, Path)), request_body = JobModifyRequest,
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn modify(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<JobModifyRequest>,
) -> ApiResult<Json<JobView>> {
    let id = modify::modify(&context, &user, &id, request).await?;
    Ok(Json(job_view(&context, &id).await?))
}

/// Submit a job again, with the same spec and options.
#[utoipa::path(post, path = paths::JOB_RERUN, params(("id" = String, Path)),
    responses((status = 201, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn rerun(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = job::rerun(&context, &user, &id).await?;
    Ok((StatusCode::CREATED, Json(job_view(&context, &id).await?)))
}

/// Cancel a job. A job that has ended already stays as it is.
#[utoipa::path(delete, path = paths::JOB, params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn cancel(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<JobView>> {
    let id = job::ensure_cancelled(&context, &user, &id).await?;
    Ok(Json(job_view(&context, &id).await?))
}

/// Migrate a job to another host; its connections stay. The answer does not wait for the migration,
/// which `migrations` of the job reports.
#[utoipa::path(post, path = paths::JOB_MIGRATE, params(("id" = String, Path)), request_body = MigrateRequest,
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn migrate(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<MigrateRequest>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = migration::migrate(&context, &user, &id, request).await?;
    Ok((StatusCode::ACCEPTED, Json(job_view(&context, &id).await?)))
}

/// Suspend a job: its state goes into the capsule store and its host is freed. Its gateway ports
/// stay, and client connections are held.
#[utoipa::path(post, path = paths::JOB_SUSPEND, params(("id" = String, Path)),
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn suspend(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = migration::suspend(&context, &user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(job_view(&context, &id).await?)))
}

/// Resume a suspended job on any host that fits.
#[utoipa::path(post, path = paths::JOB_RESUME, params(("id" = String, Path)),
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn resume(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = migration::resume(&context, &user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(job_view(&context, &id).await?)))
}

/// Take a snapshot of an executing job, from which it is recovered if its host is lost.
#[utoipa::path(post, path = paths::JOB_SNAPSHOT, params(("id" = String, Path)),
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn snapshot(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = migration::snapshot(&context, &user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(job_view(&context, &id).await?)))
}

/// List a job's events, oldest first.
#[utoipa::path(get, path = paths::JOB_EVENTS, params(("id" = String, Path)),
    responses((status = 200, body = [EventView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn events(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<Vec<EventView>>> {
    let mut tx = context.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    Ok(Json(tx.event_list(&job.id).await?.into_iter().map(event).collect()))
}

/// List what matters to a migration of a running job, as its host's agent saw it last. Examples are
/// a debugger, a namespace and a socket that can't be moved.
#[utoipa::path(get, path = paths::JOB_FINDINGS, params(("id" = String, Path)),
    responses((status = 200, body = [FindingView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn check(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<Vec<FindingView>>> {
    let mut tx = context.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    Ok(Json(findings(&context.observed(), &job)))
}

/// The length of a history.
#[derive(Debug, Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    last: String,
}

/// List what a job used, oldest first: all measurements, or those of the duration `last`, like
/// `1h`.
#[utoipa::path(get, path = paths::JOB_METRICS, params(("id" = String, Path), ("last" = Option<String>, Query)),
    responses((status = 200, body = [MetricView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn metrics(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Asked(Back { last }): Asked<Back>,
) -> ApiResult<Json<Vec<MetricView>>> {
    let last = if last.is_empty() {
        None
    } else {
        Some(parse_duration(&last).map_err(|error| ApiError::invalid(error.to_string()))?)
    };
    let mut tx = context.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    let history = tx.usage_list(&job.id, usage::since(context.clock.now(), last)).await?;
    Ok(Json(history.iter().map(usage::view).collect()))
}

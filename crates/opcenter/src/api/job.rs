//! Jobs.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use mooring_api::view::{
    EventView, JobModifyRequest, JobView, LogFileView, LogPiece, MetricView, MigrateRequest, SubmitRequest,
};
use mooring_api::{ErrorBody, paths};
use mooring_types::Clock;
use mooring_types::duration::parse_duration;
use mooring_types::filter::{Filter, InvalidFilter};
use mooring_types::job::OutputFile;
use serde::Deserialize;

use super::{Asked, Body, Named};
use crate::auth::User;
use crate::center::Center;
use crate::error::{ApiError, ApiResult};
use crate::usecase::{find_job, job, options, parse, see_job, transit};
use crate::{usage, views};

/// All jobs of the user, newest last; an admin sees everyone's. With filters, those for which all of them hold.
#[utoipa::path(get, path = paths::JOBS, params(("filter" = Option<Vec<String>>, Query)),
    responses((status = 200, body = [JobView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(
    State(center): State<Center>,
    user: User,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Vec<JobView>>> {
    let query = query.unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "filter");
    let read = |text: &str| {
        text.parse().map_err(|error: InvalidFilter| ApiError::invalid(error.to_string()).hint(error.hint()))
    };
    let filters = pairs.map(|(_, text)| read(&text)).collect::<ApiResult<Vec<Filter>>>()?;
    Ok(Json(views::jobs(&center, &user, &filters).await?))
}

/// Submit a job.
#[utoipa::path(post, path = paths::JOBS, request_body = SubmitRequest,
    responses((status = 201, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn submit(
    State(center): State<Center>,
    user: User,
    Body(request): Body<SubmitRequest>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = job::submit(&center, &user, request).await?;
    Ok((StatusCode::CREATED, Json(views::job(&center, &id).await?)))
}

/// One job, with its moves.
#[utoipa::path(get, path = paths::JOB, params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<JobView>> {
    let mut tx = center.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    drop(tx);
    Ok(Json(views::as_seen_by(&user, views::job(&center, &job.id).await?)))
}

/// Change what is to happen to a job by itself, its tags, or its name.
#[utoipa::path(patch, path = paths::JOB, params(("id" = String, Path)), request_body = JobModifyRequest,
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn modify(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<JobModifyRequest>,
) -> ApiResult<Json<JobView>> {
    let id = options::modify(&center, &user, &id, request).await?;
    Ok(Json(views::job(&center, &id).await?))
}

/// Submit a job anew, with the same spec and options.
#[utoipa::path(post, path = paths::JOB_RERUN, params(("id" = String, Path)),
    responses((status = 201, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn rerun(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = job::rerun(&center, &user, &id).await?;
    Ok((StatusCode::CREATED, Json(views::job(&center, &id).await?)))
}

/// Cancel a job.
#[utoipa::path(delete, path = paths::JOB, params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn cancel(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<JobView>> {
    let id = job::cancel(&center, &user, &id).await?;
    Ok(Json(views::job(&center, &id).await?))
}

/// Move a job to another host; its connections stay. The move goes on by itself, `migrations` of the job tells how.
#[utoipa::path(post, path = paths::JOB_MIGRATE, params(("id" = String, Path)), request_body = MigrateRequest,
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn migrate(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<MigrateRequest>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = transit::migrate(&center, &user, &id, request).await?;
    Ok((StatusCode::ACCEPTED, Json(views::job(&center, &id).await?)))
}

/// Put a job into the capsule store: its host is freed, its gateway ports stay, and the connections of its clients wait.
#[utoipa::path(post, path = paths::JOB_SUSPEND, params(("id" = String, Path)),
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn suspend(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = transit::suspend(&center, &user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(views::job(&center, &id).await?)))
}

/// Have a suspended job execute again, on any host that fits.
#[utoipa::path(post, path = paths::JOB_RESUME, params(("id" = String, Path)),
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn resume(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = transit::resume(&center, &user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(views::job(&center, &id).await?)))
}

/// Take a capsule of a job that goes on: what it is recovered from when its host is lost.
#[utoipa::path(post, path = paths::JOB_SNAPSHOT, params(("id" = String, Path)),
    responses((status = 202, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn snapshot(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = transit::capture(&center, &user, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(views::job(&center, &id).await?)))
}

/// A job's events, oldest first.
#[utoipa::path(get, path = paths::JOB_EVENTS, params(("id" = String, Path)),
    responses((status = 200, body = [EventView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn events(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<Vec<EventView>>> {
    let mut tx = center.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    Ok(Json(tx.event_list(&job.id).await?.into_iter().map(views::event).collect()))
}

/// How far back a history goes.
#[derive(Debug, Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    last: String,
}

/// What a job used, oldest first: all that is kept, or what is no older than `last`, like `1h`.
#[utoipa::path(get, path = paths::JOB_METRICS, params(("id" = String, Path), ("last" = Option<String>, Query)),
    responses((status = 200, body = [MetricView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn metrics(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
    Asked(Back { last }): Asked<Back>,
) -> ApiResult<Json<Vec<MetricView>>> {
    let last = if last.is_empty() {
        None
    } else {
        Some(parse_duration(&last).map_err(|error| ApiError::invalid(error.to_string()))?)
    };
    let mut tx = center.store.begin().await?;
    let job = see_job(&mut tx, &user, &id).await?;
    let history = tx.usage_list(&job.id, usage::since(center.clock.now(), last)).await?;
    Ok(Json(history.iter().map(usage::view).collect()))
}

/// How both streams together are called.
const BOTH: &str = "output";

/// Where a piece of output starts.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    file: String,
    #[serde(default)]
    offset: u64,
}

/// The files that are kept of a job: what it wrote on its standard output and its standard error, and its results.
#[utoipa::path(get, path = paths::JOB_LOGS, params(("id" = String, Path)),
    responses((status = 200, body = [LogFileView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn logs(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<Vec<LogFileView>>> {
    let mut tx = center.store.begin().await?;
    let job = find_job(&mut tx, &user, &id).await?;
    drop(tx);
    let view = |(file, size): (OutputFile, u64)| LogFileView { name: file.to_string(), size };
    Ok(Json(center.logs.list(&job.id)?.into_iter().map(view).collect()))
}

/// A piece of one of a job's files; of both streams in the order in which they came when none or `output` is named.
#[utoipa::path(get, path = paths::JOB_LOG,
    params(("id" = String, Path), ("file" = Option<String>, Query), ("offset" = Option<u64>, Query)),
    responses((status = 200, body = LogPiece), (status = "4XX", body = ErrorBody)))]
pub(super) async fn log(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
    Asked(From { file, offset }): Asked<From>,
) -> ApiResult<Json<LogPiece>> {
    let mut tx = center.store.begin().await?;
    let job = find_job(&mut tx, &user, &id).await?;
    drop(tx);
    let mut piece = match file.as_str() {
        "" | BOTH => center.logs.read_both(&job.id, offset)?,
        file => center.logs.read(&job.id, &parse(file)?, offset)?,
    };
    // A character that is cut in two waits for its other half, unless nothing more comes.
    let whole = match std::str::from_utf8(&piece) {
        Err(error) if error.error_len().is_none() && !job.status.is_final() => error.valid_up_to(),
        _ => piece.len(),
    };
    piece.truncate(whole);
    Ok(Json(LogPiece {
        offset,
        next: offset + piece.len() as u64,
        ended: job.status.is_final() && piece.is_empty(),
        text: String::from_utf8_lossy(&piece).into_owned(),
    }))
}

//! Jobs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{EventView, JobView, LogPiece, MigrateRequest, SubmitRequest};
use mooring_api::{ErrorBody, paths};
use serde::Deserialize;

use super::{Asked, Body, Named};
use crate::auth::User;
use crate::center::Center;
use crate::error::ApiResult;
use crate::usecase::{find_job, job};
use crate::{logs, views};

/// All jobs of the user, newest last; an admin sees everyone's.
#[utoipa::path(get, path = paths::JOBS, responses((status = 200, body = [JobView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(center): State<Center>, user: User) -> ApiResult<Json<Vec<JobView>>> {
    Ok(Json(views::jobs(&center, &user).await?))
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
    let job = find_job(&mut tx, &user, &id).await?;
    drop(tx);
    Ok(Json(views::job(&center, &job.id).await?))
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
    let id = job::migrate(&center, &user, &id, request).await?;
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
    let job = find_job(&mut tx, &user, &id).await?;
    Ok(Json(tx.event_list(&job.id).await?.into_iter().map(views::event).collect()))
}

/// Where a piece of output starts.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    offset: u64,
}

/// A piece of a job's output.
#[utoipa::path(get, path = paths::JOB_LOG, params(("id" = String, Path), ("offset" = Option<u64>, Query)),
    responses((status = 200, body = LogPiece), (status = "4XX", body = ErrorBody)))]
pub(super) async fn log(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
    Asked(From { offset }): Asked<From>,
) -> ApiResult<Json<LogPiece>> {
    let mut tx = center.store.begin().await?;
    let job = find_job(&mut tx, &user, &id).await?;
    drop(tx);
    let mut piece = logs::read(&center.config.state_dir, &job.id, offset)?;
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

//! External jobs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{ExternalRegisterRequest, ExternalUpdateRequest, JobView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::external;
use crate::view::job::job as job_view;

/// Register a job that runs under another scheduler.
#[utoipa::path(post, path = paths::EXTERNAL_JOBS, request_body = ExternalRegisterRequest,
    responses((status = 201, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn register(
    State(context): State<Context>,
    user: User,
    Body(request): Body<ExternalRegisterRequest>,
) -> ApiResult<(StatusCode, Json<JobView>)> {
    let id = external::register(&context, &user, request).await?;
    Ok((StatusCode::CREATED, Json(job_view(&context, &id).await?)))
}

/// Update the endpoints or the status of an external job.
#[utoipa::path(patch, path = paths::EXTERNAL_JOB, params(("id" = String, Path)), request_body = ExternalUpdateRequest,
    responses((status = 200, body = JobView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn update(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<ExternalUpdateRequest>,
) -> ApiResult<Json<JobView>> {
    let id = external::update(&context, &user, &id, request).await?;
    Ok(Json(job_view(&context, &id).await?))
}

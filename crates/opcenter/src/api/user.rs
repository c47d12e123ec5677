//! Users.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{UserAddRequest, UserUpdateRequest, UserView};
use mooring_api::{ErrorBody, paths};
use serde::Deserialize;

use super::{Asked, Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::user;

/// List all users, oldest first; a user without the role `admin` sees itself.
#[utoipa::path(get, path = paths::USERS, responses((status = 200, body = [UserView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, actor: User) -> ApiResult<Json<Vec<UserView>>> {
    Ok(Json(user::list(&context, &actor).await?))
}

/// Add a user.
#[utoipa::path(post, path = paths::USERS, request_body = UserAddRequest,
    responses((status = 201, body = UserView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add(
    State(context): State<Context>,
    actor: User,
    Body(request): Body<UserAddRequest>,
) -> ApiResult<(StatusCode, Json<UserView>)> {
    Ok((StatusCode::CREATED, Json(user::add(&context, &actor, &request).await?)))
}

/// Show a user.
#[utoipa::path(get, path = paths::USER, params(("id" = String, Path)),
    responses((status = 200, body = UserView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    actor: User,
    Named(name): Named<String>,
) -> ApiResult<Json<UserView>> {
    Ok(Json(user::show(&context, &actor, &name).await?))
}

/// Change a user, all of the request or nothing; a new password ends its sessions.
#[utoipa::path(patch, path = paths::USER, params(("id" = String, Path)), request_body = UserUpdateRequest,
    responses((status = 200, body = UserView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn update(
    State(context): State<Context>,
    actor: User,
    Named(name): Named<String>,
    Body(request): Body<UserUpdateRequest>,
) -> ApiResult<Json<UserView>> {
    Ok(Json(user::update(&context, &actor, &name, &request).await?))
}

/// The fate of the user's jobs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deletion {
    #[serde(default)]
    cancel_jobs: bool,
}

/// Delete a user. Its jobs have to have ended, unless they are to be cancelled.
#[utoipa::path(delete, path = paths::USER, params(("id" = String, Path), ("cancelJobs" = Option<bool>, Query)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(context): State<Context>,
    actor: User,
    Named(name): Named<String>,
    Asked(deletion): Asked<Deletion>,
) -> ApiResult<StatusCode> {
    let jobs = if deletion.cancel_jobs { user::Jobs::Cancel } else { user::Jobs::Refuse };
    user::delete(&context, &actor, &name, jobs).await?;
    Ok(StatusCode::NO_CONTENT)
}

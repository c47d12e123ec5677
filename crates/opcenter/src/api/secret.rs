//! Secrets of the user.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{SecretSetRequest, SecretValue, SecretView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::secret;

/// List the user's secrets by name, without their values.
#[utoipa::path(get, path = paths::SECRETS,
    responses((status = 200, body = [SecretView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<SecretView>>> {
    Ok(Json(secret::list(&context, &user).await?))
}

/// Show a secret with its value.
#[utoipa::path(get, path = paths::SECRET, params(("id" = String, Path)),
    responses((status = 200, body = SecretValue), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get(
    State(context): State<Context>,
    user: User,
    Named(name): Named<String>,
) -> ApiResult<Json<SecretValue>> {
    Ok(Json(secret::get(&context, &user, &name).await?))
}

/// Set a secret; jobs that start from now on get the new value.
#[utoipa::path(put, path = paths::SECRET, params(("id" = String, Path)), request_body = SecretSetRequest,
    responses((status = 200, body = SecretView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn set(
    State(context): State<Context>,
    user: User,
    Named(name): Named<String>,
    Body(request): Body<SecretSetRequest>,
) -> ApiResult<Json<SecretView>> {
    Ok(Json(secret::set(&context, &user, &name, &request).await?))
}

/// Remove a secret; existing jobs keep its value.
#[utoipa::path(delete, path = paths::SECRET, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn unset(
    State(context): State<Context>,
    user: User,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    secret::unset(&context, &user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

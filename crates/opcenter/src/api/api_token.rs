//! API tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{ApiTokenAnswer, ApiTokenRequest, ApiTokenView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::api_token;

/// List the API tokens, oldest first: the user's own, and all for an admin.
#[utoipa::path(get, path = paths::API_TOKENS,
    responses((status = 200, body = [ApiTokenView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<ApiTokenView>>> {
    Ok(Json(api_token::list(&context, &user).await?))
}

/// Make an API token of the user; the answer shows it once. It takes a session.
#[utoipa::path(post, path = paths::API_TOKENS, request_body = ApiTokenRequest,
    responses((status = 201, body = ApiTokenAnswer), (status = "4XX", body = ErrorBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    user: User,
    Body(request): Body<ApiTokenRequest>,
) -> ApiResult<(StatusCode, Json<ApiTokenAnswer>)> {
    Ok((StatusCode::CREATED, Json(api_token::create(&context, &user, &request).await?)))
}

/// Delete an API token, by id or by the name of an own one. An admin may delete those of others by
/// id.
#[utoipa::path(delete, path = paths::API_TOKEN, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<StatusCode> {
    api_token::delete(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

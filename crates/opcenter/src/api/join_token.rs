//! Tokens with which hosts join.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{JoinTokenAnswer, JoinTokenRequest, JoinTokenView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::join_token;

/// List the tokens with which hosts may join. It takes an admin.
#[utoipa::path(get, path = paths::JOIN_TOKENS,
    responses((status = 200, body = [JoinTokenView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<JoinTokenView>>> {
    Ok(Json(join_token::list(&context, &user).await?))
}

/// Make a token with which one host may join, and the commands to paste there. It takes an admin.
#[utoipa::path(post, path = paths::JOIN_TOKENS, request_body = JoinTokenRequest,
    responses((status = 200, body = JoinTokenAnswer), (status = "4XX", body = ErrorBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    user: User,
    Body(request): Body<JoinTokenRequest>,
) -> ApiResult<Json<JoinTokenAnswer>> {
    Ok(Json(join_token::create(&context, &user, &request).await?))
}

/// Revoke a token. It takes an admin.
#[utoipa::path(delete, path = paths::JOIN_TOKEN, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<StatusCode> {
    join_token::delete(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

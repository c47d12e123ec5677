//! Groups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{GroupAddRequest, GroupUpdateRequest, GroupView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::group;

/// List all groups by name; a user without the role `admin` sees its own.
#[utoipa::path(get, path = paths::GROUPS, responses((status = 200, body = [GroupView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, actor: User) -> ApiResult<Json<Vec<GroupView>>> {
    Ok(Json(group::list(&context, &actor).await?))
}

/// Add a group.
#[utoipa::path(post, path = paths::GROUPS, request_body = GroupAddRequest,
    responses((status = 201, body = GroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add(
    State(context): State<Context>,
    actor: User,
    Body(request): Body<GroupAddRequest>,
) -> ApiResult<(StatusCode, Json<GroupView>)> {
    Ok((StatusCode::CREATED, Json(group::add(&context, &actor, &request).await?)))
}

/// Show a group.
#[utoipa::path(get, path = paths::GROUP, params(("id" = String, Path)),
    responses((status = 200, body = GroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    actor: User,
    Named(name): Named<String>,
) -> ApiResult<Json<GroupView>> {
    Ok(Json(group::show(&context, &actor, &name).await?))
}

/// Change a group, all of the request or nothing.
#[utoipa::path(patch, path = paths::GROUP, params(("id" = String, Path)), request_body = GroupUpdateRequest,
    responses((status = 200, body = GroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn update(
    State(context): State<Context>,
    actor: User,
    Named(name): Named<String>,
    Body(request): Body<GroupUpdateRequest>,
) -> ApiResult<Json<GroupView>> {
    Ok(Json(group::update(&context, &actor, &name, &request).await?))
}

/// Delete a group; its members stay users.
#[utoipa::path(delete, path = paths::GROUP, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(context): State<Context>,
    actor: User,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    group::delete(&context, &actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

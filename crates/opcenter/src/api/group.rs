//! Groups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{GroupAddRequest, GroupUpdateRequest, GroupView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::center::Center;
use crate::error::ApiResult;
use crate::usecase::group;

/// All groups, by name; who is no admin sees its own.
#[utoipa::path(get, path = paths::GROUPS, responses((status = 200, body = [GroupView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(center): State<Center>, actor: User) -> ApiResult<Json<Vec<GroupView>>> {
    Ok(Json(group::list(&center, &actor).await?))
}

/// Add a group.
#[utoipa::path(post, path = paths::GROUPS, request_body = GroupAddRequest,
    responses((status = 201, body = GroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn add(
    State(center): State<Center>,
    actor: User,
    Body(request): Body<GroupAddRequest>,
) -> ApiResult<(StatusCode, Json<GroupView>)> {
    Ok((StatusCode::CREATED, Json(group::add(&center, &actor, &request).await?)))
}

/// One group, by name.
#[utoipa::path(get, path = paths::GROUP, params(("id" = String, Path)),
    responses((status = 200, body = GroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(center): State<Center>,
    actor: User,
    Named(name): Named<String>,
) -> ApiResult<Json<GroupView>> {
    Ok(Json(group::show(&center, &actor, &name).await?))
}

/// Change a group, all of it or nothing.
#[utoipa::path(patch, path = paths::GROUP, params(("id" = String, Path)), request_body = GroupUpdateRequest,
    responses((status = 200, body = GroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn update(
    State(center): State<Center>,
    actor: User,
    Named(name): Named<String>,
    Body(request): Body<GroupUpdateRequest>,
) -> ApiResult<Json<GroupView>> {
    Ok(Json(group::update(&center, &actor, &name, &request).await?))
}

/// Delete a group; its members stay users.
#[utoipa::path(delete, path = paths::GROUP, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(center): State<Center>,
    actor: User,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    group::delete(&center, &actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Security groups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{SecurityGroupCreateRequest, SecurityGroupModifyRequest, SecurityGroupView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::center::Center;
use crate::error::ApiResult;
use crate::usecase::security_group;
use crate::views::Views;

/// All security groups, oldest first.
#[utoipa::path(get, path = paths::SECURITY_GROUPS,
    responses((status = 200, body = [SecurityGroupView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(center): State<Center>, user: User) -> ApiResult<Json<Vec<SecurityGroupView>>> {
    let mut tx = center.store.begin().await?;
    Ok(Json(Views::look(&center, &mut tx).await?.security_groups(&user)))
}

/// Create a security group.
#[utoipa::path(post, path = paths::SECURITY_GROUPS, request_body = SecurityGroupCreateRequest,
    responses((status = 201, body = SecurityGroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn create(
    State(center): State<Center>,
    user: User,
    Body(request): Body<SecurityGroupCreateRequest>,
) -> ApiResult<(StatusCode, Json<SecurityGroupView>)> {
    let id = security_group::create(&center, &user, &request).await?;
    Ok((StatusCode::CREATED, view(&center, &user, id.as_str()).await?))
}

/// One security group, by id or name, with who uses it.
#[utoipa::path(get, path = paths::SECURITY_GROUP, params(("id" = String, Path)),
    responses((status = 200, body = SecurityGroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<SecurityGroupView>> {
    view(&center, &user, &id).await
}

/// Add and remove rules of a security group, all or none.
#[utoipa::path(patch, path = paths::SECURITY_GROUP, params(("id" = String, Path)), request_body = SecurityGroupModifyRequest,
    responses((status = 200, body = SecurityGroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn modify(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<SecurityGroupModifyRequest>,
) -> ApiResult<Json<SecurityGroupView>> {
    let id = security_group::modify(&center, &user, &id, &request).await?;
    view(&center, &user, id.as_str()).await
}

/// Delete a security group that nobody uses.
#[utoipa::path(delete, path = paths::SECURITY_GROUP, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(center): State<Center>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<StatusCode> {
    security_group::delete(&center, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(center: &Center, user: &User, id: &str) -> ApiResult<Json<SecurityGroupView>> {
    let mut tx = center.store.begin().await?;
    let group = security_group::find(&mut tx, id).await?;
    Ok(Json(Views::look(center, &mut tx).await?.security_group(user, &group)))
}

//! Security groups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{SecurityGroupCreateRequest, SecurityGroupModifyRequest, SecurityGroupView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{parse, security_group};
use crate::view::Views;

/// List all security groups, oldest first.
#[utoipa::path(get, path = paths::SECURITY_GROUPS,
    responses((status = 200, body = [SecurityGroupView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<SecurityGroupView>>> {
    Ok(Json(Views::present(&context).await?.security_groups(&user)))
}

/// Create a security group.
#[utoipa::path(post, path = paths::SECURITY_GROUPS, request_body = SecurityGroupCreateRequest,
    responses((status = 201, body = SecurityGroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    user: User,
    Body(request): Body<SecurityGroupCreateRequest>,
) -> ApiResult<(StatusCode, Json<SecurityGroupView>)> {
    let id = security_group::create(&context, &user, &request).await?;
    Ok((StatusCode::CREATED, view(&context, &user, id.as_str()).await?))
}

/// Show a security group, by id or name, with the gateways and jobs that have it.
#[utoipa::path(get, path = paths::SECURITY_GROUP, params(("id" = String, Path)),
    responses((status = 200, body = SecurityGroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<SecurityGroupView>> {
    view(&context, &user, &id).await
}

/// Add and remove rules of a security group, all or none.
#[utoipa::path(patch, path = paths::SECURITY_GROUP, params(("id" = String, Path)), request_body = SecurityGroupModifyRequest,
    responses((status = 200, body = SecurityGroupView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn modify(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<SecurityGroupModifyRequest>,
) -> ApiResult<Json<SecurityGroupView>> {
    let id = security_group::modify(&context, &user, &id, &request).await?;
    view(&context, &user, id.as_str()).await
}

/// Delete a security group that nobody uses.
#[utoipa::path(delete, path = paths::SECURITY_GROUP, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<StatusCode> {
    security_group::delete(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(context: &Context, user: &User, id: &str) -> ApiResult<Json<SecurityGroupView>> {
    let mut tx = context.store.begin().await?;
    let group = security_group::find(&mut tx, &parse(id)?).await?;
    Ok(Json(Views::read(context, &mut tx).await?.security_group(user, &group)))
}

//! Hosts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{DrainAnswer, DrainRequest, FindingView, HostRemoval, HostView};
use mooring_api::{ErrorBody, paths};

use super::{Asked, Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::host;
use crate::view::Views;

/// List all hosts by name.
#[utoipa::path(get, path = paths::HOSTS, responses((status = 200, body = [HostView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<HostView>>> {
    Ok(Json(Views::present(&context).await?.hosts(&user)))
}

/// Remove a host without jobs and gateways, or one that is lost with what it has. It takes an
/// admin.
#[utoipa::path(delete, path = paths::HOST, params(("id" = String, Path), HostRemoval),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn remove(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Asked(removal): Asked<HostRemoval>,
) -> ApiResult<StatusCode> {
    host::remove(&context, &user, &id, removal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drain a host: all jobs leave it, and no new ones come.
#[utoipa::path(post, path = paths::HOST_DRAIN, params(("id" = String, Path)), request_body = DrainRequest,
    responses((status = 200, body = DrainAnswer), (status = "4XX", body = ErrorBody)))]
pub(super) async fn drain(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<DrainRequest>,
) -> ApiResult<Json<DrainAnswer>> {
    let id = host::drain(&context, &user, &id, &request).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.drained(&user, &id)?))
}

/// List what matters to the migrations of the jobs on a host, as a drain would meet it.
#[utoipa::path(get, path = paths::HOST_FINDINGS, params(("id" = String, Path)),
    responses((status = 200, body = [FindingView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn check(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<Vec<FindingView>>> {
    Ok(Json(host::check(&context, &user, &id).await?))
}

/// Let a host that lost its state directory join again under its name.
#[utoipa::path(post, path = paths::HOST_REJOIN, params(("id" = String, Path)),
    responses((status = 200, body = HostView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn rejoin(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<HostView>> {
    let id = host::rejoin(&context, &user, &id).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.host_of_id(&user, &id)?))
}

/// End the drain of a host.
#[utoipa::path(delete, path = paths::HOST_DRAIN, params(("id" = String, Path)),
    responses((status = 200, body = HostView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn undrain(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<HostView>> {
    let id = host::undrain(&context, &user, &id).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.host_of_id(&user, &id)?))
}

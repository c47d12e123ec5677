//! Gateways and their connections.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{
    ConnectRequest, ConnectionView, GatewayCertificateRequest, GatewayCreateRequest, GatewayMetricView,
    GatewayModifyRequest, GatewayView,
};
use mooring_api::{ErrorBody, paths};
use mooring_types::Clock;
use mooring_types::duration::parse_duration;
use serde::Deserialize;

use super::{Asked, Body, Named};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{connection, find_gateway, gateway, gateway_certificate, parse};
use crate::view::{Views, usage};

/// List all gateways, oldest first.
#[utoipa::path(get, path = paths::GATEWAYS, responses((status = 200, body = [GatewayView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<GatewayView>>> {
    Ok(Json(Views::present(&context).await?.gateways(&user)))
}

/// Create a gateway.
#[utoipa::path(post, path = paths::GATEWAYS, request_body = GatewayCreateRequest,
    responses((status = 201, body = GatewayView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    user: User,
    Body(request): Body<GatewayCreateRequest>,
) -> ApiResult<(StatusCode, Json<GatewayView>)> {
    let id = gateway::create(&context, &user, request).await?;
    let mut tx = context.store.begin().await?;
    let view = Views::read(&context, &mut tx).await?.gateway_of_id(&user, &id)?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Show a gateway, by id or name, with its connections and clients.
#[utoipa::path(get, path = paths::GATEWAY, params(("id" = String, Path)),
    responses((status = 200, body = GatewayView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<GatewayView>> {
    let gateway = find_gateway(&mut context.store.begin_read().await?, &parse(&id)?).await?;
    Ok(Json(Views::present(&context).await?.gateway(&user, &gateway)))
}

/// The length of a history.
#[derive(Debug, Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    last: String,
}

/// List the measurements of a gateway's traffic within `last`, like `10m`, oldest first. They are
/// 5 s apart at least, and kept for an hour.
#[utoipa::path(get, path = paths::GATEWAY_METRICS, params(("id" = String, Path), ("last" = Option<String>, Query)),
    responses((status = 200, body = [GatewayMetricView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn metrics(
    State(context): State<Context>,
    _user: User,
    Named(id): Named<String>,
    Asked(Back { last }): Asked<Back>,
) -> ApiResult<Json<Vec<GatewayMetricView>>> {
    let last = if last.is_empty() {
        None
    } else {
        Some(parse_duration(&last).map_err(|error| ApiError::invalid(error.to_string()))?)
    };
    let mut tx = context.store.begin().await?;
    let gateway = find_gateway(&mut tx, &parse(&id)?).await?;
    Ok(Json(context.traffic.samples(&gateway.id, usage::since(context.clock.now(), last))))
}

/// Modify a gateway, all of the request or nothing; connections that stay allowed are not touched.
#[utoipa::path(patch, path = paths::GATEWAY, params(("id" = String, Path)), request_body = GatewayModifyRequest,
    responses((status = 200, body = GatewayView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn modify(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<GatewayModifyRequest>,
) -> ApiResult<Json<GatewayView>> {
    let id = gateway::modify(&context, &user, &id, &request).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.gateway_of_id(&user, &id)?))
}

/// Destroy a gateway; the jobs connected to it keep running.
#[utoipa::path(delete, path = paths::GATEWAY, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn destroy(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<StatusCode> {
    gateway::destroy(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace a gateway's process; its connections stay.
#[utoipa::path(post, path = paths::GATEWAY_RESTART, params(("id" = String, Path)),
    responses((status = 200, body = GatewayView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn restart(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Json<GatewayView>> {
    let id = gateway::restart(&context, &user, &id).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.gateway_of_id(&user, &id)?))
}

/// Give a gateway a certificate for its ports. New client connections get it, open ones stay.
#[utoipa::path(put, path = paths::GATEWAY_CERTIFICATES, params(("id" = String, Path)),
    request_body = GatewayCertificateRequest,
    responses((status = 200, body = GatewayView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn set_certificate(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<GatewayCertificateRequest>,
) -> ApiResult<Json<GatewayView>> {
    let id = gateway_certificate::set(&context, &user, &id, &request).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.gateway_of_id(&user, &id)?))
}

/// The certificate to remove.
#[derive(Debug, Deserialize)]
pub(super) struct Removed {
    name: String,
}

/// Remove a certificate of a gateway, by the first of its names.
#[utoipa::path(delete, path = paths::GATEWAY_CERTIFICATES, params(("id" = String, Path), ("name" = String, Query)),
    responses((status = 200, body = GatewayView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn remove_certificate(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Asked(Removed { name }): Asked<Removed>,
) -> ApiResult<Json<GatewayView>> {
    let id = gateway_certificate::remove(&context, &user, &id, &name).await?;
    let mut tx = context.store.begin().await?;
    Ok(Json(Views::read(&context, &mut tx).await?.gateway_of_id(&user, &id)?))
}

/// Connect ports of a job, all or none.
#[utoipa::path(post, path = paths::GATEWAY_CONNECTIONS, params(("id" = String, Path)), request_body = ConnectRequest,
    responses((status = 201, body = [ConnectionView]), (status = "4XX", body = ErrorBody)))]
pub(super) async fn connect(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Body(request): Body<ConnectRequest>,
) -> ApiResult<(StatusCode, Json<Vec<ConnectionView>>)> {
    let connections = connection::connect(&context, &user, &id, &request).await?;
    let mut tx = context.store.begin().await?;
    let views = Views::read(&context, &mut tx).await?;
    Ok((StatusCode::CREATED, Json(views.connected(&connections))))
}

/// The connections to remove.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Disconnected {
    job: String,
    target_port: Option<u16>,
}

/// Disconnect a job, or one port of it.
#[utoipa::path(delete, path = paths::GATEWAY_CONNECTIONS,
    params(("id" = String, Path), ("job" = String, Query), ("targetPort" = Option<u16>, Query)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn disconnect(
    State(context): State<Context>,
    user: User,
    Named(id): Named<String>,
    Asked(what): Asked<Disconnected>,
) -> ApiResult<StatusCode> {
    connection::disconnect(&context, &user, &id, &what.job, what.target_port).await?;
    Ok(StatusCode::NO_CONTENT)
}

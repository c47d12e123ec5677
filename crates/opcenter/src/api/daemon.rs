//! The endpoints for agents and gateways: join, slices, reports, output. [`mooring_api::watch`] is
//! their contract.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body as Stream, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use mooring_api::paths;
use mooring_api::watch::{
    CertificateAnswer, CertificateRequest, GatewayReport, HostReport, JoinAnswer, JoinRequest, KEEPALIVE, VisitAnswer,
    VisitRequest,
};
use mooring_types::job::OutputFile;
use mooring_types::{Clock, JobId};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Body, Named};
use crate::auth::daemon::{GatewayProcess, HostAgent};
use crate::error::ApiResult;
use crate::state::context::{Context, Published};
use crate::usecase::{gateway_certificate, host, parse, visit};

/// Returns the router of everything that is not for users.
pub(super) fn router() -> Router<Context> {
    Router::new()
        .route(paths::HOSTS, post(join))
        .route(paths::HOST_CERTIFICATE, post(host_certificate))
        .route(paths::HOST_GATEWAY_CERTIFICATE, post(certify_gateway))
        .route(paths::HOST_SLICES, get(host_slices))
        .route(paths::HOST_REPORT, post(host_report))
        .route(paths::HOST_JOB_LOG, put(job_log))
        .route(paths::GATEWAY_SLICES, get(gateway_slices))
        .route(paths::GATEWAY_REPORT, post(gateway_report))
        .route(paths::GATEWAY_PORT_CERTIFICATE, post(port_certificate))
        .route(paths::GATEWAY_VISITS, post(gateway_visit))
}

async fn join(State(context): State<Context>, Body(request): Body<JoinRequest>) -> ApiResult<Json<JoinAnswer>> {
    Ok(Json(host::join(&context, request).await?))
}

async fn host_certificate(
    State(context): State<Context>,
    HostAgent(row): HostAgent,
    Body(request): Body<CertificateRequest>,
) -> ApiResult<Json<CertificateAnswer>> {
    Ok(Json(host::renew(&context, &row, &request).await?))
}

async fn certify_gateway(
    State(context): State<Context>,
    HostAgent(row): HostAgent,
    Named((_, gateway)): Named<(String, String)>,
    Body(request): Body<CertificateRequest>,
) -> ApiResult<Json<CertificateAnswer>> {
    Ok(Json(host::certify_gateway(&context, &row, &parse(&gateway)?, &request).await?))
}

async fn host_report(
    State(context): State<Context>,
    HostAgent(row): HostAgent,
    Body(report): Body<HostReport>,
) -> ApiResult<StatusCode> {
    host::report(&context, row, report).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn gateway_report(
    State(context): State<Context>,
    GatewayProcess(row): GatewayProcess,
    Body(report): Body<GatewayReport>,
) -> ApiResult<StatusCode> {
    context.traffic.report(&row.id, &report, context.clock.now());
    context.observed().gateway_put(row.id, report);
    context.wake_for_report();
    Ok(StatusCode::NO_CONTENT)
}

async fn port_certificate(
    State(context): State<Context>,
    GatewayProcess(row): GatewayProcess,
    Body(request): Body<CertificateRequest>,
) -> ApiResult<Json<CertificateAnswer>> {
    Ok(Json(gateway_certificate::issue(&context, &row, &request).await?))
}

async fn gateway_visit(
    State(context): State<Context>,
    GatewayProcess(row): GatewayProcess,
    Body(request): Body<VisitRequest>,
) -> ApiResult<Json<VisitAnswer>> {
    Ok(Json(visit::begin(&context, &row, &request).await?))
}

#[derive(Debug, Deserialize)]
struct At {
    file: OutputFile,
    offset: u64,
}

async fn job_log(
    State(context): State<Context>,
    HostAgent(row): HostAgent,
    Named((_, job)): Named<(String, String)>,
    Query(At { file, offset }): Query<At>,
    piece: Bytes,
) -> ApiResult<Json<u64>> {
    let job: JobId = parse(&job)?;
    host::refuse_unless_given(&context, &row, &job).await?;
    Ok(Json(context.logs.append(&job, &file, offset, &piece)?))
}

async fn host_slices(
    State(context): State<Context>,
    HostAgent(row): HostAgent,
    Extension(stop): Extension<CancellationToken>,
) -> Response {
    lines(context, stop, move |published| published.hosts.get(&row.id).map(|line| line.numbered.clone()))
}

async fn gateway_slices(
    State(context): State<Context>,
    GatewayProcess(row): GatewayProcess,
    Extension(stop): Extension<CancellationToken>,
) -> Response {
    lines(context, stop, move |published| published.gateways.get(&row.id).map(|line| line.numbered.clone()))
}

/// Streams a line for each new slice, and an empty line as keep-alive.
fn lines(
    context: Context,
    stop: CancellationToken,
    own: impl Fn(&Arc<Published>) -> Option<Bytes> + Send + 'static,
) -> Response {
    let mut published = context.published.subscribe();
    let stream = async_stream::stream! {
        let mut last = Bytes::new();
        loop {
            let line = own(&published.borrow_and_update());
            match line {
                Some(line) if line != last => {
                    last = line.clone();
                    yield Ok::<Bytes, Infallible>(line);
                }
                Some(_) => {}
                // What it was a slice of is gone.
                None if !last.is_empty() => return,
                None => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = published.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(KEEPALIVE) => yield Ok(Bytes::from_static(b"\n")),
            }
        }
    };
    ([(CONTENT_TYPE, "application/x-ndjson")], Stream::from_stream(stream)).into_response()
}

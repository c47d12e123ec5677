//! The HTTP API: handlers that parse, call a use-case and return a view.
//!
//! One file per noun; [`router`] mounts them all, and [`openapi`] describes the part for users. The
//! part for agents and gateways is specified in [`mooring_api::watch`].

mod api_token;
pub(crate) mod audit;
mod daemon;
mod external;
mod gateway;
mod group;
mod host;
mod job;
mod job_file;
mod job_log;
mod join_token;
mod key;
mod program;
mod secret;
mod security_group;
mod session;
mod setting;
mod status;
mod template;
mod user;
mod watch;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json};
use mooring_api::view::VersionView;
use mooring_api::{ErrorCode, paths};
use mooring_ops::Tasks;
use tokio_util::sync::CancellationToken;
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit::{Recorder, record};
use crate::error::ApiError;
use crate::state::context::Context;
use crate::view::metrics;
use crate::web;

/// The most bytes of a request.
const BODY_BYTES_MAX: usize = 4 << 20;

#[derive(OpenApi)]
#[openapi(
    info(title = "OpCenter", description = "Jobs that move between hosts while their clients stay connected."),
    modifiers(&Bearer),
    security(("session" = []))
)]
struct Described;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        openapi.components.get_or_insert_default().add_security_scheme("session", SecurityScheme::Http(scheme));
    }
}

fn described() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(session::login, session::login_basic))
        .routes(routes!(session::request, session::request_state))
        .routes(routes!(session::logout))
        .routes(routes!(session::show))
        .routes(routes!(session::link))
        .routes(routes!(session::list))
        .routes(routes!(session::end))
        .routes(routes!(session::begin_for_job))
        .routes(routes!(status::show))
        .routes(routes!(job::list, job::submit))
        .routes(routes!(job::page))
        .routes(routes!(job::pages))
        .routes(routes!(job::show, job::modify, job::cancel))
        .routes(routes!(watch::job))
        .routes(routes!(job::rerun))
        .routes(routes!(job::migrate))
        .routes(routes!(job::suspend))
        .routes(routes!(job::resume))
        .routes(routes!(job::snapshot))
        .routes(routes!(job::events))
        .routes(routes!(job::check))
        .routes(routes!(job::metrics))
        .routes(routes!(job_log::piece))
        .routes(routes!(job_log::watch))
        .routes(routes!(job_log::list))
        .routes(routes!(job_file::download))
        .routes(routes!(external::register))
        .routes(routes!(external::update))
        .routes(routes!(gateway::list, gateway::create))
        .routes(routes!(gateway::show, gateway::modify, gateway::destroy))
        .routes(routes!(gateway::connect, gateway::disconnect))
        .routes(routes!(gateway::restart))
        .routes(routes!(gateway::set_certificate, gateway::remove_certificate))
        .routes(routes!(gateway::metrics))
        .routes(routes!(watch::gateway))
        .routes(routes!(security_group::list, security_group::create))
        .routes(routes!(security_group::show, security_group::modify, security_group::delete))
        .routes(routes!(user::list, user::add))
        .routes(routes!(user::show, user::update, user::delete))
        .routes(routes!(group::list, group::add))
        .routes(routes!(group::show, group::update, group::delete))
        .routes(routes!(api_token::list, api_token::create))
        .routes(routes!(api_token::delete))
        .routes(routes!(secret::list))
        .routes(routes!(secret::get, secret::set, secret::unset))
        .routes(routes!(template::list, template::create))
        .routes(routes!(template::show, template::delete))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(setting::list))
        .routes(routes!(key::list))
        .routes(routes!(key::rotate))
        .routes(routes!(host::list))
        .routes(routes!(host::remove))
        .routes(routes!(join_token::list, join_token::create))
        .routes(routes!(join_token::delete))
        .routes(routes!(host::drain, host::undrain))
        .routes(routes!(host::rejoin))
        .routes(routes!(host::check))
        .routes(routes!(watch::host))
        .routes(routes!(version))
}

/// Returns the description of the API for users.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// Returns the router of the whole API.
pub(crate) fn router(context: Context, stop: CancellationToken, tasks: Tasks) -> axum::Router {
    let (router, description) = described().split_for_parts();
    router
        .merge(daemon::router())
        .merge(web::router())
        .merge(program::router())
        .route(paths::OPENAPI, get(move || std::future::ready(Json(description))))
        .route(paths::HEALTHZ, get(|| std::future::ready(StatusCode::OK)))
        .route(paths::READYZ, get(|| std::future::ready(StatusCode::OK)))
        .route(paths::METRICS, get(measured))
        .fallback(unknown_path)
        .method_not_allowed_fallback(|| std::future::ready(ApiError::invalid("no such method on this path")))
        .layer(Extension(stop))
        .layer(from_fn_with_state(Recorder { context: context.clone(), tasks }, record))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TraceLayer::new_for_http())
        .with_state(context)
}

/// Answers a path that nothing serves: a browser with a page, a program with JSON.
async fn unknown_path(headers: HeaderMap) -> Response {
    let error = ApiError::not_found("no such path");
    if headers.get(ACCEPT).is_some_and(|value| value.as_bytes().starts_with(b"text/html")) {
        return web::refusal(&error.hint("the menu leads to every page"));
    }
    error.hint(format!("the API is described at {}", paths::OPENAPI)).into_response()
}

/// Returns the metrics for Prometheus. They reveal nothing about a user, so no session is required.
async fn measured(State(context): State<Context>) -> Result<impl IntoResponse, ApiError> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], metrics::text(&context).await?))
}

/// Show OpCenter's version.
#[utoipa::path(get, path = paths::VERSION, responses((status = 200, body = VersionView)), security())]
async fn version() -> Json<VersionView> {
    Json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// A JSON body; an invalid one gets the usual error.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(ApiError))]
struct Body<T>(T);

/// Parameters of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
struct Named<T>(T);

/// Parameters of the query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
struct Asked<T>(T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(ErrorCode::InvalidArgument, rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(ErrorCode::InvalidArgument, rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ErrorCode::InvalidArgument, rejection.body_text())
    }
}

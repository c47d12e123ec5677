//! Sessions.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, StatusCode};
use mooring_api::ErrorBody;
use mooring_api::paths;
use mooring_api::view::{
    JobSessionRequest, LinkRequest, LinkView, LoginRequest, OpenSessionView, SessionRequest, SessionRequestState,
    SessionRequestView, SessionView,
};

use super::{Body, Named};
use crate::auth::{User, basic, bearer};
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{job_session, session};

type Begun = ([(HeaderName, String); 1], Json<SessionView>);

/// Log in; the token is in the body and in the header `Authorization`.
#[utoipa::path(post, path = paths::LOGIN, request_body = LoginRequest, security(),
    responses((status = 200, body = SessionView), (status = 401, body = ErrorBody)))]
pub(super) async fn login(State(context): State<Context>, Body(request): Body<LoginRequest>) -> ApiResult<Begun> {
    begin(&context, &request.username, &request.password).await
}

/// Log in with HTTP Basic; the token is in the body and in the header `Authorization`.
#[utoipa::path(get, path = paths::LOGIN, security(),
    responses((status = 200, body = SessionView), (status = 401, body = ErrorBody)))]
pub(super) async fn login_basic(State(context): State<Context>, request: Request) -> ApiResult<Begun> {
    let (parts, _) = request.into_parts();
    let (name, password) = basic(&parts)?;
    begin(&context, &name, &password).await
}

async fn begin(context: &Context, name: &str, password: &str) -> ApiResult<Begun> {
    let session = session::login(context, name, password).await?;
    Ok(([(AUTHORIZATION, session.token.clone())], Json(session)))
}

/// Begin a session for one job alone, by a code that a user has given a page of the job in
/// OpCenter's own window. The session may show, migrate, suspend, resume and cancel the job, and
/// nothing else. It ends with the session that has allowed it.
#[utoipa::path(post, path = paths::JOB_SESSION, params(("id" = String, Path)), request_body = JobSessionRequest, security(),
    responses((status = 200, body = SessionView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn begin_for_job(
    State(context): State<Context>,
    Named(id): Named<String>,
    Body(request): Body<JobSessionRequest>,
) -> ApiResult<Json<SessionView>> {
    Ok(Json(job_session::begin(&context, &id, &request).await?))
}

/// Ask for a session that a user confirms in a browser, within five minutes.
#[utoipa::path(post, path = paths::LOGIN_REQUESTS, request_body = SessionRequest, security(),
    responses((status = 201, body = SessionRequestView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn request(
    State(context): State<Context>,
    Body(request): Body<SessionRequest>,
) -> ApiResult<(StatusCode, Json<SessionRequestView>)> {
    Ok((StatusCode::CREATED, Json(session::request(&context, &request)?)))
}

/// Tell what has become of a request for a session. Its secret is the token of this request, and
/// afterwards that of the session.
#[utoipa::path(get, path = paths::LOGIN_REQUESTS,
    responses((status = 200, body = SessionRequestState), (status = "4XX", body = ErrorBody)))]
pub(super) async fn request_state(
    State(context): State<Context>,
    request: Request,
) -> ApiResult<Json<SessionRequestState>> {
    let (parts, _) = request.into_parts();
    Ok(Json(session::request_state(&context, bearer(&parts)?).await?))
}

/// End the session.
#[utoipa::path(post, path = paths::LOGOUT, responses((status = 204), (status = 401, body = ErrorBody)))]
pub(super) async fn logout(State(context): State<Context>, user: User) -> ApiResult<StatusCode> {
    session::logout(&context, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show the user of the session.
#[utoipa::path(get, path = paths::SESSION, responses((status = 200, body = SessionView), (status = 401, body = ErrorBody)))]
pub(super) async fn show(user: User) -> Json<SessionView> {
    let role = user.role.to_string();
    Json(SessionView { token: String::new(), username: user.name, role, expires_at: user.expires_at })
}

/// List the open sessions, oldest first: the user's own, and all for an admin.
#[utoipa::path(get, path = paths::SESSIONS,
    responses((status = 200, body = [OpenSessionView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<OpenSessionView>>> {
    Ok(Json(session::list(&context, &user).await?))
}

/// End a session. An admin may end those of others.
#[utoipa::path(delete, path = paths::SESSION_OF_ID, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn end(State(context): State<Context>, user: User, Named(id): Named<String>) -> ApiResult<StatusCode> {
    session::end(&context, &user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a link that begins a session of the same user in a browser: once, within a minute.
#[utoipa::path(post, path = paths::SESSION_LINK, request_body = LinkRequest,
    responses((status = 201, body = LinkView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn link(
    State(context): State<Context>,
    user: User,
    Body(request): Body<LinkRequest>,
) -> ApiResult<(StatusCode, Json<LinkView>)> {
    Ok((StatusCode::CREATED, Json(session::link_begin(&context, &user, &request)?)))
}

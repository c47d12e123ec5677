//! Templates.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mooring_api::view::{TemplateCreateRequest, TemplateView};
use mooring_api::{ErrorBody, paths};

use super::{Body, Named};
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::template;

/// List the templates that the user may use: built-in ones, then the others, oldest first.
#[utoipa::path(get, path = paths::TEMPLATES,
    responses((status = 200, body = [TemplateView]), (status = 401, body = ErrorBody)))]
pub(super) async fn list(State(context): State<Context>, user: User) -> ApiResult<Json<Vec<TemplateView>>> {
    Ok(Json(template::list(&context, &user).await?))
}

/// Create a template from a job or from a request.
#[utoipa::path(post, path = paths::TEMPLATES, request_body = TemplateCreateRequest,
    responses((status = 201, body = TemplateView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn create(
    State(context): State<Context>,
    user: User,
    Body(request): Body<TemplateCreateRequest>,
) -> ApiResult<(StatusCode, Json<TemplateView>)> {
    Ok((StatusCode::CREATED, Json(template::create(&context, &user, &request).await?)))
}

/// Show a template, by `[private::]name[:tag]`; the newest without a tag.
#[utoipa::path(get, path = paths::TEMPLATE, params(("id" = String, Path)),
    responses((status = 200, body = TemplateView), (status = "4XX", body = ErrorBody)))]
pub(super) async fn show(
    State(context): State<Context>,
    user: User,
    Named(name): Named<String>,
) -> ApiResult<Json<TemplateView>> {
    Ok(Json(template::show(&context, &user, &name).await?))
}

/// Delete a template, by `[private::]name:tag`; jobs made from it stay.
#[utoipa::path(delete, path = paths::TEMPLATE, params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(context): State<Context>,
    user: User,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    template::delete(&context, &user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

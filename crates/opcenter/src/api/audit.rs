//! The audit.

use std::convert::Infallible;

use axum::Json;
use axum::body::{Body as Stream, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mooring_api::view::{AuditPage, AuditQuery};
use mooring_api::{ErrorBody, paths};
use serde::Deserialize;

use super::Asked;
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::audit_log::{self, Format, LIMIT_MAX};

/// List the requests that changed something or were refused, newest first. It takes an admin.
#[utoipa::path(get, path = paths::AUDIT, params(AuditQuery),
    responses((status = 200, body = AuditPage), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(
    State(context): State<Context>,
    user: User,
    Asked(query): Asked<AuditQuery>,
) -> ApiResult<Json<AuditPage>> {
    Ok(Json(audit_log::list(&context, &user, &query).await?))
}

/// The format of an export.
#[derive(Debug, Deserialize)]
pub(super) struct Exported {
    format: Format,
}

/// Return all entries of a query as `csv` or `jsonl`, newest first. It takes an admin.
#[utoipa::path(get, path = paths::AUDIT_EXPORT, params(("format" = String, Query), AuditQuery),
    responses((status = 200, body = String, content_type = "text/csv"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn export(
    State(context): State<Context>,
    user: User,
    Asked(Exported { format }): Asked<Exported>,
    Asked(query): Asked<AuditQuery>,
) -> ApiResult<Response> {
    download(context, user, format, query).await
}

/// Answers with all entries of a query as a file, page by page.
pub(crate) async fn download(context: Context, user: User, format: Format, query: AuditQuery) -> ApiResult<Response> {
    let mut query = AuditQuery { limit: Some(LIMIT_MAX), ..query };
    let first = audit_log::list(&context, &user, &query).await?;
    let stream = async_stream::stream! {
        yield Ok::<Bytes, Infallible>(Bytes::from_static(format.head().as_bytes()));
        let mut page = first;
        loop {
            let lines: String = page.entries.iter().map(|entry| format.line(entry)).collect();
            yield Ok(lines.into());
            query.before = page.next;
            if page.next.is_none() {
                return;
            }
            // A refusal ends the text here; it has nowhere to stand.
            page = match audit_log::list(&context, &user, &query).await {
                Ok(page) => page,
                Err(_) => return,
            };
        }
    };
    let disposition = format!("attachment; filename=\"{}\"", format.file_name());
    let headers = [(CONTENT_TYPE, format.media_type().to_owned()), (CONTENT_DISPOSITION, disposition)];
    Ok((headers, Stream::from_stream(stream)).into_response())
}

//! A refusal, as a browser shows it.
//!
//! A handler fails with a [`Problem`]. [`dress`] knows how the browser asked. A problem becomes a
//! page, a message over the open page, or the login. [`dress`] also sets the headers of every
//! answer.

use std::sync::Arc;

use askama::Template;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use mooring_api::{ErrorBody, ErrorCode};

use super::{answer, login, shell};
use crate::audit;
use crate::error::ApiError;

/// Scripts, styles and pictures are OpCenter's own files; nothing is inline, nothing is framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// The header by which a script on a page asks for a part of it.
pub(super) const BY_SCRIPT: HeaderName = HeaderName::from_static("hx-request");

/// The reason why a request has no answer.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The browser has no session, or it has ended.
    NoSession,
    Refused(ApiError),
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        match error.0.error_code() {
            ErrorCode::Unauthenticated => Self::NoSession,
            _ => Self::Refused(error),
        }
    }
}

impl From<mooring_store::StoreError> for Problem {
    fn from(error: mooring_store::StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<askama::Error> for ApiError {
    fn from(error: askama::Error) -> Self {
        tracing::error!(%error, "a page can't be rendered");
        Self::new(ErrorCode::Internal, "the page can't be rendered").hint("OpCenter's log says why")
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        Self::Refused(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match &self {
            Self::NoSession => audit::refused(&ErrorBody::new(ErrorCode::Unauthenticated, "no session")),
            Self::Refused(error) => audit::refused(&error.0),
        }
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Returns whether a script on a page asks for a part of it.
pub(super) fn is_by_script(headers: &HeaderMap) -> bool {
    headers.contains_key(BY_SCRIPT)
}

/// Gives problems the form that fits the request, and sets the headers of every answer.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let (by_script, method) = (is_by_script(request.headers()), request.method().clone());
    let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let streams = accepts.contains("text/event-stream");
    let asked = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        response = match &*problem {
            Problem::NoSession if by_script || streams => login::again(),
            Problem::NoSession if method == Method::GET => Redirect::to(&login::path(&asked)).into_response(),
            Problem::NoSession => Redirect::to(&login::path("/")).into_response(),
            Problem::Refused(error) if by_script => answer::refused(&error.0),
            Problem::Refused(error) => page(&error.0),
        };
    }
    protect(&mut response);
    response
}

/// Sets the headers of every answer.
fn protect(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// A page that says what is wrong.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    error: &'a ErrorBody,
}

/// Returns the page of a refusal outside of the web interface's own routes.
pub(crate) fn refusal(error: &ApiError) -> Response {
    let mut response = page(&error.0);
    protect(&mut response);
    response
}

/// Returns a whole page that says what is wrong.
fn page(error: &ErrorBody) -> Response {
    let status = StatusCode::from_u16(error.error_code().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match shell::bare(&error.class, &ProblemPage { error }) {
        Ok(document) => (status, Html(document)).into_response(),
        Err(_) => (status, error.message.clone()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_says_what_is_wrong_and_what_helps() {
        let error = ErrorBody::new(ErrorCode::NotFound, "no job <b>x</b>").hint("list them");
        let text = ProblemPage { error: &error }.render().unwrap();
        assert!(text.contains("Resource not found") && text.contains("list them"), "{text}");
        assert!(!text.contains("<b>x"), "{text}");
    }
}

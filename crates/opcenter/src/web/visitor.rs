//! A visitor: a browser with a session.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::auth::{User, cookie};
use crate::state::context::Context;

/// A user in a browser. A request that changes something has proved that it comes from a page of
/// the same session.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) user: User,
    /// The CSRF token of the session.
    pub(crate) csrf: String,
}

impl FromRequestParts<Context> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Problem> {
        let Some(token) = cookie::token(&parts.headers, cookie::is_secure(parts, context)) else {
            return Err(Problem::NoSession);
        };
        let user = User::of_browser(context, token, parts).await?;
        cookie::refuse_forged(&parts.method, &parts.headers, token)?;
        Ok(Self { user, csrf: cookie::csrf(token) })
    }
}

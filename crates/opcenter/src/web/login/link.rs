//! Sign in by a link that another session has made.

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};

use super::own_path;
use crate::auth::cookie::{self, IsSecure};
use crate::state::context::Context;
use crate::usecase::session;
use crate::web::address::Address;
use crate::web::problem::Problem;

/// Uses the link up, sets the cookie of its session and opens its page.
pub(super) async fn login(
    State(context): State<Context>,
    IsSecure(is_secure): IsSecure,
    address: Address,
) -> Result<Response, Problem> {
    match session::link_redeem(&context, address.one("code")).await {
        Ok(session) => {
            let set = AppendHeaders([(SET_COOKIE, cookie::set(&session.token, is_secure))]);
            // The code is not in the address that the browser keeps.
            Ok((set, Redirect::to(own_path(address.one("next")))).into_response())
        }
        Err(error) => super::page_of_refusal(&context, error, address.one("next")),
    }
}

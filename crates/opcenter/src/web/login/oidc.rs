//! Sign in at the OpenID provider: there and back.

use std::convert::Infallible;

use askama::Template;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::header::{HOST, SET_COOKIE};
use axum::http::request::Parts;
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};

use super::own_path;
use crate::auth::cookie::{self, IsSecure};
use crate::oidc::{CALLBACK, Callback};
use crate::state::context::Context;
use crate::usecase::sign_in;
use crate::web::address::Address;
use crate::web::assets;
use crate::web::problem::Problem;

/// The URL by which the browser reaches OpCenter, without a path.
pub(super) struct Reached(String);

impl FromRequestParts<Context> for Reached {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Infallible> {
        if let Some(url) = &context.config.external_url {
            return Ok(Self(url.clone()));
        }
        let scheme = if cookie::is_secure(parts, context) { "https" } else { "http" };
        // HTTP/2 has the host in the address alone.
        let of_header = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
        let host = of_header.or(parts.uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
        Ok(Self(format!("{scheme}://{host}")))
    }
}

/// The document that leads on to a page of OpCenter.
///
/// The browser comes from the provider, another site. In an answer to that, and in a redirect that
/// follows it, browsers withhold the session's cookie, which is `SameSite=Strict`. A document of
/// OpCenter's own that leads on ends that.
#[derive(Template)]
#[template(path = "login/onward.html")]
struct Onward<'a> {
    title: &'static str,
    next: &'a str,
}

/// Sends the browser to the provider.
pub(super) async fn begin(
    State(context): State<Context>,
    IsSecure(is_secure): IsSecure,
    reached: Reached,
    address: Address,
) -> Result<Response, Problem> {
    let (oidc, next) = (sign_in::provider(&context)?, own_path(address.one("next")));
    match oidc.begin(&*context.clock, format!("{}{CALLBACK}", reached.0), next).await {
        Ok(begun) => {
            let set = AppendHeaders([(SET_COOKIE, cookie::set_sign_in(&begun.cookie, is_secure))]);
            Ok((set, Redirect::to(&begun.location)).into_response())
        }
        Err(failure) => super::page_of_refusal(&context, failure.told(oidc.name()), next),
    }
}

/// Ends the sign-in of a browser that the provider sends back.
pub(super) async fn come_back(
    State(context): State<Context>,
    IsSecure(is_secure): IsSecure,
    headers: HeaderMap,
    address: Address,
) -> Result<Response, Problem> {
    let oidc = sign_in::provider(&context)?;
    let flow = oidc.opened(cookie::sign_in(&headers, is_secure), &*context.clock);
    let next = own_path(flow.as_ref().map_or("/", |flow| &flow.next)).to_owned();
    let callback = Callback {
        state: address.one("state"),
        code: address.one("code"),
        error: address.one("error"),
        issuer: address.one("iss"),
    };
    // It is used up in any case.
    let over = AppendHeaders([(SET_COOKIE, cookie::remove_sign_in(is_secure))]);
    match sign_in::finish(&context, flow.as_ref(), &callback).await {
        Ok(session) => {
            let set = AppendHeaders([(SET_COOKIE, cookie::set(&session.token, is_secure))]);
            let document = Onward { title: "Sign in", next: &next }.render()?;
            Ok((over, set, Html(document)).into_response())
        }
        Err(error) => Ok((over, super::page_of_refusal(&context, error, &next)?).into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_leads_on_and_keeps_markup_a_text() {
        let text = Onward { title: "Sign in", next: "/jobs?a=\"><b>" }.render().unwrap();
        assert!(text.contains("http-equiv=\"refresh\" content=\"0;url=/jobs?a=&#34;&#62;&#60;b&#62;\""), "{text}");
    }
}

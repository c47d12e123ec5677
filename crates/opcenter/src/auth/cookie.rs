//! The session cookie of the web interface and its protection against forged requests.
//!
//! The cookie holds the token of a session like any other. It is `HttpOnly` and `SameSite=Strict`.
//! Under TLS it is also `Secure`, and its name has the prefix `__Host-`.
//!
//! Pages of jobs can have the same host name as OpCenter, and then count as the same site. So each
//! request that changes something also needs the session's CSRF token, which only OpCenter's own
//! pages can read. If the browser says where a request comes from, that has to be OpCenter.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method};
use mooring_api::{ErrorCode, SESSION_COOKIES, SIGN_IN_COOKIES};
use sha2::{Digest, Sha256};

use crate::error::{ApiError, ApiResult};
use crate::oidc::SIGN_IN_LIFE;
use crate::state::context::Context;

/// The header with the CSRF token.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A connection over TLS. The server marks its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls;

/// Returns whether the browser reaches OpCenter over TLS: here, or at a proxy before it.
pub(crate) fn is_secure(parts: &Parts, context: &Context) -> bool {
    parts.extensions.get::<OverTls>().is_some() || context.config.is_secure()
}

/// Says whether the browser reaches OpCenter over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsSecure(pub(crate) bool);

impl FromRequestParts<Context> for IsSecure {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Infallible> {
        Ok(Self(is_secure(parts, context)))
    }
}

/// Returns the session token of a request, if it has the cookie.
pub(crate) fn token(headers: &HeaderMap, is_secure: bool) -> Option<&str> {
    named(headers, name(is_secure))
}

/// Returns the value of the cookie of that name.
fn named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
}

/// Returns the header `Set-Cookie` for a session.
pub(crate) fn set(token: &str, is_secure: bool) -> String {
    format!("{}={token}; {}", name(is_secure), attributes(is_secure))
}

/// Returns the header `Set-Cookie` that removes the cookie.
pub(crate) fn remove(is_secure: bool) -> String {
    format!("{}=; {}; Max-Age=0", name(is_secure), attributes(is_secure))
}

/// Returns the sign-in under way of a request, if it has the cookie.
pub(crate) fn sign_in(headers: &HeaderMap, is_secure: bool) -> Option<&str> {
    named(headers, SIGN_IN_COOKIES[usize::from(is_secure)])
}

/// Returns the header `Set-Cookie` for a sign-in at the OpenID provider.
///
/// The provider, which is another site, sends the browser back with a link. A browser sends no
/// `Strict` cookie there.
pub(crate) fn set_sign_in(value: &str, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    let (name, life) = (SIGN_IN_COOKIES[usize::from(is_secure)], SIGN_IN_LIFE.as_secs());
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}")
}

/// Returns the header `Set-Cookie` that removes the cookie of a sign-in.
pub(crate) fn remove_sign_in(is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = SIGN_IN_COOKIES[usize::from(is_secure)];
    format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}")
}

fn name(is_secure: bool) -> &'static str {
    SESSION_COOKIES[usize::from(is_secure)]
}

fn attributes(is_secure: bool) -> &'static str {
    if is_secure { "Path=/; HttpOnly; SameSite=Strict; Secure" } else { "Path=/; HttpOnly; SameSite=Strict" }
}

/// Returns the CSRF token of a session.
pub(crate) fn csrf(token: &str) -> String {
    hex::encode(Sha256::new().chain_update("mooring csrf ").chain_update(token).finalize())
}

/// Refuses a request that changes something without the CSRF token of its session.
pub(crate) fn refuse_forged(method: &Method, headers: &HeaderMap, token: &str) -> ApiResult<()> {
    if method.is_safe() {
        return Ok(());
    }
    refuse_foreign(headers)?;
    let given = headers.get(CSRF).map(axum::http::HeaderValue::as_bytes).unwrap_or_default();
    if aws_lc_rs::constant_time::verify_slices_are_equal(given, csrf(token).as_bytes()).is_ok() {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, "the request does not come from a page of this session")
        .hint("reload the page and try again"))
}

/// Refuses a request that a page of another origin makes, as far as the browser says.
pub(crate) fn refuse_foreign(headers: &HeaderMap) -> ApiResult<()> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_own = match (text(SEC_FETCH_SITE), text(ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) == text(HOST),
        // Programs say neither, and have no cookies that another page could use.
        (None, None) => true,
    };
    if is_own {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, "the request comes from a page of another server")
        .hint("open OpCenter's own page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn cookie_is_found_among_others() {
        let jar = headers(&[(COOKIE, "theme=dark; mooring-session=abc; x=y")]);
        assert_eq!(token(&jar, false), Some("abc"));
        assert_eq!(token(&jar, true), None);
        let secure = headers(&[(COOKIE, "a=b"), (COOKIE, "__Host-mooring-session=def")]);
        assert_eq!(token(&secure, true), Some("def"));
        assert_eq!(token(&headers(&[]), false), None);
    }

    #[test]
    fn attributes_close_the_cookie_to_scripts_and_sites() {
        let plain = set("abc", false);
        assert!(
            plain.contains("HttpOnly") && plain.contains("SameSite=Strict") && !plain.contains("Secure"),
            "{plain}"
        );
        let secure = set("abc", true);
        assert!(secure.starts_with("__Host-") && secure.contains("; Secure") && !secure.contains("Domain"), "{secure}");
    }

    #[test]
    fn cookie_of_a_sign_in_is_short_lived_and_closed_to_scripts() {
        for (is_secure, begin) in [(false, "mooring-sign-in=v;"), (true, "__Host-mooring-sign-in=v;")] {
            let set = set_sign_in("v", is_secure);
            assert!(set.starts_with(begin) && set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
            assert!(set.contains("Max-Age=600") && set.contains("Secure") == is_secure, "{set}");
            let jar = headers(&[(COOKIE, set.split(';').next().unwrap())]);
            assert_eq!(
                (sign_in(&jar, is_secure), sign_in(&jar, !is_secure), token(&jar, is_secure)),
                (Some("v"), None, None)
            );
        }
    }

    #[test]
    fn changes_take_the_sessions_own_csrf_token() {
        let good = headers(&[(CSRF, &csrf("abc"))]);
        refuse_forged(&Method::POST, &good, "abc").unwrap();
        refuse_forged(&Method::GET, &headers(&[]), "abc").unwrap();
        refuse_forged(&Method::POST, &good, "another").unwrap_err();
        refuse_forged(&Method::POST, &headers(&[]), "abc").unwrap_err();
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let with = |pairs: &[(HeaderName, &str)]| refuse_foreign(&headers(pairs)).is_ok();
        assert!(with(&[]));
        assert!(with(&[(SEC_FETCH_SITE, "same-origin")]));
        // A job's page on another port of the same host.
        assert!(!with(&[(SEC_FETCH_SITE, "same-site")]));
        assert!(!with(&[(SEC_FETCH_SITE, "cross-site")]));
        assert!(with(&[(HOST, "a:8443"), (ORIGIN, "http://a:8443")]));
        assert!(!with(&[(HOST, "a:8443"), (ORIGIN, "http://a:10000")]));
        assert!(!with(&[(HOST, "a:8443"), (ORIGIN, "null")]));
    }
}

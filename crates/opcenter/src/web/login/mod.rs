//! Sign in and out: by password, at the OpenID provider, by a link of another session, and for a
//! program that waits.

mod confirm;
mod link;
mod oidc;

use askama::Template;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use mooring_api::ErrorCode;
use serde_json::json;

use super::address::Address;
use super::form::Form;
use super::problem::{Problem, is_by_script};
use super::routes::Routes;
use super::visitor::Visitor;
use super::{answer, shell, ui};
use crate::auth::cookie::{self, IsSecure};
use crate::error::ApiError;
use crate::state::context::Context;
use crate::usecase::session;

/// The path of the page.
const PATH: &str = "/login";

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .open(Method::GET, PATH, show)
        .open(Method::POST, PATH, login)
        .open(Method::GET, "/login/link", link::login)
        .open(Method::GET, "/login/again", dialog)
        .open(Method::GET, "/login/oidc", oidc::begin)
        .open(Method::GET, crate::oidc::CALLBACK, oidc::come_back)
        .page::<confirm::ConfirmPage>("/login/confirm")
        .post("/login/confirm", confirm::confirm)
        .post("/login/confirm/refuse", confirm::refuse)
        .get("/login/state", state)
        .post("/logout", logout)
}

/// Returns the path of the login that leads to another page afterwards.
pub(super) fn path(next: &str) -> String {
    if next == "/" {
        return PATH.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    format!("{PATH}?{query}")
}

/// Tells the open page that its session has ended: it asks for the password, and keeps its forms.
pub(super) fn again() -> Response {
    answer::trigger(StatusCode::UNAUTHORIZED, &json!({ "mooring:again": {} }))
}

/// The page.
#[derive(Template)]
#[template(path = "login/login.html")]
struct LoginPage {
    form: Form,
    /// The name of the OpenID provider, if there is one.
    provider: Option<String>,
}

/// The dialogue over a page whose session has ended.
#[derive(Template)]
#[template(path = "login/again.html")]
struct LoginDialog {
    form: Form,
    /// The name of the OpenID provider, if there is one.
    provider: Option<String>,
}

async fn show(State(context): State<Context>, address: Address) -> Result<Response, Problem> {
    page(&context, StatusCode::OK, Form::with("next", address.one("next")))
}

/// Returns the page with the reason why another way to sign in failed.
fn page_of_refusal(context: &Context, error: ApiError, next: &str) -> Result<Response, Problem> {
    let mut form = Form::with("next", next);
    form.refused(error);
    page(context, StatusCode::UNAUTHORIZED, form)
}

fn page(context: &Context, status: StatusCode, form: Form) -> Result<Response, Problem> {
    let provider = provider(context);
    Ok((status, Html(shell::bare("Sign in", &LoginPage { form, provider })?)).into_response())
}

async fn dialog(State(context): State<Context>) -> Result<Response, Problem> {
    answer::part(&LoginDialog { form: Form::default(), provider: provider(&context) })
}

fn provider(context: &Context) -> Option<String> {
    context.oidc.as_ref().map(|oidc| oidc.name().to_owned())
}

/// Answers whether the session is valid. A page that waits for the visitor to sign in again, maybe
/// in another window, goes on with the session.
async fn state(visitor: Visitor) -> Response {
    answer::trigger(StatusCode::NO_CONTENT, &json!({ "mooring:session": { "csrf": visitor.csrf } }))
}

/// Begins a session and sets its cookie.
async fn login(
    State(context): State<Context>,
    IsSecure(is_secure): IsSecure,
    headers: HeaderMap,
    mut form: Form,
) -> Result<Response, Problem> {
    cookie::refuse_foreign(&headers)?;
    let begun = session::login(&context, form.text("username"), form.text("password")).await;
    match begun {
        Ok(session) => {
            let set = AppendHeaders([(SET_COOKIE, cookie::set(&session.token, is_secure))]);
            if is_by_script(&headers) {
                let events = json!({ "mooring:session": { "csrf": cookie::csrf(&session.token) } });
                return Ok((set, answer::trigger(StatusCode::NO_CONTENT, &events)).into_response());
            }
            Ok((set, Redirect::to(own_path(form.text("next")))).into_response())
        }
        Err(error) => {
            let status = match error.0.error_code() {
                ErrorCode::Unauthenticated => StatusCode::UNPROCESSABLE_ENTITY,
                code => StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            };
            form.refused(error);
            if is_by_script(&headers) {
                answer::invalid(&LoginDialog { form, provider: provider(&context) })
            } else {
                page(&context, status, form)
            }
        }
    }
}

/// Ends the session and removes its cookie.
async fn logout(
    State(context): State<Context>,
    IsSecure(is_secure): IsSecure,
    visitor: Visitor,
) -> Result<Response, Problem> {
    session::logout(&context, &visitor.user).await?;
    let remove = AppendHeaders([(SET_COOKIE, cookie::remove(is_secure))]);
    Ok((remove, answer::go(PATH, "You are signed out")).into_response())
}

/// Returns a path of this server, or `/` for anything else: a link must not lead elsewhere.
fn own_path(next: &str) -> &str {
    let is_own = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\n', '\r', '\t']);
    if is_own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_leads_only_to_own_pages() {
        for (next, to) in [
            ("/jobs?filter=a", "/jobs?filter=a"),
            ("", "/"),
            ("https://evil.example", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/\t/evil.example", "/"),
        ] {
            assert_eq!(own_path(next), to);
        }
        assert_eq!(path("/jobs?a=b&c"), "/login?next=%2Fjobs%3Fa%3Db%26c");
    }

    #[test]
    fn page_keeps_the_name_and_hides_the_password() {
        let mut form = Form::with("username", "<ada>");
        form.set("password", "secret-of-ada");
        let text = LoginPage { form: form.clone(), provider: None }.render().unwrap();
        assert!(!text.contains("secret-of-ada") && !text.contains("<ada>") && text.contains("ada"), "{text}");
        assert!(!text.contains("/login/oidc"), "{text}");
        let dialog = LoginDialog { form: Form::default(), provider: None }.render().unwrap();
        assert!(dialog.contains("hx-post=\"/login\"") && !dialog.contains("/login/oidc"), "{dialog}");
        form.set("next", "/jobs?a=b&c");
        let text = LoginPage { form, provider: Some("<Harbour>".into()) }.render().unwrap();
        assert!(
            text.contains("href=\"/login/oidc?next=%2Fjobs%3Fa%3Db%26c\"") && !text.contains("<Harbour>"),
            "{text}"
        );
    }
}

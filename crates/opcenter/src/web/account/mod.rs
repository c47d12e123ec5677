//! The visitor's own account: password, open sessions and API tokens.

mod tokens;

use askama::Template;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse, Response};
use mooring_api::view::{ApiTokenView, OpenSessionView, UserUpdateRequest, UserView};

use super::address::Address;
use super::form::{Form, Places};
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::users::quota;
use super::visitor::Visitor;
use super::{answer, ui};
use crate::auth::cookie::{self, IsSecure};
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::{api_token, session, user};

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<AccountPage>("/account")
        .get("/account/password", password_dialog)
        .post("/account/password", change_password)
        .get("/tokens/new", tokens::dialog)
        .post("/tokens", tokens::create)
        .post("/tokens/{id}/delete", tokens::delete)
}

/// The page.
#[derive(Template)]
#[template(path = "account/account.html")]
struct AccountPage {
    user: UserView,
    sessions: Vec<OpenSessionView>,
    tokens: Vec<ApiTokenView>,
}

impl Page for AccountPage {
    const SECTION: Section = Section::Account;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        let Scene { context, user, .. } = scene;
        let mut sessions = session::list(context, user).await?;
        sessions.retain(|session| session.user == user.name);
        let mut tokens = api_token::list(context, user).await?;
        tokens.retain(|token| token.user == user.name);
        Ok(Self { user: user::show(context, user, &user.name).await?, sessions, tokens })
    }

    fn title(&self) -> String {
        "Password and sessions".into()
    }
}

/// Returns the name of a program from the header that it sends about itself.
pub(super) fn program(client: &str) -> String {
    const BROWSERS: [(&str, &str); 4] =
        [("Firefox/", "Firefox"), ("Edg/", "Edge"), ("Chrome/", "Chrome"), ("Safari/", "Safari")];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Macintosh", "macOS"),
        ("Linux", "Linux"),
    ];
    let first =
        |known: &[(&str, &'static str)]| known.iter().find(|(mark, _)| client.contains(mark)).map(|(_, name)| *name);
    match (first(&BROWSERS), first(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) if client.is_empty() => "unknown".to_owned(),
        (None, _) => client.chars().take(60).collect(),
    }
}

/// The fields at which refusals stand.
const PLACES: &Places = &[("currentPassword", "current"), ("password", "password")];

/// The dialogue that changes the own password.
#[derive(Template)]
#[template(path = "account/password.html")]
struct PasswordDialog {
    form: Form,
}

async fn password_dialog(_visitor: Visitor) -> Result<Response, Problem> {
    answer::part(&PasswordDialog { form: Form::default() })
}

/// Changes the password. All sessions end with it, this one as well.
async fn change_password(
    State(context): State<Context>,
    IsSecure(is_secure): IsSecure,
    visitor: Visitor,
    mut form: Form,
) -> Result<Response, Problem> {
    for key in ["current", "password", "again"] {
        if form.text(key).is_empty() {
            form.refuse(key, "fill in this field");
        }
    }
    if form.text("password") != form.text("again") {
        form.refuse("again", "the two passwords differ");
    }
    if form.is_valid() {
        let request = UserUpdateRequest {
            password: form.text("password").to_owned(),
            current_password: form.text("current").to_owned(),
            ..UserUpdateRequest::default()
        };
        match user::update(&context, &visitor.user, &visitor.user.name, &request).await {
            Ok(_) => {
                let remove = AppendHeaders([(SET_COOKIE, cookie::remove(is_secure))]);
                let next = answer::go("/login?next=%2Faccount", "Your password is changed: sign in with the new one");
                return Ok((remove, next).into_response());
            }
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&PasswordDialog { form })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn page_marks_the_present_session() {
        let other = OpenSessionView { present: false, client: sample::MARKUP.into(), ..sample::session() };
        let page = AccountPage {
            user: sample::account(),
            sessions: vec![sample::session(), other],
            tokens: vec![sample::api_token()],
        };
        let text = page.render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        assert_eq!((text.matches("this one").count(), text.matches("/end\"").count()), (1, 1), "{text}");
        assert!(text.contains("nightly") && text.contains("/tokens/a-106oluqaj8l6a407u88v0/delete"), "{text}");
    }

    #[test]
    fn dialogue_shows_no_password() {
        let mut form = Form::with("current", "secret-1");
        form.set("password", "secret-2");
        form.refuse("again", "the two passwords differ");
        let text = PasswordDialog { form }.render().unwrap();
        assert!(!text.contains("secret-") && text.contains("the two passwords differ"), "{text}");
    }

    #[test]
    fn programs_have_short_names() {
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36";
        assert_eq!(program(chrome), "Chrome on Linux");
        assert_eq!(program("Mozilla/5.0 (Macintosh) Gecko/2010 Firefox/143.0"), "Firefox on macOS");
        assert_eq!((program("float/0.1.0"), program("")), ("float/0.1.0".into(), "unknown".into()));
    }
}

//! Confirm the login of a program that waits: `float login --sso`.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::auth::login_request::Asked;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::session;
use crate::web::address::Address;
use crate::web::form::Form;
use crate::web::page::{Page, Scene};
use crate::web::problem::Problem;
use crate::web::shell::Section;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The page.
#[derive(Template)]
#[template(path = "login/confirm.html")]
pub(super) struct ConfirmPage {
    code: String,
    asked: Asked,
    user: String,
}

impl Page for ConfirmPage {
    const SECTION: Section = Section::Account;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<Self> {
        let code = address.one("code").to_owned();
        let asked = session::requested(&scene.context, &code)?;
        Ok(Self { code, asked, user: scene.user.name.clone() })
    }

    fn title(&self) -> String {
        "Confirm a login".into()
    }
}

/// Gives the program its session.
pub(super) async fn confirm(State(context): State<Context>, visitor: Visitor, form: Form) -> Result<Response, Problem> {
    let asked = session::confirm(&context, &visitor.user, form.text("code")).await?;
    Ok(answer::go("/account", &format!("`float` on {} is logged in: go on there", asked.machine)))
}

/// Refuses the program a session.
pub(super) async fn refuse(State(context): State<Context>, _visitor: Visitor, form: Form) -> Result<Response, Problem> {
    session::refuse(&context, form.text("code"))?;
    Ok(answer::go("/account", "The login is refused"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Origin;
    use crate::web::sample;

    #[test]
    fn page_shows_who_asks_as_text() {
        let origin = Origin { address: Some([192, 0, 2, 1].into()), client: sample::MARKUP.into() };
        let asked = Asked { machine: sample::MARKUP.into(), origin, expires_at: sample::moment() };
        let text = ConfirmPage { code: "BCDF-GHJK".into(), asked, user: "ada".into() }.render().unwrap();
        assert!(!text.contains(sample::MARKUP), "{text}");
        for part in
            ["BCDF-GHJK", "192.0.2.1", ">ada<", "hx-post=\"/login/confirm\"", "hx-post=\"/login/confirm/refuse\""]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

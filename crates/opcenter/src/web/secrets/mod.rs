//! Secrets: the visitor's own. Values are set and never shown.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{SecretSetRequest, SecretView};
use mooring_types::Name;

use super::address::Address;
use super::form::{Form, Places};
use super::page::{Page, Scene};
use super::problem::Problem;
use super::routes::Routes;
use super::shell::Section;
use super::visitor::Visitor;
use super::{answer, ui};
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::usecase::secret::{self, Uses};

/// The fields at which refusals stand.
const PLACES: &Places = &[("name", "name"), ("value", "value")];

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page::<SecretsPage>("/secrets")
        .get("/secrets/new", set_dialog)
        .post("/secrets", set)
        .get("/secrets/{id}/remove", remove_dialog)
        .post("/secrets/{id}/remove", remove)
}

/// The list.
#[derive(Template)]
#[template(path = "secrets/secrets.html")]
struct SecretsPage {
    secrets: Vec<SecretView>,
    /// The reason why the visitor changes nothing; empty without one.
    refusal: String,
}

impl Page for SecretsPage {
    const SECTION: Section = Section::Secrets;

    async fn load(scene: &Scene, _address: &Address) -> ApiResult<Self> {
        Ok(Self { secrets: secret::list(&scene.context, &scene.user).await?, refusal: scene.user.refusal() })
    }

    fn title(&self) -> String {
        "Secrets".into()
    }
}

/// The dialogue that sets a secret, a new one or one that is there.
#[derive(Template)]
#[template(path = "secrets/set.html")]
struct SetDialog {
    form: Form,
}

/// The dialogue that asks before a secret is removed.
#[derive(Template)]
#[template(path = "secrets/remove.html")]
struct RemoveDialog<'a> {
    name: &'a str,
    of: Uses,
}

async fn set_dialog(_visitor: Visitor, address: Address) -> Result<Response, Problem> {
    answer::part(&SetDialog { form: Form::with("name", address.one("name")) })
}

async fn set(State(context): State<Context>, visitor: Visitor, mut form: Form) -> Result<Response, Problem> {
    let name: Option<Name> = form.require("name");
    if form.text("value").is_empty() {
        form.refuse("value", "fill in this field");
    }
    if let Some(name) = name.filter(|_| form.is_valid()) {
        let request = SecretSetRequest { value: form.text("value").to_owned() };
        match secret::set(&context, &visitor.user, name.as_str(), &request).await {
            Ok(secret) => return Ok(answer::done(&format!("Secret {} is set", secret.name))),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&SetDialog { form })
}

async fn remove_dialog(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let of = secret::uses(&context, &visitor.user, address.id()).await?;
    answer::part(&RemoveDialog { name: address.id(), of })
}

async fn remove(State(context): State<Context>, visitor: Visitor, address: Address) -> Result<Response, Problem> {
    secret::unset(&context, &visitor.user, address.id()).await?;
    Ok(answer::done(&format!("Secret {} is removed", address.id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn templates_render() {
        let secrets = vec![SecretView { name: sample::MARKUP.into(), ..sample::secret() }];
        let page = SecretsPage { secrets, refusal: String::new() };
        let text = page.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("Set Secret"), "{text}");
        assert!(SecretsPage { secrets: Vec::new(), refusal: String::new() }.render().unwrap().contains("No secrets"));
        let mut form = Form::with("name", "token");
        form.set("value", "open sesame");
        assert!(!SetDialog { form }.render().unwrap().contains("sesame"));
        let of = Uses { templates: vec![sample::MARKUP.into()], ..Uses::default() };
        let text = RemoveDialog { name: "token", of }.render().unwrap();
        assert!(text.contains("/secrets/token/remove") && !text.contains(sample::MARKUP), "{text}");
        let text = RemoveDialog { name: "token", of: Uses::default() }.render().unwrap();
        assert!(text.contains("no template refers to it"), "{text}");
    }
}

//! The visitor's API tokens: made, shown once, deleted.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use mooring_api::view::{ApiTokenAnswer, ApiTokenRequest};

use crate::state::context::Context;
use crate::usecase::api_token;
use crate::web::address::Address;
use crate::web::form::{Form, Places};
use crate::web::problem::Problem;
use crate::web::ui::Choice;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The fields at which refusals stand.
const PLACES: &Places = &[("name", "name"), ("scope", "scope"), ("ttl", "ttl")];

/// The dialogue that makes a token.
#[derive(Template)]
#[template(path = "account/new_token.html")]
struct NewDialog {
    form: Form,
    scopes: Vec<Choice>,
}

/// The dialogue that shows a token, once.
#[derive(Template)]
#[template(path = "account/made_token.html")]
struct MadeDialog {
    made: ApiTokenAnswer,
}

fn scopes() -> Vec<Choice> {
    vec![
        Choice::new("read", "read: to look"),
        Choice::new("jobs", "jobs: to look, and to change and connect jobs"),
        Choice::new("all", "all: everything that you may, but users, passwords, sessions and tokens"),
    ]
}

pub(super) async fn dialog(_visitor: Visitor) -> Result<Response, Problem> {
    let mut form = Form::with("ttl", "30d");
    form.set("scope", "read");
    answer::part(&NewDialog { form, scopes: scopes() })
}

pub(super) async fn create(
    State(context): State<Context>,
    visitor: Visitor,
    mut form: Form,
) -> Result<Response, Problem> {
    form.require::<mooring_types::Name>("name");
    if form.is_valid() {
        let typed = |key| form.text(key).trim().to_owned();
        let request = ApiTokenRequest { name: typed("name"), scope: typed("scope"), ttl: typed("ttl") };
        match api_token::create(&context, &visitor.user, &request).await {
            Ok(made) => return answer::anew(&MadeDialog { made }),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&NewDialog { form, scopes: scopes() })
}

pub(super) async fn delete(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    api_token::delete(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("The API token is deleted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn dialogues_keep_what_was_typed_and_show_the_token() {
        let mut form = Form::with("name", sample::MARKUP);
        form.set("scope", "jobs");
        form.refuse("ttl", "no duration");
        let text = NewDialog { form, scopes: scopes() }.render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("no duration"), "{text}");
        assert!(text.contains("value=\"jobs\" selected"), "{text}");
        let made = ApiTokenAnswer { api_token: sample::api_token(), token: "mrg_x".into() };
        let text = MadeDialog { made }.render().unwrap();
        assert!(text.contains("<code>mrg_x</code>") && text.contains("shown this once"), "{text}");
    }
}

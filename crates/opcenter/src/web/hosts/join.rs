//! Tokens with which hosts join: made with the commands to paste, and revoked.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::Response;
use mooring_api::view::{JoinTokenAnswer, JoinTokenRequest, JoinTokenView};

use crate::state::context::Context;
use crate::usecase::join_token;
use crate::web::address::Address;
use crate::web::form::{Form, Places};
use crate::web::problem::Problem;
use crate::web::visitor::Visitor;
use crate::web::{answer, ui};

/// The places of the inputs of a request.
const PLACES: &Places = &[("name", "name"), ("ttl", "ttl")];

/// The dialogue that asks for the name and the lifetime of a token.
#[derive(Template)]
#[template(path = "hosts/join.html")]
struct JoinDialog {
    form: Form,
    /// The tokens that have not been used.
    tokens: Vec<JoinTokenView>,
}

/// The dialogue with the commands.
#[derive(Template)]
#[template(path = "hosts/join_commands.html")]
struct CommandsDialog {
    made: JoinTokenAnswer,
}

async fn open(context: &Context, visitor: &Visitor, form: Form) -> Result<JoinDialog, Problem> {
    Ok(JoinDialog { form, tokens: join_token::list(context, &visitor.user).await? })
}

pub(super) async fn dialog(State(context): State<Context>, visitor: Visitor) -> Result<Response, Problem> {
    answer::part(&open(&context, &visitor, Form::with("ttl", "1h")).await?)
}

pub(super) async fn create(
    State(context): State<Context>,
    visitor: Visitor,
    headers: HeaderMap,
    mut form: Form,
) -> Result<Response, Problem> {
    let opcenter = context.config.external_url.clone().unwrap_or_else(|| {
        let address = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        format!("https://{address}")
    });
    let name: Option<mooring_types::Name> = form.parse("name");
    if form.is_valid() {
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        let request = JoinTokenRequest { name, ttl: form.text("ttl").trim().to_owned(), opcenter };
        match join_token::create(&context, &visitor.user, &request).await {
            Ok(made) => return answer::anew(&CommandsDialog { made }),
            Err(error) => form.refused_in(PLACES, error),
        }
    }
    answer::invalid(&open(&context, &visitor, form).await?)
}

pub(super) async fn revoke(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    join_token::delete(&context, &visitor.user, address.id()).await?;
    Ok(answer::done("The join token is revoked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinTokenView {
        let time = "2026-01-01T00:00:00Z".parse().unwrap();
        JoinTokenView {
            id: mooring_types::JoinTokenId::random(&mut rand::rng()),
            name: "host-3".into(),
            user: "ada".into(),
            create_time: time,
            expires_at: time,
        }
    }

    #[test]
    fn dialogue_lists_unused_tokens_and_keeps_what_was_typed() {
        let mut form = Form::with("ttl", "a while");
        form.refuse("ttl", "no duration");
        let text = JoinDialog { form, tokens: vec![token()] }.render().unwrap();
        for expected in ["no duration", "value=\"a while\"", "host-3", "/revoke"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn commands_are_text() {
        let made = JoinTokenAnswer { join_token: token(), command: "float server agent <<< a\"b".into() };
        let text = CommandsDialog { made }.render().unwrap();
        assert!(text.contains("float server agent") && !text.contains("<<<"), "{text}");
    }
}

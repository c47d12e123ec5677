//! OpCenter's own window, in which a user allows a page of a job a session for that job.
//!
//! The page is opened by the job's page. `web/app/job_sign_in.js` sends the code to the origin that
//! the user has read here, and to no other. The address says which page asks; the use-case checks
//! that the job is really there.

mod enter;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::http::Method;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use super::address::Address;
use super::form::Form;
use super::problem::Problem;
use super::routes::Routes;
use super::shell;
use super::visitor::Visitor;
use crate::state::context::Context;
use crate::usecase::job_session::{self, Asked};

const PATH: &str = "/sign-in-for-job";
/// The parameter of a request that OpCenter's own page has made.
const ARRIVED: &str = "arrived";
/// The longest text that is sent back to the page that asks.
const STATE_MAX: usize = 200;

/// Adds the routes.
pub(super) fn routes(routes: Routes) -> Routes {
    enter::routes(routes.open(Method::GET, PATH, show).post(PATH, allow))
}

/// The question.
#[derive(Template)]
#[template(path = "job_sign_in/ask.html")]
struct AskPage {
    job: String,
    job_id: String,
    owner: String,
    user: String,
    connection: String,
    origin: String,
    challenge: String,
    state: String,
    csrf: String,
}

/// The document that opens the page once more.
#[derive(Template)]
#[template(path = "job_sign_in/arrive.html")]
struct ArriveDocument {
    path: String,
}

/// Asks the user. A browser that follows another site does not send the session's cookie. So the
/// page has itself opened once more before it asks for a login.
async fn show(
    State(context): State<Context>,
    visitor: Result<Visitor, Problem>,
    address: Address,
) -> Result<Response, Problem> {
    let visitor = match visitor {
        Err(Problem::NoSession) if address.one(ARRIVED).is_empty() => {
            return Ok(Html(ArriveDocument { path: again(&address) }.render()?).into_response());
        }
        visitor => visitor?,
    };
    let texts = ["connection", "origin", "challenge"].map(|key| address.one(key));
    let asked = Asked::parse(texts[0], texts[1], texts[2])?;
    let job = job_session::ask(&context, &visitor.user, &asked).await?;
    let [connection, origin, challenge] = texts.map(str::to_owned);
    let page = AskPage {
        job: job.spec.name.to_string(),
        job_id: job.id.to_string(),
        owner: job.user_name,
        user: visitor.user.name,
        connection,
        origin,
        challenge,
        state: address.one("state").chars().take(STATE_MAX).collect(),
        csrf: visitor.csrf,
    };
    Ok(Html(shell::bare("Allow Job Details", &page)?).into_response())
}

/// Returns the path of the same page for OpCenter's own document.
fn again(address: &Address) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for key in ["connection", "origin", "challenge", "state"] {
        query.append_pair(key, address.one(key));
    }
    format!("{PATH}?{}", query.append_pair(ARRIVED, "1").finish())
}

/// Makes the code for the page that asked.
async fn allow(State(context): State<Context>, visitor: Visitor, form: Form) -> Result<Json<Value>, Problem> {
    let asked = Asked::parse(form.text("connection"), form.text("origin"), form.text("challenge"))?;
    let code = job_session::allow(&context, &visitor.user, &asked).await?;
    Ok(Json(json!({ "code": code })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_opened_again_as_it_was_asked_for() {
        let query = [("connection", "c-1"), ("origin", "http://a:1&b"), ("challenge", "c"), ("state", "s\"><b>")];
        let path = again(&Address::of("", &query));
        assert_eq!(
            path,
            "/sign-in-for-job?connection=c-1&origin=http%3A%2F%2Fa%3A1%26b&challenge=c&state=s%22%3E%3Cb%3E&arrived=1"
        );
        let text = ArriveDocument { path }.render().unwrap();
        assert!(text.contains("http-equiv=\"refresh\"") && !text.contains("<b>"), "{text}");
    }
}

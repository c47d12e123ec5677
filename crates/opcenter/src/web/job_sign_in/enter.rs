//! The way of a browser to a connection that takes a login: through OpCenter and straight back.

use askama::Template;
use axum::extract::State;
use axum::http::Method;
use axum::response::{Html, IntoResponse, Response};

use super::{ARRIVED, ArriveDocument, STATE_MAX};
use crate::state::context::Context;
use crate::usecase::visit::{self, Entered};
use crate::web::address::Address;
use crate::web::problem::Problem;
use crate::web::routes::Routes;
use crate::web::visitor::Visitor;

const PATH: &str = "/enter";

/// Adds the route.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.open(Method::GET, PATH, enter)
}

/// Sends a browser back with a code, if its user may enter. A document does that, and not a
/// redirect: the policy of the login's form permits no other server.
async fn enter(
    State(context): State<Context>,
    visitor: Result<Visitor, Problem>,
    address: Address,
) -> Result<Response, Problem> {
    let [connection, origin, state, to] = ["connection", "origin", "state", "to"].map(|key| address.one(key));
    let path = match visitor {
        Err(Problem::NoSession) if address.one(ARRIVED).is_empty() => {
            let again = [("connection", connection), ("origin", origin), ("state", state), ("to", to), (ARRIVED, "1")];
            with_query(PATH, &again)
        }
        visitor => {
            let Entered { code, base } = visit::enter(&context, &visitor?.user, connection, origin).await?;
            let state: String = state.chars().take(STATE_MAX).collect();
            let back = [("code", code.as_str()), ("state", &state), ("to", to)];
            with_query(&format!("{base}/.mooring/enter"), &back)
        }
    };
    Ok(Html(ArriveDocument { path }.render()?).into_response())
}

fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{query}")
}

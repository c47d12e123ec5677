//! The web interface: OpCenter's pages for browsers.
//!
//! ```text
//!  browser ── GET /gateways ─────────► Page::load ─► template ─► Shell ─► document
//!          ── GET /gateways, events ─► Page::load ─► template ─► the page after each change
//!          ── POST /gateways, form ──► Form ─► usecase ─► answer: close, go on, or the form again
//! ```
//!
//! Pages are made by the server. A [`page::Page`] loads what it shows from the views and use-cases
//! that the API has, and renders a template. [`shell::Shell`] puts it into the document with the
//! menu. While a document is open, its script keeps a stream of server-sent events to the page's
//! own address ([`live`]). After each change of OpCenter's state the page is loaded and rendered
//! again, and sent if its HTML differs. The script merges it into the document. So a template is
//! written once and is live.
//!
//! Forms open in dialogues. A handler reads a [`form::Form`], calls a use-case, and returns an
//! [`answer`]: the dialogue closes, another page opens, or the form comes back with errors.
//!
//! Who visits is a [`visitor::Visitor`], by the cookie of [`crate::auth::cookie`]. No rule of
//! permission is written here: use-cases refuse, and pages ask the same functions to know what to
//! offer.
//!
//! | module | noun |
//! |---|---|
//! | [`page`], [`live`], [`shell`] | a page, its changes, its frame |
//! | [`dialog`] | a dialogue whose choices are live |
//! | [`form`], [`answer`], [`problem`] | a submitted form, the answer to it, a refusal |
//! | [`ui`] | the components of templates: pill, meter, field, time, chart |
//! | [`routes`](mod@routes) | the list of all routes |
//! | one folder per page | its template, handler and test |

mod account;
mod address;
mod answer;
mod assets;
mod audit;
mod dialog;
mod form;
mod gateway;
mod gateways;
mod home;
mod hosts;
mod job;
mod job_sign_in;
mod jobs;
mod live;
mod login;
mod page;
mod palette;
mod problem;
mod routes;
#[cfg(test)]
mod sample;
mod secrets;
mod security_groups;
mod settings;
mod shell;
mod submit;
mod templates;
mod ui;
mod users;
mod visitor;

pub(crate) use problem::refusal;
pub use routes::{Access, WebRoute};

use axum::Router;
use axum::middleware;
use tower_http::compression::CompressionLayer;

use crate::state::context::Context;
use routes::Routes;

/// Lists the folders of pages with their routes.
fn routes() -> Routes {
    let folders = [
        account::routes,
        audit::routes,
        gateway::routes,
        gateways::routes,
        home::routes,
        hosts::routes,
        job_sign_in::routes,
        jobs::routes,
        login::routes,
        palette::routes,
        secrets::routes,
        security_groups::routes,
        settings::routes,
        submit::routes,
        templates::routes,
        job::routes,
        users::routes,
    ];
    folders.into_iter().fold(Routes::default(), |routes, folder| folder(routes))
}

/// Returns every route of the web interface.
#[must_use]
pub fn web_routes() -> Vec<WebRoute> {
    routes().into_parts().1
}

/// Returns the router of the web interface.
pub(crate) fn router() -> Router<Context> {
    let (router, _) = routes().into_parts();
    router.layer(CompressionLayer::new()).merge(assets::router()).layer(middleware::from_fn(problem::dress))
}

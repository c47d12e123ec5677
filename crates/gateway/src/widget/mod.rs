//! The widget: the job's status on the job's pages, an alert while the job does not answer, and the
//! panel with the user's actions.
//!
//! ```text
//!  page of the job ── script ──► state: a WebSocket with a message at each change of the route
//!        │                  │
//!        │                  └──► panel: a frame without an origin ─► opcenter_link ─► OpCenter
//!        └ `crate::page` adds the script, and extends the page's policy
//! ```
//!
//! All of it is under `/.mooring/` on the address and port of the connection. A browser that
//! reaches the job's port reaches its widget, even if OpCenter is unreachable from there. No
//! request to these paths goes to the job. The widget works while the job is away. It counts as no
//! traffic of a client. It wakes a suspended job when somebody clicks, types or taps in the page,
//! and never unasked.
//!
//! **Trust.** The job's page is an unknown program, and can draw all that the widget draws. So
//! nobody types a password here. The panel has OpCenter's own page opened in a window, and there
//! the user allows a session for this one job ([`mooring_api::paths::JOB_SESSION`]). The page gets
//! that session, which allows no more than the job could do to itself. The panel runs in a
//! sandboxed frame without an origin, so that scripts of the page neither read nor press what is in
//! it. No cookie is set, since a cookie is sent to all ports of the gateway's address.

mod asset;
pub mod opcenter_link;
mod state;

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use mooring_types::JobId;
use mooring_types::gateway::Widget;

pub use self::opcenter_link::OpCenterLink;
pub(crate) use self::state::Watcher;
use crate::route::Route;

/// The prefix of the widget's paths.
pub(crate) const PREFIX: &str = "/.mooring/";
pub(crate) const SCRIPT_PATH: &str = "/.mooring/widget.js";
pub(crate) const SCRIPT: &str = include_str!("../../../../web/widget/widget.js");
const STATE_PATH: &str = "/.mooring/state";
const API_PATH: &str = "/.mooring/api/";

/// Returns whether a request is for the widget and not for the job.
#[must_use]
pub(crate) fn concerns(route: &Route, path: &str) -> bool {
    route.widget == Widget::Shown && path.starts_with(PREFIX)
}

/// Returns whether a path is the widget's and tells nothing of the job. The panel has no cookies;
/// its calls take a session.
#[must_use]
pub(crate) fn is_public(route: &Route, path: &str) -> bool {
    concerns(route, path) && path != STATE_PATH
}

/// The response to a request for the widget, at the host that its client has asked; with the
/// watcher if the connection becomes one.
pub(crate) async fn answer(
    opcenter: &OpCenterLink,
    route: &Route,
    job: &JobId,
    address: IpAddr,
    mut request: Request<Incoming>,
    asked: &str,
) -> (Response<Full<Bytes>>, Option<Watcher>) {
    let path = request.uri().path().to_owned();
    if path == STATE_PATH {
        return state::begin(&mut request, asked, address);
    }
    let answer = match path.strip_prefix(API_PATH) {
        Some(call) => opcenter.answer(route, job, call, request).await,
        None => match asset::find(&path) {
            Some(_) if *request.method() != Method::GET => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "the widget's files allow only `GET`")
            }
            Some(asset) => asset.answer(),
            None => plain(StatusCode::NOT_FOUND, "the widget has no file at this path"),
        },
    };
    (answer, None)
}

/// The element that loads the widget's script.
#[must_use]
pub(crate) fn script(base: &str) -> String {
    format!("<script src=\"{base}{SCRIPT_PATH}\"{} async></script>", base_attribute(base))
}

/// The attribute by which the script finds the other paths of the widget.
pub(crate) fn base_attribute(base: &str) -> String {
    if base.is_empty() { String::new() } else { format!(" data-base=\"{base}\"") }
}

fn plain(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{reason}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

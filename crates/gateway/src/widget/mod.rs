//! The widget: the job's status on the job's own pages, an alert while it does not answer, and what its user may do about it.
//!
//! ```text
//!  page of the job ── script ──► state: a WebSocket, told at each change of the route
//!       │                  │
//!       │                  └──► panel: a frame of no origin ── api ──► desk ──► OpCenter
//!       └ the script is put in by `page`, with what the page's policy has to allow for it (`csp`)
//! ```
//!
//! All of it is under `/.mooring/` on the session's own address and port: what reaches the session reaches its widget, whether or not
//! OpCenter can be reached from there, and no request of it ever goes to the job. It does not depend on the job: it answers while the job
//! is away, counts as no traffic of a client, and resumes nothing by itself.
//!
//! **Whom it trusts.** The job's page is somebody's program. The panel runs in a sandboxed frame without an origin, so that the page can't
//! read the password that is typed there; what the page gets is a session for this one job ([`mooring_api::paths::JOB_SESSION`]), with
//! which it can do no more than the job could do to itself. A page that draws a panel of its own to ask for passwords is not kept from it:
//! who does not trust a job logs in elsewhere. No cookie is set, since a cookie would be for all ports of the gateway's address, and
//! so for other people's jobs.

mod asset;
mod csp;
pub mod opcenter_link;
mod page;
mod state;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use mooring_types::JobId;
use mooring_types::gateway::Widget;

pub use self::opcenter_link::OpCenterLink;
pub(crate) use self::page::{Injection, PageBody, ask_for_page};
pub(crate) use self::state::Watcher;
use crate::route::Route;

/// What the paths of the widget begin with.
const PREFIX: &str = "/.mooring/";
const SCRIPT_PATH: &str = "/.mooring/widget.js";
const STATE_PATH: &str = "/.mooring/state";
const API_PATH: &str = "/.mooring/api/";

/// Whether a request is for the widget and not for the job.
#[must_use]
pub(crate) fn concerns(route: &Route, path: &str) -> bool {
    route.widget == Widget::Shown && path.starts_with(PREFIX)
}

/// The answer to a request for the widget; with the watcher where it goes over to one.
pub(crate) async fn answer(
    opcenter: &OpCenterLink,
    job: &JobId,
    mut request: Request<Incoming>,
) -> (Response<Full<Bytes>>, Option<Watcher>) {
    let path = request.uri().path().to_owned();
    if path == STATE_PATH {
        return state::begin(&mut request);
    }
    let answer = match path.strip_prefix(API_PATH) {
        Some(call) => opcenter.answer(job, call, request).await,
        None => match asset::find(&path) {
            Some(_) if *request.method() != Method::GET => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "the widget's files are there to GET")
            }
            Some(asset) => asset.answer(),
            None => plain(StatusCode::NOT_FOUND, "the widget has nothing at this path"),
        },
    };
    (answer, None)
}

/// What has a page load the widget's script.
#[must_use]
pub(crate) fn script() -> String {
    format!("<script src=\"{SCRIPT_PATH}\" async></script>")
}

fn plain(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{reason}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

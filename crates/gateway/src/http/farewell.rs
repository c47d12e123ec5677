//! The gateway's response in place of a job that has ended.
//!
//! It is 410, since the job is gone for good and clients need not retry. JupyterLab takes its
//! kernel for dead then, and does not retry for ever, as it would after 503. The response may not
//! be cached: the port may soon be another job's.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use super::response::{Page, escape, plain};
use crate::route::{Ending, Route};

/// The response to a request for a job that has ended: a page for a page load, else text.
#[must_use]
pub(super) fn respond(route: &Route, ending: &Ending, is_page_load: bool) -> Response<Full<Bytes>> {
    let outcome = route.outcome().unwrap_or_default();
    let time = ending.time.strftime("%Y-%m-%d %H:%M:%S UTC");
    if !is_page_load {
        return plain(StatusCode::GONE, format!("{outcome}\nThe job ended at {time} and does not answer any more.\n"));
    }
    let name = escape(route.job_name.as_str());
    let text = format!(
        "<p role=\"status\">{}</p>\n\
         <p>It ended as <strong>{}</strong> at {time} and does not answer any more. This address may lead to another job soon.</p>",
        escape(&outcome),
        route.job_status,
    );
    let title = format!("{name} has ended");
    Page { mark: "data-mooring-ended", head: "", title: &title, name: &name, text: &text }.respond(StatusCode::GONE)
}

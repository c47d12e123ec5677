//! The gateway's own responses, in place of a job that can't answer.
//!
//! A request that the job can't take gets 503 with `Retry-After`, after which clients retry. A page
//! load gets the waiting page, which tells the job's status and reloads itself once the job
//! answers. It never wakes a suspended job. It needs nothing from elsewhere, and a script only
//! while the job is suspended. With the widget in it a suspended job can be resumed from it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use mooring_types::gateway::Widget;
use mooring_types::job::JobStatus;

use super::headers;
use super::limits::{HEAD_BYTES, HEAD_LINES};
use crate::header_text::elements;
use crate::metrics::Unavailable;
use crate::route::Route;
use crate::widget;

/// The `Retry-After` of a 503.
const RETRY_AFTER_SECONDS: u32 = 5;
/// The kinds that every browser accepts for a page. A script that asks for HTML names fewer.
pub(crate) const OF_NAVIGATIONS: [&str; 3] = ["text/html", "application/xhtml+xml", "*/*"];
/// The headers by which scripts say that they ask: of jQuery and others, htmx, pjax, Turbo,
/// Unpoly and Inertia.
const OF_SCRIPTS: [&str; 7] =
    ["x-requested-with", "hx-request", "x-pjax", "turbo-frame", "x-up-version", "x-up-target", "x-inertia"];
/// The reload interval of the waiting page.
const REFRESH_SECONDS: u32 = 2;
/// The header by which the waiting page knows the gateway's own 503 (RFC 9209).
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const NO_ANSWER: HeaderValue = HeaderValue::from_static("mooring; error=destination_unavailable");
/// The script of the waiting page where there is no widget: `HEAD` wakes no job.
const WAITING_SCRIPT: &str = "\
(async function wait() {
    const ask = {method: 'HEAD', cache: 'no-store', redirect: 'manual'};
    const answer = await fetch(location.href, ask).catch(() => null);
    if (answer && !answer.headers.has('proxy-status')) location.reload();
    else setTimeout(wait, 2000);
})();";

/// Returns whether a request is a browser's page load.
#[must_use]
pub fn is_page_load(method: &Method, request: &HeaderMap) -> bool {
    *method == Method::GET && asks_for_page(request)
}

/// Returns whether a request is a browser's navigation outside of a frame. A browser that does not
/// send `Sec-Fetch-Dest`, as without TLS, may be loading a frame all the same.
#[must_use]
pub fn is_navigation(method: &Method, request: &HeaderMap) -> bool {
    let is_in_window = request.get("sec-fetch-dest").is_none_or(|destination| destination == "document");
    is_in_window && is_document(method, request)
}

/// Returns whether a request is a browser's navigation, in a frame or outside of one.
#[must_use]
pub fn is_document(method: &Method, request: &HeaderMap) -> bool {
    let is_of_browser = request.contains_key("sec-fetch-mode") || accepts(request, &OF_NAVIGATIONS);
    matches!(*method, Method::GET | Method::POST) && !is_of_script(request) && is_of_browser && asks_for_page(request)
}

/// Returns whether a request says that it is of a page's script.
pub(crate) fn is_of_script(request: &HeaderMap) -> bool {
    OF_SCRIPTS.iter().any(|name| request.contains_key(*name))
}

/// Returns whether a request says that it is a browser's. Some programs say so as well.
#[must_use]
pub fn is_of_browser(request: &HeaderMap) -> bool {
    request.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// Returns whether a request accepts all of these kinds by name.
pub(crate) fn accepts(request: &HeaderMap, kinds: &[&str]) -> bool {
    let accepted: Vec<&[u8]> = elements(request, &header::ACCEPT)
        .map(|kind| kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
        .collect();
    kinds.iter().all(|kind| accepted.iter().any(|other| other.eq_ignore_ascii_case(kind.as_bytes())))
}

fn asks_for_page(request: &HeaderMap) -> bool {
    let is = |name: &str, expected: &str| request.get(name).is_none_or(|value| value == expected);
    let navigates = match request.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => is("sec-fetch-dest", "document"),
    };
    accepts(request, &["text/html"]) && navigates && headers::upgrade(request).is_none()
}

/// The 503 of a job that can't answer.
#[must_use]
pub(crate) fn unavailable(route: &Route, why: Unavailable) -> Response<Full<Bytes>> {
    let job = format!("The job {} ({})", route.job_name, route.job_status);
    let what = match why {
        Unavailable::HeadTooLarge => {
            let text = format!(
                "{job} has answered, but the job's answer has a head of more than {HEAD_BYTES} bytes or \
                 {HEAD_LINES} lines.\n"
            );
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        Unavailable::Http2Alone => {
            let text = format!(
                "{job} speaks HTTP/2 alone, and this request is of HTTP/1: use a client that begins with HTTP/2, as \
                 gRPC's do, or have the port connected with `--protocol tcp`.\n"
            );
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        Unavailable::Broken => "has closed the connection without an answer".to_owned(),
        Unavailable::Asleep => {
            let hint = if route.resumes { ": load its page in a browser, or use `float resume`" } else { "" };
            format!("is not woken by this request{hint}")
        }
        Unavailable::HeldTooLong | Unavailable::Unreachable if !route.unserved.is_empty() => {
            format!("does not answer: {}", route.unserved)
        }
        Unavailable::HeldTooLong | Unavailable::TooManyHeld | Unavailable::Unreachable => {
            "does not answer at the moment".to_owned()
        }
    };
    let text = format!("{job} {what}. Try again in {RETRY_AFTER_SECONDS} seconds.\n");
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    response.headers_mut().insert(PROXY_STATUS, NO_ANSWER);
    response
}

/// The page that a browser shows while the job can't answer.
#[must_use]
pub(crate) fn waiting_page(route: &Route, base: &str) -> Response<Full<Bytes>> {
    let reload = format!("<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">");
    // A reload is a page load, which would wake the job.
    let without_script = if is_suspended(route) { String::new() } else { format!("<noscript>{reload}</noscript>") };
    let reload = match route.widget {
        // The widget's script reloads the page, but not while the panel is open.
        Widget::Shown => format!("{without_script}{}", widget::script(base)),
        Widget::Hidden if is_suspended(route) || route.job_status == JobStatus::Resuming => {
            format!("{without_script}<script>{WAITING_SCRIPT}</script>")
        }
        Widget::Hidden => reload,
    };
    let (name, status) = (escape(route.job_name.as_str()), route.job_status);
    let why = match route.unserved.as_str() {
        "" => "can't answer at the moment. Its open documents and connections are kept.".to_owned(),
        unserved => format!("does not answer: {}.", escape(unserved)),
    };
    let how = match route.resumes && is_suspended(route) {
        true => "<p><a href=\"\">Load this page again</a> to resume the job.</p>\n",
        false => "",
    };
    let text = format!(
        "<p role=\"status\">This job is <strong>{status}</strong> and {why}</p>\n\
         {how}<p>This page reloads when the job answers.</p>"
    );
    let page = Page {
        mark: &format!("data-mooring-waiting=\"{status}\""),
        head: &reload,
        title: &format!("{name} is {status}"),
        name: &name,
        text: &text,
    };
    let mut response = page.respond(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(REFRESH_SECONDS));
    response.headers_mut().insert(PROXY_STATUS, NO_ANSWER);
    response
}

fn is_suspended(route: &Route) -> bool {
    matches!(route.job_status, JobStatus::Suspending | JobStatus::Suspended)
}

/// The response to a malformed request; the connection is closed after it.
#[must_use]
pub(crate) fn refused(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = plain(status, format!("{reason}\n"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

pub(crate) fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A page of the gateway's own. Its texts are HTML.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// The attribute of the root element that tells the kind of page.
    pub(super) mark: &'a str,
    /// The first elements of the head.
    pub(super) head: &'a str,
    pub(super) title: &'a str,
    pub(super) name: &'a str,
    /// The paragraphs below the job's name.
    pub(super) text: &'a str,
}

impl Page<'_> {
    pub(super) fn respond(&self, status: StatusCode) -> Response<Full<Bytes>> {
        let mut response = plain(status, self.html());
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        response
    }

    fn html(&self) -> String {
        let Self { mark, head, title, name, text } = self;
        format!(
            r#"<!doctype html>
<html lang="en" {mark}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 1.125rem/1.5 system-ui, sans-serif; }}
main {{ max-width: 34rem; margin: 20vh auto 0; padding: 0 1.5rem; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>{name}</h1>
{text}
</main>
</body>
</html>
"#
        )
    }
}

pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn page_load_is_recognized() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9");
        for (lines, is_page) in [
            (vec![html], true),
            (vec![html, ("sec-fetch-mode", "navigate")], true),
            (vec![html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], true),
            (vec![html, ("sec-fetch-dest", "document")], true),
            (vec![html, ("sec-fetch-dest", "image")], false),
            (vec![html, ("sec-fetch-mode", "cors")], false),
            (vec![html, ("connection", "Upgrade"), ("upgrade", "websocket")], false),
            (vec![("accept", "*/*")], false),
            (vec![], false),
        ] {
            assert_eq!(is_page_load(&Method::GET, &headers(&lines)), is_page, "{lines:?}");
        }
        assert!(!is_page_load(&Method::POST, &headers(&[html])));
    }

    #[test]
    fn navigation_is_recognized() {
        let html = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        for (lines, expected) in [
            (vec![html], true),
            (vec![("accept", "text/html"), ("sec-fetch-mode", "navigate")], true),
            (vec![("accept", "text/html")], false),
            (vec![("accept", "text/html, */*; q=0.01")], false),
            (vec![("accept", "text/html, application/xhtml+xml")], false),
            (vec![("accept", "text/vnd.turbo-stream.html, text/html, application/xhtml+xml")], false),
            (vec![html, ("turbo-frame", "a")], false),
            (vec![html, ("x-up-target", "b")], false),
            (vec![html, ("sec-fetch-mode", "cors")], false),
            (vec![html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], true),
            (vec![html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], false),
            (vec![html, ("x-requested-with", "XMLHttpRequest")], false),
            (vec![html, ("hx-request", "true")], false),
            (vec![("accept", "*/*")], false),
        ] {
            assert_eq!(is_navigation(&Method::POST, &headers(&lines)), expected, "{lines:?}");
            let is_in_frame = lines.iter().any(|(_, value)| *value == "iframe");
            assert_eq!(is_document(&Method::POST, &headers(&lines)), expected || is_in_frame, "{lines:?}");
        }
        assert!(!is_navigation(&Method::PUT, &headers(&[html])));
    }

    #[test]
    fn job_name_is_escaped() {
        let name = escape("<script>&\"'");
        let page = Page { mark: "data-mooring-waiting", head: "", title: &name, name: &name, text: "" }.html();
        assert!(page.contains("<h1>&lt;script&gt;&amp;&quot;&#39;</h1>") && !page.contains("<script"));
    }
}

//! Adds scripts to a page of a job: the [widget], and the names of the job's cookies
//! ([`browser`](crate::browser)).
//!
//! A page is the HTML document of a navigation; the widget is for those outside of frames. Its
//! bytes are streamed through a rewriter, which adds the scripts as the first elements of the head
//! and changes nothing else. A page that the rewriter can't follow (a tag longer than
//! [`REWRITER_BYTES`]) continues without them.
//!
//! These responses are not rewritten:
//!
//! * compressed ones; a navigation asks for none, see [`ask_for_page`],
//! * attachments, partial responses and those with `no-transform`,
//! * those in an encoding that does not contain ASCII,
//! * pages in a sandbox that forbids scripts.

mod csp;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use lol_html::html_content::ContentType;
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings, OutputSink, element, end};
use parking_lot::Mutex;

use crate::browser::{CookieNames, script};
use crate::http::Aborted;
use crate::widget;

/// The memory limit of the rewriter: a tag is kept until its end is seen.
const REWRITER_BYTES: usize = 256 << 10;
const POLICIES: [HeaderName; 2] = [header::CONTENT_SECURITY_POLICY, header::CONTENT_SECURITY_POLICY_REPORT_ONLY];
/// Headers that describe the exact bytes of the job's response.
pub(crate) const OF_BYTES: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Makes a navigation ask for an uncompressed page.
pub(crate) fn ask_for_page(request: &mut HeaderMap) {
    request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// The scripts that a page gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Additions {
    /// The names of the job's cookies, for the scripts of the page.
    pub(crate) cookies: Option<CookieNames>,
    pub(crate) widget: bool,
}

impl Additions {
    pub(crate) fn is_empty(&self) -> bool {
        self.cookies.is_none() && !self.widget
    }
}

/// The plan of adding scripts to a page.
#[derive(Debug)]
pub(crate) struct Injection {
    encoding: AsciiCompatibleEncoding,
    additions: Additions,
    nonce: String,
    /// The widget is an inline script.
    is_inline: bool,
}

impl Injection {
    /// Plans the additions to a response and changes its headers accordingly. Returns `None` for a
    /// response that gets none.
    pub(crate) fn plan(status: StatusCode, headers: &mut HeaderMap, additions: Additions) -> Option<Self> {
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
        if status.is_informational() || bodiless || status == StatusCode::PARTIAL_CONTENT {
            return None;
        }
        let encoding = encoding(headers)?;
        let lists = |name, token| has_word(headers, &name, token);
        if additions.is_empty()
            || is_coded(headers)
            || lists(header::CACHE_CONTROL, "no-transform")
            || lists(header::CONTENT_DISPOSITION, "attachment")
            || policies(headers).any(csp::shuts_out)
        {
            return None;
        }
        let nonce = hex(rand::random());
        let is_inline = policies(headers).any(csp::takes_inline_alone);
        allow(headers, &nonce, additions.widget);
        for name in OF_BYTES {
            headers.remove(name);
        }
        weaken(headers);
        Some(Self { encoding, additions, nonce, is_inline })
    }

    /// The elements that are added. The names of cookies come first, before any script of the page.
    fn elements(&self) -> String {
        let nonce = &self.nonce;
        let cookies = self.additions.cookies.as_ref().map(script::cookies);
        let cookies = cookies.map(|script| format!("<script nonce=\"{nonce}\">{script}</script>")).unwrap_or_default();
        let widget = match (self.additions.widget, self.is_inline) {
            (false, _) => String::new(),
            (true, true) => format!("<script nonce=\"{nonce}\">{}</script>", widget::SCRIPT),
            (true, false) => format!("<script src=\"{}\" nonce=\"{nonce}\" async></script>", widget::SCRIPT_PATH),
        };
        cookies + &widget
    }

    fn rewriter(self, output: Output) -> HtmlRewriter<'static, Output> {
        let script = self.elements();
        let (is_in, widget) = (Arc::new(AtomicBool::new(false)), self.additions.widget);
        let once = move |is_in: &AtomicBool| !is_in.swap(true, Ordering::Relaxed);
        let (of_head, of_body, of_end) = (is_in.clone(), is_in.clone(), is_in);
        let (for_head, for_body, nonce) = (script.clone(), script.clone(), self.nonce);
        let memory = MemorySettings::new()
            .with_max_allowed_memory_usage(REWRITER_BYTES)
            .with_graceful_bail_out_on_memory_limit_exceeded(true);
        let settings = Settings::new_send()
            .with_encoding(self.encoding)
            .with_memory_settings(memory)
            .with_strict(false)
            .append_element_content_handler(element!("head", move |head| {
                if once(&of_head) {
                    head.prepend(&for_head, ContentType::Html);
                }
                Ok(())
            }))
            .append_element_content_handler(element!("body", move |body| {
                if once(&of_body) {
                    body.prepend(&for_body, ContentType::Html);
                }
                Ok(())
            }))
            .append_element_content_handler(element!("meta[http-equiv][content]", move |meta| {
                let is_policy = meta
                    .get_attribute("http-equiv")
                    .is_some_and(|name| name.trim().eq_ignore_ascii_case("content-security-policy"));
                if let Some(policy) = meta.get_attribute("content").filter(|_| is_policy) {
                    meta.set_attribute("content", &csp::allow(&policy, &nonce, widget))?;
                }
                Ok(())
            }))
            .append_document_content_handler(end!(move |end| {
                if once(&of_end) {
                    end.append(&script, ContentType::Html);
                }
                Ok(())
            }));
        HtmlRewriter::new(settings, output)
    }
}

/// Returns whether a response is compressed.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_ENCODING) && !has_word(headers, &header::CONTENT_ENCODING, "identity")
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split([',', ';'])).any(|other| other.trim().eq_ignore_ascii_case(word))
}

/// The encoding of an HTML document, if it contains ASCII.
fn encoding(headers: &HeaderMap) -> Option<AsciiCompatibleEncoding> {
    // Browsers use the last of several.
    let kind = headers.get_all(header::CONTENT_TYPE).into_iter().next_back()?.to_str().ok()?;
    let mut parts = kind.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("text/html") {
        return None;
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    match charset {
        // Only tags are read, which look alike in all encodings that remain.
        None => Some(AsciiCompatibleEncoding::utf_8()),
        Some(charset) => AsciiCompatibleEncoding::new(encoding_rs::Encoding::for_label(charset.as_bytes())?),
    }
}

fn policies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::CONTENT_SECURITY_POLICY).into_iter().filter_map(|line| line.to_str().ok())
}

/// Makes the page's policies allow the additions.
fn allow(headers: &mut HeaderMap, nonce: &str, widget: bool) {
    for name in POLICIES {
        let lines: Vec<HeaderValue> = headers.get_all(&name).into_iter().cloned().collect();
        headers.remove(&name);
        for line in lines {
            let allowed = line.to_str().ok().map(|line| csp::allow(line, nonce, widget));
            let allowed = allowed.and_then(|line| HeaderValue::try_from(line).ok());
            headers.append(&name, allowed.unwrap_or(line));
        }
    }
}

/// Makes the page's validator a weak one (RFC 9110, section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(header::ETAG)
        && tag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(header::ETAG, weak);
    }
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The output of the rewriter, until it is sent.
#[derive(Debug, Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn take(&self) -> Option<Bytes> {
        let mut gathered = self.0.lock();
        (!gathered.is_empty()).then(|| Bytes::from(std::mem::take(&mut *gathered)))
    }
}

impl OutputSink for Output {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}

/// A page with the additions in it.
pub(crate) struct PageBody<B> {
    page: B,
    /// `None` once the page's last byte has been read.
    rewriter: Option<Box<HtmlRewriter<'static, Output>>>,
    output: Output,
    trailers: Option<Frame<Bytes>>,
}

impl<B> PageBody<B> {
    pub(crate) fn new(page: B, injection: Injection) -> Self {
        let output = Output::default();
        let rewriter = Box::new(injection.rewriter(output.clone()));
        Self { page, rewriter: Some(rewriter), output, trailers: None }
    }

    fn read(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), Aborted> {
        let data = match frame.map(Frame::into_data) {
            Some(Ok(data)) => Some(data),
            Some(Err(trailers)) => {
                self.trailers = Some(trailers);
                None
            }
            None => None,
        };
        let outcome = match (data, self.rewriter.take()) {
            (_, None) => Ok(()),
            (None, Some(rewriter)) => rewriter.end(),
            (Some(data), Some(mut rewriter)) => {
                let outcome = rewriter.write(&data);
                self.rewriter = Some(rewriter);
                outcome
            }
        };
        outcome.map_err(|error| {
            tracing::warn!(%error, "can't add scripts to a page, the response is aborted");
            Aborted::Page
        })
    }
}

impl<B: Body<Data = Bytes, Error = Aborted> + Unpin> Body for PageBody<B> {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(data) = self.output.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.rewriter.is_none() {
                return Poll::Ready(self.trailers.take().map(Ok));
            }
            let frame = ready!(Pin::new(&mut self.page).poll_frame(context)).transpose()?;
            self.read(frame)?;
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use mooring_types::ConnectionId;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static(value));
        }
        headers
    }

    fn both() -> Additions {
        let cookies = CookieNames::of(&ConnectionId::random(&mut rand::rng()));
        Additions { cookies: Some(cookies), widget: true }
    }

    /// The page as a browser gets it from pieces of these sizes, and the elements.
    fn rewritten(page: &[u8], sizes: &[usize]) -> (Vec<u8>, String) {
        let injection = Injection::plan(StatusCode::OK, &mut headers(&[("content-type", "text/html")]), both());
        let injection = injection.expect("a page");
        let script = injection.elements();
        let (mut pieces, mut rest, mut sizes) = (Vec::new(), page, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
            pieces.push(Ok::<_, Aborted>(Frame::data(Bytes::copy_from_slice(piece))));
            rest = after;
        }
        let body = PageBody::new(StreamBody::new(futures_util::stream::iter(pieces)), injection);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let got = runtime.block_on(body.collect()).expect("a page").to_bytes();
        (got.to_vec(), script)
    }

    #[test]
    fn widget_is_inline_where_a_policy_forbids_files() {
        let policy = "script-src 'unsafe-inline'";
        let mut page = headers(&[("content-type", "text/html"), ("content-security-policy", policy)]);
        let elements = Injection::plan(StatusCode::OK, &mut page, both()).expect("a page").elements();
        assert_eq!(page["content-security-policy"], policy);
        assert!(elements.contains(widget::SCRIPT) && !elements.contains("src="), "{elements}");
        // Nothing in it ends the element.
        assert!(!widget::SCRIPT.contains("</script") && !widget::SCRIPT.contains("<!--"));
    }

    #[test]
    fn script_is_first_in_head() {
        for (page, expected) in [
            ("<!doctype html><html><head><base href=/x><title>a</title></head><body>b", "<head>*<base"),
            ("<HTML><HEAD lang=en>\n<title>", "<HEAD lang=en>*\n<title>"),
            ("<title>a</title><body class=b><p>c", "<body class=b>*<p>c"),
            ("<p>Hello", "<p>Hello*"),
            ("", ""),
            ("<!-- <head> --><script>'<head>'</script><head></head>", "</script><head>*</head>"),
        ] {
            let (got, script) = rewritten(page.as_bytes(), &[3]);
            let got = String::from_utf8(got).unwrap();
            let expected = expected.replace('*', &script);
            assert!(got.contains(&expected), "{page} became {got}");
            assert_eq!(got.matches(&script).count(), usize::from(!page.is_empty() || got == script), "{got}");
        }
    }

    #[test]
    fn pages_get_what_they_should() {
        for (additions, inline, widget) in [
            (both(), true, true),
            (Additions { widget: false, ..both() }, true, false),
            (Additions { cookies: None, ..both() }, false, true),
        ] {
            let mut got = headers(&[("content-type", "text/html"), ("content-security-policy", "default-src 'none'")]);
            let injection = Injection::plan(StatusCode::OK, &mut got, additions).unwrap();
            let elements = injection.elements();
            assert_eq!((elements.contains("(marker =>"), elements.contains("widget.js")), (inline, widget));
            // The names of cookies need no connection and no frame.
            let policy = got["content-security-policy"].to_str().unwrap();
            assert_eq!((policy.contains("'nonce-"), policy.contains("frame-src")), (true, widget), "{policy}");
        }
        let mut got = headers(&[("content-type", "text/html")]);
        assert!(Injection::plan(StatusCode::OK, &mut got, Additions::default()).is_none());
    }

    #[test]
    fn meta_policy_allows_widget() {
        let page = b"<head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"><meta name=a content=b>";
        let (got, _) = rewritten(page, &[7]);
        let got = String::from_utf8(got).unwrap();
        assert!(got.contains("connect-src 'self'") && got.contains("script-src-elem 'nonce-"), "{got}");
        assert!(got.ends_with("<meta name=a content=b>"), "{got}");
    }

    #[test]
    fn only_pages_are_rewritten() {
        let html = ("content-type", "text/html; charset=utf-8");
        for (status, lines, gets) in [
            (200, vec![html], true),
            (404, vec![html], true),
            (200, vec![("content-type", "TEXT/HTML")], true),
            (200, vec![("content-type", "text/html; charset=windows-1252")], true),
            (200, vec![("content-type", "text/html; charset=utf-16")], false),
            (200, vec![("content-type", "text/plain")], false),
            (200, vec![html, ("content-type", "text/plain")], false),
            (200, vec![("content-type", "text/plain"), html], true),
            (200, vec![], false),
            (206, vec![html], false),
            (304, vec![html], false),
            (204, vec![html], false),
            (200, vec![html, ("content-encoding", "gzip")], false),
            (200, vec![html, ("content-encoding", "identity")], true),
            (200, vec![html, ("cache-control", "private, no-transform")], false),
            (200, vec![html, ("content-disposition", "attachment; filename=a.html")], false),
            (200, vec![html, ("content-disposition", "inline")], true),
            (200, vec![html, ("content-security-policy", "sandbox")], false),
        ] {
            let mut got = headers(&lines);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Injection::plan(status, &mut got, both()).is_some(), gets, "{status} {lines:?}");
            if !gets {
                assert_eq!(got, headers(&lines));
            }
        }
    }

    #[test]
    fn headers_about_bytes_are_changed() {
        let mut got = headers(&[
            ("content-type", "text/html"),
            ("content-length", "7"),
            ("etag", "\"a\""),
            ("content-security-policy", "script-src 'self'"),
            ("set-cookie", "a=b"),
        ]);
        let injection = Injection::plan(StatusCode::OK, &mut got, both()).unwrap();
        assert!(!got.contains_key("content-length"));
        assert_eq!((&got["etag"], &got["set-cookie"]), (&"W/\"a\"".parse().unwrap(), &"a=b".parse().unwrap()));
        let nonce = format!("'nonce-{}'", injection.nonce);
        assert!(got["content-security-policy"].to_str().unwrap().contains(&nonce));
        let mut weak = headers(&[("content-type", "text/html"), ("etag", "W/\"a\"")]);
        Injection::plan(StatusCode::OK, &mut weak, both()).unwrap();
        assert_eq!(weak["etag"], "W/\"a\"");
    }

    proptest! {
        #[test]
        fn page_is_unchanged_but_for_script(
            parts in prop::collection::vec(
                prop_oneof![
                    "(<!doctype html>|<html>|<head>|</head>|<body>|<p>|<meta charset=utf-8>|<!--|-->|<script>|</script>|<svg>|<textarea>)",
                    "[ -~]{0,20}",
                    "\\PC{0,8}",
                ],
                0..20),
            noise in prop::collection::vec(any::<u8>(), 0..40),
            sizes in prop::collection::vec(1_usize..30, 1..5),
        ) {
            let page = [parts.concat().as_bytes(), &noise].concat();
            let (got, script) = rewritten(&page, &sizes);
            let at = got.windows(script.len()).position(|window| window == script.as_bytes());
            let without = match at {
                Some(at) => [&got[..at], &got[at + script.len()..]].concat(),
                None => got,
            };
            prop_assert_eq!(String::from_utf8_lossy(&without), String::from_utf8_lossy(&page));
        }
    }
}

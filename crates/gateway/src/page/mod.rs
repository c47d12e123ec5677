//! Adds scripts to a page of a job: the [widget], and the names of the job's cookies
//! ([`browser`](crate::browser)).
//!
//! A page is the HTML document of a navigation. Its bytes are streamed. The scripts are added
//! before the first element that could do anything ([`beginning`]). Policies in `meta` elements
//! allow them ([`csp`]), and nothing else is changed. A page that the rewriter can't follow (a tag
//! longer than 256 KiB) continues without changes to later policies.
//!
//! The widget is for documents outside of frames. Where a browser does not say what it loads, as
//! without TLS, the widget's script finds that out. The names of cookies are for pieces of
//! documents as well, which a browser has loaded as a page.
//!
//! A page's policy allows the scripts by a nonce, which is new in each response. A 304 would bring
//! the job's policy again, and leave the client the page with the old nonce. So a page that would
//! get additions is asked for without conditions. A cached page with additions is known by its
//! `ETag`. It is asked for whole also where it would get none any more, or a script asks.
//!
//! These responses are not rewritten, and stay byte for byte as they are:
//!
//! * compressed ones; a navigation asks for none, see [`ask_for_page`],
//! * attachments, partial responses and those with `no-transform`,
//! * those in an encoding that does not contain ASCII, by the header or by a byte order mark,
//! * those that do not begin like HTML,
//! * pages in a sandbox that forbids scripts.

mod beginning;
mod body;
mod csp;

use bytes::Bytes;
use http_body_util::Either;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use lol_html::AsciiCompatibleEncoding;

use self::beginning::Beginning;
pub(crate) use self::body::{BegunBody, PageBody};
use crate::browser::{CookieNames, script};
use crate::header_text::{self, has_word};
use crate::http::Aborted;
use crate::widget;

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

/// The beginning of the validators of changed pages.
const MARK: &[u8] = b"W/\"mooring:";

/// The body of a response that may be a page: as it was, begun, or with additions.
pub(crate) type MaybePage<B> = Either<B, Either<BegunBody<B>, PageBody<BegunBody<B>>>>;

/// Makes a navigation ask for the whole page, uncompressed.
pub(crate) fn ask_for_page(request: &mut HeaderMap) {
    request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    ask_for_whole(request);
}

/// Removes from a request the conditions under which a job would answer with 304.
fn ask_for_whole(request: &mut HeaderMap) {
    request.remove(header::IF_NONE_MATCH);
    request.remove(header::IF_MODIFIED_SINCE);
}

/// Removes the conditions of a client whose cached page has additions.
pub(crate) fn leave_out_changed(request: &mut HeaderMap) {
    let is_marked = |line: &HeaderValue| line.as_bytes().windows(MARK.len()).any(|bytes| bytes == MARK);
    if request.get_all(header::IF_NONE_MATCH).iter().any(is_marked) {
        ask_for_whole(request);
    }
}

/// Adds scripts to a response to a navigation, and changes its headers accordingly.
pub(crate) async fn add<B>(status: StatusCode, headers: &mut HeaderMap, body: B, additions: Additions) -> MaybePage<B>
where
    B: Body<Data = Bytes, Error = Aborted> + Unpin,
{
    let Some(encoding) = encoding_of_page(status, headers).filter(|_| !additions.is_empty()) else {
        return Either::Left(body);
    };
    let (beginning, page) = BegunBody::begin(body).await;
    let additions = additions.to(beginning);
    if additions.is_empty() {
        return Either::Right(Either::Left(page));
    }
    let injection = Injection::plan(encoding, headers, additions);
    Either::Right(Either::Right(PageBody::new(page, injection)))
}

/// The scripts that a page gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Additions {
    /// The names of the job's cookies, for the scripts of the page.
    pub(crate) cookies: Option<CookieNames>,
    pub(crate) widget: bool,
    /// The path below which a browser finds the widget.
    pub(crate) base: String,
}

impl Additions {
    pub(crate) fn is_empty(&self) -> bool {
        self.cookies.is_none() && !self.widget
    }

    /// The additions to a page that begins so.
    fn to(self, beginning: Beginning) -> Self {
        match beginning {
            Beginning::Document => self,
            Beginning::Piece => Self { widget: false, ..self },
            Beginning::Other => Self::default(),
        }
    }
}

/// The plan of adding scripts to a page.
#[derive(Debug)]
struct Injection {
    encoding: AsciiCompatibleEncoding,
    additions: Additions,
    nonce: String,
    /// The widget is an inline script.
    is_inline: bool,
}

impl Injection {
    /// Plans the additions to a page and changes its headers accordingly.
    fn plan(encoding: AsciiCompatibleEncoding, headers: &mut HeaderMap, additions: Additions) -> Self {
        let nonce = hex(rand::random());
        let is_inline = policies(headers).any(|policies| csp::takes_inline_alone(&policies));
        allow(headers, &nonce, additions.widget);
        for name in OF_BYTES {
            headers.remove(name);
        }
        mark(headers);
        Self { encoding, additions, nonce, is_inline }
    }

    /// The elements that are added. The names of cookies come first, before any script of the page.
    fn elements(&self) -> String {
        let (nonce, base) = (&self.nonce, &self.additions.base);
        let attribute = widget::base_attribute(base);
        let cookies = self.additions.cookies.as_ref().map(script::cookies);
        let cookies = cookies.map(|script| format!("<script nonce=\"{nonce}\">{script}</script>")).unwrap_or_default();
        let widget = match (self.additions.widget, self.is_inline) {
            (false, _) => String::new(),
            (true, true) => format!("<script nonce=\"{nonce}\"{attribute}>{}</script>", widget::SCRIPT),
            (true, false) => {
                let path = widget::SCRIPT_PATH;
                format!("<script src=\"{base}{path}\" nonce=\"{nonce}\"{attribute} async></script>")
            }
        };
        cookies + &widget
    }
}

/// Returns the encoding of a response that may be a page with additions, by its head.
fn encoding_of_page(status: StatusCode, headers: &HeaderMap) -> Option<AsciiCompatibleEncoding> {
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    if status.is_informational() || bodiless || status == StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let encoding = encoding(headers)?;
    let is_kept = is_coded(headers)
        || has_word(headers, &header::CACHE_CONTROL, "no-transform")
        || has_word(headers, &header::CONTENT_DISPOSITION, "attachment")
        || policies(headers).any(|policies| csp::shuts_out(&policies));
    (!is_kept).then_some(encoding)
}

/// Returns whether a response is compressed.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_ENCODING) && !has_word(headers, &header::CONTENT_ENCODING, "identity")
}

/// The encoding of an HTML document, if it contains ASCII.
fn encoding(headers: &HeaderMap) -> Option<AsciiCompatibleEncoding> {
    // Browsers use the last of several.
    let kind = header_text::lines(headers, &header::CONTENT_TYPE).next_back()?;
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

fn policies(headers: &HeaderMap) -> impl Iterator<Item = String> {
    header_text::lines(headers, &header::CONTENT_SECURITY_POLICY)
}

/// Makes the page's policies allow the additions.
fn allow(headers: &mut HeaderMap, nonce: &str, widget: bool) {
    for name in POLICIES {
        let lines: Vec<HeaderValue> = headers.get_all(&name).into_iter().cloned().collect();
        headers.remove(&name);
        for line in lines {
            let allowed = header_text::line(&csp::allow(&header_text::text(&line), nonce, widget));
            headers.append(&name, allowed.unwrap_or(line));
        }
    }
}

/// Makes the page's validator a weak one (RFC 9110, section 8.8.1), and known as a changed page's.
/// A page without one gets one if a client could revalidate it all the same.
fn mark(headers: &mut HeaderMap) {
    let tag = match headers.get(header::ETAG) {
        Some(tag) => tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes()).trim_ascii(),
        None if headers.contains_key(header::LAST_MODIFIED) => b"\"\"",
        None => return,
    };
    if let Some(opaque) = tag.strip_prefix(b"\"")
        && let Ok(marked) = HeaderValue::from_bytes(&[MARK, opaque].concat())
    {
        headers.insert(header::ETAG, marked);
    }
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use mooring_types::ConnectionId;
    use proptest::prelude::*;

    use super::*;

    const HTML: (&str, &str) = ("content-type", "text/html");

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(name.parse::<HeaderName>().expect("a name"), value);
        }
        headers
    }

    fn both() -> Additions {
        let cookies = CookieNames::of(&ConnectionId::random(&mut rand::rng()));
        Additions { cookies: Some(cookies), widget: true, base: String::new() }
    }

    /// The plan for a page with these headers, and the headers that it makes of them.
    fn planned(lines: &[(&str, &str)], additions: Additions) -> (Injection, HeaderMap) {
        let mut headers = headers(&[&[HTML], lines].concat());
        let encoding = encoding_of_page(StatusCode::OK, &headers).expect("a page");
        (Injection::plan(encoding, &mut headers, additions), headers)
    }

    fn pieces(page: &[u8], sizes: &[usize]) -> VecDeque<Result<Frame<Bytes>, Aborted>> {
        let (mut pieces, mut rest, mut sizes) = (VecDeque::new(), page, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
            pieces.push_back(Ok(Frame::data(Bytes::copy_from_slice(piece))));
            rest = after;
        }
        pieces
    }

    /// The page as a browser gets it from pieces of these sizes, with its headers.
    fn sent(lines: &[(&str, &str)], page: &[u8], sizes: &[usize], additions: Additions) -> (Vec<u8>, HeaderMap) {
        let mut headers = headers(lines);
        let body = StreamBody::new(futures_util::stream::iter(pieces(page, sizes)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let body = runtime.block_on(add(StatusCode::OK, &mut headers, body, additions));
        let got = runtime.block_on(body.collect()).expect("a page").to_bytes();
        (got.to_vec(), headers)
    }

    /// The page with its additions as `*`.
    fn marked(page: &[u8], sizes: &[usize]) -> Vec<u8> {
        let (injection, _) = planned(&[], both());
        let script = injection.elements().into_bytes();
        let body = StreamBody::new(futures_util::stream::iter(pieces(page, sizes)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let got = runtime.block_on(PageBody::new(body, injection).collect()).expect("a page").to_bytes();
        let at = got.windows(script.len()).position(|window| window == script).expect("the additions");
        [&got[..at], &b"*"[..], &got[at + script.len()..]].concat()
    }

    #[test]
    fn widget_is_inline_where_a_policy_forbids_files() {
        let policy = "script-src 'unsafe-inline'";
        let (injection, page) = planned(&[("content-security-policy", policy)], both());
        let elements = injection.elements();
        assert_eq!(page["content-security-policy"], policy);
        assert!(elements.contains(widget::SCRIPT) && !elements.contains("src="), "{elements}");
        // Nothing in it ends the element.
        assert!(!widget::SCRIPT.contains("</script") && !widget::SCRIPT.contains("<!--"));
    }

    #[test]
    fn script_is_before_all_that_could_do_anything() {
        for page in [
            "<!doctype html><html><head>*<base href=/x><title>a</title></head><body>b",
            "*<base href=/x><title>a</title><p>hi",
            "*<base href=/x><!doctype html><html><head><title>a</title>",
            "<HTML><HEAD lang=en>*\n<title>",
            "*<title>a</title><body class=b><p>c",
            "<!doctype html>*text<base href=/x>",
            "*<p>Hello",
            "<!-- <head> -->*<script>'<head>'</script><head></head>",
        ] {
            let got = marked(page.replace('*', "").as_bytes(), &[3]);
            assert_eq!(String::from_utf8(got).unwrap(), page);
        }
    }

    #[test]
    fn pages_get_what_they_should() {
        let document = "<!doctype html><p>a";
        for (additions, page, inline, widget) in [
            (both(), document, true, true),
            (Additions { widget: false, ..both() }, document, true, false),
            (Additions { cookies: None, ..both() }, document, false, true),
            // A piece of a document that a browser has loaded as a page.
            (both(), "<p>a", true, false),
        ] {
            let policy = ("content-security-policy", "default-src 'none'");
            let (got, headers) = sent(&[HTML, policy], page.as_bytes(), &[2], additions);
            let got = String::from_utf8(got).unwrap();
            assert_eq!((got.contains("(marker =>"), got.contains("widget.js")), (inline, widget), "{got}");
            // The names of cookies need no connection and no frame.
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert_eq!((policy.contains("'nonce-"), policy.contains("frame-src")), (true, widget), "{policy}");
        }
    }

    #[test]
    fn what_does_not_begin_like_a_page_is_unchanged() {
        let utf16: Vec<u8> = "\u{FEFF}<!doctype html><html>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let swapped: Vec<u8> = utf16.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        let latin = ("content-type", "text/html; charset=iso-8859-1");
        let widget_alone = Additions { cookies: None, ..both() };
        for (page, additions) in [
            (utf16.as_slice(), both()),
            (&swapped, both()),
            (b"OK\n", both()),
            (b"", both()),
            (b"a", both()),
            (b"\xEF\xBB", both()),
            (b"<tr><td>1</td></tr>", widget_alone),
            (b"<!doctype html>", Additions::default()),
        ] {
            let length = page.len().to_string();
            let lines = [latin, ("content-length", &length), ("etag", "\"1\""), ("digest", "sha-256=a")];
            for size in [1, 1000] {
                let (got, kept) = sent(&lines, page, &[size], additions.clone());
                assert_eq!((got.as_slice(), &kept), (page, &headers(&lines)));
            }
        }
        let (got, _) = sent(&[latin], "\u{FEFF}<html>".as_bytes(), &[1], both());
        assert!(got.starts_with("\u{FEFF}<html><script".as_bytes()));
    }

    #[test]
    fn length_of_a_page_that_was_begun_is_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let whole = http_body_util::Full::new(Bytes::from_static(b"OK\n")).map_err(|never| match never {});
        let (beginning, body) = runtime.block_on(BegunBody::begin(whole));
        assert_eq!((beginning, body.size_hint().exact(), body.is_end_stream()), (Beginning::Other, Some(3), false));
    }

    #[test]
    fn meta_policy_allows_widget() {
        let page = b"<head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"><meta name=a content=b>";
        let got = String::from_utf8(marked(page, &[7])).unwrap();
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
            (200, vec![html, ("cache-control", "no-transform, x=\"Ü\"")], false),
            (200, vec![html, ("content-disposition", "attachment; filename=a.html")], false),
            (200, vec![html, ("content-disposition", "attachment; filename=\"Übersicht.html\"")], false),
            (200, vec![html, ("content-disposition", "inline; a=Ü"), ("content-disposition", "attachment")], false),
            (200, vec![html, ("content-disposition", "inline")], true),
            (200, vec![html, ("content-security-policy", "sandbox")], false),
            (200, vec![html, ("content-security-policy", "sandbox; report-uri /Ü")], false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(encoding_of_page(status, &headers(&lines)).is_some(), gets, "{status} {lines:?}");
        }
    }

    #[test]
    fn policy_with_any_bytes_allows_widget() {
        let policy = "default-src 'none'; script-src 'self'; report-uri /Ü";
        let (injection, got) = planned(&[("content-security-policy", policy)], both());
        let line = got["content-security-policy"].as_bytes();
        let allowed = String::from_utf8(line.to_vec()).unwrap();
        assert!(allowed.contains("report-uri /Ü;") && allowed.contains(&injection.nonce), "{allowed}");
    }

    #[test]
    fn headers_about_bytes_are_changed() {
        let (injection, got) = planned(
            &[
                ("content-length", "7"),
                ("etag", "\"a\""),
                ("content-security-policy", "script-src 'self'"),
                ("set-cookie", "a=b"),
            ],
            both(),
        );
        assert!(!got.contains_key("content-length"));
        assert_eq!((&got["etag"], &got["set-cookie"]), (&"W/\"mooring:a\"".parse().unwrap(), &"a=b".parse().unwrap()));
        let nonce = format!("'nonce-{}'", injection.nonce);
        assert!(got["content-security-policy"].to_str().unwrap().contains(&nonce));
        assert_eq!(planned(&[("etag", "W/\"a\"")], both()).1["etag"], "W/\"mooring:a\"");
        assert_eq!(planned(&[("last-modified", "x")], both()).1["etag"], "W/\"mooring:\"");
        assert!(!planned(&[], both()).1.contains_key("etag"));
    }

    #[test]
    fn changed_page_is_not_asked_for_again_under_conditions() {
        let since = ("if-modified-since", "Sat, 01 Aug 2026 12:00:00 GMT");
        for (tags, is_kept) in [
            (&["\"a\""][..], true),
            (&["W/\"a\", \"b\""], true),
            (&["W/\"mooring:a\""], false),
            (&["\"b\", W/\"mooring:\""], false),
            (&["\"b\"", "W/\"mooring:a\""], false),
        ] {
            let lines: Vec<_> = tags.iter().map(|tag| ("if-none-match", *tag)).chain([since]).collect();
            let mut request = headers(&lines);
            leave_out_changed(&mut request);
            assert_eq!(request, if is_kept { headers(&lines) } else { HeaderMap::new() }, "{tags:?}");
            let mut request = headers(&lines);
            ask_for_page(&mut request);
            assert_eq!(request, headers(&[("accept-encoding", "identity")]), "{tags:?}");
        }
    }

    proptest! {
        #[test]
        fn page_is_unchanged_but_for_script(
            parts in prop::collection::vec(
                prop_oneof![
                    "(<!doctype html>|<html>|<head>|</head>|<body>|<p>|<meta charset=utf-8>|<!--|-->|<script>|</script>|<svg>|<textarea>)",
                    "[ -)+-~]{0,20}",
                    "\\PC{0,8}",
                ],
                0..20),
            noise in prop::collection::vec(any::<u8>(), 0..40),
            sizes in prop::collection::vec(1_usize..30, 1..5),
        ) {
            let page = [parts.concat().as_bytes(), &noise].concat();
            let mut without = marked(&page, &sizes);
            let before = page.iter().zip(&without).take_while(|(one, other)| one == other).count();
            prop_assert_eq!(without.remove(before), b'*');
            prop_assert_eq!(String::from_utf8_lossy(&without), String::from_utf8_lossy(&page));
        }
    }
}

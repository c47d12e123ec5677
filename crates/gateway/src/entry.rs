//! The entry to a connection that takes a login: who has none gets no byte of the job.
//!
//! | request | answer |
//! |---|---|
//! | with the cookie of a visit that the slice has | the job's |
//! | a browser's page load | OpCenter's page, which sends the browser back to [`PATH`] |
//! | [`PATH`] with OpCenter's code, or with the secret of a link | the cookie, and the page that was asked for |
//! | any other | 401 in words |
//!
//! The gateway keeps nothing of a visit: the slice has the hashes of all tokens. So a visit ends in
//! every process of the gateway when OpCenter ends it. A cookie for the way to OpCenter shows that
//! the browser that comes back is the one that was sent.
//!
//! The cookies have the connection's tag in their names, and no job gets them: their names begin as
//! all of the gateway's own do ([`crate::browser::cookies`]).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode, Uri};
use mooring_api::watch::VisitRequest;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::browser::cookies::GATEWAYS;
use crate::http::response::{is_page_load, plain};
use crate::route::{Route, Routes};
use crate::widget::opcenter_link::{OpCenterLink, hex, random};

/// The path to which OpCenter sends browsers back.
pub(crate) const PATH: &str = "/.mooring/enter";
/// The time for which a browser may be at OpCenter.
const STATE_SECONDS: u32 = 600;
/// The longest wait for the slice with a new visit.
const SLICE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request at the entry.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// The host that the request names.
    pub(crate) host: &'a str,
    /// True if the browser speaks TLS, to a proxy.
    pub(crate) is_tls: bool,
    /// The path below which the browser finds the port.
    pub(crate) base: String,
}

/// Returns the hash of the token that a request shows.
pub(crate) fn visit(route: &Route, headers: &HeaderMap) -> Option<String> {
    Some(hash(cookie(headers, &name(route, "visit"))?))
}

/// Answers a request without a visit.
pub(crate) async fn answer(asking: &Asking<'_>, routes: &Routes, opcenter: &OpCenterLink) -> Response<Full<Bytes>> {
    let route = routes.now();
    if asking.uri.path() == PATH && *asking.method == Method::GET {
        return come_back(asking, routes, opcenter).await;
    }
    if !is_page_load(asking.method, asking.headers) {
        return refused(StatusCode::UNAUTHORIZED, "this job takes a sign-in: open its address in a browser");
    }
    let url = match opcenter.url(&route) {
        Ok(url) => url,
        Err(error) => return refused(StatusCode::SERVICE_UNAVAILABLE, &error.message),
    };
    let state = random();
    let to = asking.browsers_path();
    let query =
        [("connection", route.connection.as_str()), ("origin", &asking.origin()), ("state", &state), ("to", &to)];
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    let cookie = asking.cookie(&name(&route, "state"), &state, &format!("; Max-Age={STATE_SECONDS}"));
    redirect(&format!("{url}/enter?{}", query.join("&")), &[cookie])
}

/// Lets a browser in that OpCenter has sent back, or that has the link.
async fn come_back(asking: &Asking<'_>, routes: &Routes, opcenter: &OpCenterLink) -> Response<Full<Bytes>> {
    let route = routes.now();
    let of_query = |key: &str| {
        let pairs = asking.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| decoded(value)).unwrap_or_default()
    };
    let (key, code, to) = (of_query("key"), of_query("code"), of_query("to"));
    let is_own = to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n', '\t']);
    let to = if is_own { to } else { format!("{}/", asking.base) };
    let to = to.as_str();
    // The browser has come in meanwhile, as in another tab.
    if visit(&route, asking.headers).is_some_and(|visit| route.lets_in(&visit)) {
        return redirect(to, &[]);
    }
    let token = if key.is_empty() {
        let state = of_query("state");
        if state.is_empty() || cookie(asking.headers, &name(&route, "state")) != Some(state.as_str()) {
            return refused(StatusCode::FORBIDDEN, "this browser was not on its way here: open the job again");
        }
        let request = VisitRequest { connection: route.connection.clone(), code, origin: asking.origin() };
        match opcenter.begin_visit(&request).await {
            Ok(answer) => answer.token,
            Err(error) => {
                let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                return refused(StatusCode::FORBIDDEN, &format!("{}{hint}", error.message));
            }
        }
    } else if route.lets_in(&hash(&key)) {
        key
    } else {
        return refused(StatusCode::FORBIDDEN, "the link is no longer good");
    };
    // The visit is in the next slice.
    if timeout(SLICE_TIMEOUT, routes.lets_in(&hash(&token))).await.is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "OpCenter does not answer; open the job again");
    }
    let visit = asking.cookie(&name(&route, "visit"), &token, "");
    let state = asking.cookie(&name(&route, "state"), "", "; Max-Age=0");
    redirect(to, &[visit, state])
}

impl Asking<'_> {
    /// The path of the request as the browser has it.
    fn browsers_path(&self) -> String {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let is_below =
            path.strip_prefix(self.base.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_below { path.to_owned() } else { format!("{}{path}", self.base) }
    }

    /// The origin at which the browser is, as browsers write it.
    fn origin(&self) -> String {
        let (scheme, default) = if self.is_tls { ("https", ":443") } else { ("http", ":80") };
        format!("{scheme}://{}", self.host.strip_suffix(default).unwrap_or(self.host).to_ascii_lowercase())
    }

    fn cookie(&self, name: &str, value: &str, more: &str) -> String {
        let secure = if self.is_tls { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}")
    }
}

fn name(route: &Route, what: &str) -> String {
    format!("{GATEWAYS}{}-{what}", route.names.tag())
}

fn hash(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// Returns the value of a cookie of the gateway's. Those beside it may have any bytes.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs =
        headers.get_all(header::COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let texts = pairs.filter_map(|pair| std::str::from_utf8(pair).ok());
    texts.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn refused(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    plain(status, format!("{reason}\n"))
}

fn redirect(to: &str, cookies: &[String]) -> Response<Full<Bytes>> {
    let Ok(location) = HeaderValue::try_from(to) else {
        return refused(StatusCode::BAD_REQUEST, "the address can't be read");
    };
    let mut response = plain(StatusCode::SEE_OTHER, String::new());
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for cookie in cookies.iter().filter_map(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Encodes a value of a query (URL standard, `application/x-www-form-urlencoded`).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => encoded.push(char::from(byte)),
            // Writing to a string can't fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_they_were_written() {
        for text in ["/lab?token=a&b=c d", "/é%25+", "", "http://[::1]:80"] {
            assert_eq!(decoded(&encoded(text)), text);
        }
        assert_eq!(decoded("a+b%2"), "a b%2");
    }

    #[test]
    fn cookie_is_found_beside_any_bytes() {
        let line = HeaderValue::from_bytes(b"a=\xFC; own=1; b").unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, line)]);
        assert_eq!((cookie(&headers, "own"), cookie(&headers, "b")), (Some("1"), None));
    }

    #[test]
    fn origin_is_as_browsers_write_it() {
        let headers = HeaderMap::new();
        let origin = |host: &str, is_tls| {
            let (method, uri, base) = (&Method::GET, &Uri::from_static("/"), String::new());
            Asking { method, uri, headers: &headers, host, is_tls, base }.origin()
        };
        assert_eq!(origin("Lab:10000", false), "http://lab:10000");
        assert_eq!(origin("lab:443", true), "https://lab");
        assert_eq!(origin("lab:443", false), "http://lab:443");
    }
}

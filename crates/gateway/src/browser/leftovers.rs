//! The leftovers of an earlier job of a gateway port, in a browser.
//!
//! A browser that was at the port has a cookie of the gateway with the connection's mark. A page
//! load without it is the browser's first at this connection. Its answer has the browser remove
//! storage, service workers and cached pages of the port (Clear Site Data, section 3.1). Browsers
//! do so in secure contexts: over TLS, and at `localhost`. Elsewhere there are no service workers.
//!
//! `"cookies"` is not asked for: it would remove those of all ports, and of other hosts of the
//! domain. A job may not ask for it either.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use mooring_types::Port;

use super::cookies::{CookieNames, GATEWAYS};
use crate::header_text::{self, has_word};

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
/// The time for which a browser keeps the mark in seconds: the longest that browsers allow.
const MARK_AGE_SECONDS: u32 = 400 * 24 * 3600;
/// The types of data that a browser removes.
const REMOVED: &str = "\"cache\", \"storage\"";
/// The types of data that a job may not have a browser remove.
const OF_THE_HOST: [&str; 2] = ["\"cookies\"", "\"*\""];

/// A page load that is its browser's first at a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstVisit {
    mark: HeaderValue,
    clears: bool,
}

impl FirstVisit {
    /// Returns whether a page load, by its headers, is its browser's first at the connection.
    pub(crate) fn of(request: &HeaderMap, port: Port, names: &CookieNames) -> Option<Self> {
        let (name, tag) = (format!("{GATEWAYS}{port}"), names.tag());
        let own = format!("{name}={tag}");
        let lines = request.get_all(header::COOKIE).into_iter();
        let is_known = lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .any(|pair| pair.trim_ascii() == own.as_bytes());
        if is_known {
            return None;
        }
        let mark = format!("{own}; Path=/; HttpOnly; SameSite=Lax; Max-Age={MARK_AGE_SECONDS}");
        // Browsers send it in secure contexts alone. Elsewhere they ignore the order, with a
        // warning.
        let clears = request.contains_key("sec-fetch-mode");
        Some(Self { mark: HeaderValue::try_from(mark).ok()?, clears })
    }

    /// Marks the browser, and has it remove what an earlier job has left.
    pub(crate) fn answer(&self, response: &mut HeaderMap) {
        response.append(header::SET_COOKIE, self.mark.clone());
        if self.clears {
            response.append(CLEAR_SITE_DATA, HeaderValue::from_static(REMOVED));
        }
    }
}

/// Makes a browser ask again before it shows a cached page: an earlier job's would never be
/// replaced.
pub(crate) fn revalidate(response: &mut HeaderMap) {
    if !has_word(response, &header::CACHE_CONTROL, "no-store") {
        response.append(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

/// Removes from a job's order to a browser what concerns other ports of the host.
///
/// `Strict-Transport-Security` has a browser ask all ports of a host name by TLS alone (RFC 6797,
/// section 8.3). It would no more reach the gateways without TLS.
pub(crate) fn limit_to_port(response: &mut HeaderMap) {
    response.remove(header::STRICT_TRANSPORT_SECURITY);
    if !response.contains_key(CLEAR_SITE_DATA) {
        return;
    }
    let lines: Vec<HeaderValue> = response.get_all(CLEAR_SITE_DATA).into_iter().cloned().collect();
    response.remove(CLEAR_SITE_DATA);
    for line in lines {
        let line = header_text::text(&line);
        let words = line.split(',').map(str::trim);
        let kept: Vec<&str> = words.filter(|word| !word.is_empty() && !OF_THE_HOST.contains(word)).collect();
        if !kept.is_empty()
            && let Some(kept) = header_text::line(&kept.join(", "))
        {
            response.append(CLEAR_SITE_DATA, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::ConnectionId;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), HeaderValue::try_from(*value).expect("a value"))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn browser_is_marked_once() {
        let [own, earlier] = [0; 2].map(|_| CookieNames::of(&ConnectionId::random(&mut rand::rng())));
        let port = Port::new(10_007).unwrap();
        let visit = |cookies: &str, more: &[(&str, &str)]| {
            FirstVisit::of(&headers(&[&[("cookie", cookies)], more].concat()), port, &own)
        };
        let secure = [("sec-fetch-mode", "navigate")];
        let known = format!("a=b; mooring-port-10007={}", own.tag());
        assert_eq!(visit(&known, &secure), None);
        for stranger in
            ["", "a=b", &format!("mooring-port-10007={}", earlier.tag()), &format!("mooring-port-10008={}", own.tag())]
        {
            let mut answer = HeaderMap::new();
            visit(stranger, &secure).expect("a first visit").answer(&mut answer);
            assert_eq!(answer["clear-site-data"], "\"cache\", \"storage\"");
            let mark = answer["set-cookie"].to_str().unwrap();
            assert!(mark.starts_with(&format!("mooring-port-10007={}; Path=/; HttpOnly", own.tag())), "{mark}");
            let mut answer = HeaderMap::new();
            visit(stranger, &[]).expect("a first visit").answer(&mut answer);
            assert!(!answer.contains_key("clear-site-data") && answer.contains_key("set-cookie"));
        }
    }

    #[test]
    fn job_removes_nothing_of_other_ports() {
        for (order, expected) in [
            ("\"cache\"", vec!["\"cache\""]),
            ("\"cookies\", \"storage\"", vec!["\"storage\""]),
            ("\"*\"", vec![]),
            ("\"cookies\"", vec![]),
            ("\"cookies\", \"storage\", Ü", vec!["\"storage\", Ü"]),
        ] {
            let mut response = headers(&[("clear-site-data", order)]);
            limit_to_port(&mut response);
            let left: Vec<_> = response.get_all("clear-site-data").iter().map(HeaderValue::as_bytes).collect();
            let expected: Vec<_> = expected.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(left, expected, "{order}");
        }
    }

    #[test]
    fn cached_page_is_asked_for_again() {
        for (before, after) in [
            (vec![], vec!["no-cache"]),
            (vec!["max-age=9"], vec!["max-age=9", "no-cache"]),
            (vec!["private, No-Store"], vec!["private, No-Store"]),
            (vec!["no-store, x=\"Ü\""], vec!["no-store, x=\"Ü\""]),
        ] {
            let lines: Vec<_> = before.iter().map(|line| ("cache-control", *line)).collect();
            let mut response = headers(&lines);
            revalidate(&mut response);
            assert_eq!(response.get_all("cache-control").iter().collect::<Vec<_>>(), after);
        }
    }
}

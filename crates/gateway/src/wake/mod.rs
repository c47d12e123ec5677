//! The clients that wake a suspended job, and those that are only there.
//!
//! A client that wants the job is a *caller*. Gateways report callers, and OpCenter resumes the job
//! of a caller where its policy says so. A connection has one of three rules ([`WakeOn`]):
//!
//! | a client | `page` | `request` | `connection` |
//! |---|---|---|---|
//! | a person loads a page or sends a form | yes | yes | yes |
//! | a program sends a request | | yes | yes |
//! | at a port for `tcp`: the first byte | | yes | yes |
//! | at a port of unknown protocol: first bytes of another protocol than HTTP | | yes | yes |
//! | the same: a TLS hello, for a job that was not seen to answer one | | | yes |
//! | the script of an open page, a prefetch, a health check, `HEAD`, `OPTIONS` | | | yes |
//! | connects and is silent, or sends half a head | | | yes |
//!
//! * Over TLS a browser says with `Sec-Fetch-Mode` what a request is for. Over plain HTTP it does
//!   so only on loopback. There [`kind`] goes by what the request accepts. A script can't change
//!   the user agent, and accepts other things than a page load does.
//! * An open page calls when somebody clicks, types or taps in it. The widget's script tells that
//!   over its WebSocket.
//! * Only a client that is still there is a caller, from [`GRACE`] after its request on. One that
//!   has ended its direction counts as gone.
//! * A job that was suspended for want of use is not woken by [`polls`]. These are requests that
//!   came again and again meanwhile, and were no use of it.
//! * While the job is suspended, a request that does not wake it gets 503 at once. A connection
//!   that does not is closed once it has spoken.

pub(crate) mod caller;
pub(crate) mod polls;

use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Method, Uri};
use mooring_api::watch::Call;
use mooring_types::gateway::{Protocol, WakeOn};

use crate::http::headers;
use crate::http::response::{self, OF_NAVIGATIONS, accepts};

/// The time for which a client has to stay before it is a caller: a probe asks and leaves.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// The headers in which browsers say that they load a page before somebody wants it.
const OF_PREFETCHES: [&str; 4] = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
/// The longest path in an event, in characters.
const PATH_MAX: usize = 120;

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person, by a browser that loads a page or sends a form.
    Person,
    Program,
    /// A browser, for an open page or ahead of one.
    OpenPage,
    /// A program that looks whether a server answers.
    Checker,
}

/// The first bytes of a client that does not speak HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It has ended without any.
    Nothing,
    /// A hello of TLS.
    Tls,
    Bytes,
}

/// Returns the kind of a request's sender. `checkers` are words in user agents.
#[must_use]
pub fn kind(method: &Method, request: &HeaderMap, checkers: &[String]) -> Kind {
    if matches!(*method, Method::HEAD | Method::OPTIONS) || is_of_checker(request, checkers) {
        Kind::Checker
    } else if !is_browsers(request) {
        Kind::Program
    } else if is_persons(method, request) {
        Kind::Person
    } else {
        Kind::OpenPage
    }
}

/// Returns whether a request wakes the job.
#[must_use]
pub fn request_wakes(wake_on: WakeOn, protocol: Protocol, kind: Kind) -> bool {
    match wake_on {
        WakeOn::Page => kind == Kind::Person,
        // Its bytes are no request.
        WakeOn::Request if !protocol.speaks_http() => true,
        WakeOn::Request => matches!(kind, Kind::Person | Kind::Program),
        WakeOn::Connection => true,
    }
}

/// Returns whether first bytes of another protocol than HTTP wake the job. `speaks_tls` says
/// whether it was seen to answer a hello.
#[must_use]
pub fn opening_wakes(wake_on: WakeOn, protocol: Protocol, opening: Opening, speaks_tls: bool) -> bool {
    match (wake_on, opening) {
        (WakeOn::Page, _) | (_, Opening::Nothing) => false,
        (WakeOn::Connection, _) | (WakeOn::Request, Opening::Bytes) => true,
        (WakeOn::Request, Opening::Tls) => speaks_tls || !protocol.speaks_http(),
    }
}

/// Returns a request as an event tells of it: its path without parameters, which may be secrets.
#[must_use]
pub fn call(method: &Method, target: &Uri) -> Call {
    let path = target.path().split(';').next().unwrap_or_default();
    let shown = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    let method = method.as_str().chars().take(PATH_MAX).collect();
    let mut path: String = path.chars().take(PATH_MAX + 1).map(shown).collect();
    if path.len() > PATH_MAX {
        path.truncate(PATH_MAX);
        path.push_str("...");
    }
    Call::Request { method, path }
}

/// Returns whether a browser has sent a request. A program may have a browser's name; but browsers
/// say what they accept, except on a WebSocket.
fn is_browsers(request: &HeaderMap) -> bool {
    let says_so = request.contains_key("sec-fetch-site") || request.contains_key("sec-fetch-dest");
    let accepts = request.contains_key(header::ACCEPT) || headers::upgrade(request).is_some();
    let agent = request.get(header::USER_AGENT).map(|agent| agent.as_bytes());
    says_so || accepts && agent.is_some_and(|agent| agent.starts_with(b"Mozilla/"))
}

fn is_of_checker(request: &HeaderMap, checkers: &[String]) -> bool {
    let Some(agent) = request.get(header::USER_AGENT) else { return false };
    let agent = agent.as_bytes().to_ascii_lowercase();
    let has = |word: &[u8]| !word.is_empty() && agent.windows(word.len()).any(|part| part == word);
    checkers.iter().any(|word| has(word.to_ascii_lowercase().as_bytes()))
}

/// Returns whether a browser's request is of a person: a page load or a form.
fn is_persons(method: &Method, request: &HeaderMap) -> bool {
    let is = |name: &str, expected: &str| request.get(name).is_some_and(|value| value == expected);
    let is_ahead = OF_PREFETCHES.iter().any(|name| {
        request.get(*name).is_some_and(|value| {
            let value = value.as_bytes().to_ascii_lowercase();
            value.starts_with(b"prefetch") || value.starts_with(b"preview")
        })
    });
    if !matches!(*method, Method::GET | Method::POST)
        || response::is_of_script(request)
        || is_ahead
        || headers::upgrade(request).is_some()
    {
        return false;
    }
    if request.contains_key("sec-fetch-mode") {
        // An open page loads its frames itself, but for a click in one of them.
        let is_in_window = !request.contains_key("sec-fetch-dest") || is("sec-fetch-dest", "document");
        return is("sec-fetch-mode", "navigate") && (is_in_window || is("sec-fetch-user", "?1"));
    }
    // Every real browser accepts encodings, and names all kinds of pages for a page load.
    let is_shortened = !request.contains_key(header::ACCEPT_ENCODING) && accepts(request, &OF_NAVIGATIONS[..1]);
    accepts(request, &OF_NAVIGATIONS) || is_shortened
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use mooring_types::gateway::usual_checkers;

    use super::*;

    const CHROME: (&str, &str) =
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36");
    const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    const ANY: (&str, &str) = ("accept", "*/*");
    const ENCODINGS: (&str, &str) = ("accept-encoding", "gzip, deflate");

    fn of(method: &Method, lines: &[(&'static str, &'static str)]) -> Kind {
        let named = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        kind(method, &lines.iter().map(named).collect(), &usual_checkers())
    }

    #[test]
    fn plain_http_tells_persons_from_open_pages() {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
        for (method, lines, expected) in [
            (Method::GET, vec![CHROME, PAGE, ENCODINGS], Kind::Person),
            (Method::POST, vec![CHROME, PAGE, ENCODINGS, ("origin", "http://a")], Kind::Person),
            (Method::GET, vec![CHROME, ("accept", "text/html")], Kind::Person),
            (Method::GET, vec![CHROME, ("accept", "text/html"), ENCODINGS], Kind::OpenPage),
            (Method::GET, vec![CHROME, PAGE, ("x-requested-with", "XMLHttpRequest")], Kind::OpenPage),
            (Method::GET, vec![CHROME, PAGE, ("purpose", "prefetch")], Kind::OpenPage),
            (Method::GET, vec![CHROME, ANY], Kind::OpenPage),
            (Method::GET, vec![CHROME, ANY, ("referer", "http://a/"), ("origin", "http://a")], Kind::OpenPage),
            (Method::POST, vec![CHROME, ANY], Kind::OpenPage),
            (Method::PUT, vec![CHROME, PAGE], Kind::OpenPage),
            (Method::GET, vec![CHROME, ("accept", "text/event-stream")], Kind::OpenPage),
            (Method::GET, vec![CHROME, ("accept", "image/avif,image/webp,*/*;q=0.8")], Kind::OpenPage),
            (Method::GET, vec![CHROME, ("accept", "application/json")], Kind::OpenPage),
            (Method::GET, vec![CHROME, upgrade[0], upgrade[1]], Kind::OpenPage),
            (Method::GET, vec![CHROME, ANY, upgrade[0], upgrade[1]], Kind::OpenPage),
        ] {
            assert_eq!(of(&method, &lines), expected, "{method} {lines:?}");
        }
    }

    #[test]
    fn secure_browsers_say_what_they_do() {
        let fetch = |mode, destination| {
            vec![CHROME, PAGE, ("sec-fetch-mode", mode), ("sec-fetch-dest", destination), ("sec-fetch-site", "none")]
        };
        for (lines, expected) in [
            (fetch("navigate", "document"), Kind::Person),
            (fetch("navigate", "iframe"), Kind::OpenPage),
            ([fetch("navigate", "iframe"), vec![("sec-fetch-user", "?1")]].concat(), Kind::Person),
            ([fetch("navigate", "document"), vec![("sec-purpose", "prefetch;prerender")]].concat(), Kind::OpenPage),
            (fetch("cors", "empty"), Kind::OpenPage),
            (fetch("no-cors", "image"), Kind::OpenPage),
            (fetch("websocket", "empty"), Kind::OpenPage),
            // A fetch of a service worker, and one without a browser's name.
            (fetch("same-origin", "empty"), Kind::OpenPage),
            (vec![("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")], Kind::OpenPage),
        ] {
            assert_eq!(of(&Method::GET, &lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn programs_are_told_from_browsers_and_checkers() {
        for (method, lines, expected) in [
            (Method::GET, vec![], Kind::Program),
            (Method::POST, vec![], Kind::Program),
            (Method::GET, vec![("user-agent", "curl/8.5.0"), ANY], Kind::Program),
            (Method::GET, vec![("accept", "application/json")], Kind::Program),
            // Node's fetch, and PowerShell.
            (Method::GET, vec![("user-agent", "node"), ANY, ("sec-fetch-mode", "cors")], Kind::Program),
            (Method::GET, vec![("user-agent", "Mozilla/5.0 (Windows NT) WindowsPowerShell/5.1")], Kind::Program),
            (Method::GET, vec![("connection", "Upgrade"), ("upgrade", "websocket")], Kind::Program),
            (Method::HEAD, vec![], Kind::Checker),
            (Method::OPTIONS, vec![CHROME, PAGE], Kind::Checker),
            (Method::GET, vec![("user-agent", "kube-probe/1.31")], Kind::Checker),
            (Method::GET, vec![("user-agent", "elb-healthchecker/2.0")], Kind::Checker),
            (Method::GET, vec![("user-agent", "Mozilla/5.0+(compatible; UptimeRobot/2.0)"), PAGE], Kind::Checker),
        ] {
            assert_eq!(of(&method, &lines), expected, "{method} {lines:?}");
        }
        let own = [String::new(), "watchdog".to_owned()];
        let agent = |name| HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(name))]);
        assert_eq!(kind(&Method::GET, &agent("Our Watchdog/1"), &own), Kind::Checker);
        assert_eq!(kind(&Method::GET, &agent("kube-probe/1.31"), &own), Kind::Program);
    }

    #[test]
    fn rules_decide_by_kind() {
        use Kind::{Checker, OpenPage, Person, Program};
        for (wake_on, waking) in [
            (WakeOn::Page, vec![Person]),
            (WakeOn::Request, vec![Person, Program]),
            (WakeOn::Connection, vec![Person, Program, OpenPage, Checker]),
        ] {
            for kind in [Person, Program, OpenPage, Checker] {
                let wakes = request_wakes(wake_on, Protocol::Auto, kind);
                assert_eq!(wakes, waking.contains(&kind), "{wake_on} {kind:?}");
                let wakes = request_wakes(wake_on, Protocol::Tcp, kind);
                assert_eq!(wakes, wake_on != WakeOn::Page || kind == Person, "{wake_on} {kind:?} at a raw port");
            }
        }
        for (wake_on, protocol, opening, speaks_tls, expected) in [
            (WakeOn::Request, Protocol::Auto, Opening::Bytes, false, true),
            (WakeOn::Request, Protocol::Auto, Opening::Nothing, false, false),
            (WakeOn::Request, Protocol::Auto, Opening::Tls, false, false),
            (WakeOn::Request, Protocol::Auto, Opening::Tls, true, true),
            (WakeOn::Request, Protocol::Tcp, Opening::Tls, false, true),
            (WakeOn::Page, Protocol::Tcp, Opening::Bytes, true, false),
            (WakeOn::Connection, Protocol::Auto, Opening::Tls, false, true),
            (WakeOn::Connection, Protocol::Tcp, Opening::Nothing, false, false),
        ] {
            let wakes = opening_wakes(wake_on, protocol, opening, speaks_tls);
            assert_eq!(wakes, expected, "{wake_on} {protocol} {opening:?} {speaks_tls}");
        }
    }

    #[test]
    fn event_has_no_secrets_and_one_line() {
        let told = |target: &str| match call(&Method::GET, &target.parse().unwrap()) {
            Call::Request { method, path } => format!("{method} {path}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(told("/api/jobs?token=f00"), "GET /api/jobs");
        assert_eq!(told("http://a/b;token=f00/c"), "GET /b");
        assert_eq!(told("*"), "GET *");
        let long = told(&format!("/{}", "x".repeat(500)));
        assert!(long.len() < 140 && long.ends_with("x..."), "{long}");
    }
}

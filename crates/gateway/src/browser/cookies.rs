//! The names of cookies, which all ports of a host share.
//!
//! A browser sends a cookie to every port of a host name, and takes it from every port. So each
//! connection has names of its own on the wire, and its job keeps the names that it has chosen:
//!
//! | the job's name | on the wire |
//! |---|---|
//! | `session` | `__mTAG_session` |
//! | `__Host-session` | `__Host-__mTAG_session`: browsers look at the prefix |
//! | none (`Set-Cookie: value`) | `__mTAG_` |
//!
//! The tag is a part of the connection's id: a port that another job gets has other names. A cookie
//! without the connection's marker is another job's, OpCenter's, the gateway's own, or older than
//! these names. The job does not get it. `Domain` is removed: a cookie of a job goes to no other
//! host.
//!
//! Connections with shared cookies have their jobs' names on the wire. They get no cookie with a
//! marker, and may not set one, nor a session of OpCenter.
//!
//! A name grows by the 12 bytes of its marker. Browsers refuse a cookie of more than 4096 bytes.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use mooring_api::{SESSION_COOKIES, SIGN_IN_COOKIES};
use mooring_types::ConnectionId;

/// The prefixes of names that browsers hold to stricter rules, in lower case; longer ones first
/// (RFC 6265bis, section 4.1.3).
const PREFIXES: [&str; 4] = ["__host-http-", "__host-", "__secure-", "__http-"];
const MARKER_BEGIN: &[u8] = b"__m";
const MARKER_END: u8 = b'_';
const TAG_CHARACTERS: usize = 8;
/// The beginning of the names of the gateway's own cookies.
pub(crate) const GATEWAYS: &str = "mooring-port-";

/// The names of the cookies of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieNames {
    marker: String,
}

impl CookieNames {
    /// The names of a connection's cookies.
    #[must_use]
    pub fn of(connection: &ConnectionId) -> Self {
        let random = connection.as_str().trim_start_matches(ConnectionId::PREFIX);
        let tag: String = random.chars().take(TAG_CHARACTERS).collect();
        Self { marker: format!("__m{tag}_") }
    }

    pub(crate) fn marker(&self) -> &str {
        &self.marker
    }

    pub(crate) fn tag(&self) -> &str {
        &self.marker[MARKER_BEGIN.len()..self.marker.len() - 1]
    }

    /// Returns a name as it is on the wire.
    #[must_use]
    pub fn to_wire(&self, name: &[u8]) -> Vec<u8> {
        let (prefix, rest) = name.split_at(prefix_length(name));
        [prefix, self.marker.as_bytes(), rest].concat()
    }

    /// Returns a job's name; `None` if the cookie is not this connection's.
    #[must_use]
    pub fn from_wire(&self, name: &[u8]) -> Option<Vec<u8>> {
        let (prefix, rest) = name.split_at(prefix_length(name));
        Some([prefix, rest.strip_prefix(self.marker.as_bytes())?].concat())
    }
}

/// Leaves a request the cookies that are the job's. Without names, those are shared.
pub(crate) fn take_in(headers: &mut HeaderMap, names: Option<&CookieNames>) {
    change(headers, &header::COOKIE, |line| {
        let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        let own: Vec<Vec<u8>> = pairs.filter_map(|pair| of_request(pair, names)).collect();
        (!own.is_empty()).then(|| own.join(&b"; "[..]))
    });
}

/// Gives the cookies that a job sets their names on the wire.
pub(crate) fn send_out(headers: &mut HeaderMap, names: Option<&CookieNames>) {
    change(headers, &header::SET_COOKIE, |line| of_response(line, names));
}

fn of_request(pair: &[u8], names: Option<&CookieNames>) -> Option<Vec<u8>> {
    let (name, value) = name_and_value(pair);
    let Some(names) = names else { return (!is_kept_back(name)).then(|| pair.to_vec()) };
    match names.from_wire(name)? {
        // Browsers send the value alone.
        name if name.is_empty() => Some(value.to_vec()),
        name => Some([&name, &b"="[..], value].concat()),
    }
}

fn of_response(line: &[u8], names: Option<&CookieNames>) -> Option<Vec<u8>> {
    let mut parts = line.split(|byte| *byte == b';');
    let (name, value) = name_and_value(parts.next().unwrap_or_default());
    let Some(names) = names else { return (!is_kept_back(name)).then(|| line.to_vec()) };
    // Browsers ignore it.
    if name.is_empty() && value.is_empty() {
        return None;
    }
    let mut set = [&names.to_wire(name), &b"="[..], value].concat();
    for attribute in parts.filter(|attribute| !name_and_attribute(attribute).eq_ignore_ascii_case(b"domain")) {
        set.push(b';');
        set.extend(attribute);
    }
    Some(set)
}

/// Returns whether a cookie is not for a job that shares its cookies. It is a session of OpCenter,
/// a sign-in there, the gateway's own, or another connection's.
fn is_kept_back(name: &[u8]) -> bool {
    let rest = &name[prefix_length(name)..];
    let is_marked = rest.strip_prefix(MARKER_BEGIN).is_some_and(|rest| rest.get(TAG_CHARACTERS) == Some(&MARKER_END));
    is_marked
        || name.starts_with(GATEWAYS.as_bytes())
        || SESSION_COOKIES.iter().chain(&SIGN_IN_COOKIES).any(|own| name == own.as_bytes())
}

/// Returns name and value of a pair; the name of a pair without `=` is empty.
fn name_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()),
        None => (b"", pair.trim_ascii()),
    }
}

fn name_and_attribute(attribute: &[u8]) -> &[u8] {
    attribute.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

fn prefix_length(name: &[u8]) -> usize {
    let has =
        |prefix: &&&str| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()));
    PREFIXES.iter().find(has).map_or(0, |prefix| prefix.len())
}

/// Changes every line of a header; a line without a result is removed.
fn change(headers: &mut HeaderMap, name: &HeaderName, line: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if !headers.contains_key(name) {
        return;
    }
    let before: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for value in before.iter().filter_map(|value| line(value.as_bytes())) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> CookieNames {
        CookieNames::of(&ConnectionId::random(&mut rand::rng()))
    }

    fn headers<S: AsRef<str>>(name: &HeaderName, lines: &[S]) -> HeaderMap {
        let line = |line: &S| (name.clone(), HeaderValue::try_from(line.as_ref()).expect("a value"));
        lines.iter().map(line).collect()
    }

    fn left(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
        headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }

    /// The cookies that a job gets of these lines.
    fn taken_in(lines: &[&str], names: Option<&CookieNames>) -> Vec<String> {
        let mut headers = headers(&header::COOKIE, lines);
        take_in(&mut headers, names);
        left(&headers, &header::COOKIE)
    }

    /// The lines that a browser gets of these.
    fn sent_out(lines: &[&str], names: Option<&CookieNames>) -> Vec<String> {
        let mut headers = headers(&header::SET_COOKIE, lines);
        send_out(&mut headers, names);
        left(&headers, &header::SET_COOKIE)
    }

    #[test]
    fn names_on_the_wire_are_the_connections_own() {
        let names = CookieNames { marker: "__mabcd1234_".to_owned() };
        for (set, on_wire) in [
            ("s=1; Path=/; HttpOnly", "__mabcd1234_s=1; Path=/; HttpOnly"),
            ("s = 1 ;Secure", "__mabcd1234_s=1;Secure"),
            ("__Host-s=1; Secure; Path=/", "__Host-__mabcd1234_s=1; Secure; Path=/"),
            ("__secure-s=1; Secure", "__secure-__mabcd1234_s=1; Secure"),
            ("__Host-Http-s=1", "__Host-Http-__mabcd1234_s=1"),
            ("s=1; Domain=.lab.example; Max-Age=5; domain", "__mabcd1234_s=1; Max-Age=5"),
            ("s=a=b; Partitioned; SameSite=None", "__mabcd1234_s=a=b; Partitioned; SameSite=None"),
            ("value", "__mabcd1234_=value"),
            ("mooring-session=forged", "__mabcd1234_mooring-session=forged"),
        ] {
            assert_eq!(sent_out(&[set], Some(&names)), [on_wire]);
        }
        assert_eq!(sent_out(&["", "=", "s=1"], Some(&names)), ["__mabcd1234_s=1"]);
    }

    #[test]
    fn only_own_cookies_reach_a_job() {
        let names = CookieNames { marker: "__mabcd1234_".to_owned() };
        for (sent, got) in [
            ("__mabcd1234_s=1; __mabcd9999_s=2; s=3", vec!["s=1"]),
            ("__Host-__mabcd1234_s=1;__mabcd1234_=value", vec!["__Host-s=1; value"]),
            ("mooring-session=secret; __Host-mooring-session=secret", vec![]),
            ("mooring-port-10000=abcd1234; __mabcd1234_mooring-session=own", vec!["mooring-session=own"]),
            ("__mabcd1234___mabcd9999_s=1", vec!["__mabcd9999_s=1"]),
            ("old; =x; ;", vec![]),
        ] {
            assert_eq!(taken_in(&[sent], Some(&names)), got, "{sent}");
        }
        assert_eq!(taken_in(&["a=b", "__mabcd1234_a=\"c d\""], Some(&names)), ["a=\"c d\""]);
    }

    #[test]
    fn shared_cookies_are_none_of_a_connection_or_opcenter() {
        for line in ["a=b; c=\"d\"; e", "my-mooring-session=1", "a=mooring-session=x", "__mail=1", "__m_s=1"] {
            assert_eq!(taken_in(&[line], None), [line]);
            assert_eq!(sent_out(&[line], None), [line]);
        }
        for kept_back in [
            "mooring-session=1",
            "__Host-mooring-session=1",
            "mooring-port-1=x",
            "__mabcd1234_s=1",
            "__Host-__mabcd1234_s=1",
        ] {
            assert_eq!(taken_in(&[kept_back, "a=b"], None), ["a=b"]);
            assert_eq!(sent_out(&[kept_back, "a=b"], None), ["a=b"]);
        }
    }

    fn name() -> impl Strategy<Value = String> {
        let prefix = "(|__Host-|__host-|__Secure-|__Http-|__Host-Http-|__m|__mabcd1234_|mooring-session|mooring-port-)";
        (prefix, "[!#$%&'*+.^_`|~0-9A-Za-z-]{0,12}").prop_map(|(prefix, rest)| prefix + &rest)
    }

    proptest! {
        #[test]
        fn every_name_comes_back_to_its_connection_alone(name in name()) {
            let (own, other) = (names(), names());
            let on_wire = own.to_wire(name.as_bytes());
            prop_assert_eq!(own.from_wire(&on_wire), Some(name.as_bytes().to_vec()));
            prop_assert_eq!(other.from_wire(&on_wire), None);
            // Browsers apply the rules of the same prefix.
            prop_assert_eq!(prefix_length(&on_wire), prefix_length(name.as_bytes()));
            prop_assert!(is_kept_back(&on_wire));
        }

        #[test]
        fn different_names_stay_different(one in name(), two in name()) {
            let own = names();
            prop_assert_eq!(one == two, own.to_wire(one.as_bytes()) == own.to_wire(two.as_bytes()));
        }

        #[test]
        fn job_gets_back_what_it_has_set(
            pairs in prop::collection::vec((name(), "[!-:<-~]{0,20}"), 1..6),
            of_others in prop::collection::vec(name(), 0..4),
        ) {
            let (own, other) = (names(), names());
            let pairs: Vec<_> = pairs.into_iter().filter(|(name, _)| !name.is_empty()).collect();
            let set: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}; Path=/")).collect();
            let set: Vec<&str> = set.iter().map(String::as_str).collect();
            let mut sent: Vec<String> = of_others
                .iter()
                .map(|name| format!("{}=x", String::from_utf8_lossy(&other.to_wire(name.as_bytes()))))
                .chain(["plain=x".to_owned(), "mooring-session=x".to_owned()])
                .collect();
            let kept = sent_out(&set, Some(&own));
            sent.extend(kept.iter().map(|line| line.trim_end_matches("; Path=/").to_owned()));
            let expected: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let expected = if expected.is_empty() { vec![] } else { vec![expected.join("; ")] };
            prop_assert_eq!(taken_in(&[&sent.join("; ")], Some(&own)), expected);
        }

        #[test]
        fn any_bytes_are_read(line: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let own = names();
                for names in [None, Some(&own)] {
                    let mut headers = HeaderMap::from_iter([(header::COOKIE, value.clone()), (header::SET_COOKIE, value.clone())]);
                    take_in(&mut headers, names);
                    send_out(&mut headers, names);
                }
            }
        }
    }
}

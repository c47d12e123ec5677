//! The invariants that hold for any bytes from a stranger: one function for each parser of them.
//!
//! They are called by `make fuzz` and by the gateway's test `fuzz`.

use std::net::{IpAddr, Ipv4Addr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use mooring_gateway::browser::CookieNames;
use mooring_gateway::detect::{FirstBytes, detect};
use mooring_gateway::http::headers::{Origin, forward_headers, response_headers, upgrade};
use mooring_gateway::http::lengths::Lengths;
use mooring_types::ConnectionId;
use mooring_types::security::{InboundRule, allows};

/// Headers that a proxy has to treat specially.
const SPECIAL_HEADERS: [&str; 14] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "trailer",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "expect",
];
/// Headers that a proxy passes on, and one that names some of them.
const ORDINARY_HEADERS: [&str; 9] =
    ["accept", "connection", "x-a", "x-b", "content-type", "referer", "location", "etag", "server-timing"];
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// First bytes: a decision about their protocol is final.
///
/// # Panics
/// More bytes change the decision.
pub fn first_bytes(bytes: &[u8]) {
    let mut decided = None;
    for length in 0..=bytes.len().min(256) {
        let protocol = detect(&bytes[..length]);
        if let Some(decided) = decided {
            assert_eq!(protocol, decided, "{bytes:?} at {length}");
        }
        if protocol != FirstBytes::Undecided {
            decided = Some(protocol);
        }
    }
}

/// The headers of a request: the job learns the real client's address, and at most one length.
///
/// # Panics
/// The forwarded headers say something else.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        // The first byte of a line chooses a header; the rest is the value.
        let Some((first, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(SPECIAL_HEADERS[usize::from(*first) % SPECIAL_HEADERS.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let origin = Origin::direct(CLIENT, u16::MAX, false);
    let _ = upgrade(&headers);
    let _ = response_headers(&headers, None);
    let Ok(forwarded) = forward_headers(&headers, None, &origin, None) else { return };
    assert!(forwarded.get_all(header::HOST).iter().count() == 1, "{forwarded:?}");
    assert!(!forwarded.contains_key("keep-alive"), "{forwarded:?}");
    assert!(forwarded.get_all(header::CONTENT_LENGTH).iter().count() <= 1, "{forwarded:?}");
    for name in ["x-forwarded-for", "x-real-ip"] {
        let values: Vec<&HeaderValue> = forwarded.get_all(name).iter().collect();
        assert_eq!(values, [&CLIENT.to_string()], "{forwarded:?}");
    }
}

/// The headers of a request and of an answer: lines arrive as they were sent. Those of one
/// connection and those of the gateway do not.
///
/// # Panics
/// A line is lost, added or altered.
pub fn kept(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.append(header::HOST, HeaderValue::from_static("lab"));
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let Some((first, value)) = line.split_first() else { continue };
        let name = ORDINARY_HEADERS[usize::from(*first) % ORDINARY_HEADERS.len()];
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let named =
        headers.get_all(header::CONNECTION).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let named: Vec<Vec<u8>> = named.map(|name| name.trim_ascii().to_ascii_lowercase()).collect();
    let is_kept = |name: &str| name != "connection" && !named.iter().any(|other| other == name.as_bytes());
    let origin = Origin::direct(CLIENT, u16::MAX, false);
    let request = forward_headers(&headers, None, &origin, None).expect("nothing to refuse");
    let answer = response_headers(&headers, None);
    for name in ORDINARY_HEADERS.iter().filter(|name| is_kept(name)) {
        for got in [&request, &answer] {
            let (got, sent) = (got.get_all(*name), headers.get_all(*name));
            assert_eq!(got.iter().collect::<Vec<_>>(), sent.iter().collect::<Vec<_>>(), "{name} of {headers:?}");
        }
    }
    assert!(answer.keys().all(|name| headers.contains_key(name)), "{answer:?}");
}

/// The text of a security rule: a rule that is parsed has a text that parses to the same rule, and
/// allows its own source.
///
/// # Panics
/// It does not.
pub fn rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(rule) = text.parse::<InboundRule>() else { return };
    assert_eq!(rule.to_string().parse::<InboundRule>(), Ok(rule), "{text}");
    assert!(allows(&[rule], rule.ports().0, rule.source().addr()), "{text}");
}

/// The bytes of a connection: what the gateway finds in them does not depend on the pieces in which
/// they come. The first byte is the length of the pieces.
///
/// # Panics
/// It does.
pub fn requests(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first() else { return };
    let (mut whole, mut in_pieces) = (Lengths::default(), Lengths::default());
    whole.advance(bytes);
    for piece in bytes.chunks(usize::from(*length).max(1)) {
        in_pieces.advance(piece);
    }
    let found =
        |lengths: &Lengths| (lengths.heads(), lengths.in_head(), lengths.is_given_up(), lengths.conflict(u64::MAX));
    assert_eq!(found(&whole), found(&in_pieces), "{bytes:?} in pieces of {length}");
}

/// The names of cookies: a job gets back the name that it chose, and no other connection's.
///
/// # Panics
/// It gets another.
pub fn cookies(bytes: &[u8]) {
    let names = ["c-4k2m9x7c1b8v5n3z6q0wd", "c-9z1m9x7c1b8v5n3z6q0wd"];
    let [own, other] = names.map(|id| CookieNames::of(&id.parse::<ConnectionId>().expect("an id")));
    let wire = own.to_wire(bytes);
    assert_eq!(own.from_wire(&wire).as_deref(), Some(bytes), "{bytes:?}");
    assert_eq!(other.from_wire(&wire), None, "{bytes:?}");
}

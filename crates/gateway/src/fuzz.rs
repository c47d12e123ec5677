//! What must hold for any bytes that a stranger sends: one function for each place where they are read, called by the fuzzer
//! (`make fuzz`) and, briefly, by a test beside each.

use std::net::{IpAddr, Ipv4Addr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use mooring_types::Port;
use mooring_types::security::{InboundRule, allows};

use crate::detect::{Spoken, detect};
use crate::http::headers::{Origin, answer_headers, forward_headers, upgrade};

/// Headers that have a meaning on the way.
const MEANT: [&str; 14] = [
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
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The first bytes of a client: what they are is never taken back when more of them have come.
///
/// # Panics
/// It was.
pub fn first_bytes(bytes: &[u8]) {
    let mut decided = None;
    for length in 0..=bytes.len().min(256) {
        let spoken = detect(&bytes[..length]);
        if let Some(before) = decided {
            assert_eq!(spoken, before, "{bytes:?} at {length}");
        }
        if spoken != Spoken::NeedMore {
            decided = Some(spoken);
        }
    }
}

/// The headers of a request: what goes on tells the job of the real client alone, and how long the request is in one way at most.
///
/// # Panics
/// It does not.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        // The first byte chooses a header that has a meaning; what is left of the line is its value.
        let Some((first, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(MEANT[usize::from(*first) % MEANT.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let origin = Origin { client: (CLIENT, 40_000).into(), port: Port::MAX };
    let _ = upgrade(&headers);
    let _ = answer_headers(&headers);
    let Ok(forwarded) = forward_headers(&headers, None, origin) else { return };
    assert!(forwarded.get_all(header::HOST).iter().count() == 1, "{forwarded:?}");
    assert!(!forwarded.contains_key("keep-alive"), "{forwarded:?}");
    assert!(forwarded.get_all(header::CONTENT_LENGTH).iter().count() <= 1, "{forwarded:?}");
    for name in ["x-forwarded-for", "x-real-ip"] {
        let told: Vec<&HeaderValue> = forwarded.get_all(name).iter().collect();
        assert_eq!(told, [&CLIENT.to_string()], "{forwarded:?}");
    }
}

/// The text of a security rule: it is refused, or reads back as the same rule and allows its own source.
///
/// # Panics
/// It does neither.
pub fn rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(rule) = text.parse::<InboundRule>() else { return };
    assert_eq!(rule.to_string().parse::<InboundRule>(), Ok(rule), "{text}");
    assert!(allows(&[rule], rule.ports().0, rule.source().addr()), "{text}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_first_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            first_bytes(&bytes);
        }

        #[test]
        fn first_bytes_like_those_of_http(text in "(GET|POST|PRI|OPTIONS) [/*a-z]{0,20} HTTP/[12]\\.[01]\r\n.{0,20}") {
            first_bytes(text.as_bytes());
        }

        #[test]
        fn any_headers(lines in prop::collection::vec((0_u8..14, "[ -~]{0,30}"), 0..20)) {
            let bytes: Vec<u8> = lines.iter().flat_map(|(name, value)| [&[*name], value.as_bytes(), b"\n"].concat()).collect();
            headers(&bytes);
        }

        #[test]
        fn any_rule(text in "(tcp|TCP|udp)?:?[0-9*-]{0,11}:[0-9a-f.:/]{0,30}") {
            rule(text.as_bytes());
        }
    }
}

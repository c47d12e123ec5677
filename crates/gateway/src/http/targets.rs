//! The targets of requests, as clients have sent them.
//!
//! Browsers and old applications send bytes that no URI has: `"`, `<`, a letter of Latin-1. Servers
//! take them, and hyper refuses them. So hyper is given a target in which they are escaped, and the
//! job gets the one that was sent. What the gateway decides by a path, it decides by the escaped
//! one.

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use hyper::http::uri::PathAndQuery;

/// The targets of one connection's requests that were escaped, by the numbers of the requests.
#[derive(Debug, Default)]
pub(crate) struct Targets(VecDeque<(u64, Bytes)>);

impl Targets {
    /// Takes the target of a request as it was sent, unless hyper has got it so.
    pub(crate) fn take(&mut self, request: u64) -> Option<Bytes> {
        while let Some((number, _)) = self.0.front()
            && *number < request
        {
            self.0.pop_front();
        }
        self.0.pop_front_if(|(number, _)| *number == request).map(|(_, target)| target)
    }

    /// Reads the first line of a request.
    pub(crate) fn read(&mut self, request: u64, line: &[u8]) -> Line {
        let Some((method, target, version)) = parts(line) else { return Line::AsItIs };
        if let Some(byte) = target.iter().find(|byte| is_forbidden(**byte)) {
            return Line::Refused(*byte);
        }
        let Some(at) = path_begins(target) else { return Line::AsItIs };
        let (before, path) = target.split_at(at);
        if !path.contains(&b'#') && PathAndQuery::try_from(path).is_ok() {
            return Line::AsItIs;
        }
        self.0.push_back((request, Bytes::copy_from_slice(path)));
        Line::Other([method, b" ", before, escaped(path).as_bytes(), b" ", version].concat())
    }
}

/// The first line of a request, for hyper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    AsItIs,
    Other(Vec<u8>),
    /// The target has a byte that none may have.
    Refused(u8),
}

/// Returns the first line of a request with another target.
pub(crate) fn with_target(line: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let (method, _, version) = parts(line)?;
    Some([method, b" ", target, b" ", version].concat())
}

/// Method, target and version of a line, which ends with the version.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (method, rest) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
    let end = rest.iter().rposition(|byte| *byte == b' ')?;
    let (target, version) = (rest.get(1..end)?, &rest[end + 1..]);
    (version.starts_with(b"HTTP/1.") && !target.is_empty()).then_some((method, target, version))
}

/// Returns whether no target has such a byte.
fn is_forbidden(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7F
}

/// The place of the path in a target of the origin form or the absolute form.
fn path_begins(target: &[u8]) -> Option<usize> {
    if target.starts_with(b"/") {
        return Some(0);
    }
    let authority = target.windows(3).position(|window| window == b"://")? + 3;
    target[authority..].iter().position(|byte| *byte == b'/').map(|at| authority + at)
}

/// The path with escapes for what no URI has, and without what follows a `#`.
fn escaped(path: &[u8]) -> String {
    let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
    path.iter().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'"' | b'<' | b'>' | b'`' | b'\\' | b'^' | b'{' | b'|' | b'}' | 0x80.. => {
                // Writing to a string can't fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
            _ => escaped.push(char::from(*byte)),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_targets_that_are_no_uris_are_escaped() {
        for (sent, escaped, target) in [
            ("GET /?ids=[\"a\"] HTTP/1.1\r\n", "GET /?ids=[%22a%22] HTTP/1.1\r\n", "/?ids=[\"a\"]"),
            ("GET /`x` HTTP/1.0\r\n", "GET /%60x%60 HTTP/1.0\r\n", "/`x`"),
            ("GET /x#y HTTP/1.1\r\n", "GET /x HTTP/1.1\r\n", "/x#y"),
            ("GET http://a/<b>?c HTTP/1.1\r\n", "GET http://a/%3Cb%3E?c HTTP/1.1\r\n", "/<b>?c"),
        ] {
            let mut targets = Targets::default();
            assert_eq!(targets.read(3, sent.as_bytes()), Line::Other(escaped.into()), "{sent}");
            assert_eq!(targets.take(2), None);
            assert_eq!((targets.take(3).as_deref(), targets.take(3)), (Some(target.as_bytes()), None));
        }
        let mut targets = Targets::default();
        assert_eq!(targets.read(0, b"GET /?q=\xE9 HTTP/1.1\r\n"), Line::Other(b"GET /?q=%E9 HTTP/1.1\r\n".into()));
        assert_eq!(targets.read(0, b"GET /a\tb HTTP/1.1\r\n"), Line::Refused(b'\t'));
        assert_eq!(targets.read(0, b"GET /\"\x7F HTTP/1.1\r\n"), Line::Refused(0x7F));
        assert_eq!(targets.read(0, b"GET /a b HTTP/1.1\r\n"), Line::Refused(b' '));
        for line in [
            "GET /a%2F%252F//b/../c?d=%;@~ HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "GET  HTTP/1.1\r\n",
            "GET /\" HTTP/2.0\r\n",
            "GET \"\r\n",
            "\r\n",
        ] {
            assert_eq!(targets.read(1, line.as_bytes()), Line::AsItIs, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_hyper_gets_is_a_target(path in prop::collection::vec(0x21_u8..=0xFF, 0..40)) {
            let line = [b"GET /", path.as_slice(), b" HTTP/1.1\r\n"].concat();
            let (mut targets, back) = (Targets::default(), |other: &[u8], sent: &[u8]| with_target(other, sent));
            match targets.read(0, &line) {
                Line::AsItIs => prop_assert!(PathAndQuery::try_from(&line[4..line.len() - 11]).is_ok()),
                Line::Other(other) => {
                    prop_assert!(PathAndQuery::try_from(&other[4..other.len() - 11]).is_ok());
                    prop_assert_eq!(back(&other, &targets.take(0).expect("a target")), Some(line));
                }
                Line::Refused(byte) => prop_assert_eq!(byte, 0x7F),
            }
        }
    }
}

//! The limits of the heads of requests and responses.
//!
//! Applications have many `Link` lines, large policies, and tokens in many cookies. The memory of a
//! head is taken as its bytes arrive, within the [budgets](crate::budget) of its client or job.

use std::fmt;

use hyper::StatusCode;
use hyper::header::HeaderMap;

/// The most bytes of a head.
pub(crate) const HEAD_BYTES: usize = 512 << 10;
/// The most header lines of a head.
pub(crate) const HEAD_LINES: usize = 1000;
/// The most bytes of a request line: as long as the targets that the HTTP library reads.
pub(crate) const REQUEST_LINE_BYTES: usize = 65_534;
/// The most bytes of a head as HTTP/2 counts them, with 32 for each line (RFC 9113, section 6.5.2).
pub(crate) const HEADER_LIST_BYTES: u32 = (HEAD_BYTES + 32 * HEAD_LINES) as u32;

/// The limit that a head exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLarge {
    Bytes,
    Lines,
    RequestLine,
}

impl TooLarge {
    /// Returns the limit that a head exceeds, by its lines.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if headers.len() > HEAD_LINES {
            return Some(Self::Lines);
        }
        (bytes > HEAD_BYTES).then_some(Self::Bytes)
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Bytes | Self::Lines => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RequestLine => StatusCode::URI_TOO_LONG,
        }
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => write!(f, "the request has a head of more than {HEAD_BYTES} bytes"),
            Self::Lines => write!(f, "the request has more than {HEAD_LINES} header lines"),
            Self::RequestLine => write!(f, "the request has a first line of more than {REQUEST_LINE_BYTES} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn limits_are_exact() {
        let head = |lines: usize, bytes: usize| {
            let line = |_| (HeaderName::from_static("a"), HeaderValue::try_from("x".repeat(bytes)).expect("a value"));
            let mut headers = HeaderMap::new();
            (0..lines).map(line).for_each(|(name, value)| {
                headers.append(name, value);
            });
            TooLarge::of(&headers)
        };
        assert_eq!((head(1000, 1), head(1001, 1)), (None, Some(TooLarge::Lines)));
        assert_eq!((head(1, HEAD_BYTES - 5), head(1, HEAD_BYTES - 4)), (None, Some(TooLarge::Bytes)));
    }
}

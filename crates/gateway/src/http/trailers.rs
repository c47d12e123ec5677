//! Trailers that no header has announced.
//!
//! hyper writes the trailers of HTTP/1 that a `Trailer` header names. A stream that ends with a
//! checksum rarely has one, so the connections write them. hyper is given a body without trailers.
//! It writes the last chunk in a piece of its own, which is replaced by one with trailers.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use parking_lot::Mutex;

/// The last chunk of a body, as hyper writes it.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Names that frame a message or lead it (RFC 9110, section 6.5.1).
const FORBIDDEN: [HeaderName; 7] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::TRAILER,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
];

/// The trailers of the message that is being written to a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trailers(Arc<Mutex<Option<HeaderMap>>>);

/// The treatment of pieces that hyper writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// Write all of them but the last.
    AllButLast,
    /// Write these bytes in their place.
    Instead(Bytes),
    AsTheyAre,
}

impl Trailers {
    /// Records the trailers of a message whose body hyper takes for ended.
    pub(crate) fn put(&self, trailers: HeaderMap) {
        *self.0.lock() = Some(trailers);
    }

    /// Looks for the last chunk in pieces that hyper writes.
    pub(crate) fn look(&self, pieces: &[IoSlice<'_>]) -> Write {
        let mut waiting = self.0.lock();
        if waiting.is_none() || pieces.last().is_none_or(|last| **last != *LAST_CHUNK) {
            return Write::AsTheyAre;
        }
        match (pieces, waiting.take()) {
            ([_], Some(trailers)) => Write::Instead(written(&trailers)),
            (_, trailers) => {
                *waiting = trailers;
                Write::AllButLast
            }
        }
    }
}

fn written(trailers: &HeaderMap) -> Bytes {
    let mut bytes = b"0\r\n".to_vec();
    for (name, value) in trailers.iter().filter(|(name, _)| !FORBIDDEN.contains(name)) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn last_chunk_gets_trailers() {
        let trailers = Trailers::default();
        let pieces = [&b"5\r\n"[..], b"hello", b"\r\n", LAST_CHUNK].map(IoSlice::new);
        assert_eq!(trailers.look(&pieces), Write::AsTheyAre);
        let fields = [("x-sum", "1"), ("content-length", "5"), ("x-end", "2")];
        let fields = fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        trailers.put(HeaderMap::from_iter(fields));
        assert_eq!(trailers.look(&pieces[..3]), Write::AsTheyAre);
        assert_eq!(trailers.look(&pieces), Write::AllButLast);
        let written = Write::Instead(Bytes::from_static(b"0\r\nx-sum: 1\r\nx-end: 2\r\n\r\n"));
        assert_eq!(trailers.look(&pieces[3..]), written);
        assert_eq!(trailers.look(&pieces[3..]), Write::AsTheyAre);
    }
}

//! Detects requests with conflicting lengths, the raw material of request smuggling, and heads that
//! are too large.
//!
//! hyper parses requests and frames them again towards the job, so nothing is smuggled past it. But
//! hyper resolves a conflict silently, and a client that sends one has to be refused. This module
//! follows the same bytes, from head to head. It is no parser: if the two differ in their view of a
//! request, the job gets hyper's view.

use super::limits::{HEAD_BYTES, HEAD_LINES, REQUEST_LINE_BYTES, TooLarge};

/// The part of a header line that is examined; the two headers with their values are shorter.
const LINE_BYTES: usize = 128;

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub struct Lengths {
    state: State,
    line: Vec<u8>,
    head: Head,
    heads: u64,
    conflict: Option<u64>,
    too_large: Option<TooLarge>,
    /// A request has asked for another protocol.
    upgrades: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two requests.
    #[default]
    Idle,
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    Trailers,
}

#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    lines: usize,
    content_length: Option<u64>,
    lengths: u32,
    chunked: bool,
    upgrades: bool,
}

impl Lengths {
    /// Follows the next bytes of the connection.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.conflict.is_none() {
            bytes = self.step(bytes);
        }
    }

    /// Follows the next bytes of a request behind its first line, until the next one may begin.
    /// Returns how many.
    pub fn advance_message(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.conflict.is_none() && !self.in_first_line() {
            rest = self.step(rest);
        }
        if self.is_given_up() { bytes.len() } else { bytes.len() - rest.len() }
    }

    fn step<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match self.state {
            State::Body(left) => {
                let (rest, left) = skip(bytes, left);
                self.state = if left == 0 { State::Idle } else { State::Body(left) };
                rest
            }
            State::Chunk(left) => {
                let (rest, left) = skip(bytes, left);
                self.state = if left == 0 { State::ChunkSize } else { State::Chunk(left) };
                rest
            }
            State::Idle | State::Head | State::ChunkSize | State::Trailers => self.advance_line(bytes),
        }
    }

    /// Returns whether the next byte is of the first line of a request.
    #[must_use]
    pub fn in_first_line(&self) -> bool {
        match self.state {
            State::Idle => true,
            State::Head => self.head.lines == 0,
            _ => false,
        }
    }

    /// Returns whether what follows may be no requests.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.upgrades || self.conflict.is_some()
    }

    /// The number of whole heads.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Returns whether the head of a request has begun and not ended.
    #[must_use]
    pub fn in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Returns the limit that a head exceeds, if one does.
    #[must_use]
    pub fn too_large(&self) -> Option<TooLarge> {
        self.too_large
    }

    /// Returns whether a request up to this number, from 0, has conflicting lengths.
    #[must_use]
    pub fn conflict(&self, request: u64) -> bool {
        self.conflict.is_some_and(|conflict| conflict <= request)
    }

    fn advance_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.state == State::Idle {
            self.state = State::Head;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        if self.state == State::Head {
            self.head.bytes += part.len();
            self.too_large = self.too_large.or_else(|| self.head.too_large());
        }
        let room = LINE_BYTES - self.line.len();
        self.line.extend(&part[..part.len().min(room)]);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.end_line(line.trim_ascii());
            self.line = line;
            self.line.clear();
        }
        rest
    }

    fn end_line(&mut self, line: &[u8]) {
        match self.state {
            State::Head if line.is_empty() => self.end_head(),
            State::Head => self.head.take(line),
            State::Trailers if line.is_empty() => self.state = State::Idle,
            State::ChunkSize => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
                self.state = match number(digits, 16) {
                    Some(0) => State::Trailers,
                    // The line end after the chunk counts as a part of it.
                    Some(size) => State::Chunk(size.saturating_add(2)),
                    None => State::ChunkSize,
                };
            }
            _ => {}
        }
    }

    fn end_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head.lines == 0 {
            // Empty lines before a request are ignored (RFC 9112, section 2.2).
            self.state = State::Idle;
            return;
        }
        if head.lengths > 1 || head.chunked && head.lengths > 0 {
            self.conflict = Some(self.heads);
        }
        self.heads += 1;
        self.upgrades |= head.upgrades;
        self.state = match head {
            Head { chunked: true, .. } => State::ChunkSize,
            Head { content_length: Some(length), .. } if length > 0 => State::Body(length),
            _ => State::Idle,
        };
    }
}

impl Head {
    /// Returns the limit that the head exceeds with the line that comes in.
    fn too_large(&self) -> Option<TooLarge> {
        // The first line is no header, and the last one is empty.
        if self.lines == 0 && self.bytes > REQUEST_LINE_BYTES {
            return Some(TooLarge::RequestLine);
        }
        if self.lines > HEAD_LINES + 1 {
            return Some(TooLarge::Lines);
        }
        (self.bytes > HEAD_BYTES).then_some(TooLarge::Bytes)
    }

    fn take(&mut self, line: &[u8]) {
        self.lines += 1;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.content_length = number(value, 10);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrades = true;
        }
    }
}

fn skip(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let skipped = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    (&bytes[skipped..], left - skipped as u64)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, radix).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        let fixed = prop::collection::vec(any::<u8>(), 0..50).prop_map(|body| {
            let mut bytes =
                format!("POST / HTTP/1.1\r\ncontent-LENGTH: {}\r\nhost: a\r\n\r\n", body.len()).into_bytes();
            bytes.extend(body);
            (bytes, false)
        });
        let chunked = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..4).prop_map(|chunks| {
            let mut bytes = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in chunks {
                bytes.extend(format!("{:x};name=value\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nx-sum: 1\r\n\r\n");
            (bytes, false)
        });
        let bare = Just((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), false));
        let conflicts = prop_oneof![
            Just("Content-Length: 1\r\nContent-Length: 2"),
            Just("Content-Length: 1\r\nContent-Length: 1"),
            Just("Content-Length: 1\r\nTransfer-Encoding: chunked"),
            Just("Transfer-Encoding: chunked\r\ncontent-length : 0"),
        ]
        .prop_map(|headers| (format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n").into_bytes(), true));
        prop::collection::vec(prop_oneof![3 => fixed, 3 => chunked, 2 => bare, 1 => conflicts], 1..6)
    }

    #[test]
    fn limits_of_heads_are_exact() {
        let lines = |lines: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(lines));
        let bytes = |bytes: usize| {
            let begin = "GET / HTTP/1.1\r\nA: ";
            format!("{begin}{}\r\n\r\n", "x".repeat(bytes - begin.len() - 4))
        };
        let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(bytes - 16));
        for (stream, expected) in [
            ([lines(HEAD_LINES), bytes(HEAD_BYTES), target(REQUEST_LINE_BYTES)].concat(), None),
            (lines(HEAD_LINES + 1), Some(TooLarge::Lines)),
            (bytes(HEAD_BYTES + 1), Some(TooLarge::Bytes)),
            (target(REQUEST_LINE_BYTES + 1), Some(TooLarge::RequestLine)),
        ] {
            for size in [1000, usize::MAX] {
                let mut lengths = Lengths::default();
                stream.as_bytes().chunks(size.min(stream.len())).for_each(|piece| lengths.advance(piece));
                assert_eq!(lengths.too_large(), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn first_conflict_is_found(
            requests in requests(),
            cuts in prop::collection::vec(1_usize..60, 1..20),
        ) {
            let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let (mut lengths, mut rest, mut cuts) = (Lengths::default(), stream.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (part, after) = rest.split_at(rest.len().min(cuts.next().unwrap_or(1)));
                lengths.advance(part);
                rest = after;
            }
            let first = requests.iter().position(|(_, conflict)| *conflict);
            prop_assert_eq!(lengths.conflict, first.map(|first| first as u64));
            prop_assert!(!lengths.in_head());
        }

        #[test]
        fn any_bytes_are_followed(bytes: Vec<u8>) {
            Lengths::default().advance(&bytes);
        }
    }
}

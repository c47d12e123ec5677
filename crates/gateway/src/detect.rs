//! Recognizes HTTP by the first bytes of a client, without consuming them.
//!
//! Every request of a browser has to be recognized: passed on unread, it would give the job the
//! cookies of all ports. A page chooses method and target of its requests, but neither the spaces
//! around them nor the version.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::client_socket::ClientSocket;
use crate::proxy_line::{self, Begins};

/// Time limit of a client's silence, and of undecided first bytes.
pub const DETECT_TIMEOUT: Duration = Duration::from_millis(200);

/// The number of bytes that are examined.
const EXAMINED_BYTES: usize = 4096;
/// More bytes of one word than this are of a request, even if the rest is late.
const WORD_BYTES: usize = 24;
/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP1_VERSION: &[u8] = b"HTTP/1.";

/// The protocol that first bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2 without TLS.
    Http2,
    /// A PROXY line, which only trusted proxies may send; theirs were read already.
    ProxyLine,
    Other,
    /// More bytes are needed to decide.
    Undecided,
}

/// Returns the protocol that first bytes belong to.
#[must_use]
pub fn detect(bytes: &[u8]) -> FirstBytes {
    match proxy_line::begins(bytes) {
        Begins::Yes => return FirstBytes::ProxyLine,
        Begins::Perhaps => return FirstBytes::Undecided,
        Begins::No => {}
    }
    let common = bytes.len().min(HTTP2_PREFACE.len());
    if bytes[..common] == HTTP2_PREFACE[..common] {
        return if common == HTTP2_PREFACE.len() { FirstBytes::Http2 } else { FirstBytes::Undecided };
    }
    let is_method = |bytes: &[u8]| bytes.iter().copied().all(is_token);
    let Some(end) = bytes.iter().position(|byte| *byte == b' ') else {
        return match is_method(bytes) {
            true if bytes.len() >= EXAMINED_BYTES => FirstBytes::Http1,
            true => FirstBytes::Undecided,
            false => FirstBytes::Other,
        };
    };
    if end == 0 || !is_method(&bytes[..end]) {
        return FirstBytes::Other;
    }
    let target = &bytes[end + 1..];
    let Some(end) = target.iter().position(|byte| *byte <= b' ' || *byte == 0x7F) else {
        // No other protocol begins with a word and so long a second one.
        return if bytes.len() >= EXAMINED_BYTES { FirstBytes::Http1 } else { FirstBytes::Undecided };
    };
    if end == 0 || target[end] != b' ' {
        return FirstBytes::Other;
    }
    let version = &target[end + 1..];
    let common = version.len().min(HTTP1_VERSION.len());
    match (
        version[..common] == HTTP1_VERSION[..common],
        version.get(HTTP1_VERSION.len()),
        version.get(HTTP1_VERSION.len() + 1),
    ) {
        (false, ..) => FirstBytes::Other,
        (true, Some(minor), _) if !minor.is_ascii_digit() => FirstBytes::Other,
        (true, Some(_), Some(b'\r' | b'\n')) => FirstBytes::Http1,
        (true, Some(_), Some(_)) => FirstBytes::Other,
        (true, ..) if bytes.len() >= EXAMINED_BYTES => FirstBytes::Http1,
        (true, ..) => FirstBytes::Undecided,
    }
}

/// Returns whether a byte is of a method (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns the protocol of bytes that do not decide, and are followed by none for a time.
///
/// The target of a browser's request begins with `/`, and its first segment is longer than a word,
/// unless that is very long. A command of another protocol may have a space as well.
fn when_late(bytes: &[u8]) -> FirstBytes {
    let is_request = match bytes.iter().position(|byte| *byte == b' ') {
        Some(space) => bytes[space + 1..].starts_with(b"/") || space > WORD_BYTES,
        None => bytes.len() > WORD_BYTES,
    };
    if is_request { FirstBytes::Http1 } else { FirstBytes::Other }
}

/// Waits for the first bytes of a client, then until they decide or are `late`.
///
/// A client that ends before that speaks something else than HTTP.
///
/// # Errors
/// The client's connection broke.
pub async fn first_bytes(client: &ClientSocket, late: impl Future<Output = ()>) -> io::Result<FirstBytes> {
    client.peek(&mut [0]).await?;
    let mut buffer = Box::new([0; EXAMINED_BYTES]);
    let peeked = client.peek(&mut buffer[..]).await?;
    match detect(&buffer[..peeked]) {
        FirstBytes::Undecided if peeked > 0 => tokio::select! {
            biased;
            decided = more_bytes(client, peeked) => decided,
            () = late => {
                let peeked = client.peek(&mut buffer[..]).await?;
                match proxy_line::begins(&buffer[..peeked]) {
                    Begins::No => Ok(when_late(&buffer[..peeked])),
                    Begins::Yes => Ok(FirstBytes::ProxyLine),
                    // One that comes in pieces is no less a line.
                    Begins::Perhaps => match timeout(proxy_line::SILENCE, more_bytes(client, peeked)).await {
                        Ok(decided) => decided,
                        Err(_) => Ok(when_late(&buffer[..peeked])),
                    },
                }
            }
        },
        FirstBytes::Undecided => Ok(FirstBytes::Other),
        decided => Ok(decided),
    }
}

/// Waits until more than the first `peeked` bytes have arrived and decide.
async fn more_bytes(client: &ClientSocket, mut peeked: usize) -> io::Result<FirstBytes> {
    let mut buffer = Box::new([0; EXAMINED_BYTES]);
    loop {
        match client.peek_more(peeked, &mut buffer[..]).await? {
            Some(length) => peeked = length,
            None => return Ok(FirstBytes::Other),
        }
        match detect(&buffer[..peeked]) {
            FirstBytes::Undecided => {}
            decided => return Ok(decided),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decision_is_final(bytes in any_first_bytes(), cut in 0_usize..200) {
            let cut = cut.min(bytes.len());
            let early = detect(&bytes[..cut]);
            if early != FirstBytes::Undecided {
                prop_assert_eq!(detect(&bytes), early);
            }
        }

        #[test]
        fn request_line_is_http1(
            method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,3000}", target in "/[!-~]{0,100}", minor in 0_u8..=9, rest: Vec<u8>,
        ) {
            let mut bytes = format!("{method} {target} HTTP/1.{minor}\r\n").into_bytes();
            bytes.extend(rest);
            prop_assert_eq!(detect(&bytes), FirstBytes::Http1);
        }

        #[test]
        fn noise_is_not_http2(bytes: Vec<u8>) {
            prop_assert!(detect(&bytes) != FirstBytes::Http2 || bytes.starts_with(HTTP2_PREFACE));
        }
    }

    fn any_first_bytes() -> impl Strategy<Value = Vec<u8>> {
        let line = "[A-Z]{1,8}[ ]{0,2}[/*a-z]{0,8}[ ]{0,2}(HTTP|RTSP)?/?[0-9.]{0,3}[\r\nx]{0,2}";
        let preface = (0..HTTP2_PREFACE.len() + 1).prop_map(|length| HTTP2_PREFACE[..length].to_vec());
        prop_oneof![any::<Vec<u8>>(), line.prop_map(String::into_bytes), preface]
    }

    #[test]
    fn first_bytes_decide_protocol() {
        let long = format!("GET /{}", "x".repeat(EXAMINED_BYTES));
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\n", FirstBytes::Http1),
            ("M-SEARCH * HTTP/1.1\r\n", FirstBytes::Http1),
            ("OPTIONS http://a/ HTTP/1.0\n", FirstBytes::Http1),
            (&long[..EXAMINED_BYTES], FirstBytes::Http1),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", FirstBytes::Http2),
            ("", FirstBytes::Undecided),
            ("PRI * HT", FirstBytes::Undecided),
            ("GET / HTT", FirstBytes::Undecided),
            ("GET / HTTP/1.1", FirstBytes::Undecided),
            ("SSH-2.0-OpenSSH_9.6\r\n", FirstBytes::Other),
            ("\u{16}\u{3}\u{1}", FirstBytes::Other),
            ("DESCRIBE rtsp://a RTSP/1.0\r\n", FirstBytes::Other),
            ("PRI * HTTP/2.0\r\n\r\nXX", FirstBytes::Other),
            ("GET /\r\n", FirstBytes::Other),
            ("GET / HTTP/1.1x\r\n", FirstBytes::Other),
            ("patch / HTTP/1.1\r\n", FirstBytes::Http1),
            ("x'!~ / HTTP/1.1\r\n", FirstBytes::Http1),
            (&"M".repeat(EXAMINED_BYTES), FirstBytes::Http1),
            (&"M".repeat(EXAMINED_BYTES - 1), FirstBytes::Undecided),
            ("get key\r\n", FirstBytes::Other),
            ("hello\n", FirstBytes::Other),
            ("PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", FirstBytes::ProxyLine),
            ("PROXY TC", FirstBytes::Undecided),
            ("PROXY / HTTP/1.1\r\n", FirstBytes::Http1),
        ] {
            assert_eq!(detect(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn late_bytes_of_a_request_are_one() {
        for (bytes, expected) in [
            ("hello", FirstBytes::Other),
            ("PRI * HTTP/2.0", FirstBytes::Other),
            ("GET", FirstBytes::Other),
            ("GET /", FirstBytes::Http1),
            ("serve 3", FirstBytes::Other),
            ("USER anonymous", FirstBytes::Other),
            ("AN-UNUSUALLY-LONG-METHOD-NAME x", FirstBytes::Http1),
            ("GET / HTT", FirstBytes::Http1),
            ("AN-UNUSUALLY-LONG-METHOD-NAME", FirstBytes::Http1),
        ] {
            assert_eq!(detect(bytes.as_bytes()), FirstBytes::Undecided, "{bytes}");
            assert_eq!(when_late(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}

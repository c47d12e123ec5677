//! What a client speaks, told by its first bytes, which stay where they are.
//!
//! ```text
//!  tcp ─────────────────────────────────────────────► bytes
//!  http ─► first bytes ─► the preface of HTTP/2 ────► HTTP/2
//!                     └─► anything else ────────────► HTTP/1, which answers garbage with 400
//!  auto ─► first bytes ─► HTTP, 1 or 2, or bytes
//!    └─► silence ─► connected to the job ─► the job speaks first ────► bytes
//!                                       └─► the client does ─► HTTP, 1 or 2, or bytes
//! ```
//!
//! Browsers open connections before they need them; such a one is silent for long and HTTP in the end.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use mooring_types::gateway::Protocol;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{Connected, Way};

/// For how long a client that speaks first may be silent before its job is asked.
pub const SILENCE: Duration = Duration::from_millis(200);

/// How many bytes are looked at.
const LOOKED_AT: usize = 4096;
/// The longest name of a method that is one.
const METHOD_MAX: usize = 24;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const VERSION: &[u8] = b"HTTP/1.";

/// What first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2 without TLS.
    Http2,
    /// Anything else.
    Bytes,
    /// It can still become either.
    NeedMore,
}

/// What a client speaks.
#[derive(Debug)]
pub enum Client {
    /// HTTP/1, with the connection to the job if there is one already.
    Http1(Option<Connected>),
    /// HTTP/2.
    Http2,
    /// Anything, with the connection to the job if there is one already.
    Bytes(Option<Connected>),
}

/// Tells what first bytes are.
#[must_use]
pub fn detect(bytes: &[u8]) -> Spoken {
    let common = bytes.len().min(PREFACE.len());
    if bytes[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Spoken::Http2 } else { Spoken::NeedMore };
    }
    let is_method = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
    let Some(end) = bytes.iter().take(METHOD_MAX + 1).position(|byte| *byte == b' ') else {
        let may_become = bytes.len() <= METHOD_MAX && is_method(bytes);
        return if may_become { Spoken::NeedMore } else { Spoken::Bytes };
    };
    if end == 0 || !is_method(&bytes[..end]) {
        return Spoken::Bytes;
    }
    let target = &bytes[end + 1..];
    let Some(end) = target.iter().position(|byte| *byte <= b' ' || *byte == 0x7F) else {
        // No other protocol begins with a word and something as long as this.
        return if bytes.len() >= LOOKED_AT { Spoken::Http1 } else { Spoken::NeedMore };
    };
    if end == 0 || target[end] != b' ' {
        return Spoken::Bytes;
    }
    let version = &target[end + 1..];
    let common = version.len().min(VERSION.len());
    match (version[..common] == VERSION[..common], version.get(VERSION.len()), version.get(VERSION.len() + 1)) {
        (false, ..) => Spoken::Bytes,
        (true, Some(minor), _) if !minor.is_ascii_digit() => Spoken::Bytes,
        (true, Some(_), Some(b'\r' | b'\n')) => Spoken::Http1,
        (true, Some(_), Some(_)) => Spoken::Bytes,
        (true, ..) if bytes.len() >= LOOKED_AT => Spoken::Http1,
        (true, ..) => Spoken::NeedMore,
    }
}

/// Finds out what a client speaks.
///
/// # Errors
/// The client's side broke, or the job could not be reached.
pub async fn listen_to(client: &TcpStream, protocol: Protocol, way: &Way) -> io::Result<Client> {
    match protocol {
        Protocol::Tcp => Ok(Client::Bytes(None)),
        Protocol::Http => Ok(match first_bytes(client).await? {
            Spoken::Http2 => Client::Http2,
            _ => Client::Http1(None),
        }),
        Protocol::Auto => match timeout(SILENCE, client.peek(&mut [0])).await {
            Ok(arrived) => {
                arrived?;
                Ok(chosen(first_bytes(client).await?, None))
            }
            Err(_) => ask_job(client, way).await,
        },
    }
}

/// The client is silent: the job may be the one to speak first.
async fn ask_job(client: &TcpStream, way: &Way) -> io::Result<Client> {
    let connected = tokio::select! {
        biased;
        spoken = first_bytes(client) => return Ok(chosen(spoken?, None)),
        connected = way.connect() => connected?,
    };
    let mut byte = [0];
    tokio::select! {
        biased;
        // Whether it speaks, ends or breaks: it is for the client to see.
        _ = connected.stream.socket().peek(&mut byte) => {}
        _ = way.end(connected.epoch) => {}
        spoken = first_bytes(client) => return Ok(chosen(spoken?, Some(connected))),
    }
    Ok(Client::Bytes(Some(connected)))
}

fn chosen(spoken: Spoken, connected: Option<Connected>) -> Client {
    match spoken {
        Spoken::Http1 => Client::Http1(connected),
        Spoken::Http2 => Client::Http2,
        Spoken::Bytes | Spoken::NeedMore => Client::Bytes(connected),
    }
}

/// Waits for first bytes, and then not longer than [`SILENCE`] for those that decide; the end is bytes as well.
async fn first_bytes(client: &TcpStream) -> io::Result<Spoken> {
    client.peek(&mut [0]).await?;
    let mut buffer = Box::new([0; LOOKED_AT]);
    let seen = client.peek(&mut buffer[..]).await?;
    match detect(&buffer[..seen]) {
        Spoken::NeedMore if seen > 0 => timeout(SILENCE, more_bytes(client, seen)).await.unwrap_or(Ok(Spoken::Bytes)),
        Spoken::NeedMore => Ok(Spoken::Bytes),
        spoken => Ok(spoken),
    }
}

/// Waits until more than `seen` bytes decide.
async fn more_bytes(client: &TcpStream, mut seen: usize) -> io::Result<Spoken> {
    // Readiness is taken back here until more arrives; that of the client's own descriptor has to stay.
    let looked_at = std::net::TcpStream::from(client.as_fd().try_clone_to_owned()?);
    let watched = TcpStream::from_std(looked_at.try_clone()?)?;
    let mut buffer = Box::new([0; LOOKED_AT]);
    loop {
        let ready = watched.ready(Interest::READABLE).await?;
        let peek = || match looked_at.peek(&mut buffer[..])? {
            now if now == seen => Err(io::ErrorKind::WouldBlock.into()),
            now => Ok(now),
        };
        match watched.try_io(Interest::READABLE, peek) {
            Ok(now) => seen = now,
            // The end is never taken back, and waiting for more would go round and round.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => {
                return Ok(Spoken::Bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        match detect(&buffer[..seen]) {
            Spoken::NeedMore => {}
            spoken => return Ok(spoken),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_decided_stays_decided(bytes in first_bytes_of_anything(), cut in 0_usize..200) {
            let cut = cut.min(bytes.len());
            let early = detect(&bytes[..cut]);
            if early != Spoken::NeedMore {
                prop_assert_eq!(detect(&bytes), early);
            }
        }

        #[test]
        fn a_request_line_is_http_however_it_goes_on(
            method in "[A-Z]{1,20}", target in "/[!-~]{0,100}", minor in 0_u8..=9, rest: Vec<u8>,
        ) {
            let mut bytes = format!("{method} {target} HTTP/1.{minor}\r\n").into_bytes();
            bytes.extend(rest);
            prop_assert_eq!(detect(&bytes), Spoken::Http1);
        }

        #[test]
        fn noise_is_never_http_2(bytes: Vec<u8>) {
            prop_assert!(detect(&bytes) != Spoken::Http2 || bytes.starts_with(PREFACE));
        }
    }

    fn first_bytes_of_anything() -> impl Strategy<Value = Vec<u8>> {
        let line = "[A-Z]{1,8}[ ]{0,2}[/*a-z]{0,8}[ ]{0,2}(HTTP|RTSP)?/?[0-9.]{0,3}[\r\nx]{0,2}";
        let preface = (0..PREFACE.len() + 1).prop_map(|length| PREFACE[..length].to_vec());
        prop_oneof![any::<Vec<u8>>(), line.prop_map(String::into_bytes), preface]
    }

    #[test]
    fn each_protocol_is_told_by_what_it_says_first() {
        let long = format!("GET /{}", "x".repeat(LOOKED_AT));
        for (bytes, spoken) in [
            ("GET / HTTP/1.1\r\n", Spoken::Http1),
            ("M-SEARCH * HTTP/1.1\r\n", Spoken::Http1),
            ("OPTIONS http://a/ HTTP/1.0\n", Spoken::Http1),
            (&long[..LOOKED_AT], Spoken::Http1),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Spoken::Http2),
            ("", Spoken::NeedMore),
            ("PRI * HT", Spoken::NeedMore),
            ("GET / HTT", Spoken::NeedMore),
            ("GET / HTTP/1.1", Spoken::NeedMore),
            ("SSH-2.0-OpenSSH_9.6\r\n", Spoken::Bytes),
            ("\u{16}\u{3}\u{1}", Spoken::Bytes),
            ("DESCRIBE rtsp://a RTSP/1.0\r\n", Spoken::Bytes),
            ("PRI * HTTP/2.0\r\n\r\nXX", Spoken::Bytes),
            ("GET /\r\n", Spoken::Bytes),
            ("GET / HTTP/1.1x\r\n", Spoken::Bytes),
        ] {
            assert_eq!(detect(bytes.as_bytes()), spoken, "{bytes:?}");
        }
    }
}

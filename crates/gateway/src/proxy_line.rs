//! The PROXY protocol, versions 1 and 2. A trusted proxy names its client at the beginning of a
//! connection, before all other bytes, those of TLS too.
//!
//! | the beginning of a trusted peer's connection | the client is |
//! |---|---|
//! | a line with addresses | its source |
//! | `UNKNOWN`, `LOCAL`, or addresses of another family | the peer, as for a health check |
//! | anything else, or nothing for [`SILENCE`] | the peer |
//! | a line that can't be read, or is not whole after [`TIMEOUT`] | reset |
//!
//! The source may be a trusted proxy as well, and its line may follow. A line of anybody else is
//! refused ([`begins`]), as is one that comes later than it may.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mooring_types::external::IpNet;
use mooring_types::forwarded;
use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::socket;

/// Time limit of a line that has begun.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a silent peer has no line to send. A proxy sends it at once; this is for a
/// lost packet.
pub const SILENCE: Duration = Duration::from_secs(3);
const SIGNATURE_V1: &[u8] = b"PROXY ";
const FAMILIES_V1: [&[u8]; 3] = [b"TCP4 ", b"TCP6 ", b"UNKNOWN"];
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line; one of version 2 may carry values beside its addresses.
const LINE_BYTES: usize = 4096;
/// The most proxies in a row.
const LINES_MAX: usize = 8;

/// The part of a line about the URL that its client has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The port of the proxy.
    pub port: u16,
    /// True if the client speaks TLS to the proxy; version 1 can't tell.
    pub is_tls: bool,
}

/// The other end of a connection, behind all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) client: SocketAddr,
    pub(crate) told: Option<Told>,
}

/// The answer whether bytes begin with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    Yes,
    No,
    /// More bytes are needed to decide.
    Perhaps,
}

/// Returns whether the first bytes of a connection are those of a line.
pub(crate) fn begins(bytes: &[u8]) -> Begins {
    let is_of = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        match bytes[..common] == signature[..common] {
            false => Begins::No,
            true if common == signature.len() => Begins::Yes,
            true => Begins::Perhaps,
        }
    };
    let families = FAMILIES_V1.map(|family| is_of(&[SIGNATURE_V1, family].concat()));
    let all = [is_of(SIGNATURE_V2)].into_iter().chain(families);
    all.fold(Begins::No, |found, next| match (found, next) {
        (Begins::Yes, _) | (_, Begins::Yes) => Begins::Yes,
        (Begins::Perhaps, _) | (_, Begins::Perhaps) => Begins::Perhaps,
        (Begins::No, Begins::No) => Begins::No,
    })
}

/// The error of a connection with a line that is not believed.
pub(crate) fn refusal() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a PROXY line, and its sender is no trusted proxy")
}

/// Reads the lines of trusted proxies. A peer may be silent for `silence`.
///
/// # Errors
/// A line can't be read, is too long or too late, or the connection broke.
pub(crate) async fn read(
    stream: &TcpStream,
    peer: SocketAddr,
    trusted: &[IpNet],
    silence: Duration,
) -> io::Result<Announced> {
    let mut announced = Announced { client: peer, told: None };
    for _ in 0..LINES_MAX {
        if !forwarded::is_trusted(announced.client.ip(), trusted) {
            return Ok(announced);
        }
        match timeout(silence, stream.peek(&mut [0])).await {
            Err(_) => return Ok(announced),
            Ok(peeked) => peeked?,
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "a PROXY line did not come whole in time");
        let Some(line) = timeout(TIMEOUT, read_one(stream)).await.map_err(late)?? else { return Ok(announced) };
        let Some(next) = line else { return Ok(announced) };
        announced = next;
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many PROXY lines"))
}

/// Reads one line, if the connection begins with one; the inner `None` is a line that names nobody.
async fn read_one(stream: &TcpStream) -> io::Result<Option<Option<Announced>>> {
    let mut buffer = Box::new([0; LINE_BYTES]);
    let mut length = stream.peek(&mut buffer[..]).await?;
    loop {
        match begins(&buffer[..length]) {
            Begins::No => return Ok(None),
            Begins::Yes => match ProxyHeader::parse(&buffer[..length], ParseConfig::default()) {
                Ok((header, of_line)) => {
                    let announced = announced(&header);
                    discard(stream, of_line).await?;
                    return Ok(Some(announced));
                }
                Err(Error::BufferTooShort) if length < LINE_BYTES => {}
                Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a PROXY line that can't be read")),
            },
            Begins::Perhaps => {}
        }
        match socket::peek_more(stream, length, &mut buffer[..]).await? {
            Some(more) => length = more,
            None if begins(&buffer[..length]) == Begins::Yes => return Err(io::ErrorKind::UnexpectedEof.into()),
            // The session finds out what it is.
            None => return Ok(None),
        }
    }
}

fn announced(header: &ProxyHeader<'_>) -> Option<Announced> {
    let address = header.proxied_address()?;
    let is_tls = header.ssl().is_some_and(|ssl| ssl.client_ssl());
    let client = SocketAddr::new(address.source.ip().to_canonical(), address.source.port());
    Some(Announced { client, told: Some(Told { port: address.destination.port(), is_tls }) })
}

/// Removes bytes that have arrived.
async fn discard(stream: &TcpStream, mut count: usize) -> io::Result<()> {
    let mut bytes = [0; 512];
    while count > 0 {
        stream.readable().await?;
        match stream.try_read(&mut bytes[..count.min(512)]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => count -= read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const V1: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 9443\r\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[0x20 | command, family], &length, rest].concat()
    }

    const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 18, 103, 36, 227];

    #[test]
    fn lines_are_known_by_their_beginning() {
        let binary = v2(1, 0x11, &ADDRESSES);
        for (bytes, expected) in [
            (V1.as_bytes(), Begins::Yes),
            (b"PROXY UNKNOWN\r\n", Begins::Yes),
            (&binary, Begins::Yes),
            (b"", Begins::Perhaps),
            (b"P", Begins::Perhaps),
            (b"PROXY TC", Begins::Perhaps),
            (b"\r\n\r\n\0", Begins::Perhaps),
            (b"PRI * HTTP/2.0", Begins::No),
            (b"PROXY / HTTP/1.1", Begins::No),
            (b"\r\n\r\nGET", Begins::No),
            (b"GET", Begins::No),
        ] {
            assert_eq!(begins(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn beginning_does_not_change(bytes in prop_oneof![any::<Vec<u8>>(), Just(V1.as_bytes().to_vec())], cut in 0_usize..60) {
            let early = begins(&bytes[..cut.min(bytes.len())]);
            prop_assert!(early == Begins::Perhaps || early == begins(&bytes));
        }
    }

    /// Returns what a proxy at the loopback announces with bytes in pieces, and what is left.
    async fn announces(pieces: &[&[u8]], trusted: &[&str]) -> io::Result<(Announced, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut proxy = TcpStream::connect(listener.local_addr()?).await?;
        proxy.set_nodelay(true)?;
        let (mut accepted, peer) = listener.accept().await?;
        let trusted: Vec<IpNet> = trusted.iter().map(|range| range.parse().unwrap()).collect();
        let send = async {
            for piece in pieces {
                proxy.write_all(piece).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            proxy.shutdown().await
        };
        let (announced, sent) = tokio::join!(read(&accepted, peer, &trusted, SILENCE), send);
        let (announced, ()) = (announced?, sent?);
        let mut rest = Vec::new();
        accepted.read_to_end(&mut rest).await?;
        let client = if announced.client == peer { SocketAddr::new(peer.ip(), 0) } else { announced.client };
        Ok((Announced { client, ..announced }, rest))
    }

    fn of(client: &str, told: Option<(u16, bool)>) -> Announced {
        let told = told.map(|(port, is_tls)| Told { port, is_tls });
        Announced { client: client.parse().unwrap(), told }
    }

    #[tokio::test]
    async fn client_is_announced() {
        let told = of("192.0.2.7:4711", Some((9443, false)));
        let peer = of("127.0.0.1:0", None);
        let with_tls = [&ADDRESSES[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
        let over_ipv6 = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 9443\r\nrest";
        for (bytes, expected) in [
            ([V1.as_bytes(), b"rest"].concat(), told),
            ([&v2(1, 0x11, &ADDRESSES)[..], b"rest"].concat(), told),
            ([&v2(1, 0x11, &with_tls)[..], b"rest"].concat(), of("192.0.2.7:4711", Some((9443, true)))),
            (over_ipv6.as_bytes().to_vec(), of("[2001:db8::7]:4711", Some((9443, false)))),
            ([&v2(0, 0, b"")[..], b"rest"].concat(), peer),
            ([&v2(0, 0x11, &ADDRESSES)[..], b"rest"].concat(), peer),
            ([&v2(1, 0x31, &[0; 216])[..], b"rest"].concat(), peer),
            (b"PROXY UNKNOWN\r\nrest".to_vec(), peer),
            (b"rest".to_vec(), peer),
            // A client of the proxy may send a line, which is not the proxy's.
            ([V1.as_bytes(), b"rest"].concat(), told),
        ] {
            for cut in 0..=bytes.len() - 4 {
                if cut % 7 != 0 {
                    continue;
                }
                let (one, other) = bytes.split_at(cut);
                let got = announces(&[one, other], &["127.0.0.0/8"]).await.unwrap();
                assert_eq!(got, (expected, b"rest".to_vec()), "{bytes:?} cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn line_behind_a_line_is_of_a_trusted_proxy() {
        let first = "PROXY TCP4 10.0.0.2 10.0.0.1 4711 80\r\n";
        let both = [first.as_bytes(), V1.as_bytes(), b"rest"].concat();
        let got = announces(&[&both], &["127.0.0.0/8", "10.0.0.0/24"]).await.unwrap();
        assert_eq!(got, (of("192.0.2.7:4711", Some((9443, false))), b"rest".to_vec()));
        let got = announces(&[&both], &["127.0.0.0/8"]).await.unwrap();
        assert_eq!(got, (of("10.0.0.2:4711", Some((80, false))), [V1.as_bytes(), b"rest"].concat()));
    }

    #[tokio::test]
    async fn line_that_cannot_be_read_is_refused() {
        let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        let long = v2(1, 0x11, &[0; 5000]);
        for bytes in [
            &b"PROXY TCP4 192.0.2.7\r\n"[..],
            b"PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 99999\r\n",
            &v2(1, 0x11, &ADDRESSES[..8]),
            &v2(7, 0x11, &ADDRESSES),
            &endless,
            &long,
        ] {
            assert!(announces(&[bytes], &["127.0.0.0/8"]).await.is_err(), "{bytes:?}");
        }
    }
}

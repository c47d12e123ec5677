//! The TCP connections of a network namespace, and which end of each spoke last.
//!
//! The kernel answers by netlink (`sock_diag`): the addresses, and the counters that `TCP_INFO` has
//! as well. A connection that CRIU has just restored has neither sent nor received anything.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use crate::{Error, Result, netns};

/// The states that are asked for, by number (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
const STATES: u32 = 1 << ESTABLISHED | 1 << CLOSE_WAIT | 1 << LISTEN;
/// Numbers of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ATTRIBUTE_INFO: u16 = 2;
const REQUEST_BYTES: u32 = 72;
const HEADER_BYTES: usize = 16;
/// The length of `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;
const BUFFER_BYTES: usize = 64 << 10;

/// A TCP socket: a listener or an open connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    pub local: SocketAddr,
    /// The address of its peer; not specified for a listener.
    pub peer: SocketAddr,
    /// The number of the socket; 0 where no process has it.
    pub inode: u32,
    state: u8,
    /// The counters; absent for a listener.
    info: Option<Info>,
}

/// The counters of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Info {
    /// The milliseconds since it sent bytes, since bytes came, and since anything was acknowledged.
    sent_ago: u32,
    received_ago: u32,
    acknowledged_ago: u32,
    /// The bytes that came since the connection was made or restored.
    received: u64,
    /// The segments with bytes that it sent.
    segments_sent: u32,
}

impl Talk {
    /// Says whether the socket is a listener.
    #[must_use]
    pub fn is_listener(&self) -> bool {
        self.state == LISTEN
    }

    /// Says whether a process has this connection open, and it leads out of the namespace.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.is_listener() && self.inode != 0 && !self.peer.ip().is_loopback() && self.peer.ip() != self.local.ip()
    }

    /// Says whether this end has sent something since bytes came, or before any came.
    ///
    /// Both may be within the same tick of the kernel. Then an acknowledgement that came later than
    /// the bytes is one of what was sent last. An answer has both in one segment.
    #[must_use]
    pub fn spoke_last(&self) -> bool {
        let is_later = |info: Info| match info.sent_ago.cmp(&info.received_ago) {
            _ if info.received == 0 => true,
            Ordering::Less => true,
            Ordering::Equal => info.acknowledged_ago < info.received_ago,
            Ordering::Greater => false,
        };
        self.info.is_some_and(|info| info.segments_sent > 0 && is_later(info))
    }

    /// The bytes that came since the connection was made or restored.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.info.map_or(0, |info| info.received)
    }
}

/// Lists the listeners and open connections of the namespace at `path`.
///
/// # Errors
/// The kernel does not answer, or lacks the interface.
pub fn list(path: &Path) -> Result<Vec<Talk>> {
    netns::run_in(path, || Ok([ask(libc::AF_INET)?, ask(libc::AF_INET6)?].concat()))?
}

fn ask(family: libc::c_int) -> Result<Vec<Talk>> {
    let failed = || Error::errno("list the TCP connections of a job");
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
        .map_err(failed())?;
    let mut request = Vec::with_capacity(REQUEST_BYTES as usize);
    request.extend_from_slice(&REQUEST_BYTES.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    // Sequence and sender, then family, protocol, attributes, padding, states, and any socket.
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[family as u8, libc::IPPROTO_TCP as u8, 1 << (ATTRIBUTE_INFO - 1), 0]);
    request.extend_from_slice(&STATES.to_ne_bytes());
    request.resize(REQUEST_BYTES as usize, 0);
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(failed())?;
    let (mut talks, mut buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
    loop {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(failed())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                DONE => return Ok(talks),
                ERROR => return Err(failed()(nix::Error::EOPNOTSUPP)),
                _ => talks.extend(parse(body)),
            }
            rest = next;
        }
    }
}

/// Splits the next message off: its kind, its content and the rest.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a `struct inet_diag_msg` with its attributes.
fn parse(message: &[u8]) -> Option<Talk> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        if libc::c_int::from(family) == libc::AF_INET {
            return Some(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(at..at + 4)?).ok()?).into());
        }
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(message.get(at..at + 16)?).ok()?).to_canonical())
    };
    let mut talk = Talk {
        local: SocketAddr::new(address(8)?, port(4)?),
        peer: SocketAddr::new(address(24)?, port(6)?),
        inode: number(message, 68)?,
        state,
        info: None,
    };
    let mut attributes = message.get(MESSAGE_BYTES..)?;
    while let Some((kind, body, next)) = attribute(attributes) {
        if kind == ATTRIBUTE_INFO && state != LISTEN {
            talk.info = info(body);
        }
        attributes = next;
    }
    Some(talk)
}

/// Splits the next attribute off.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let part = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let length = usize::from(part(0)?);
    Some((part(2)?, bytes.get(4..length)?, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Reads a `struct tcp_info` of linux/tcp.h.
fn info(bytes: &[u8]) -> Option<Info> {
    let received = u64::from_ne_bytes(bytes.get(128..136)?.try_into().ok()?);
    Some(Info {
        sent_ago: number(bytes, 44)?,
        received_ago: number(bytes, 52)?,
        acknowledged_ago: number(bytes, 56)?,
        received,
        segments_sent: number(bytes, 156)?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// Longer than a tick of the kernel.
    const MOMENT: Duration = Duration::from_millis(30);

    fn own() -> Vec<Talk> {
        list(Path::new("/proc/thread-self/ns/net")).unwrap()
    }

    #[test]
    fn the_end_that_spoke_last_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let of_client = || {
            let local = client.local_addr().unwrap();
            own().into_iter().find(|talk| talk.local == local).unwrap()
        };
        assert!(own().iter().any(|talk| talk.is_listener() && talk.local.port() == port));
        assert!(!of_client().spoke_last() && of_client().received() == 0);
        // At once, in the tick of the connect.
        (&client).write_all(b"query").unwrap();
        std::thread::sleep(MOMENT);
        assert!(of_client().spoke_last());
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"answer").unwrap();
        std::thread::sleep(MOMENT);
        assert!(!of_client().spoke_last() && of_client().received() == 6, "{:?}", of_client());
        let talk = of_client();
        assert!(!talk.is_connected() && talk.inode != 0 && talk.peer == server.local_addr().unwrap(), "{talk:?}");
        client.read_exact(&mut [0; 6]).unwrap();
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _accepted = listener.accept().unwrap();
        let talks = own();
        let accepted = talks.iter().find(|talk| talk.peer == client.local_addr().unwrap()).unwrap();
        assert_eq!(accepted.local, SocketAddr::from(([127, 0, 0, 1], port)));
    }
}

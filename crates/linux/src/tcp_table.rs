//! The TCP and UDP sockets of a network namespace, as the kernel lists them.
//!
//! It lists those without a process as well. These are sockets that their program has closed and
//! that still have something to send, and connections that no program has accepted yet. No
//! checkpoint has either of them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::{Error, Result, netns};

/// The kernel's lists of TCP and of UDP sockets.
const STREAM: [&str; 2] = ["tcp", "tcp6"];
const DATAGRAM: [&str; 2] = ["udp", "udp6"];
/// The states of the kernel's list (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const HALF_OPEN: u8 = 3;
const FIN_WAIT1: u8 = 4;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;
/// The kind of a timer that waits for an acknowledgement.
const RETRANSMISSION: u8 = 1;
/// The unanswered retransmissions after which a peer is taken for gone: about a second of them on
/// the overlay.
const UNANSWERED_MAX: u32 = 3;

/// A TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSocket {
    pub local: SocketAddr,
    /// The address of its peer; not specified for a listener.
    pub peer: SocketAddr,
    /// The number of the socket; 0 where no process has it.
    pub inode: u64,
    state: u8,
    /// The bytes that are not acknowledged, with the end of the direction as one.
    send_queue: u32,
    /// The bytes that are not read, or a listener's connections that are not accepted.
    receive_queue: u32,
    timer: u8,
    retransmissions: u32,
}

impl TcpSocket {
    /// The bytes that a socket which its program has closed has still to deliver. `None` for any
    /// other socket, and for one whose peer does not answer any more.
    #[must_use]
    pub fn undelivered(&self) -> Option<u32> {
        let is_closed = self.inode == 0 && matches!(self.state, FIN_WAIT1 | LAST_ACK | CLOSING);
        let is_gone = self.timer == RETRANSMISSION && self.retransmissions >= UNANSWERED_MAX;
        (is_closed && !is_gone && self.send_queue > 0).then_some(self.send_queue)
    }

    /// Says whether the socket is a connection that no program has accepted yet.
    #[must_use]
    pub fn is_unaccepted(&self) -> bool {
        self.inode == 0 && matches!(self.state, ESTABLISHED | CLOSE_WAIT)
    }

    /// Says whether the socket is a connection of which the last packet of the handshake lacks, or
    /// was dropped since the queue is full.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        self.inode == 0 && self.state == HALF_OPEN
    }

    /// Says whether the socket is an open connection that a process has.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inode != 0 && matches!(self.state, ESTABLISHED | CLOSE_WAIT)
    }

    /// Says whether the socket is a listener.
    #[must_use]
    pub fn is_listener(&self) -> bool {
        self.state == LISTEN
    }

    /// The number of connections that wait to be accepted from a listener, if there are any.
    #[must_use]
    pub fn waiting(&self) -> Option<u32> {
        (self.state == LISTEN && self.receive_queue > 0).then_some(self.receive_queue)
    }
}

/// Lists the TCP sockets of the namespace at `path`.
pub fn list(path: &Path) -> Result<Vec<TcpSocket>> {
    netns::run_in(path, || read(STREAM))?.map_err(Error::system(format!("list the TCP sockets of {}", path.display())))
}

/// Lists the UDP sockets of the namespace at `path` that have an address, which the kernel shows in
/// the same form.
pub fn list_datagram(path: &Path) -> Result<Vec<TcpSocket>> {
    netns::run_in(path, || read(DATAGRAM))?
        .map_err(Error::system(format!("list the UDP sockets of {}", path.display())))
}

/// Lists the TCP sockets of this thread's own namespace.
pub fn list_own() -> Result<Vec<TcpSocket>> {
    read(STREAM).map_err(Error::system("list the TCP sockets of this host"))
}

fn read(tables: [&str; 2]) -> io::Result<Vec<TcpSocket>> {
    let table = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let tables = [table(tables[0])?, table(tables[1])?];
    Ok(tables.iter().flat_map(|table| table.lines().skip(1).filter_map(socket)).collect())
}

/// Reads a line of `/proc/net/tcp` or `/proc/net/tcp6`.
fn socket(line: &str) -> Option<TcpSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, peer, state, queues, timer, retransmissions, _, _, inode, ..] = fields[..] else { return None };
    let (sent, received) = queues.split_once(':')?;
    Some(TcpSocket {
        local: address(local)?,
        peer: address(peer)?,
        inode: inode.parse().ok()?,
        state: u8::from_str_radix(state, 16).ok()?,
        send_queue: u32::from_str_radix(sent, 16).ok()?,
        receive_queue: u32::from_str_radix(received, 16).ok()?,
        timer: u8::from_str_radix(timer.split_once(':')?.0, 16).ok()?,
        retransmissions: u32::from_str_radix(retransmissions, 16).ok()?,
    })
}

/// Reads an address: words of the machine's byte order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let bytes: Vec<u8> = (0..ip.len() / 8)
        .map(|word| u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()?
        .concat();
    let v4 = <[u8; 4]>::try_from(&bytes[..]).map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
    let ip = v4.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(|bytes| Ipv6Addr::from(bytes).to_canonical())).ok()?;
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let closed = "   3: 0A000040:1F90 0100007F:C8D2 04 0036EE80:00000000 04:00000120 00000002     0        0 0 3 0000000000000000 20 4 26 10 -1";
        let found = socket(closed).unwrap();
        assert_eq!(found.local, "64.0.0.10:8080".parse().unwrap());
        assert_eq!(found.peer, "127.0.0.1:51410".parse().unwrap());
        assert_eq!((found.undelivered(), found.is_unaccepted(), found.waiting()), (Some(0x36_ee80), false, None));
        let gone = closed.replace("04:00000120 00000002", "01:00000120 00000003");
        assert_eq!(socket(&gone).unwrap().undelivered(), None);
        let owned = closed.replace("        0 0 3 ", "        0 7 3 ");
        assert_eq!(socket(&owned).unwrap().undelivered(), None);
        let listener = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0";
        let found = socket(listener).unwrap();
        assert_eq!((found.waiting(), found.inode, found.undelivered()), (Some(3), 4711, None));
        let mapped = "   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:A0C2 01 00000000:00000004 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1";
        let found = socket(mapped).unwrap();
        assert!(found.is_unaccepted() && found.peer == "127.0.0.1:41154".parse().unwrap(), "{found:?}");
        let half_open = mapped.replace(" 01 ", " 03 ").replace(" 0 0 1 ", " 0 0 0 ");
        assert!(socket(&half_open).unwrap().is_half_open() && !found.is_half_open());
        for broken in ["", "1:", "  sl  local_address rem_address   st", &closed.replace("1F90", "xyz")] {
            assert_eq!(socket(broken), None);
        }
    }
}

//! The datagrams that wait in a UDP socket.
//!
//! They are looked at and stay where they are: a job that goes on reads them itself.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use nix::sys::socket::{SockaddrStorage, getsockname};
use serde::{Deserialize, Serialize};

use super::DatagramSocket;
use crate::connections::{Integers, get, set};

/// The longest datagram, with the room of a header.
const DATAGRAM_MAX: usize = 1 << 16;
/// The words of 8 bytes for what the kernel tells of a datagram.
const TOLD_WORDS: usize = 128;
/// The options by which the kernel tells destination, hops and class of each datagram.
const TOLD: [(libc::c_int, libc::c_int); 6] = [
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
];
/// The place of a peek that no earlier one has moved.
const NO_OFFSET: libc::c_int = -1;
/// The values of `SO_MEMINFO`, of which the first is the memory of what waits
/// (linux/sock_diag.h).
type MemoryUse = [u32; 9];

// SAFETY: an array of integers.
unsafe impl Integers for MemoryUse {}

/// A datagram that waits in a UDP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram {
    pub source: SocketAddr,
    /// The address that it was sent to.
    pub destination: IpAddr,
    /// The hops that it had left.
    pub hops: u8,
    /// The class of its traffic: the byte of IPv4's type of service.
    pub class: u8,
    #[serde(with = "hexadecimal")]
    pub bytes: Vec<u8>,
}

impl DatagramSocket {
    /// The memory that the kernel has for what waits in the socket: none where nothing does.
    #[must_use]
    pub fn memory_of_waiting(&self) -> u32 {
        get::<MemoryUse>(&self.socket, libc::SOL_SOCKET, libc::SO_MEMINFO).map_or(0, |[waiting, ..]| waiting)
    }

    /// The port of the socket on its own side.
    ///
    /// # Errors
    /// It has none.
    pub fn port(&self) -> io::Result<u16> {
        let own: SockaddrStorage = getsockname(self.socket.as_raw_fd())?;
        let port = own.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
        port.or_else(|| own.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port))
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Reads what waits in the socket, in its order, up to `room` bytes. Returns the number of
    /// others as well. Nothing else may read from the socket meanwhile. Empty datagrams are read
    /// once: the kernel shows them to nobody who has looked at them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn waiting(&self, room: usize) -> io::Result<(Vec<Datagram>, usize)> {
        let told = TOLD.map(|(level, name)| (level, name, get::<libc::c_int>(&self.socket, level, name)));
        for (level, name, _) in &told {
            // A socket of IPv4 has none of the options of IPv6.
            let _ = set(&self.socket, *level, *name, &1);
        }
        let offset: libc::c_int = get(&self.socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF)?;
        let read = set(&self.socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &0).and_then(|()| self.peek_all(room));
        let put_back = set(&self.socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &offset.max(NO_OFFSET));
        for (level, name, value) in told {
            if let Ok(value) = value {
                let _ = set(&self.socket, level, name, &value);
            }
        }
        put_back.and(read)
    }

    fn peek_all(&self, mut room: usize) -> io::Result<(Vec<Datagram>, usize)> {
        let (mut found, mut others) = (Vec::new(), 0);
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Some(peeked) = self.peek(&mut buffer)? {
            let bytes = &buffer[..peeked.length];
            let (Some(source), Some(destination)) = (peeked.source, peeked.destination) else {
                others += 1;
                continue;
            };
            // The kernel joins datagrams of one sender for a program that asks for it.
            let each = peeked.segment.filter(|segment| *segment > 0).unwrap_or(bytes.len().max(1));
            let parts = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(each).collect() };
            if bytes.len() > room {
                others += parts.len();
                continue;
            }
            room -= bytes.len();
            let Peeked { hops, class, .. } = peeked;
            found.extend(parts.into_iter().map(|part| Datagram {
                source,
                destination,
                hops,
                class,
                bytes: part.into(),
            }));
        }
        Ok((found, others))
    }

    /// Looks at the next datagram. Each look goes on behind the one before.
    fn peek(&self, buffer: &mut [u8]) -> io::Result<Option<Peeked>> {
        let mut looked = self.peek_once(buffer);
        // The kernel tells once how the network answered to what the socket has sent.
        if looked.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            looked = self.peek_once(buffer);
        }
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            looked => looked.map(Some),
        }
    }

    fn peek_once(&self, buffer: &mut [u8]) -> io::Result<Peeked> {
        // SAFETY: both are C structs of integers and pointers, for which all zeros is a value.
        let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut told = [0_u64; TOLD_WORDS];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = told.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&told) as _;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: all that the header points to has the length that it says, and lives for the
        // call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, flags) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let mut peeked = Peeked { length: length.min(buffer.len()), source: address(&name), ..Peeked::default() };
        // SAFETY: the kernel has filled the header, whose control messages lie in `told`.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: the macro returns null or a whole message of those.
        while let Some(message) = unsafe { next.as_ref() } {
            // SAFETY: as above.
            unsafe { peeked.learn(message, libc::CMSG_DATA(next)) };
            // SAFETY: as above.
            next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
        }
        Ok(peeked)
    }
}

/// The facts that the kernel has told of a datagram.
#[derive(Debug)]
struct Peeked {
    length: usize,
    source: Option<SocketAddr>,
    destination: Option<IpAddr>,
    hops: u8,
    class: u8,
    segment: Option<usize>,
}

impl Default for Peeked {
    fn default() -> Self {
        Self { length: 0, source: None, destination: None, hops: 64, class: 0, segment: None }
    }
}

impl Peeked {
    /// Takes in one control message.
    ///
    /// # Safety
    /// `data` are the data of the message, as the kernel has written them.
    unsafe fn learn(&mut self, message: &libc::cmsghdr, data: *const u8) {
        // SAFETY: by the caller. All types below are integers and arrays of them.
        let integer = || unsafe { ptr::read_unaligned(data.cast::<libc::c_int>()) };
        let byte = || u8::try_from(integer()).unwrap_or(0);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: as above.
                let told = unsafe { ptr::read_unaligned(data.cast::<libc::in_pktinfo>()) };
                self.destination = Some(Ipv4Addr::from(told.ipi_addr.s_addr.to_ne_bytes()).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: as above.
                let told = unsafe { ptr::read_unaligned(data.cast::<libc::in6_pktinfo>()) };
                let destination = Ipv6Addr::from(told.ipi6_addr.s6_addr).to_canonical();
                self.destination.get_or_insert(destination);
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => self.hops = byte(),
            // SAFETY: as above.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.class = unsafe { *data },
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => self.class = byte(),
            (libc::IPPROTO_UDP, libc::UDP_GRO) => self.segment = usize::try_from(integer()).ok(),
            _ => {}
        }
    }
}

/// The address of a sender; one of IPv4 in its own form.
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger, has this struct of
            // integers.
            let name = unsafe { ptr::read(ptr::from_ref(name).cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some((ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { ptr::read(ptr::from_ref(name).cast::<libc::sockaddr_in6>()) };
            let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
            Some(match ip.to_canonical() {
                IpAddr::V4(ip) => (ip, port).into(),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, 0).into(),
            })
        }
        _ => None,
    }
}

/// Bytes as text of two digits each.
mod hexadecimal {
    use std::fmt::Write;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        pairs.map(|pair| byte(pair).ok_or_else(|| D::Error::custom("no hexadecimal digits"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    use super::*;

    fn opened(socket: UdpSocket) -> DatagramSocket {
        DatagramSocket { own_pid: 1, descriptor: 3, pid: 1, socket: OwnedFd::from(socket) }
    }

    #[test]
    fn what_waits_is_read_and_stays() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = opened(receiver.try_clone().unwrap());
        assert_eq!((socket.memory_of_waiting(), socket.waiting(100).unwrap()), (0, (vec![], 0)));
        sender.set_ttl(7).unwrap();
        for bytes in [&b"one"[..], b"", b"", b"three"] {
            sender.send_to(bytes, receiver.local_addr().unwrap()).unwrap();
        }
        assert!(socket.memory_of_waiting() > 0);
        let source = sender.local_addr().unwrap();
        let datagram = |bytes: &[u8]| {
            let destination = Ipv4Addr::LOCALHOST.into();
            Datagram { source, destination, hops: 7, class: 0, bytes: bytes.into() }
        };
        let all = [&b"one"[..], b"", b"", b"three"].map(datagram);
        // Where there is no room for all, the others are counted.
        assert_eq!(socket.waiting(3).unwrap(), (all[..3].to_vec(), 1));
        // The kernel shows an empty one once.
        assert_eq!(socket.waiting(100).unwrap(), (vec![all[0].clone(), all[3].clone()], 0));
        let mut buffer = [0; 10];
        let mut read = || receiver.recv(&mut buffer).map(|length| buffer[..length].to_vec()).unwrap();
        assert_eq!([read(), read(), read(), read()], [&b"one"[..], b"", b"", b"three"]);
    }

    #[test]
    fn a_socket_of_both_families_tells_each() {
        let receiver = UdpSocket::bind("[::]:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let four = UdpSocket::bind("127.0.0.1:0").unwrap();
        let six = UdpSocket::bind("[::1]:0").unwrap();
        four.send_to(b"4", ("127.0.0.1", port)).unwrap();
        six.send_to(b"6", ("::1", port)).unwrap();
        let socket = opened(receiver);
        assert_eq!(socket.port().unwrap(), port);
        let (found, _) = socket.waiting(100).unwrap();
        let ends: Vec<_> = found.iter().map(|datagram| (datagram.source, datagram.destination)).collect();
        let expected = [&four, &six].map(|sender| sender.local_addr().unwrap()).map(|own| (own, own.ip()));
        assert_eq!(ends, expected);
    }
}

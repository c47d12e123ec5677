//! The way of datagrams into the sockets of a job that is restored.
//!
//! No call puts a datagram with its sender's address into a socket. So each arrives once more, as
//! packets on the interface by which it came: the host's end of the job's link, or the job's
//! loopback. They are written to the interface itself, where no rule for packets of the host or of
//! the job drops them. The job's processes are frozen, and nothing else reaches it.
//!
//! The kernel chooses the socket of a datagram by its addresses. A datagram to a group goes to each
//! socket that has joined it, so the others refuse all datagrams meanwhile. Sockets that share
//! their port's datagrams may get those of each other, as they did before.

use std::fs;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::DatagramSocket;
use super::packet;
use super::queue::Datagram;
use crate::connections::{get, set};
use crate::job_net::hardware_address;
use crate::{Error, Result, netns};

/// The longest wait for a datagram in its socket, where the kernel puts it within microseconds.
const ARRIVAL_TIMEOUT: Duration = Duration::from_millis(10);
/// The longest wait for all datagrams of a job that do not arrive: the job is frozen meanwhile.
const LOST_TIMEOUT: Duration = Duration::from_millis(50);
/// The kernel's settings of a namespace by which it takes packets with addresses of its own, and
/// with those of the loopback, from a link.
const OWN_SENDERS: [&str; 2] = ["accept_local", "route_localnet"];
/// A filter that lets nothing into a socket: `BPF_RET | BPF_K` with length 0.
const NOTHING: Instruction = Instruction { code: 6, jump_true: 0, jump_false: 0, value: 0 };
/// The most instructions of a filter (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

/// `sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

/// `sock_fprog` of linux/filter.h.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// The way into one job's sockets.
#[derive(Debug)]
pub struct Inlet {
    /// The host's end of the job's link.
    link: Interface,
    loopback: Interface,
    number: u16,
    /// The wait for datagrams that do not arrive which is left.
    patience: Duration,
    _admitted: Admitted,
}

impl Inlet {
    /// Opens the way into a job with a namespace, an interface on this host and an address.
    ///
    /// # Errors
    /// The namespace or the interface does not exist, or the kernel refuses.
    pub fn open(namespace: &Path, host_interface: &str, address: Ipv4Addr) -> Result<Self> {
        let attempt = || Error::system(format!("send packets by {host_interface}"));
        let link = Interface::open(host_interface, hardware_address(address)).map_err(attempt())?;
        let loopback = netns::run_in(namespace, || Interface::open("lo", [0; 6]))?.map_err(attempt())?;
        let admitted = Admitted::admit(namespace)?;
        Ok(Self { link, loopback, number: 0, patience: LOST_TIMEOUT, _admitted: admitted })
    }

    /// Puts datagrams into a socket, in their order. `others` are the job's other sockets.
    /// Returns the number of datagrams that did not arrive.
    pub fn put(&mut self, socket: &DatagramSocket, others: &[DatagramSocket], datagrams: &[Datagram]) -> usize {
        let Ok(port) = socket.port() else { return datagrams.len() };
        let others: Vec<&DatagramSocket> =
            others.iter().filter(|other| other.port().is_ok_and(|of| of == port) && !other.is_same(socket)).collect();
        let widened = Widened::widen(socket, datagrams);
        let arrived = datagrams.iter().filter(|datagram| self.put_one(socket, &others, port, datagram)).count();
        drop(widened);
        datagrams.len() - arrived
    }

    fn put_one(&mut self, socket: &DatagramSocket, others: &[&DatagramSocket], port: u16, datagram: &Datagram) -> bool {
        self.number = self.number.wrapping_add(1);
        let Some(packets) = packet::packets(datagram, port, self.number) else { return false };
        let is_shared = match datagram.destination {
            IpAddr::V4(to) => to.is_multicast() || to.is_broadcast(),
            IpAddr::V6(to) => to.is_multicast(),
        };
        let silenced: Vec<Silenced<'_>> =
            if is_shared { others.iter().filter_map(|other| Silenced::silence(other)).collect() } else { Vec::new() };
        let waiting =
            || -> u64 { [socket].iter().chain(others).map(|socket| u64::from(socket.memory_of_waiting())).sum() };
        let (before, interface) = (waiting(), self.interface(datagram));
        let sent = packets.iter().try_for_each(|packet| interface.send(datagram.destination, packet));
        let arrived = sent.is_ok() && self.arrives(|| waiting() > before);
        drop(silenced);
        arrived
    }

    /// The interface by which a datagram came. What a job sends to its own address does not leave
    /// it, but the kernel tells programs that it came by the link.
    fn interface(&self, datagram: &Datagram) -> &Interface {
        if datagram.source.ip().is_loopback() { &self.loopback } else { &self.link }
    }

    fn arrives(&mut self, has_arrived: impl Fn() -> bool) -> bool {
        let (began, limit) = (Instant::now(), ARRIVAL_TIMEOUT.min(self.patience));
        // A socket in which something waits already tells nobody that more has come.
        while !has_arrived() {
            if began.elapsed() > limit {
                self.patience = self.patience.saturating_sub(began.elapsed());
                return false;
            }
            thread::yield_now();
        }
        true
    }
}

/// An interface to which packets are written.
#[derive(Debug)]
struct Interface {
    socket: OwnedFd,
    number: libc::c_int,
    receiver: [u8; 6],
}

impl Interface {
    /// Opens an interface of the calling thread's namespace.
    fn open(name: &str, receiver: [u8; 6]) -> io::Result<Self> {
        let number = nix::net::if_::if_nametoindex(name)?.cast_signed();
        // SAFETY: the call takes three integers. With protocol 0 the socket receives nothing.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(socket) }, number, receiver })
    }

    /// Writes a packet to an address.
    fn send(&self, to: IpAddr, packet: &[u8]) -> io::Result<()> {
        let protocol = if to.is_ipv4() { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        // SAFETY: a sockaddr_ll is a C struct of integers, for which all zeros is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = self.number;
        address.sll_halen = self.receiver.len() as u8;
        address.sll_addr[..self.receiver.len()].copy_from_slice(&self.receiver);
        // SAFETY: packet and address have the lengths that are passed, and live for the call.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Settings of a namespace that let packets with its own addresses in, while this value lives.
#[derive(Debug)]
struct Admitted {
    namespace: PathBuf,
    before: Vec<(PathBuf, String)>,
}

impl Admitted {
    fn admit(namespace: &Path) -> Result<Self> {
        let before = netns::run_in(namespace, || {
            let mut before = Vec::new();
            for name in OWN_SENDERS {
                let path = Path::new("/proc/sys/net/ipv4/conf/all").join(name);
                before.push((path.clone(), fs::read_to_string(&path)?));
                fs::write(path, "1")?;
            }
            Ok(before)
        })?;
        let before = before.map_err(Error::system("let packets of a job's own addresses in"))?;
        Ok(Self { namespace: namespace.to_owned(), before })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let put_back = || self.before.iter().for_each(|(path, value)| drop(fs::write(path, value)));
        // A namespace that is gone has no settings.
        let _ = netns::run_in(&self.namespace, put_back);
    }
}

/// A socket with room for all that is put into it, while this value lives.
#[derive(Debug)]
struct Widened<'a> {
    socket: &'a DatagramSocket,
    room: libc::c_int,
}

impl<'a> Widened<'a> {
    fn widen(socket: &'a DatagramSocket, datagrams: &[Datagram]) -> Option<Self> {
        let room: libc::c_int = get(&socket.socket, libc::SOL_SOCKET, libc::SO_RCVBUF).ok()?;
        // The kernel counts its own memory, of some kilobytes for a datagram.
        let bytes: usize = datagrams.iter().map(|datagram| 2 * datagram.bytes.len() + 4096).sum();
        let wide = room.saturating_add(libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX));
        set(&socket.socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(wide / 2)).ok()?;
        Some(Self { socket, room })
    }
}

impl Drop for Widened<'_> {
    fn drop(&mut self) {
        // The kernel doubles what it is given.
        let _ = set(&self.socket.socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(self.room / 2));
    }
}

/// A socket into which nothing comes, while this value lives.
#[derive(Debug)]
struct Silenced<'a> {
    socket: &'a DatagramSocket,
    filter: Vec<Instruction>,
}

impl<'a> Silenced<'a> {
    fn silence(socket: &'a DatagramSocket) -> Option<Self> {
        let filter = filter(&socket.socket).ok()?;
        attach(&socket.socket, &[NOTHING]).ok()?;
        Some(Self { socket, filter })
    }
}

impl Drop for Silenced<'_> {
    fn drop(&mut self) {
        let socket = &self.socket.socket;
        let _ = if self.filter.is_empty() {
            set(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
        } else {
            attach(socket, &self.filter)
        };
    }
}

/// Reads the filter of a socket, which is empty where it has none.
fn filter(socket: &OwnedFd) -> io::Result<Vec<Instruction>> {
    let mut filter = vec![Instruction::default(); INSTRUCTIONS_MAX];
    // The kernel counts instructions, not bytes.
    let mut count = INSTRUCTIONS_MAX as libc::socklen_t;
    // SAFETY: the kernel writes at most `count` instructions of integers, and both live for the
    // call.
    let answer = unsafe {
        let place = filter.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_GET_FILTER, place, &raw mut count)
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    filter.truncate(usize::try_from(count).map_err(io::Error::other)?);
    Ok(filter)
}

fn attach(socket: &OwnedFd, filter: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = Program { length, instructions: filter.as_ptr() };
    let size = size_of::<Program>() as libc::socklen_t;
    // SAFETY: the program names as many instructions as it says, and both live for the call.
    let answer = unsafe {
        let place = (&raw const program).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, place, size)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

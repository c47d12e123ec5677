//! The TCP connections of restored processes.
//!
//! A restored socket knows neither what was acknowledged meanwhile nor the round-trip time. Its
//! first retransmission comes after a second, for which a program with a full send buffer waits.
//! Leaving the kernel's repair mode sends a window probe, which every peer answers with its
//! acknowledgement. The processes have to be frozen meanwhile: a socket in repair mode takes no
//! bytes from its program.
//!
//! Bytes that could not be sent while packets were dropped would wait for the same second.
//! Switching off the delay of small packets (`TCP_NODELAY`) sends them at once. The kernel does not
//! probe a connection whose program has ended its direction, but it sends such bytes.
//!
//! Such a connection to another process of the same job needs one thing more. The window probe of
//! its reader announces the reader's window in a segment that the sender discards. The reader
//! considers it announced then. So the sender is told by its socket options.
//!
//! A connection whose peer is gone or unreachable would hang until a time-out. It is reset instead:
//! the program sees a reset at once, as if the peer had sent it.

#![expect(unsafe_code, reason = "descriptors of other processes and TCP options are had by system calls")]

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};

/// The states in which a connection may have bytes to send (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;
const REPAIR_ON: libc::c_int = 1;
const REPAIR_OFF: libc::c_int = 0;
const REPAIR_OFF_WITHOUT_PROBE: libc::c_int = -1;
const RECEIVE_QUEUE: libc::c_int = 1;

/// A value of socket options.
///
/// # Safety
/// Any bits are a value of the type.
pub(crate) unsafe trait Integers: Default {}

// SAFETY: an integer.
unsafe impl Integers for libc::c_int {}
// SAFETY: a C struct of integers.
unsafe impl Integers for Window {}

/// The windows of a connection (`tcp_repair_window` of linux/tcp.h).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Window {
    sent_update: u32,
    sent: u32,
    largest: u32,
    received: u32,
    announced_at: u32,
}

/// Sends a window probe on every connection of these processes, and the bytes that wait to be sent.
/// Returns the number of connections. One where this fails recovers later, by retransmission.
pub fn wake(pids: &[i32]) -> usize {
    let ended = RefCell::new(HashMap::new());
    let woken = each_of(pids, |socket| {
        probe(socket)?;
        push(socket)?;
        if state(socket)? == FIN_WAIT1
            && let Some((from, to)) = ends(socket)
        {
            ended.borrow_mut().insert((to, from), socket.try_clone()?);
        }
        Ok(true)
    });
    let ended = ended.into_inner();
    if !ended.is_empty() {
        each_of(pids, |socket| {
            let sender = ends(socket).and_then(|ends| ended.get(&ends));
            sender.map_or(Ok(false), |sender| announce_window(socket, sender))
        });
    }
    woken
}

/// Resets every connection of these processes to a peer that is `lost`. Returns the number of
/// resets. Connections over loopback stay.
pub fn reset(pids: &[i32], lost: impl Fn(IpAddr) -> bool) -> usize {
    each_of(pids, |socket| match peer(socket) {
        Some(peer) if !peer.is_loopback() && lost(peer) => disconnect(socket).map(|()| true),
        _ => Ok(false),
    })
}

/// Applies `act` to each connection that may have bytes to send. Returns the number of successes.
fn each_of(pids: &[i32], act: impl Fn(&OwnedFd) -> io::Result<bool>) -> usize {
    let mut seen = BTreeSet::new();
    pids.iter().map(|pid| each_of_process(*pid, &mut seen, &act).unwrap_or(0)).sum()
}

fn each_of_process(
    pid: i32,
    seen: &mut BTreeSet<String>,
    act: &impl Fn(&OwnedFd) -> io::Result<bool>,
) -> io::Result<usize> {
    let process = pidfd_open(pid)?;
    let mut done = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        // Forked processes share sockets.
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if target.starts_with("socket:") && seen.insert(target) && on_connection(&process, number, act).unwrap_or(false)
        {
            done += 1;
        }
    }
    Ok(done)
}

fn on_connection(process: &OwnedFd, number: RawFd, act: &impl Fn(&OwnedFd) -> io::Result<bool>) -> io::Result<bool> {
    let socket = pidfd_getfd(process, number)?;
    let is_connection = option(&socket, libc::SOL_SOCKET, libc::SO_PROTOCOL)? == libc::IPPROTO_TCP
        && matches!(state(&socket)?, ESTABLISHED | FIN_WAIT1 | CLOSE_WAIT | LAST_ACK | CLOSING);
    if is_connection { act(&socket) } else { Ok(false) }
}

fn probe(socket: &OwnedFd) -> io::Result<()> {
    // Repair mode changes this option, and leaves it off.
    let reuse = option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_ON)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse)
}

/// Sends what waits to be sent.
fn push(socket: &OwnedFd) -> io::Result<()> {
    let undelayed = option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, undelayed)
}

/// Tells a sender the window of its reader, and has it send.
fn announce_window(reader: &OwnedFd, sender: &OwnedFd) -> io::Result<bool> {
    let window = in_repair_mode(reader, || {
        set_option(reader, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, RECEIVE_QUEUE)?;
        let next = option(reader, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ)?.cast_unsigned();
        let Window { announced_at, received, .. } = get(reader, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW)?;
        // Sequence numbers wrap around.
        Ok(announced_at.wrapping_add(received).wrapping_sub(next))
    })?;
    in_repair_mode(sender, || {
        let known: Window = get(sender, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW)?;
        let told = Window { sent: known.sent.max(window), ..known };
        set(sender, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &told)
    })?;
    push(sender)?;
    Ok(true)
}

/// Runs `work` while a socket is in repair mode, without a probe at the end.
fn in_repair_mode<T>(socket: &OwnedFd, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let reuse = option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_ON)?;
    let outcome = work();
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF_WITHOUT_PROBE)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse)?;
    outcome
}

fn peer(socket: &OwnedFd) -> Option<IpAddr> {
    ends(socket).map(|(_, peer)| peer.ip())
}

/// The addresses of a connection: its own, and that of its peer.
fn ends(socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    let [own, peer]: [SockaddrStorage; 2] =
        [getsockname(socket.as_raw_fd()).ok()?, getpeername(socket.as_raw_fd()).ok()?];
    Some((address(&own)?, address(&peer)?))
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip().to_canonical(), v6.port()))))
}

/// Ends a connection at once by connecting to nothing: the peer gets a reset, the program the error
/// of one.
fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: a sockaddr is a C struct of integers, for which all zeros is a value, that of
    // AF_UNSPEC.
    let nothing: libc::sockaddr = unsafe { mem::zeroed() };
    let size = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the address is read, has the given length, and lives for the call.
    let answer = unsafe { libc::connect(socket.as_raw_fd(), &raw const nothing, size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn state(socket: &OwnedFd) -> io::Result<u8> {
    // SAFETY: a tcp_info is a C struct of integers, for which all zeros is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes into `info`, and both live for the call.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut size)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(info.tcpi_state) }
}

fn option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    get(socket, level, name)
}

fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set(socket, level, name, &value)
}

pub(crate) fn get<T: Integers>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    update(socket, level, name, &mut value)?;
    Ok(value)
}

/// Reads an option that depends on the value with which it is asked for.
pub(crate) fn update<T: Integers>(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes of integers, and both places live for the
    // call.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut *value).cast(), &raw mut size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn set<T: Integers>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the option takes integers, which are passed with their size and live for the call.
    let answer = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

pub(crate) fn pidfd_getfd(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes three integers, of which the first is an open descriptor.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = RawFd::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn connections_of_another_process_are_woken_and_go_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // A child process has the connection as its input and output, which is one socket twice.
        let (input, output) = (OwnedFd::from(client.try_clone().unwrap()), OwnedFd::from(client));
        let mut cat = Command::new("cat").stdin(Stdio::from(input)).stdout(Stdio::from(output)).spawn().expect("cat");
        let pid = i32::try_from(cat.id()).unwrap();
        server.write_all(b"before").unwrap();
        let mut echo = [0; 6];
        server.read_exact(&mut echo).unwrap();
        assert_eq!(wake(&[pid]), 1);
        server.write_all(b"after!").unwrap();
        server.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"after!");
        server.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(cat.wait().unwrap().success());
        assert_eq!(wake(&[pid]), 0);
    }

    #[test]
    fn a_lost_connection_of_another_process_ends_at_once_and_loopback_goes_on() {
        // A peer that is not on loopback needs a namespace with its address.
        let program = "import socket, sys
s = socket.create_server(('0.0.0.0', 0)); c = socket.create_connection(('198.18.255.1', s.getsockname()[1])); a, _ = s.accept()
l = socket.create_connection(('127.0.0.1', s.getsockname()[1])); b, _ = s.accept()
print('ready', flush=True)
try: print('got', c.recv(1), flush=True)
except ConnectionError: print('broken', flush=True)
b.send(b'x'); print('loopback', l.recv(1), flush=True)";
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "/bin/sh",
            "-c",
            "ip link set lo up; ip addr add 198.18.255.1/32 dev lo; exec python3 -c \"$0\"",
            program,
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("unshare runs");
        let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().expect("its output")));
        let mut line = || lines.next().expect("a line").expect("text");
        assert_eq!(line(), "ready");
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(reset(&[pid], |peer| peer == IpAddr::from([198, 18, 255, 2])), 0);
        // Both ends belong to this process: resetting the first ends the other as well.
        assert_eq!(reset(&[pid], |peer| peer == IpAddr::from([198, 18, 255, 1])), 1);
        assert_eq!(line(), "broken");
        assert_eq!(line(), "loopback b'x'");
        assert!(child.wait().unwrap().success());
    }
}

//! Has the TCP connections of restored processes ask their peers at once how much has arrived.
//!
//! A restored socket knows what it had sent and not what was acknowledged meanwhile, and has measured no round trip: left alone it waits
//! a second before it sends anything again, and a program whose send buffer is full waits with it. Leaving the kernel's repair mode
//! sends a window probe, which any peer answers with what it has. The processes have to stand still: a socket in repair mode takes
//! nothing from its program.

#![expect(unsafe_code, reason = "descriptors of other processes and TCP options are had by system calls")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// States in which a connection may have something to send (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const REPAIR_ON: libc::c_int = 1;
const REPAIR_OFF: libc::c_int = 0;

/// Sends a probe on every connection of these processes; gives back how many there were. What can't be reached is left alone: it goes
/// on by itself, later.
pub fn probe_peers(pids: &[i32]) -> usize {
    let mut seen = BTreeSet::new();
    pids.iter().map(|pid| probe_process(*pid, &mut seen).unwrap_or(0)).sum()
}

fn probe_process(pid: i32, seen: &mut BTreeSet<String>) -> io::Result<usize> {
    let process = pidfd_open(pid)?;
    let mut probed = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        // Processes that were forked share sockets.
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if target.starts_with("socket:") && seen.insert(target) && probe(&process, number).unwrap_or(false) {
            probed += 1;
        }
    }
    Ok(probed)
}

fn probe(process: &OwnedFd, number: RawFd) -> io::Result<bool> {
    let socket = pidfd_getfd(process, number)?;
    if option(&socket, libc::SOL_SOCKET, libc::SO_PROTOCOL)? != libc::IPPROTO_TCP {
        return Ok(false);
    }
    if !matches!(state(&socket)?, ESTABLISHED | CLOSE_WAIT) {
        return Ok(false);
    }
    // Repair mode takes over this one, and leaves it off.
    let reuse = option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_ON)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse)?;
    Ok(true)
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
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most one int, and both places live for the call.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes one int, which is passed with its size and lives for the call.
    let answer = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

fn pidfd_getfd(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
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
    fn connections_of_another_process_are_probed_and_go_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // A process of its own that has the connection as its input and output, twice the same socket.
        let (input, output) = (OwnedFd::from(client.try_clone().unwrap()), OwnedFd::from(client));
        let mut cat = Command::new("cat").stdin(Stdio::from(input)).stdout(Stdio::from(output)).spawn().expect("cat");
        let pid = i32::try_from(cat.id()).unwrap();
        server.write_all(b"before").unwrap();
        let mut echo = [0; 6];
        server.read_exact(&mut echo).unwrap();
        assert_eq!(probe_peers(&[pid]), 1);
        server.write_all(b"after!").unwrap();
        server.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"after!");
        server.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(cat.wait().unwrap().success());
        assert_eq!(probe_peers(&[pid]), 0);
    }
}

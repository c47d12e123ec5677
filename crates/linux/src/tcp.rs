//! The unacknowledged and the unread bytes of a TCP socket.

#![expect(unsafe_code, reason = "the kernel answers through ioctl and setsockopt")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// `TCP_RTO_MAX_MS` of linux/tcp.h, since Linux 6.15.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Returns the number of bytes in the send queue: unacknowledged or not sent yet.
///
/// # Errors
/// The descriptor is not a socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same as TIOCOUTQ) writes one int, which lives for the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(u32::try_from(bytes).unwrap_or(0)) }
}

/// Returns the number of bytes that have arrived and are not read yet.
///
/// # Errors
/// The descriptor is not a socket.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which lives for the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(u32::try_from(bytes).unwrap_or(0)) }
}

/// Limits the time between retransmissions.
///
/// # Errors
/// The kernel lacks the option (before Linux 6.15), or refuses the value.
pub fn limit_retransmission_wait(socket: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let millis = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes one int, which is passed with its size and lives for the call.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_RTO_MAX_MS, (&raw const millis).cast(), size)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_the_peer_took_is_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        // Bytes beyond both buffers wait in the send queue.
        let written = std::iter::from_fn(|| client.write(&[7; 65536]).ok()).sum::<usize>();
        assert!(unacknowledged(client.as_fd()).unwrap() > 0);
        assert!(unread(server.as_fd()).unwrap() > 0);
        let mut taken = vec![0; written];
        server.read_exact(&mut taken).unwrap();
        while unacknowledged(client.as_fd()).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}

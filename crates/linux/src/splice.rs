//! Bytes from socket to socket, without a copy through the process.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

/// The capacity of a pipe in bytes: the kernel's default.
pub const CAPACITY: usize = 64 * 1024;

/// A buffer in the kernel for bytes on their way between two sockets.
///
/// No operation blocks: without bytes to move, or room for them, the error is
/// [`io::ErrorKind::WouldBlock`].
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    holds: usize,
}

impl Pipe {
    /// Makes an empty pipe.
    ///
    /// # Errors
    /// The process or its user is out of descriptors or pipes.
    pub fn new() -> io::Result<Self> {
        let (out, into) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        Ok(Self { out, into, holds: 0 })
    }

    /// Returns the number of bytes in the pipe.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.holds
    }

    /// Moves received bytes from a socket into the pipe. Returns 0 at the end of the stream.
    ///
    /// # Errors
    /// No bytes have arrived or the pipe is full (`WouldBlock`), the connection failed, or the
    /// socket can't be spliced (`InvalidInput`).
    pub fn splice_in(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let moved = splice(from, None, &self.into, None, CAPACITY, flags())?;
        self.holds += moved;
        Ok(moved)
    }

    /// Moves bytes from the pipe into a socket, as many as it takes.
    ///
    /// # Errors
    /// The socket has no room or the pipe is empty (`WouldBlock`), the connection failed, or the
    /// socket can't be spliced (`InvalidInput`).
    pub fn splice_out(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        if self.holds == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let moved = splice(&self.out, None, to, None, self.holds, flags())?;
        self.holds -= moved;
        Ok(moved)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_go_from_socket_to_socket_and_so_does_the_end() {
        let ((mut client, near), (far, mut job)) = (pair(), pair());
        let mut pipe = Pipe::new().unwrap();
        client.write_all(b"through the kernel").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut taken = 0;
        while taken < 18 {
            taken += pipe.splice_in(near.as_fd()).unwrap();
        }
        assert_eq!(pipe.holds(), 18);
        assert_eq!(pipe.splice_in(near.as_fd()).unwrap(), 0, "the end");
        while pipe.holds() > 0 {
            pipe.splice_out(far.as_fd()).unwrap();
        }
        drop(far);
        let mut got = String::new();
        job.read_to_string(&mut got).unwrap();
        assert_eq!(got, "through the kernel");
    }

    #[test]
    fn what_is_not_there_would_block() {
        let (near, _other) = pair();
        near.set_nonblocking(true).unwrap();
        let mut pipe = Pipe::new().unwrap();
        assert_eq!(pipe.splice_in(near.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(pipe.splice_out(near.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

//! Moving bytes from socket to socket without copying them through the process.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

/// How much one pipe takes: what the kernel gives it without being asked.
pub const CAPACITY: usize = 64 * 1024;

/// The place in the kernel where bytes are between two sockets.
///
/// Nothing here waits: where there is nothing to move, or no room for it, the error is [`io::ErrorKind::WouldBlock`].
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    holds: usize,
}

impl Pipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// The process or its user is out of descriptors or pipes.
    pub fn new() -> io::Result<Self> {
        let (out, into) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        Ok(Self { out, into, holds: 0 })
    }

    /// How many bytes are in it.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.holds
    }

    /// Takes in what has arrived at a socket; 0 at its end.
    ///
    /// # Errors
    /// Nothing has arrived or the pipe is full (`WouldBlock`), the socket broke, or it can't be spliced (`InvalidInput`).
    pub fn splice_in(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let moved = splice(from, None, &self.into, None, CAPACITY, flags())?;
        self.holds += moved;
        Ok(moved)
    }

    /// Gives out to a socket as much as it takes.
    ///
    /// # Errors
    /// The socket has no room or the pipe is empty (`WouldBlock`), the socket broke, or it can't be spliced (`InvalidInput`).
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

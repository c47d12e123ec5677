//! Calls on the socket of a connection, of a client or to a job.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Makes the kernel reset a connection, instead of ending it, when its socket is closed.
pub fn reset_on_drop(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "can't have a connection end by a reset");
    }
}

/// Reads the bytes that have arrived; empty at the end. No buffer is allocated before bytes arrive.
///
/// # Errors
/// The connection is broken.
pub async fn read(socket: &TcpStream) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        if let Some(bytes) = try_read(socket)? {
            return Ok(bytes);
        }
    }
}

/// Reads the bytes that have arrived; empty at the end, `None` if there are none yet.
///
/// # Errors
/// The connection is broken.
pub fn try_read(socket: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(READ_BUFFER_BYTES);
    match socket.try_read_buf(&mut bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until more than the first `known` bytes have arrived, and returns these without consuming
/// them; `None` if the other end has ended.
///
/// # Errors
/// The connection is broken.
pub(crate) async fn peek_more(stream: &TcpStream, known: usize, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // Clearing the readiness of the client's own descriptor would hide these bytes from later
    // readers, so a duplicate is polled.
    let duplicate = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let polled = TcpStream::from_std(duplicate.try_clone()?)?;
    loop {
        let ready = polled.ready(Interest::READABLE).await?;
        let peek = || match duplicate.peek(buffer)? {
            length if length == known => Err(io::ErrorKind::WouldBlock.into()),
            length => Ok(length),
        };
        match polled.try_io(Interest::READABLE, peek) {
            Ok(length) => return Ok(Some(length)),
            // Readiness for the end can't be cleared: waiting for more would spin.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

//! Calls on the socket of one client connection.

use std::future;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit for a client to close its side after the gateway has closed its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Makes the kernel reset a connection, instead of ending it, when its socket is closed.
pub fn reset_on_drop(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "can't have a connection end by a reset");
    }
}

/// Waits until a client's connection is reset.
pub async fn until_reset(client: &TcpStream) {
    if client.ready(Interest::ERROR).await.is_err() {
        future::pending().await
    }
}

/// Waits until a client has ended its direction, with unread bytes or without.
pub async fn until_end_of_input(client: &TcpStream) {
    // Ordinary data does not wake who waits for urgent data; the end of the direction does.
    if client.ready(Interest::PRIORITY).await.is_ok_and(|ready| !ready.is_read_closed()) {
        future::pending().await
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

/// Ends the direction to a client and waits until the client closes, at most [`CLOSE_TIMEOUT`].
///
/// The kernel resets a socket that is closed with unread bytes. A client that is reset may lose
/// bytes that it has not read yet.
///
/// # Errors
/// The connection is broken.
pub async fn close_gracefully(client: &TcpStream) -> io::Result<()> {
    let close = async {
        SockRef::from(client).shutdown(Shutdown::Write)?;
        while !read(client).await?.is_empty() {}
        Ok(())
    };
    timeout(CLOSE_TIMEOUT, close).await.unwrap_or(Ok(()))
}

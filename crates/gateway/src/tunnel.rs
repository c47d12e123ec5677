//! A client whose bytes go to the job unread, from the first to the last.

use std::io;

use crate::client_socket::ClientSocket;
use crate::relay::{self, Content, Early};
use crate::upstream::{Connected, Upstream};

/// Connects a client to the job, unless it is connected, and relays its bytes.
///
/// # Errors
/// The job could not be reached in time, or a side broke; the other one has been reset.
pub async fn tunnel(
    client: &ClientSocket,
    connected: Option<Connected>,
    upstream: &Upstream,
    content: Content,
) -> io::Result<()> {
    let job = match connected {
        Some(connected) => connected,
        None => tokio::select! {
            connected = upstream.connect() => connected?,
            () = client.until_reset() => return Err(io::ErrorKind::ConnectionReset.into()),
        },
    };
    relay::relay(client, job, upstream, content, Early::default()).await
}

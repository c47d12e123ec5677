//! A client whose bytes go to the job unread, from the first to the last.

use std::io;

use tokio::net::TcpStream;

use crate::relay::{self, Content, Early};
use crate::socket;
use crate::upstream::{Connected, Upstream};

/// Connects a client to the job, unless it is connected, and relays its bytes.
///
/// # Errors
/// The job could not be reached in time, or a side broke; the other one has been reset.
pub async fn tunnel(
    client: &TcpStream,
    connected: Option<Connected>,
    upstream: &Upstream,
    content: Content,
) -> io::Result<()> {
    let job = match connected {
        Some(connected) => connected,
        None => tokio::select! {
            connected = upstream.connect() => connected?,
            () = socket::until_reset(client) => return Err(io::ErrorKind::ConnectionReset.into()),
        },
    };
    relay::relay(client, job, upstream, content, Early::default()).await
}

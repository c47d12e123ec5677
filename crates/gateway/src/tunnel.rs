//! A client whose bytes go to the job unread, from the first to the last.

use std::io;
use std::net::IpAddr;

use crate::client_socket::ClientSocket;
use crate::relay::{self, Content, Early};
use crate::upstream::{Connected, Upstream};
use crate::wake::Opening;
use crate::wake::caller::{self, unheard};

/// Connects a client to the job, unless it is connected, and relays its bytes.
///
/// # Errors
/// The job could not be reached in time, or a side broke; the other one has been reset.
pub async fn tunnel(
    client: &ClientSocket,
    connected: Option<Connected>,
    address: IpAddr,
    upstream: &Upstream,
    content: Content,
) -> io::Result<()> {
    let opening = match content {
        Content::Bytes => Opening::of(client).await?,
        Content::Unexamined | Content::Tls | Content::WebSocket => Opening::Bytes,
    };
    let content = if opening == Opening::Tls { Content::Tls } else { content };
    let job = match connected {
        Some(connected) => connected,
        None => tokio::select! {
            connected = upstream.connect() => connected?,
            () = client.until_reset() => return Err(io::ErrorKind::ConnectionReset.into()),
            () = caller::of_opening(client, upstream, address, opening) => return Err(unheard()),
        },
    };
    relay::relay(client, job, upstream, content, Early::default()).await
}

//! One client connection and what serving it needs.

use std::net::SocketAddr;
use std::sync::Arc;

use mooring_types::JobId;

use crate::client_socket::ClientSocket;
use crate::http::headers::Peer;
use crate::shared::Shared;
use crate::upstream::Upstream;

/// A client connection.
#[derive(Debug)]
pub struct ClientConnection {
    pub socket: Arc<ClientSocket>,
    pub address: SocketAddr,
    pub job: JobId,
    pub upstream: Upstream,
    pub shared: Arc<Shared>,
}

impl ClientConnection {
    /// The other end: the client, or a proxy before it.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer { address: self.address.ip(), is_tls: self.socket.is_tls() }
    }
}

//! One client connection and what serving it needs.

use std::net::SocketAddr;
use std::sync::Arc;

use mooring_types::JobId;

use crate::budget::HeadShare;
use crate::client_socket::ClientSocket;
use crate::http::origin::Peer;
use crate::proxy_line::Told;
use crate::shared::Shared;
use crate::upstream::Upstream;

/// A client connection.
#[derive(Debug)]
pub struct ClientConnection {
    pub socket: Arc<ClientSocket>,
    /// The client's address, or that of the proxy before it.
    pub address: SocketAddr,
    /// The word of a trusted proxy at the beginning.
    pub told: Option<Told>,
    pub job: JobId,
    pub upstream: Upstream,
    pub shared: Arc<Shared>,
}

impl ClientConnection {
    /// The unfinished heads of its requests: none yet.
    pub(crate) fn heads(&self) -> HeadShare {
        let (address, budgets) = (self.address.ip(), &self.shared.budgets);
        match self.upstream.routes.now().is_proxy(address) {
            true => budgets.heads_of_proxy(),
            false => budgets.heads(address),
        }
    }

    /// The other end: the client, or a proxy before it.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer { address: self.address.ip(), is_tls: self.socket.is_tls(), told: self.told }
    }
}

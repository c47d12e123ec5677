//! One client connection and what serving it needs.

use std::net::SocketAddr;
use std::sync::Arc;

use mooring_types::JobId;
use tokio::net::TcpStream;

use crate::shared::Shared;
use crate::upstream::Upstream;

/// A client connection.
#[derive(Debug)]
pub struct ClientConnection {
    pub socket: Arc<TcpStream>,
    pub address: SocketAddr,
    pub job: JobId,
    pub upstream: Upstream,
    pub shared: Arc<Shared>,
}

//! Packet rules that hold a job's packets while its processes or sockets are not there.

use std::net::Ipv4Addr;
use std::sync::Arc;

use mooring_linux::{Result, nft};

/// The packet rules of this host, in one nftables table.
#[derive(Debug, Clone)]
pub(crate) struct PacketFilter {
    table: Arc<str>,
}

impl PacketFilter {
    pub(crate) fn new(table: &str) -> Self {
        Self { table: table.into() }
    }

    /// The name of the table.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Drops packets to an address from now on.
    pub(crate) async fn hold(&self, address: Ipv4Addr) -> Result<()> {
        nft::hold(&self.table, address).await
    }

    /// Drops packets to an address from now on, and packets from it that end a connection.
    pub(crate) async fn suppress_resets(&self, address: Ipv4Addr) -> Result<()> {
        nft::quieten(&self.table, address).await
    }

    /// Drops packets to and from an address from now on.
    pub(crate) async fn isolate(&self, address: Ipv4Addr) -> Result<()> {
        nft::isolate(&self.table, address).await
    }

    /// Lets packets to and from an address pass.
    pub(crate) async fn release(&self, address: Ipv4Addr) -> Result<()> {
        nft::release(&self.table, address).await
    }
}

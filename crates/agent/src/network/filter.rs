//! Packet rules that hold a job's packets while its processes or sockets are not there.

use std::net::Ipv4Addr;
use std::sync::Arc;

use mooring_linux::{Result, nft};

use crate::runtime::job_dir::JobDir;

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

    /// Lets packets of a job come from its interface, with the job's address alone.
    pub(crate) fn admit(&self, job: &JobDir) -> Result<()> {
        nft::admit(&self.table, job.interface(), job.address())
    }

    /// Drops packets to an address from now on.
    pub(crate) fn hold(&self, address: Ipv4Addr) -> Result<()> {
        nft::hold(&self.table, address)
    }

    /// Drops packets between sockets of a job from now on, all packets to it, and packets from it
    /// that end a connection. The job's namespace exists.
    pub(crate) async fn suppress_resets(&self, job: &JobDir) -> Result<()> {
        nft::quieten(&self.table, job.address())?;
        nft::close_loopback(&job.namespace()).await
    }

    /// Drops all packets to, from and within a job from now on. The job's namespace exists.
    pub(crate) async fn isolate(&self, job: &JobDir) -> Result<()> {
        nft::isolate(&self.table, job.address())?;
        nft::close_loopback(&job.namespace()).await
    }

    /// Lets packets to, from and within a job pass.
    pub(crate) async fn release(&self, job: &JobDir) -> Result<()> {
        nft::open_loopback(&job.namespace()).await?;
        nft::release(&self.table, job.address())
    }
}

//! An HTTP connection that has become something else: from its 101 on it is bytes.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::client_io::ClientIo;
use crate::connect::{Connected, Way};
use crate::gated::GatedStream;
use crate::relay::{self, Content, Early};

/// Both sides of an upgrade that the job has agreed to.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) client: OnUpgrade,
    pub(crate) job: OnUpgrade,
    pub(crate) epoch: u64,
    pub(crate) content: Content,
}

impl Upgrade {
    /// Carries what follows.
    ///
    /// # Errors
    /// A side broke.
    pub(crate) async fn carry(self, client: &TcpStream, way: &Way) -> io::Result<()> {
        let (client_side, job_side) = tokio::try_join!(self.client, self.job).map_err(io::Error::other)?;
        let other = |_: Upgraded| io::Error::other("an upgraded connection is not what it was");
        let client_side = client_side.downcast::<TokioIo<ClientIo>>().map_err(other)?;
        let job_side = job_side.downcast::<TokioIo<GatedStream>>().map_err(other)?;
        let early = Early { from_client: client_side.read_buf, from_job: job_side.read_buf };
        drop(client_side.io);
        let job = Connected { stream: job_side.io.into_inner(), epoch: self.epoch };
        relay::carry(client, job, way, self.content, early).await
    }
}

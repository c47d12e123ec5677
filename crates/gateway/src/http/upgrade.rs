//! An HTTP connection after its 101: a relay to the job, or a watch of the job's state.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::client_io::ClientIo;
use super::job_io::JobIo;
use crate::client::ClientConnection;
use crate::relay::{self, Content, Early};
use crate::upstream::Connected;
use crate::widget::Watcher;

/// The next protocol of a connection.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// The protocol that the job has agreed to.
    Job(JobUpgrade),
    /// The widget's watch of the job's state.
    Watcher(Watcher),
}

/// Both connections of an upgrade that the job has agreed to.
#[derive(Debug)]
pub(crate) struct JobUpgrade {
    pub(crate) client: OnUpgrade,
    pub(crate) job: OnUpgrade,
    pub(crate) epoch: u64,
    pub(crate) content: Content,
}

impl Upgrade {
    /// Serves the upgraded connection until it ends.
    ///
    /// # Errors
    /// A side broke.
    pub(crate) async fn serve(self, client: &ClientConnection) -> io::Result<()> {
        match self {
            Self::Job(upgrade) => upgrade.relay(client).await,
            Self::Watcher(watcher) => {
                watcher.serve(client).await.map_err(io::Error::other)?;
                client.socket.close_gracefully().await
            }
        }
    }
}

impl JobUpgrade {
    async fn relay(self, client: &ClientConnection) -> io::Result<()> {
        let (client_side, job_side) = tokio::try_join!(self.client, self.job).map_err(io::Error::other)?;
        let unexpected = |_: Upgraded| io::Error::other("an upgraded connection has an unexpected type");
        let client_side = client_side.downcast::<TokioIo<ClientIo>>().map_err(unexpected)?;
        let job_side = job_side.downcast::<TokioIo<JobIo>>().map_err(unexpected)?;
        let unread = client_side.io.into_inner().into_unread();
        let from_client =
            if unread.is_empty() { client_side.read_buf } else { [client_side.read_buf, unread].concat().into() };
        let early = Early { from_client, from_job: job_side.read_buf };
        let job = Connected { stream: job_side.io.into_inner().into_inner(), epoch: self.epoch };
        relay::relay(&client.socket, job, &client.upstream, self.content, early).await
    }
}

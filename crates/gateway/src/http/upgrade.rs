//! An HTTP connection that has become something else: from its 101 on it is bytes for the job, or the state of the job for its page.

use std::io;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::Session;
use super::client_io::ClientIo;
use crate::connect::Connected;
use crate::gated::GatedStream;
use crate::relay::{self, Content, Early};
use crate::widget::Watcher;

/// What it has become.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// What the job has agreed to.
    Job(Both),
    /// What the widget has asked for.
    Watcher(Watcher),
}

/// Both sides of an upgrade that the job has agreed to.
#[derive(Debug)]
pub(crate) struct Both {
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
    pub(crate) async fn carry(self, session: &Session) -> io::Result<()> {
        match self {
            Self::Job(both) => both.carry(session).await,
            Self::Watcher(watcher) => {
                watcher.tell(&session.job, &session.way.routes, &session.seat).await.map_err(io::Error::other)?;
                relay::linger(&session.client).await
            }
        }
    }
}

impl Both {
    async fn carry(self, Session { client, way, .. }: &Session) -> io::Result<()> {
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

//! Published ports on which a job does not listen for others, while it listens elsewhere.
//!
//! The listeners of executing jobs are read every [`CHECK_INTERVAL`]. A port is reported once two
//! checks in a row have found it unserved: a program that starts opens its ports one by one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_linux::tcp_table::{self, TcpSocket};
use mooring_types::JobId;
use mooring_types::job::Unserved;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::job::Jobs;
use crate::runtime::job_dir::JobDir;

/// The interval of checks. No event tells that a job begins to listen.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Compares what the jobs of this host publish with what they listen on.
#[derive(Debug)]
pub(crate) struct PortCheck {
    host: Arc<Host>,
    jobs: Jobs,
    /// The findings of the last check.
    last: HashMap<JobId, Unserved>,
}

impl PortCheck {
    pub(crate) fn new(host: Arc<Host>, jobs: Jobs) -> Self {
        Self { host, jobs, last: HashMap::new() }
    }

    /// Checks until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CHECK_INTERVAL) => self.check().await,
            }
        }
    }

    async fn check(&mut self) {
        let mut found = HashMap::new();
        for (job, generation, job_dir) in self.jobs.executing() {
            let published = self.jobs.published(&job);
            let now = match published.is_empty() {
                true => None,
                false => Unserved::of(&published, listeners(job_dir).await),
            };
            let lasting = now.clone().zip(self.last.get(&job)).and_then(|(now, before)| now.lasting(before));
            if self.jobs.unserved(&job, generation, lasting) {
                self.host.observed.notify_one();
            }
            found.extend(now.map(|now| (job, now)));
        }
        self.last = found;
    }
}

/// Reads the listeners of a job; a job that ends meanwhile has none.
async fn listeners(job_dir: JobDir) -> Vec<SocketAddr> {
    let sockets = tokio::task::spawn_blocking(move || tcp_table::list(&job_dir.namespace())).await;
    let sockets = sockets.ok().and_then(Result::ok).unwrap_or_default();
    sockets.iter().filter(|socket| socket.is_listener()).map(|TcpSocket { local, .. }| *local).collect()
}

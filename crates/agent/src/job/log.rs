//! A job's files on their way to OpCenter: read from where they lie, sent from where OpCenter says it has come to.
//!
//! Both streams go while the job runs, each by itself; its results once it has ended. What OpCenter keeps no more of is not sent.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::OUTPUT_ENOUGH;
use mooring_ops::log::chain;
use mooring_types::JobId;
use mooring_types::job::OutputFile;
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::Host;
use crate::runtime::own;

const PERIOD: Duration = Duration::from_millis(500);
const PIECE: usize = 512 << 10;
/// How long OpCenter may take in nothing until nobody waits for it any more.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Whether a job has come to its end, so that what it left are its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    Included,
    Left,
}

/// Sends the files of one job for as long as it is held.
#[derive(Debug)]
pub(crate) struct LogPump {
    upper: watch::Sender<Option<PathBuf>>,
    flush: mpsc::Sender<(Results, oneshot::Sender<()>)>,
    /// How many pieces OpCenter has taken in.
    sent: watch::Receiver<u64>,
}

impl LogPump {
    /// Starts pumping; it ends when the pump is dropped.
    pub(crate) fn start(host: Arc<Host>, job: JobId) -> Self {
        let (upper, watched) = watch::channel(None);
        let (flush, asked) = mpsc::channel(1);
        let (count, sent) = watch::channel(0);
        let pump = Pump { host: host.clone(), job, offsets: HashMap::new(), count };
        host.tasks.spawn("job log", pump.run(watched, asked));
        Self { upper, flush, sent }
    }

    /// Says where the job's files lie.
    pub(crate) fn follow(&self, upper: Option<PathBuf>) {
        self.upper.send_replace(upper);
    }

    /// Sends what is there, for as long as OpCenter takes it in.
    pub(crate) async fn flush(&self, results: Results) {
        let (done, mut waits) = oneshot::channel();
        if self.flush.send((results, done)).await.is_err() {
            return;
        }
        let mut sent = self.sent.clone();
        loop {
            tokio::select! {
                _ = &mut waits => return,
                changed = tokio::time::timeout(FLUSH_LIMIT, sent.changed()) => if !matches!(changed, Ok(Ok(()))) {
                    // What was not sent is lost with the job's files, and OpCenter's copy says where it ends.
                    return;
                },
            }
        }
    }
}

struct Pump {
    host: Arc<Host>,
    job: JobId,
    /// What OpCenter wants next of each file, once it was asked.
    offsets: HashMap<OutputFile, u64>,
    count: watch::Sender<u64>,
}

impl Pump {
    async fn run(
        mut self,
        upper: watch::Receiver<Option<PathBuf>>,
        mut asked: mpsc::Receiver<(Results, oneshot::Sender<()>)>,
    ) {
        loop {
            let asked = tokio::select! {
                () = self.host.stop.cancelled() => return,
                asked = asked.recv() => match asked {
                    Some(asked) => Some(asked),
                    None => return,
                },
                () = tokio::time::sleep(PERIOD) => None,
            };
            let upper = upper.borrow().clone();
            if let Some(upper) = upper {
                let mut files = vec![OutputFile::Stdout, OutputFile::Stderr];
                if let Some((Results::Included, _)) = asked {
                    files.extend(own::results(&upper));
                }
                for file in files {
                    self.push(&upper, &file).await;
                }
            }
            if let Some((_, done)) = asked {
                // Nobody may wait any more.
                let _ = done.send(());
            }
        }
    }

    /// Sends all that is new of a file.
    async fn push(&mut self, upper: &Path, name: &OutputFile) {
        let membership = self.host.membership.borrow().clone();
        let (Some(membership), Some(file)) = (membership, own::open_output(upper, name)) else { return };
        loop {
            let known = self.offsets.get(name).copied();
            let mut bytes = Vec::new();
            if let Some(start) = known {
                if start == OUTPUT_ENOUGH {
                    return;
                }
                bytes.resize(PIECE, 0);
                let count = file.read_at(&mut bytes, start).unwrap_or(0);
                bytes.truncate(count);
                if bytes.is_empty() {
                    return;
                }
            }
            // An empty piece asks how far OpCenter has come.
            let start = known.unwrap_or(0);
            match membership.client.host_job_log(&membership.id, &self.job, name, start, bytes).await {
                Ok(next) => {
                    self.offsets.insert(name.clone(), next);
                    self.count.send_modify(|count| *count += 1);
                }
                Err(error) => {
                    tracing::debug!(job = %self.job, error = %chain(&error), "{name} of job {} waits", self.job);
                    self.offsets.remove(name);
                    return;
                }
            }
        }
    }
}

//! A job's output on its way to OpCenter.
//!
//! Both output streams are sent while the job runs, each from the offset that OpCenter names.
//! Results are sent once the job has ended. OpCenter keeps a limited amount of each file, and no
//! more is sent.

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

/// The interval at which new output is sent.
const SEND_INTERVAL: Duration = Duration::from_millis(500);
/// The most bytes of one request.
const REQUEST_BYTES_MAX: usize = 512 << 10;
/// The time without progress after which a flush is given up.
const FLUSH_STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The part of the results in a flush: they are complete once the job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    Included,
    Left,
}

/// Sends the output of one job for as long as it is held.
#[derive(Debug)]
pub(crate) struct LogPump {
    upper: watch::Sender<Option<PathBuf>>,
    flush: mpsc::Sender<(Results, oneshot::Sender<()>)>,
    /// The number of requests that OpCenter has accepted.
    sent: watch::Receiver<u64>,
}

impl LogPump {
    /// Starts sending, until the pump is dropped.
    pub(crate) fn start(host: Arc<Host>, job: JobId) -> Self {
        let (upper, watched) = watch::channel(None);
        let (flush, asked) = mpsc::channel(1);
        let (count, sent) = watch::channel(0);
        let pump = Pump { host: host.clone(), job, offsets: HashMap::new(), count };
        host.tasks.spawn("job log", pump.run(watched, asked));
        Self { upper, flush, sent }
    }

    /// Names the upper layer with the job's output.
    pub(crate) fn follow(&self, upper: Option<PathBuf>) {
        self.upper.send_replace(upper);
    }

    /// Sends all output that there is, as long as OpCenter accepts it.
    pub(crate) async fn flush(&self, results: Results) {
        let (done, mut waits) = oneshot::channel();
        if self.flush.send((results, done)).await.is_err() {
            return;
        }
        let mut sent = self.sent.clone();
        loop {
            tokio::select! {
                _ = &mut waits => return,
                changed = tokio::time::timeout(FLUSH_STALL_TIMEOUT, sent.changed()) => if !matches!(changed, Ok(Ok(()))) {
                    // The rest is lost with the job's files; OpCenter's copy ends here.
                    return;
                },
            }
        }
    }
}

#[derive(Debug)]
struct Pump {
    host: Arc<Host>,
    job: JobId,
    /// The offset from which OpCenter wants each file, once it was asked.
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
                () = tokio::time::sleep(SEND_INTERVAL) => None,
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
                // The flush may have been given up.
                let _ = done.send(());
            }
        }
    }

    /// Sends the new part of a file.
    async fn push(&mut self, upper: &Path, name: &OutputFile) {
        let membership = self.host.membership.borrow().clone();
        let (Some(membership), Some(file)) = (membership, own::open_output(upper, name)) else { return };
        loop {
            let offset = self.offsets.get(name).copied();
            let mut bytes = Vec::new();
            if let Some(start) = offset {
                if start == OUTPUT_ENOUGH {
                    return;
                }
                bytes.resize(REQUEST_BYTES_MAX, 0);
                let count = file.read_at(&mut bytes, start).unwrap_or(0);
                bytes.truncate(count);
                if bytes.is_empty() {
                    return;
                }
            }
            // An empty request asks for OpCenter's offset.
            let start = offset.unwrap_or(0);
            match membership.client.host_job_log(&membership.id, &self.job, name, start, bytes).await {
                Ok(next) => {
                    self.offsets.insert(name.clone(), next);
                    self.count.send_modify(|count| *count += 1);
                }
                Err(error) => {
                    tracing::debug!(job = %self.job, error = %chain(&error), "could not send {name} of job {}, retrying", self.job);
                    self.offsets.remove(name);
                    return;
                }
            }
        }
    }
}

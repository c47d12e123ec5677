//! A job's output on its way to OpCenter: read from where it lies, sent from where OpCenter says it has come to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_types::JobId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::Host;

const PERIOD: Duration = Duration::from_millis(500);
const PIECE: usize = 512 << 10;
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Sends the output of one job for as long as it is held.
#[derive(Debug)]
pub(crate) struct LogPump {
    file: watch::Sender<Option<PathBuf>>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
}

impl LogPump {
    /// Starts pumping; it ends when the pump is dropped.
    pub(crate) fn start(host: Arc<Host>, job: JobId) -> Self {
        let (file, watched) = watch::channel(None);
        let (flush, asked) = mpsc::channel(1);
        host.clone().tasks.spawn("job log", run(host, job, watched, asked));
        Self { file, flush }
    }

    /// Says where the output lies.
    pub(crate) fn follow(&self, file: Option<PathBuf>) {
        self.file.send_replace(file);
    }

    /// Sends what is there, as far as OpCenter can be reached in a short time.
    pub(crate) async fn flush(&self) {
        let (done, waits) = oneshot::channel();
        if self.flush.send(done).await.is_ok() {
            // What was not sent in time is lost with the job's files, and OpCenter's copy says where it ends.
            let _ = tokio::time::timeout(FLUSH_LIMIT, waits).await;
        }
    }
}

async fn run(
    host: Arc<Host>,
    job: JobId,
    file: watch::Receiver<Option<PathBuf>>,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut offset = None;
    loop {
        let done = tokio::select! {
            () = host.stop.cancelled() => return,
            asked = asked.recv() => match asked {
                Some(done) => Some(done),
                None => return,
            },
            () = tokio::time::sleep(PERIOD) => None,
        };
        let path = file.borrow().clone();
        if let Some(path) = path {
            push(&host, &job, &path, &mut offset).await;
        }
        if let Some(done) = done {
            // Nobody may wait any more.
            let _ = done.send(());
        }
    }
}

/// Sends all that is new; `offset` is what OpCenter wants next, once it was asked.
async fn push(host: &Host, job: &JobId, path: &Path, offset: &mut Option<u64>) {
    let membership = host.membership.borrow().clone();
    let (Some(membership), Ok(file)) = (membership, File::open(path)) else { return };
    loop {
        let start = offset.unwrap_or(0);
        let mut bytes = vec![0; PIECE];
        let count = match offset {
            Some(start) => file.read_at(&mut bytes, *start).unwrap_or(0),
            // An empty piece asks how far OpCenter has come.
            None => 0,
        };
        if count == 0 && offset.is_some() {
            return;
        }
        bytes.truncate(count);
        match membership.client.host_job_log(membership.id.as_str(), job.as_str(), start, bytes).await {
            Ok(next) => *offset = Some(next),
            Err(error) => {
                tracing::debug!(%job, error = &error as &dyn std::error::Error, "the output of job {job} waits");
                *offset = None;
                return;
            }
        }
    }
}

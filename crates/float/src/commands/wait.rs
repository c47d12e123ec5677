//! Following an object or its output, for `--wait` and `--follow`: OpCenter pushes what is new,
//! also across its restarts.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use mooring_api::view::JobView;
use mooring_api::{Client, ClientError, Watch};
use mooring_types::job::JobStatus;

/// The longest outage of OpCenter that a waiting command tolerates; jobs, migrations and drains
/// continue meanwhile.
const OPCENTER_OUTAGE_LIMIT: Duration = Duration::from_secs(60);
/// The pause before a lost watch is opened again.
const REOPEN_DELAY: Duration = Duration::from_millis(200);

/// The longest wait for a gateway to listen for a new job.
const LISTEN_LIMIT: Duration = Duration::from_secs(3);
/// The longest wait for the placement of a new job.
const PLACE_LIMIT: Duration = Duration::from_secs(1);
const LISTEN_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The views of one object in the order of their changes, or the pieces of a job's output.
pub(super) struct Follow<T, Open> {
    open: Open,
    watch: Option<Watch<T>>,
}

impl<T, Open: AsyncFn() -> Result<Watch<T>, ClientError>> Follow<T, Open> {
    /// Follows the object whose watch `open` opens.
    pub(super) fn new(open: Open) -> Self {
        Self { open, watch: None }
    }

    /// Waits for the next view. The first one has the present state.
    ///
    /// # Errors
    /// The watch has ended for good, or OpCenter is unreachable for longer than
    /// [`OPCENTER_OUTAGE_LIMIT`].
    pub(super) async fn next(&mut self) -> Result<T, ClientError> {
        let mut lost: Option<Instant> = None;
        loop {
            let error = match self.pull().await {
                Ok(Some(view)) => return Ok(view),
                Ok(None) => None,
                Err(error) if may_pass(&error) => Some(error),
                Err(error) => return Err(error),
            };
            self.watch = None;
            let since = *lost.get_or_insert_with(Instant::now);
            if let Some(error) = error.filter(|_| since.elapsed() >= OPCENTER_OUTAGE_LIMIT) {
                return Err(error);
            }
            tokio::time::sleep(REOPEN_DELAY).await;
        }
    }

    async fn pull(&mut self) -> Result<Option<T>, ClientError> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => self.watch.insert((self.open)().await?),
        };
        watch.next().await.transpose()
    }
}

/// Waits until the gateway of a new job listens, and returns the job with its addresses. A gateway
/// that does not within [`LISTEN_LIMIT`] leaves the job without.
pub(super) async fn with_addresses(client: &Client, job: JobView) -> JobView {
    let began = Instant::now();
    let mut seen = job.clone();
    while seen.port_mappings.is_empty() && !seen.status.is_final() && began.elapsed() < LISTEN_LIMIT {
        tokio::time::sleep(LISTEN_POLL_INTERVAL).await;
        // The job is submitted, also if this question fails.
        let Ok(now) = client.job_get(&job.id).await else { break };
        seen = now;
    }
    JobView { port_mappings: seen.port_mappings, access_urls: seen.access_urls, ..job }
}

/// Waits until a new job has a host, or a reason why it waits for one, and returns it with that
/// reason. A host takes a job at once where it can.
pub(super) async fn with_reason(client: &Client, job: JobView) -> JobView {
    let began = Instant::now();
    let mut seen = job.clone();
    while seen.status == JobStatus::Submitted && seen.status_reason.is_empty() && began.elapsed() < PLACE_LIMIT {
        tokio::time::sleep(LISTEN_POLL_INTERVAL).await;
        // The job is submitted, also if this question fails.
        let Ok(now) = client.job_get(&job.id).await else { break };
        seen = now;
    }
    let status_reason = if seen.status == JobStatus::Submitted { seen.status_reason } else { String::new() };
    JobView { status_reason, ..job }
}

fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Silent { .. })
        || error.code().is_some_and(|code| code.is_retryable())
}

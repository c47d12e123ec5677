//! What jobs use: taken from the reports of their hosts, kept as a history for each, and shown.
//!
//! A history is whole for a day and has one measurement for each [`STEP`] before, for [`KEPT`]. That of a job that has ended goes after
//! [`KEPT_ENDED`].

use std::time::Duration;

use mooring_api::view::MetricView;
use mooring_api::watch::{HostReport, JobObservation};
use mooring_store::{StoreError, UsageRow};
use mooring_types::usage::Usage;
use mooring_types::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::center::Center;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// For how long every measurement is kept.
const WHOLE: Duration = DAY;
/// For how long one for each step is kept.
const KEPT: Duration = DAY.saturating_mul(30);
/// For how long anything is kept of a job that has ended.
const KEPT_ENDED: Duration = DAY.saturating_mul(7);
const STEP: Duration = Duration::from_secs(300);
/// How often what is too old is looked for.
const PERIOD: Duration = Duration::from_secs(600);

/// Keeps what is new in a host's report.
pub(crate) async fn take_in(center: &Center, last: Option<&HostReport>, report: &HostReport) -> Result<(), StoreError> {
    let is_known = |seen: &JobObservation| {
        let same = |known: &&JobObservation| known.job == seen.job && known.generation == seen.generation;
        last.and_then(|last| last.jobs.iter().find(same)).is_some_and(|known| known.usage == seen.usage)
    };
    let new: Vec<&JobObservation> = report.jobs.iter().filter(|seen| seen.usage.is_some() && !is_known(seen)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut tx = center.store.begin().await?;
    for seen in new {
        // What a host holds may be of a database that is lost.
        if let Some(sample) = seen.usage
            && let Some(job) = tx.job_get(&seen.job).await?
        {
            let (generation, status) = (seen.generation, job.status);
            tx.usage_insert(&UsageRow { job: job.id, time: sample.time, generation, status, usage: sample.usage })
                .await?;
        }
    }
    tx.commit().await
}

/// Removes what is too old, until asked to stop.
pub(crate) async fn tidy(center: Center, stop: CancellationToken) {
    loop {
        if let Err(error) = tidy_once(&center).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old measurements stay");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn tidy_once(center: &Center) -> Result<(), StoreError> {
    let now = center.clock.now();
    let mut tx = center.store.begin().await?;
    let gone = tx.usage_thin(now - WHOLE, STEP).await? + tx.usage_forget(now - KEPT, now - KEPT_ENDED).await?;
    if gone > 0 {
        tracing::debug!("{gone} old measurements are removed");
        tx.commit().await?;
    }
    Ok(())
}

/// A measurement as users read it.
pub(crate) fn view(row: &UsageRow) -> MetricView {
    let Usage { seconds, received, sent, .. } = row.usage;
    let rate = |bytes: u64| if seconds > 0.0 { (bytes as f64 / seconds).round() as u64 } else { 0 };
    MetricView {
        time: row.time,
        status: row.status,
        cpu_used: rounded(row.usage.cpu_used),
        cpu: rounded(row.usage.cpu),
        mem_used: gb(row.usage.mem_used),
        mem_gb: gb(row.usage.mem),
        page_cache: gb(row.usage.page_cache),
        swap: gb(row.usage.swap),
        processes: row.usage.processes,
        received_per_second: rate(received),
        sent_per_second: rate(sent),
        disk: row.usage.disk.map(gb),
    }
}

/// Bytes in GB, to a megabyte.
pub(crate) fn gb(bytes: u64) -> f64 {
    (bytes as f64 / 1e6).round() / 1e3
}

/// To three places.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// From when on a history is shown that is asked for `last` long.
pub(crate) fn since(now: Timestamp, last: Option<Duration>) -> Timestamp {
    last.and_then(|last| now.checked_sub(last).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

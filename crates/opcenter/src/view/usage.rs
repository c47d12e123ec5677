//! The measurements of a job, as users read them.

use std::time::Duration;

use mooring_api::view::MetricView;
use mooring_store::UsageRow;
use mooring_types::Timestamp;
use mooring_types::usage::Usage;

/// Returns the view of a measurement.
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

/// Converts bytes to GB, rounded to megabytes.
pub(crate) fn gb(bytes: u64) -> f64 {
    (bytes as f64 / 1e6).round() / 1e3
}

/// Rounds to three decimals.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// Returns the beginning of a history of length `last`.
pub(crate) fn since(now: Timestamp, last: Option<Duration>) -> Timestamp {
    last.and_then(|last| now.checked_sub(last).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

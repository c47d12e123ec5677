//! The tab of metrics: charts of what the job used, and all of it as CSV.

use std::fmt::Write as _;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use mooring_api::paths::{self, fill};
use mooring_api::view::{JobView, MetricView};
use mooring_types::duration::parse_duration;
use mooring_types::{Clock, JobId};

use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::see_job;
use crate::view::usage;
use crate::web::address::Address;
use crate::web::problem::Problem;
use crate::web::ui::{self, Chart};
use crate::web::visitor::Visitor;

/// The ranges that the tab offers; the empty one is all that is kept.
const RANGES: [(&str, &str); 5] =
    [("15m", "15 minutes"), ("1h", "1 hour"), ("6h", "6 hours"), ("24h", "1 day"), ("", "All")];

/// The tab.
#[derive(Template)]
#[template(path = "job/metrics.html")]
pub(super) struct MetricsTab {
    job: JobId,
    last: String,
    charts: Vec<Chart<'static>>,
}

impl MetricsTab {
    /// Returns the tab with the measurements of a range; `range` is empty where none is chosen.
    pub(super) fn new(job: &JobView, range: Option<&str>) -> Self {
        let usual = if job.status.is_final() { "" } else { "1h" };
        let last = range.filter(|range| RANGES.iter().any(|(name, _)| name == range)).unwrap_or(usual);
        let path = fill(paths::JOB_METRICS, &[job.id.as_str()]);
        let source = || if last.is_empty() { path.clone() } else { format!("{path}?last={last}") };
        let charts = [
            ("cpu", "CPU", "cpuUsed:used,cpu:limit", " cores"),
            ("memory", "Memory", "memUsed:used,pageCache:page cache,swap:swap,memGB:limit", " GB"),
            ("network", "Network", "receivedPerSecond:received,sentPerSecond:sent", "bytes/s"),
            ("storage", "Storage", "disk:changed files", " GB"),
        ];
        let chart = |(id, title, series, unit)| ui::chart(id, title, source(), series, unit).with_areas();
        Self { job: job.id.clone(), last: last.to_owned(), charts: charts.map(chart).into() }
    }

    /// Returns the ranges with their labels, and whether each is the chosen one.
    fn ranges(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        RANGES.map(|(name, label)| (name, label, name == self.last)).into_iter()
    }
}

/// Returns the measurements of a job as CSV.
pub(super) async fn csv(
    State(context): State<Context>,
    visitor: Visitor,
    address: Address,
) -> Result<Response, Problem> {
    let last = within(address.one("last"))?;
    let mut tx = context.store.begin().await?;
    let job = see_job(&mut tx, &visitor.user, address.id()).await?;
    let history = tx.usage_list(&job.id, usage::since(context.clock.now(), last)).await?;
    let text = table(history.iter().map(usage::view));
    let name = format!("attachment; filename=\"metrics-{}.csv\"", job.id);
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, name)], text).into_response())
}

fn within(text: &str) -> ApiResult<Option<Duration>> {
    if text.is_empty() {
        return Ok(None);
    }
    parse_duration(text).map(Some).map_err(|error| ApiError::invalid(error.to_string()))
}

/// Returns the rows with a line of headings.
fn table(rows: impl Iterator<Item = MetricView>) -> String {
    let mut text =
        "time,status,cpuUsed,cpu,memUsedGB,memGB,pageCacheGB,swapGB,processes,receivedPerSecond,sentPerSecond,diskGB\n"
            .to_owned();
    for row in rows {
        let disk = row.disk.map(|disk| disk.to_string()).unwrap_or_default();
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{disk}",
            row.time,
            row.status,
            row.cpu_used,
            row.cpu,
            row.mem_used,
            row.mem_gb,
            row.page_cache,
            row.swap,
            row.processes,
            row.received_per_second,
            row.sent_per_second,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use mooring_types::job::JobStatus;

    use super::*;
    use crate::web::job::sample;

    #[test]
    fn template_renders() {
        let text = MetricsTab::new(&sample::job(), Some("6h")).render().unwrap();
        assert!(text.contains("/metrics?last=6h") && text.contains("data-areas"), "{text}");
        assert_eq!(text.matches("data-chart").count(), 4);
        assert_eq!(text.matches("aria-current=\"true\"").count(), 1);
        let text = MetricsTab::new(&sample::job(), Some(sample::MARKUP)).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("last=1h"), "{text}");
        let ended = JobView { status: JobStatus::Completed, ..sample::job() };
        assert_eq!(MetricsTab::new(&ended, None).last, "");
    }

    #[test]
    fn table_has_as_many_cells_as_headings() {
        let text = table([sample::metric()].into_iter());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        assert_eq!((lines[1][1], lines[1][11]), ("Executing", "0.25"));
    }
}

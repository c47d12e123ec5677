//! A job moved several times while a client counts, and what the client saw of it.
//!
//! The counting is marked before each migration. Afterwards the client waits until both directions
//! flow again, and a second more. So all effects of a migration are in its own row.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement};
use mooring_api::Client;
use mooring_api::view::{JobView, MigrateRequest, MigrationView};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase, PhaseTime};
use serde::Serialize;

use crate::counting::{Counting, GapReport, Total};
use crate::distribution::Distribution;
use crate::job::executing;
use crate::jupyter::Jupyter;
use crate::wait::wait_for;

/// The interval of the counting: short against what is measured.
pub const INTERVAL: Duration = Duration::from_millis(20);
/// Time limit of a migration.
const MOVES_WITHIN: Duration = Duration::from_secs(120);
/// Time limit of the source's retirement once the job executes again.
const RETIRES_WITHIN: Duration = Duration::from_secs(60);
/// Time limit until both directions flow again.
const FLOWS_WITHIN: Duration = Duration::from_secs(30);
/// The time for which the client goes on after that.
const WATCHED_AFTER: Duration = Duration::from_secs(1);

/// A client's record of a tour.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TourReport {
    /// The moves that were asked for.
    pub asked: usize,
    /// Those that were made.
    pub moves: Vec<MoveReport>,
    /// From beginning to end.
    pub total: Option<Total>,
    /// The reason for an early end, if there was one.
    pub fault: Option<String>,
}

/// A client's record of one migration.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveReport {
    /// The name of the host that the job left.
    pub from: String,
    /// The name of the host that it went to.
    pub to: String,
    /// `succeeded` or `failed: …`.
    pub outcome: Outcome,
    /// The duration of each phase.
    pub phases: Vec<PhaseTime>,
    /// The pause, as OpCenter measured it.
    pub pause_seconds: f64,
    /// The bytes sent between the hosts.
    pub bytes_moved: u64,
    /// The client's record.
    #[serde(flatten)]
    pub seen: GapReport,
    /// By how much the longest gap was longer than the typical one.
    pub extra_gap_seconds: f64,
}

/// A table in text.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Moves `job` `moves` times, each time to a host that OpCenter chooses, while a client counts over
/// `access_url`. `each` is told of every move as it ends.
pub async fn run(
    client: &Client,
    access_url: &str,
    job: &JobId,
    moves: usize,
    mut each: impl FnMut(&MoveReport),
) -> Result<TourReport> {
    executing(client, job, MOVES_WITHIN).await?;
    let jupyter = Jupyter::connect(access_url).await?;
    let counting = Counting::start(&jupyter, INTERVAL).await?;
    counting.caught_up(FLOWS_WITHIN).await?;
    tokio::time::sleep(WATCHED_AFTER).await;
    let mut report = TourReport { asked: moves, moves: Vec::new(), total: None, fault: None };
    while report.moves.len() < moves && report.fault.is_none() {
        let mark = counting.mark();
        match move_once(client, job).await {
            Ok(migration) => {
                let flows = counting.caught_up(FLOWS_WITHIN).await;
                report.fault = flows.err().map(|error| format!("{error:#}"));
                tokio::time::sleep(WATCHED_AFTER).await;
                let made = MoveReport::new(migration, counting.since(mark));
                each(&made);
                report.moves.push(made);
            }
            Err(error) => report.fault = Some(format!("{error:#}")),
        }
    }
    match counting.finish().await {
        Ok(total) => report.total = Some(total),
        Err(error) => drop(report.fault.get_or_insert(format!("end the counting: {error:#}"))),
    }
    Ok(report)
}

/// Migrates the job and waits until it executes again and the source has retired it.
pub async fn move_once(client: &Client, job: &JobId) -> Result<MigrationView> {
    let before = client.job_get(job).await?.migrations.len();
    client.job_migrate(job, &MigrateRequest::default()).await.context("migrate")?;
    let ended = |view: &JobView| {
        let migration = view.migrations.get(before).filter(|migration| migration.outcome != Outcome::Running).cloned();
        migration.filter(|_| view.status == JobStatus::Executing)
    };
    let look = async || {
        let view = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        Ok(ended(&view))
    };
    let migration = wait_for("the job to execute after its move", MOVES_WITHIN, look).await?;
    // A source that takes its time is no fault of the move: what is known by then is reported.
    let retired = wait_for("the source to let go", RETIRES_WITHIN, async || {
        let seen = ended(&client.job_get(job).await?);
        Ok(seen.filter(|seen| {
            seen.outcome != Outcome::Succeeded || seen.phases.iter().any(|phase| phase.name == Phase::Retire)
        }))
    });
    Ok(retired.await.unwrap_or(migration))
}

impl MoveReport {
    fn new(migration: MigrationView, seen: GapReport) -> Self {
        Self {
            from: migration.from,
            to: migration.to,
            outcome: migration.outcome,
            phases: migration.phases,
            pause_seconds: migration.pause_seconds,
            bytes_moved: migration.bytes_moved,
            extra_gap_seconds: (seen.longest_gap_seconds - seen.typical_gap_seconds).max(0.0),
            seen,
        }
    }

    fn phase(&self, name: Phase) -> Option<f64> {
        self.phases.iter().find(|phase| phase.name == name).map(|phase| phase.seconds)
    }
}

impl TourReport {
    /// Returns whether all migrations succeeded and the client noticed nothing: nothing lost or
    /// repeated in either direction, one WebSocket throughout.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let all_moved =
            self.moves.len() == self.asked && self.moves.iter().all(|made| made.outcome == Outcome::Succeeded);
        all_moved && self.fault.is_none() && self.total.as_ref().is_some_and(Total::is_clean)
    }

    /// One row for each move; times in milliseconds.
    #[must_use]
    pub fn table(&self) -> Table {
        let phases = Phase::ALL.iter().map(ToString::to_string);
        let head = ["move", "to"]
            .map(String::from)
            .into_iter()
            .chain(phases)
            .chain(["pause", "longest gap", "extra gap", "lost", "repeated", "outcome"].map(String::from));
        let mut table = blank(head);
        for (index, made) in self.moves.iter().enumerate() {
            let phases = Phase::ALL.iter().map(|phase| made.phase(*phase).map_or_else(|| "-".into(), milliseconds));
            let gaps = [made.pause_seconds, made.seen.longest_gap_seconds, made.extra_gap_seconds].map(milliseconds);
            let counts = [made.seen.lost + made.seen.replies_lost, made.seen.repeated].map(|count| count.to_string());
            let mut row = vec![(index + 1).to_string(), made.to.clone()];
            row.extend(phases.chain(gaps).chain(counts));
            row.push(made.outcome.to_string());
            table.add_row(row);
        }
        left(&mut table, 1);
        left(&mut table, 2 + Phase::ALL.len() + 5);
        Table(table)
    }

    /// The distribution of each phase and of what the client saw; times in milliseconds.
    #[must_use]
    pub fn distributions(&self) -> Table {
        let mut table = blank(["", "min", "median", "p90", "max"].map(String::from));
        let phases = Phase::ALL
            .map(|phase| (phase.to_string(), Distribution::of(self.moves.iter().filter_map(|made| made.phase(phase)))));
        let gaps = [("pause", self.pauses()), ("longest gap", self.longest_gaps()), ("extra gap", self.extra_gaps())];
        for (name, distribution) in phases.into_iter().chain(gaps.map(|(name, gap)| (name.to_owned(), gap))) {
            let Some(Distribution { min, median, p90, max, .. }) = distribution else { continue };
            table.add_row([vec![name], [min, median, p90, max].map(milliseconds).to_vec()].concat());
        }
        left(&mut table, 0);
        Table(table)
    }

    /// Returns the distribution of pauses, in seconds.
    #[must_use]
    pub fn pauses(&self) -> Option<Distribution> {
        Distribution::of(self.moves.iter().map(|made| made.pause_seconds))
    }

    /// The longest gap of each move, in seconds.
    #[must_use]
    pub fn longest_gaps(&self) -> Option<Distribution> {
        Distribution::of(self.moves.iter().map(|made| made.seen.longest_gap_seconds))
    }

    /// By how much the longest gap of each move was longer than the typical one, in seconds.
    #[must_use]
    pub fn extra_gaps(&self) -> Option<Distribution> {
        Distribution::of(self.moves.iter().map(|made| made.extra_gap_seconds))
    }

    /// Returns the client's whole record in a sentence or two.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = match &self.total {
            None => "the counting did not end".to_owned(),
            Some(total) => format!(
                "{} numbers in {} messages: {} lost, {} repeated, {} out of order; {} requests: {} without a reply; the WebSocket {}",
                total.numbers,
                total.messages,
                total.lost,
                total.repeated,
                total.out_of_order,
                total.requests,
                total.replies_lost,
                total.websocket_closed.as_deref().map_or("was never closed".into(), |how| format!("was {how}")),
            ),
        };
        if let Some(fault) = &self.fault {
            text.push_str("\nended early: ");
            text.push_str(fault);
        }
        text
    }
}

/// A table with a head, figures to the right.
fn blank(head: impl IntoIterator<Item = String>) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.into_iter().collect::<Vec<_>>());
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    table
}

/// Text to the left.
fn left(table: &mut comfy_table::Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Left);
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.0}", seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(closed: Option<&str>) -> TourReport {
        let seen = GapReport {
            longest_gap_seconds: 0.32,
            typical_gap_seconds: 0.02,
            messages: 80,
            lost: 0,
            repeated: 0,
            websocket_closed: closed.map(str::to_owned),
            replies_lost: 0,
        };
        let phases = vec![PhaseTime { name: Phase::Freeze, seconds: 0.0834 }];
        let made = MoveReport {
            from: "host-1".into(),
            to: "host-2".into(),
            outcome: Outcome::Succeeded,
            phases,
            pause_seconds: 0.25,
            bytes_moved: 1,
            extra_gap_seconds: 0.3,
            seen,
        };
        let total = Total {
            numbers: 100,
            messages: 100,
            lost: 0,
            repeated: 0,
            out_of_order: 0,
            requests: 100,
            replies_lost: 0,
            replies_repeated: 0,
            websocket_closed: closed.map(str::to_owned),
            gaps: None,
        };
        TourReport { asked: 1, moves: vec![made], total: Some(total), fault: None }
    }

    #[test]
    fn a_tour_is_clean_only_if_the_client_never_noticed() {
        assert!(report(None).is_clean());
        assert!(!report(Some("closed with 1001")).is_clean());
        assert!(!TourReport { asked: 2, ..report(None) }.is_clean());
        assert!(!TourReport { total: None, ..report(None) }.is_clean());
        let mut failed = report(None);
        failed.moves[0].outcome = Outcome::Failed { phase: Phase::Restore, reason: "no room".into() };
        assert!(!failed.is_clean());
        let mut lost = report(None);
        lost.total.as_mut().unwrap().lost = 1;
        assert!(!lost.is_clean());
    }

    #[test]
    fn the_tables_are_in_milliseconds() {
        let table = report(None).table().to_string();
        let row = table.lines().find(|line| line.contains("host-2")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "1",
                "host-2",
                "-",
                "-",
                "-",
                "-",
                "83",
                "-",
                "-",
                "-",
                "-",
                "-",
                "250",
                "320",
                "300",
                "0",
                "0",
                "succeeded"
            ]
        );
        let distributions = report(None).distributions().to_string();
        let row = distributions.lines().find(|line| line.contains("extra gap")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["extra", "gap", "300", "300", "300", "300"]);
    }
}

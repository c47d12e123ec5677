//! An idle JupyterLab with one kernel, whose client receives and sends all the time.

use anyhow::Result;
use mooring_api::Client;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour::{self, MoveReport};
use mooring_types::JobId;
use serde_json::json;

use super::{Outcome, progress};
use crate::goals::Goal;

/// The goals for the extra gap, median and maximum, in seconds.
const GOALS: (f64, f64) = (0.5, 1.2);

/// Starts a JupyterLab and migrates it.
pub(crate) async fn measure(client: &Client, moves: usize) -> Result<Outcome> {
    let notebook = Notebook::launch(client, "bench").await?;
    tour(client, &notebook.access_url, &notebook.job, moves).await
}

/// Migrates a JupyterLab that already runs.
pub(crate) async fn tour(client: &Client, access_url: &str, job: &JobId, moves: usize) -> Result<Outcome> {
    let mut number = 0;
    let each = |made: &MoveReport| {
        number += 1;
        let MoveReport { from, to, outcome, seen, .. } = made;
        let gap = seen.longest_gap_seconds;
        progress(&format!("jupyter: migration {number} of {moves}, {from} -> {to}: {outcome}, longest gap {gap:.3} s"));
    };
    let report = tour::run(client, access_url, job, moves, each).await?;
    let extra = report.extra_gaps();
    Ok(Outcome {
        part: "jupyter",
        text: format!("{}\n\n{}\n\n{}", report.table(), report.distributions(), report.summary()),
        goals: vec![
            Goal::at_most("jupyter, median of the extra gap", GOALS.0, extra.map(|extra| extra.median)),
            Goal::at_most("jupyter, longest extra gap", GOALS.1, extra.map(|extra| extra.max)),
        ],
        clean: report.is_clean(),
        json: json!({
            "report": report,
            "pauseSeconds": report.pauses(),
            "longestGapSeconds": report.longest_gaps(),
            "extraGapSeconds": extra,
        }),
    })
}

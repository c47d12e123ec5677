//! An idle JupyterLab with one kernel, suspended, resumed and migrated in turn while its client
//! stays connected.
//!
//! A migration makes the same checkpoint and restore without a store between them. The cost of the
//! store is the time of suspend and resume after the freeze, relative to a migration's checkpoint
//! and restore. Work beside these slows them down, and counts as well.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{JobView, MigrationView};
use mooring_testkit::counting::{Counting, Total};
use mooring_testkit::distribution::Distribution;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour;
use mooring_testkit::wait::wait_for;
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Phase};
use serde_json::json;

use super::{Outcome, progress};
use crate::goals::Goal;

/// The goals for a suspend and for a resume, in seconds.
const GOAL: f64 = 2.0;
const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(20);
/// The wait between two cycles, so that memory which is still being freed does not slow down the
/// next.
const BETWEEN: Duration = Duration::from_millis(500);

/// The share that store and stream may add to checkpoint and restore.
const SHARE: f64 = 0.1;

/// One suspend, resume and migration.
#[derive(Debug, Clone)]
struct Made {
    /// The duration of each, in seconds.
    suspend: f64,
    resume: f64,
    out: MigrationView,
    back: MigrationView,
    moved: MigrationView,
}

impl Made {
    /// From the freeze into the store, and out of the store until the restore is complete.
    fn through_store(&self) -> f64 {
        let out = took(&self.out, Phase::Freeze) + took(&self.out, Phase::Transfer);
        out + took(&self.back, Phase::Transfer) + took(&self.back, Phase::Restore)
    }

    /// A migration's time for checkpoint and restore.
    fn plain(&self) -> f64 {
        took(&self.moved, Phase::Freeze) + took(&self.moved, Phase::Restore)
    }

    fn phases(&self) -> serde_json::Value {
        json!({ "suspend": self.out.phases, "resume": self.back.phases, "move": self.moved.phases })
    }

    /// A migration's time between checkpoint and restore.
    fn stream(&self) -> f64 {
        took(&self.moved, Phase::Transfer)
    }
}

/// Starts a JupyterLab, and suspends and resumes it the given number of times.
pub(crate) async fn measure(client: &Client, times: usize) -> Result<Outcome> {
    let notebook = Notebook::launch(client, "bench").await?;
    let jupyter = Jupyter::connect(&notebook.access_url).await?;
    let counting = Counting::start(&jupyter, INTERVAL).await?;
    let mut all = Vec::new();
    for number in 1..=times {
        counting.caught_up(LIMIT).await?;
        let made = once(client, &notebook.job).await?;
        progress(&format!(
            "suspend: {number} of {times}: suspended in {:.3} s, resumed in {:.3} s",
            made.suspend, made.resume
        ));
        all.push(made);
    }
    counting.caught_up(LIMIT).await?;
    Ok(outcome(&all, &counting.finish().await?))
}

/// The distributions of suspend, resume and migration, phase by phase.
fn table(all: &[Made]) -> String {
    let of = |value: fn(&Made) -> f64| Distribution::of(all.iter().map(value));
    let line = |name: String, seen: Option<Distribution>| {
        let text = |seen: Distribution| format!("{:>8.3} {:>8.3} {:>8.3}", seen.min, seen.median, seen.max);
        format!("{name:<28} {}\n", seen.map_or_else(|| "not measured".to_owned(), text))
    };
    let phases = |made: fn(&Made) -> &MigrationView| {
        let known = Phase::ALL.iter().filter(|phase| all.iter().any(|one| took(made(one), **phase) > 0.0));
        let lines = known
            .map(|phase| line(format!("  {phase}"), Distribution::of(all.iter().map(|one| took(made(one), *phase)))));
        lines.collect::<String>()
    };
    let mut text = format!("{:<28} {:>8} {:>8} {:>8}\n", "seconds", "min", "median", "max");
    text += &line("suspend, until Suspended".into(), of(|made| made.suspend));
    text += &phases(|made| &made.out);
    text += &line("resume, until Executing".into(), of(|made| made.resume));
    text += &phases(|made| &made.back);
    text += "move\n";
    text += &phases(|made| &made.moved);
    text
}

fn outcome(all: &[Made], total: &Total) -> Outcome {
    let of = |value: fn(&Made) -> f64| Distribution::of(all.iter().map(value));
    let mut text = table(all);
    let median = |value: fn(&Made) -> f64| of(value).map(|seen| seen.median);
    let beyond = |value: Option<f64>| Some(value? / median(Made::plain)?);
    let (store, stream) = (beyond(median(Made::through_store)).map(|share| share - 1.0), beyond(median(Made::stream)));
    if let (Some(store), Some(stream), Some(last)) = (store, stream, all.last()) {
        text += &format!(
            "beyond checkpoint and restore of a migration (medians) of {:.0} MB: the stream {:.0} %, the store {:.0} %\n",
            last.moved.bytes_moved as f64 / 1e6,
            stream * 100.0,
            store * 100.0,
        );
    }
    text += &format!(
        "{} numbers: {} lost, {} repeated; {} requests: {} without a reply; WebSocket closed: {}",
        total.numbers,
        total.lost,
        total.repeated,
        total.requests,
        total.replies_lost,
        total.websocket_closed.as_deref().unwrap_or("never"),
    );
    Outcome {
        part: "suspend",
        text,
        json: json!({
            "suspendSeconds": of(|made| made.suspend),
            "resumeSeconds": of(|made| made.resume),
            "storeShare": store,
            "streamShare": stream,
            "phases": all.iter().map(Made::phases).collect::<Vec<_>>(),
        }),
        goals: vec![
            Goal::at_most("suspend, longest", GOAL, of(|made| made.suspend).map(|seen| seen.max)),
            Goal::at_most("resume, longest", GOAL, of(|made| made.resume).map(|seen| seen.max)),
            Goal::share_at_most("what the store adds to dump and restore", SHARE, store),
            Goal::share_at_most("what the stream adds to dump and restore", SHARE, stream),
        ],
        clean: total.is_clean(),
    }
}

async fn once(client: &Client, job: &JobId) -> Result<Made> {
    let began = Instant::now();
    client.job_suspend(job).await?;
    reached(client, job, JobStatus::Suspended).await?;
    let suspend = began.elapsed().as_secs_f64();
    // The source retires the job meanwhile; nobody resumes a job in the same second.
    wait_for("the host to let go", LIMIT, async || {
        let job = client.job_get(job).await?;
        Ok(job.migrations.last().is_some_and(|last| took(last, Phase::Retire) > 0.0).then_some(()))
    })
    .await?;
    let began = Instant::now();
    client.job_resume(job).await?;
    reached(client, job, JobStatus::Executing).await?;
    let resume = began.elapsed().as_secs_f64();
    let view = client.job_get(job).await?;
    let last = |kind: MigrationKind| {
        let found = view.migrations.iter().rfind(|made| made.kind == kind);
        found.cloned().with_context(|| format!("no record of a {kind}"))
    };
    let (out, back) = (last(MigrationKind::Suspend)?, last(MigrationKind::Resume)?);
    tokio::time::sleep(BETWEEN).await;
    let moved = tour::move_once(client, job).await?;
    tokio::time::sleep(BETWEEN).await;
    let outcomes = [&out, &back, &moved].map(|made| &made.outcome);
    ensure!(outcomes.iter().all(|outcome| outcome.is_success()), "{outcomes:?}");
    Ok(Made { suspend, resume, out, back, moved })
}

fn took(made: &MigrationView, phase: Phase) -> f64 {
    made.phases.iter().filter(|known| known.name == phase).map(|known| known.seconds).sum()
}

async fn reached(client: &Client, job: &JobId, status: JobStatus) -> Result<JobView> {
    wait_for(&format!("the job to be {status}"), LIMIT, async || {
        let job = client.job_get(job).await?;
        Ok((job.status == status).then_some(job))
    })
    .await
}

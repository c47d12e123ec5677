//! An idle JupyterLab with one kernel, suspended and resumed while its client stays connected.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{JobView, MigrationView};
use mooring_testkit::counting::Counting;
use mooring_testkit::distribution::Distribution;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::wait::wait_for;
use mooring_types::job::JobStatus;
use mooring_types::migration::Phase;
use serde_json::json;

use super::{Outcome, progress};
use crate::goals::Goal;

/// What a suspend and a resume may each take, in seconds.
const GOAL: f64 = 2.0;
const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(20);

/// One suspend and resume.
#[derive(Debug, Clone)]
struct Made {
    /// Until each is over, in seconds.
    suspend: f64,
    resume: f64,
    out: MigrationView,
    back: MigrationView,
}

impl Made {
    /// What the store takes beyond the dump and before the restore, as a share of these.
    fn store_share(&self) -> f64 {
        let storing = took(&self.out, Phase::Transfer) + took(&self.back, Phase::Transfer);
        storing / (took(&self.out, Phase::Freeze) + took(&self.back, Phase::Restore))
    }
}

/// Starts one, and suspends and resumes it so often.
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
    let total = counting.finish().await?;
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
    let share = of(Made::store_share);
    if let (Some(share), Some(last)) = (share, all.last()) {
        text += &format!(
            "the store adds {:.0} % to dump and restore (median) of {:.0} MB\n",
            share.median * 100.0,
            last.out.bytes_moved as f64 / 1e6
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
    Ok(Outcome {
        part: "suspend",
        text,
        json: json!({
            "suspendSeconds": of(|made| made.suspend),
            "resumeSeconds": of(|made| made.resume),
            "storeShare": share,
            "phases": all.iter().map(|made| json!({ "suspend": made.out.phases, "resume": made.back.phases })).collect::<Vec<_>>(),
        }),
        goals: vec![
            Goal::at_most("suspend, longest", GOAL, of(|made| made.suspend).map(|seen| seen.max)),
            Goal::at_most("resume, longest", GOAL, of(|made| made.resume).map(|seen| seen.max)),
        ],
        clean: total.is_clean(),
    })
}

async fn once(client: &Client, job: &str) -> Result<Made> {
    let began = Instant::now();
    client.job_suspend(job).await?;
    reached(client, job, JobStatus::Suspended).await?;
    let suspend = began.elapsed().as_secs_f64();
    // The host that it left lets go meanwhile; nobody resumes a job in the same second.
    wait_for("the host to let go", LIMIT, async || {
        let job = client.job_get(job).await?;
        Ok(job.migrations.last().is_some_and(|last| took(last, Phase::Retire) > 0.0).then_some(()))
    })
    .await?;
    let began = Instant::now();
    client.job_resume(job).await?;
    let job = reached(client, job, JobStatus::Executing).await?;
    let resume = began.elapsed().as_secs_f64();
    let last = |kind: &str| {
        let found = job.migrations.iter().rfind(|made| made.kind == kind);
        found.with_context(|| format!("no record of a {kind}"))
    };
    let (out, back) = (last("suspend")?, last("resume")?);
    ensure!(out.outcome == "succeeded" && back.outcome == "succeeded", "{} and {}", out.outcome, back.outcome);
    Ok(Made { suspend, resume, out: out.clone(), back: back.clone() })
}

fn took(made: &MigrationView, phase: Phase) -> f64 {
    made.phases.iter().filter(|known| known.name == phase).map(|known| known.seconds).sum()
}

async fn reached(client: &Client, job: &str, status: JobStatus) -> Result<JobView> {
    wait_for(&format!("the job to be {status}"), LIMIT, async || {
        let job = client.job_get(job).await?;
        Ok((job.status == status).then_some(job))
    })
    .await
}

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

/// One suspend and resume, in seconds.
#[derive(Debug, Clone, Copy)]
struct Made {
    suspend: f64,
    resume: f64,
    /// What the store takes beyond the dump, and before the restore.
    storing: f64,
    fetching: f64,
    dump: f64,
    restore: f64,
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
    let line = |name: &str, value: fn(&Made) -> f64| {
        let seen = of(value);
        let text = |seen: Distribution| format!("{:>8.3} {:>8.3} {:>8.3}", seen.min, seen.median, seen.max);
        format!("{name:<28} {}\n", seen.map_or_else(|| "not measured".to_owned(), text))
    };
    let mut text = format!("{:<28} {:>8} {:>8} {:>8}\n", "seconds", "min", "median", "max");
    text += &line("suspend, until Suspended", |made| made.suspend);
    text += &line("  the dump", |made| made.dump);
    text += &line("  the store, after the dump", |made| made.storing);
    text += &line("resume, until Executing", |made| made.resume);
    text += &line("  the store, before", |made| made.fetching);
    text += &line("  the restore", |made| made.restore);
    let share = |made: &Made| (made.storing + made.fetching) / (made.dump + made.restore);
    if let Some(share) = of(share) {
        text += &format!("the store adds {:.0} % to dump and restore (median)\n", share.median * 100.0);
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
            "storeShare": of(share),
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
        Ok(client.host_list().await?.iter().all(|host| host.jobs == 0).then_some(()))
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
    let took = |made: &MigrationView, phase: Phase| {
        made.phases.iter().filter(|known| known.name == phase).map(|known| known.seconds).sum()
    };
    Ok(Made {
        suspend,
        resume,
        storing: took(out, Phase::Transfer),
        fetching: took(back, Phase::Transfer),
        dump: took(out, Phase::Freeze),
        restore: took(back, Phase::Restore),
    })
}

async fn reached(client: &Client, job: &str, status: JobStatus) -> Result<JobView> {
    wait_for(&format!("the job to be {status}"), LIMIT, async || {
        let job = client.job_get(job).await?;
        Ok((job.status == status).then_some(job))
    })
    .await
}

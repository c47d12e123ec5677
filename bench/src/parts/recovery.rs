//! A host that is lost with an idle JupyterLab on it: the time until the loss is noticed, and until
//! the job executes elsewhere.

use std::time::{Duration, Instant};

use anyhow::Result;
use mooring_api::Client;
use mooring_api::view::{HostStatus, JobView};
use mooring_testkit::distribution::Distribution;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::World;
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use serde::Serialize;
use serde_json::json;

use super::{Outcome, progress};
use crate::goals::Goal;

/// The goals for noticing a lost host, and from then until its job executes, in seconds.
const GOALS: (f64, f64) = (10.0, 3.0);
const LIMIT: Duration = Duration::from_secs(60);
/// The spread of the moments of loss, which fall anywhere between two reports of the host.
const STEP: Duration = Duration::from_millis(450);

/// The times of one recovery, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recovered {
    /// From the loss until OpCenter notices it.
    detected_seconds: f64,
    /// From the notice until the job executes.
    executing_seconds: f64,
    /// From the start of execution until its server answers a new client.
    answering_seconds: f64,
}

/// Starts a JupyterLab and loses its host the given number of times.
pub(crate) async fn measure(world: &World, client: &Client, times: usize) -> Result<Outcome> {
    let notebook = Notebook::launch(client, "bench").await?;
    let jupyter = Jupyter::connect(&notebook.access_url).await?;
    jupyter.kernel_start().await?;
    let mut all = Vec::new();
    for number in 1..=times {
        let made = once(world, client, &notebook, STEP * u32::try_from(number)?).await?;
        progress(&format!(
            "recovery: {number} of {times}: noticed after {:.1} s, executing {:.3} s later",
            made.detected_seconds, made.executing_seconds
        ));
        all.push(made);
    }
    let of = |value: fn(&Recovered) -> f64| Distribution::of(all.iter().map(value));
    let detected = of(|made| made.detected_seconds);
    let executing = of(|made| made.executing_seconds);
    let lines = [
        ("lost, until it is noticed", detected),
        ("then until it executes", executing),
        ("then until it answers", of(|made| made.answering_seconds)),
    ];
    let mut text = format!("{:<28} {:>8} {:>8} {:>8}", "seconds", "min", "median", "max");
    for (name, seen) in lines.into_iter().filter_map(|(name, seen)| Some((name, seen?))) {
        text += &format!("\n{name:<28} {:>8.3} {:>8.3} {:>8.3}", seen.min, seen.median, seen.max);
    }
    Ok(Outcome {
        part: "recovery",
        text,
        json: json!({ "recoveries": all, "detectedSeconds": detected, "executingSeconds": executing }),
        goals: vec![
            Goal::at_most("recovery, latest notice of a lost host", GOALS.0, detected.map(|seen| seen.max)),
            Goal::at_most("recovery, longest until the job executes", GOALS.1, executing.map(|seen| seen.max)),
        ],
        // A job that is not recovered ends the measurement with an error.
        clean: true,
    })
}

async fn once(world: &World, client: &Client, notebook: &Notebook, after: Duration) -> Result<Recovered> {
    let job = &notebook.job;
    // A snapshot, as the job's interval would make it.
    client.job_snapshot(job).await?;
    let before = reached(client, job, "the capsule", |job| {
        job.status == JobStatus::Executing && job.migrations.last().is_some_and(|last| last.outcome.is_success())
    })
    .await?;
    tokio::time::sleep(after).await;
    world.cut_off(&before.host_name)?;
    let lost = Instant::now();
    reached(client, job, "the loss to be noticed", |job| job.status != JobStatus::Executing).await?;
    let detected = Instant::now();
    let is_back = |job: &JobView| job.status == JobStatus::Executing && job.host_name != before.host_name;
    reached(client, job, "the job to execute", is_back).await?;
    let executing = detected.elapsed();
    Jupyter::connect(&notebook.access_url).await?;
    let answering = detected.elapsed();
    world.join_again(&before.host_name)?;
    wait_for("the lost host to be back", LIMIT, async || {
        let hosts = client.host_list().await?;
        Ok(hosts.iter().any(|host| host.name == before.host_name && host.status == HostStatus::Ready).then_some(()))
    })
    .await?;
    Ok(Recovered {
        detected_seconds: (detected - lost).as_secs_f64(),
        executing_seconds: executing.as_secs_f64(),
        answering_seconds: answering.as_secs_f64(),
    })
}

async fn reached(client: &Client, job: &JobId, what: &str, is: impl Fn(&JobView) -> bool) -> Result<JobView> {
    wait_for(what, LIMIT, async || {
        let job = client.job_get(job).await?;
        Ok(is(&job).then_some(job))
    })
    .await
}

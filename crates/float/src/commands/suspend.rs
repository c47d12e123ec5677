//! `float suspend`, `float resume` and `float snapshot`: a job into the capsule store, out of it, and a copy of it there.

use anyhow::Result;
use clap::Args;
use mooring_api::Client;

use super::migrate::{Wait, send};
use crate::parse;
use crate::printer::Printer;

/// What `float suspend` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float suspend -j uqaj8l6a407u88v0106ol --wait

The job's memory and files go to the capsule store and its host is freed. Its gateway ports stay: clients that are
connected keep their connections, and new ones wait, until `float resume` has it go on.")]
pub(crate) struct SuspendArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// for scripts that say it: nothing is asked anyway
    #[arg(short, long)]
    force: bool,
    /// wait until it is suspended and fail if that fails
    #[arg(long)]
    wait: bool,
}

/// What `float resume` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float resume -j uqaj8l6a407u88v0106ol --wait

The job goes on where it stood, on any host that fits, under the same gateway ports.")]
pub(crate) struct ResumeArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// wait until it executes and fail if that fails
    #[arg(long)]
    wait: bool,
}

/// What `float snapshot` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float snapshot -j uqaj8l6a407u88v0106ol --wait

The newest capsule is what a job is recovered from when its host is lost. `float submit --snapshotInterval 10m` has them
taken by themselves.")]
pub(crate) struct SnapshotArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// wait until the capsule is in the store and fail if that fails
    #[arg(long)]
    wait: bool,
}

/// Starts to suspend a job.
pub(crate) async fn suspend(args: SuspendArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    send(client, printer, &id, "Suspend", wait(args.wait), async || client.job_suspend(id.as_str()).await).await
}

/// Starts to resume a job.
pub(crate) async fn resume(args: ResumeArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    send(client, printer, &id, "Resume", wait(args.wait), async || client.job_resume(id.as_str()).await).await
}

/// Starts to take a capsule.
pub(crate) async fn snapshot(args: SnapshotArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    send(client, printer, &id, "Snapshot", wait(args.wait), async || client.job_snapshot(id.as_str()).await).await
}

fn wait(wait: bool) -> Wait {
    if wait { Wait::ToTheEnd } else { Wait::No }
}

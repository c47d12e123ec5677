//! `float suspend`, `float resume` and `float snapshot`: migrations into and out of the capsule
//! store.

use anyhow::Result;
use clap::Args;
use mooring_api::Client;

use super::migrate::send;
use super::which_job::WhichJob;
use crate::printer::Printer;

/// The arguments of `float suspend`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float suspend -j uqaj8l6a407u88v0106ol --wait

The job's memory and files go to the capsule store and its host is freed. The job keeps its gateway ports: open
client connections stay open and new ones wait until `float resume`. Connections that the job has opened end; the
answer names them.")]
pub(crate) struct SuspendArgs {
    #[command(flatten)]
    job: WhichJob,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
    /// wait until the job is suspended; exit with 1 if that fails
    #[arg(long)]
    wait: bool,
}

/// The arguments of `float resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float resume -j uqaj8l6a407u88v0106ol --wait

The job continues where it was suspended, on any host that fits, with the same gateway ports.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    job: WhichJob,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
    /// wait until the job executes; exit with 1 if that fails
    #[arg(long)]
    wait: bool,
}

/// The arguments of `float snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float snapshot -j uqaj8l6a407u88v0106ol --wait

When a host is lost, its jobs are recovered from their newest snapshots.
`float submit --snapshotInterval 10m` takes snapshots automatically.")]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    job: WhichJob,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
    /// wait until the snapshot is stored; exit with 1 if that fails
    #[arg(long)]
    wait: bool,
}

/// Starts a suspend.
pub(crate) async fn suspend(args: SuspendArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    let start = async || {
        let job = client.job_suspend(&id).await?;
        if !job.outward.is_empty() {
            printer.note(&format!("the suspend ends the job's own connections: {}", job.outward.join(", ")));
        }
        Ok(job)
    };
    send(client, printer, &id, "Suspend", args.wait.into(), start).await
}

/// Starts a resume.
pub(crate) async fn resume(args: ResumeArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    send(client, printer, &id, "Resume", args.wait.into(), async || client.job_resume(&id).await).await
}

/// Starts a snapshot.
pub(crate) async fn snapshot(args: SnapshotArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    send(client, printer, &id, "Snapshot", args.wait.into(), async || client.job_snapshot(&id).await).await
}

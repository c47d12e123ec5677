//! `float check`.

use anyhow::Result;
use clap::Args;
use mooring_api::Client;

use super::which_job::WhichJob;
use crate::printer::Printer;

/// The arguments of `float check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float check -j uqaj8l6a407u88v0106ol -F table

The host of the job looks at its processes every few seconds. `refuses`: a migration fails before
the job is frozen. `waits`: it does so unless this passes. `mended`: it moves with the job.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    job: WhichJob,
}

/// Prints what matters to a migration of a job.
pub(crate) async fn check(args: &CheckArgs, client: &Client, printer: &Printer) -> Result<()> {
    let job = args.job.find(client).await?;
    printer.list(&client.job_findings(&job).await?)
}

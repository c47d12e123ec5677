//! `float metrics`, `float top` and `float df`: what jobs use.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use mooring_api::Client;
use mooring_api::view::JobView;
use mooring_types::job::JobStatus;
use mooring_types::{JobId, Timestamp};
use serde::Serialize;

use crate::parse;
use crate::printer::Printer;
use crate::server::interval;

/// How far back `float df` looks for a measurement.
const MEASURED_WITHIN: Duration = Duration::from_secs(3600);

/// What `float metrics` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float metrics -j uqaj8l6a407u88v0106ol -F table
  float metrics -j uqaj8l6a407u88v0106ol --last 1d -F json

What a job uses is measured every 20 s. All of it is kept for a day, what came before in steps of
5 minutes, and none of it for longer than 7 days after the job's end. Memory is what is in use:
files that the kernel keeps in memory and can read again are told apart.")]
pub(crate) struct MetricsArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// how far back
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = interval)]
    last: Duration,
}

/// What `float top` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float top -F table
  float top -j uqaj8l6a407u88v0106ol -F table

What was used when it was last measured, of what the job has. `float metrics` has the history.")]
pub(crate) struct TopArgs {
    /// this job alone
    #[arg(short, long, value_name = "ID")]
    job: Option<String>,
}

/// What `float df` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float df -j uqaj8l6a407u88v0106ol -F table

What the job has written and changed beside its image, when that was last measured in the last hour.
What it keeps in volumes is not counted.")]
pub(crate) struct DfArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
}

/// What a job's own files take.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OnDisk {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) host_name: String,
    /// In GB, and when that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Timestamp>,
}

/// What a job uses now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UseNow {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) host_name: String,
    pub(crate) user: String,
    pub(crate) status: JobStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_used: Option<f64>,
    pub(crate) cpu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mem_used: Option<f64>,
    #[serde(rename = "memGB")]
    pub(crate) mem_gb: f64,
}

impl From<JobView> for UseNow {
    fn from(job: JobView) -> Self {
        let JobView { id, name, host_name, user, status, cpu_used, cpu, mem_used, mem_gb, .. } = job;
        Self { id, name, host_name, user, status, cpu_used, cpu, mem_used, mem_gb }
    }
}

/// Prints what a job used.
pub(crate) async fn metrics(args: &MetricsArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    printer.list(&client.job_metrics(id.as_str(), Some(args.last)).await?)
}

/// Prints what the jobs use that are on a host.
pub(crate) async fn top(args: &TopArgs, client: &Client, printer: &Printer) -> Result<()> {
    let jobs = match &args.job {
        Some(id) => vec![client.job_get(parse::job_id(id)?.as_str()).await?],
        None => {
            let mut jobs = client.job_list().await?;
            jobs.retain(|job| !job.host_name.is_empty());
            jobs
        }
    };
    printer.list(&jobs.into_iter().map(UseNow::from).collect::<Vec<_>>())
}

/// Prints what a job's own files take.
pub(crate) async fn df(args: &DfArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    let JobView { id, name, host_name, .. } = client.job_get(id.as_str()).await?;
    let measured = client.job_metrics(id.as_str(), Some(MEASURED_WITHIN)).await?;
    let last = measured.iter().rev().find_map(|row| Some((row.disk?, row.time)));
    let (disk, time) = last.unzip();
    printer.list(&[OnDisk { id, name, host_name, disk, time }])
}

//! `float metrics`, `float top` and `float df`: the resource usage of jobs.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use mooring_api::Client;
use mooring_api::view::JobView;
use mooring_types::job::JobStatus;
use mooring_types::{JobId, Timestamp};
use serde::Serialize;

use super::which_job::{self, WhichJob};
use crate::printer::Printer;
use crate::server::interval;
use crate::table::{Tabular, seconds};

/// The age of the oldest measurement that `float df` shows.
const DISK_USAGE_MAX_AGE: Duration = Duration::from_secs(3600);

/// The arguments of `float metrics`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float metrics -j uqaj8l6a407u88v0106ol -F table
  float metrics -j uqaj8l6a407u88v0106ol --last 1d -F json

Usage is measured every 20 s. Measurements are kept for a day, older ones at 5-minute intervals, and
none for longer than 7 days after the job's end. Used memory excludes the page cache, which has a
column of its own.")]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    job: WhichJob,
    /// length of the history
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = interval)]
    last: Duration,
}

/// The arguments of `float top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float top -F table
  float top -j uqaj8l6a407u88v0106ol -F table

Shows the latest measurement and the job's size. `float metrics` shows the history.")]
pub(crate) struct TopArgs {
    /// show only this job, by id or name
    #[arg(short, long, value_name = "JOB")]
    job: Option<String>,
}

/// The arguments of `float df`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float df -j uqaj8l6a407u88v0106ol -F table

Shows the size of the files that the job wrote or changed on top of its image, from the latest
measurement of the last hour. Volumes are not counted.")]
pub(crate) struct DfArgs {
    #[command(flatten)]
    job: WhichJob,
}

/// The disk usage of a job's changed files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiskUsage {
    pub(crate) id: JobId,
    pub(crate) name: String,
    pub(crate) host_name: String,
    /// In GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Timestamp>,
}

/// The current usage of a job.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CurrentUsage {
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

impl Tabular for CurrentUsage {
    const NONE: &'static str = "No jobs";
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "HOST", "USER", "STATUS", "CPU USED", "GB USED"];

    fn row(&self) -> Vec<String> {
        let of = |used: Option<f64>, all: f64| used.map_or_else(String::new, |used| format!("{used:.2}/{all}"));
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.host_name.clone(),
            self.user.clone(),
            self.status.to_string(),
            of(self.cpu_used, self.cpu.into()),
            of(self.mem_used, self.mem_gb),
        ]
    }
}

impl Tabular for DiskUsage {
    const NONE: &'static str = "No jobs";
    const COLUMNS: &'static [&'static str] = &["ID", "NAME", "HOST", "GB ON DISK", "MEASURED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.host_name.clone(),
            self.disk.map_or_else(String::new, |gb| format!("{gb:.3}")),
            self.time.map(seconds).unwrap_or_default(),
        ]
    }
}

impl From<JobView> for CurrentUsage {
    fn from(job: JobView) -> Self {
        let JobView { id, name, host_name, user, status, cpu_used, cpu, mem_used, mem_gb, .. } = job;
        Self { id, name, host_name, user, status, cpu_used, cpu, mem_used, mem_gb }
    }
}

/// Prints the usage history of a job.
pub(crate) async fn metrics(args: &MetricsArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    printer.list(&client.job_metrics(&id, Some(args.last)).await?)
}

/// Prints the current usage of the jobs that are on a host.
pub(crate) async fn top(args: &TopArgs, client: &Client, printer: &Printer) -> Result<()> {
    let jobs = match &args.job {
        Some(id) => vec![client.job_get(&which_job::find(client, id).await?).await?],
        None => {
            let mut jobs = client.job_list().await?;
            jobs.retain(|job| !job.host_name.is_empty());
            jobs
        }
    };
    printer.list(&jobs.into_iter().map(CurrentUsage::from).collect::<Vec<_>>())
}

/// Prints the disk usage of a job's changed files.
pub(crate) async fn df(args: &DfArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    let JobView { id, name, host_name, .. } = client.job_get(&id).await?;
    let measured = client.job_metrics(&id, Some(DISK_USAGE_MAX_AGE)).await?;
    let last = measured.iter().rev().find_map(|row| Some((row.disk?, row.time)));
    let (disk, time) = last.unzip();
    printer.list(&[DiskUsage { id, name, host_name, disk, time }])
}

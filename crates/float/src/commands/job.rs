//! `float list`, `float show`, `float modify` and `float cancel`.

use anyhow::{Result, bail};
use clap::Args;
use mooring_api::view::{JobModifyRequest, JobPageRequest, JobView, PAGE_LIMIT_MAX};
use mooring_api::{Client, Submission};
use mooring_types::gateway::WakeOn;
use mooring_types::job::JobStatus;

use super::submission_flags::ModifyFlags;
use super::which_job::{self, WhichJob};
use crate::confirm::confirm;
use crate::error::{Local, Usage};
use crate::global::Switch;
use crate::parse;
use crate::printer::Printer;

/// The arguments of `float list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float list -F table
  float list -f 'status=Executing or status=Floating' -f user=alice -F json
  float list -f 'update<=12w and (tag:project=course-7 or name~notebook)'
  float list --limit 10 -F table

A filter consists of comparisons, `and`, `or` and parentheses:
  id, name, user, image, host, tag:KEY      =, !=, ~ (contains, case-insensitive)
  status, category                          =, !=
  submit, update                            an age: `update<=12w` means changed in the last 12 weeks;
                                            or a time: `submit>=2026-08-01`
  duration                                  execution time: `duration>2h`
Put values with blanks or parentheses in double quotes.")]
pub(crate) struct ListArgs {
    /// show jobs that match; repeatable: all filters must match
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// show the N newest of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// The arguments of `float show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float show -j uqaj8l6a407u88v0106ol

`portMappings` lists `<published port> -> <gateway>:<port>`; `accessUrls` has the URLs to open in a browser.
`inputArgs` has the arguments of `float submit` for the same job. `migrations` lists each migration with its
phases in seconds.")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: WhichJob,
}

/// The arguments of `float modify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float modify -j uqaj8l6a407u88v0106ol --addCustomTag project:course-7 --rmCustomTag draft
  float modify -j uqaj8l6a407u88v0106ol --timeLimit 4h --idle 0s
  float modify -j uqaj8l6a407u88v0106ol --migratePolicy '[mem.upperBoundRatio=80,cpu.disable=true]'

Only jobs that have not ended can be modified. A new policy replaces the old one; `0s` turns a time off.
Prints the job's record.")]
pub(crate) struct ModifyArgs {
    #[command(flatten)]
    job: WhichJob,
    #[command(flatten)]
    flags: ModifyFlags,
    /// tag to add; replaces a tag with the same key; repeatable
    #[arg(long = "addCustomTag", value_name = "KEY:VALUE")]
    add_custom_tag: Vec<String>,
    /// key of a tag to remove; repeatable
    #[arg(long = "rmCustomTag", value_name = "KEY")]
    rm_custom_tag: Vec<String>,
    /// resume the job when a client connects while it is suspended
    #[arg(long = "resumeOnConnect", value_name = "on|off", value_enum, hide_possible_values = true)]
    resume_on_connect: Option<Switch>,
    /// clients that resume it: `page`, `request` or `connection`
    #[arg(long = "wakeOn", value_name = "KIND", value_parser = parse::wake_on(), hide_possible_values = true)]
    wake_on: Option<WakeOn>,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
}

/// The arguments of `float cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float cancel -j uqaj8l6a407u88v0106ol              asks first
  float cancel -j uqaj8l6a407u88v0106ol -f
  float cancel --filter tag:project=course-7 -f      all matching jobs that have not ended")]
pub(crate) struct CancelArgs {
    /// job, by id or name [default: $FLOAT_JOB_ID, which is set inside a job]
    #[arg(short, long, value_name = "JOB", conflicts_with = "filter")]
    job: Option<String>,
    /// cancel jobs that match, as in `float list`; repeatable: all filters must match
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// skip the confirmation
    #[arg(short, long)]
    force: bool,
}

/// The beginning of the reason of a job that waits for a host.
const WAITS: &str = "waits for a host: ";

/// Lists jobs.
pub(crate) async fn list(args: &ListArgs, client: &Client, printer: &Printer) -> Result<()> {
    let filters = parse::filters(&args.filter)?;
    let jobs = match args.limit {
        Some(limit) => newest(client, filters, limit).await?,
        None => client.job_list_where(filters).await?,
    };
    printer.jobs(&jobs, client.address())?;
    for job in jobs.iter().filter(|job| job.status_reason.starts_with(WAITS)) {
        printer.note_below_table(&format!("{} ({}) {}", job.name, job.id, short_reason(&job.status_reason)));
    }
    Ok(())
}

/// Returns the first part of a reason: what a job waits for, without what each host has.
fn short_reason(reason: &str) -> String {
    reason.split_once(" free: ").map_or_else(|| reason.to_owned(), |(what, _)| format!("{what} free"))
}

/// Returns the newest jobs that match all filters, newest last.
async fn newest(client: &Client, filters: &[String], limit: u32) -> Result<Vec<JobView>> {
    let mut jobs = Vec::new();
    let mut before = None;
    loop {
        let left = limit.saturating_sub(u32::try_from(jobs.len())?);
        let request = JobPageRequest {
            filters: filters.to_vec(),
            limit: Some(left.min(PAGE_LIMIT_MAX)),
            before,
            ..JobPageRequest::default()
        };
        let page = client.job_page(&request).await?;
        jobs.extend(page.jobs);
        before = page.next;
        if before.is_none() || jobs.len() >= usize::try_from(limit)? {
            jobs.reverse();
            return Ok(jobs);
        }
    }
}

/// Shows a job.
pub(crate) async fn show(args: &ShowArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    printer.job(&client.job_get(&id).await?, client.address())
}

/// Changes a job's policies, limits, tags or name.
pub(crate) async fn modify(args: ModifyArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    let Submission { name, vm_policy, migrate_policy, time_limit, idle, awake_limit, snapshot_interval, .. } =
        args.flags.0.submission()?;
    let request = JobModifyRequest {
        name,
        add_custom_tags: parse::tags(&args.add_custom_tag)?,
        remove_custom_tags: args.rm_custom_tag,
        vm_policy,
        migrate_policy,
        time_limit,
        idle,
        awake_limit,
        resume_on_connect: args.resume_on_connect.map(|switch| switch == Switch::On),
        wake_on: args.wake_on,
        snapshot_interval,
    };
    printer.object(&client.job_modify(&id, &request).await?)
}

/// Requests the cancellation of a job, or of all jobs that match a filter.
pub(crate) async fn cancel(args: &CancelArgs, client: &Client, printer: &Printer) -> Result<()> {
    if !args.filter.is_empty() {
        return cancel_all(args, client, printer).await;
    }
    let this_job = || std::env::var(which_job::THIS_JOB).ok();
    let Some(id) = &args.job.clone().or_else(this_job) else {
        return Err(Usage::new("no job to cancel", "give `-j <JOB>`, or `--filter <FILTER>` for several").into());
    };
    let id = which_job::find(client, id).await?;
    let job = if args.force { None } else { Some(client.job_get(&id).await?) };
    if let Some(job) = job.filter(|job| !job.status.is_final()) {
        confirm(&format!("cancel job {id} ({}), status {}?", job.name, job.status))?;
    }
    let job = client.job_cancel(&id).await?;
    if job.status.is_final() {
        printer.note(&format!("job {id} has ended already: {}", job.status));
    } else {
        printer.accepted("Cancel request has been submitted")?;
    }
    printer.object(&job)
}

async fn cancel_all(args: &CancelArgs, client: &Client, printer: &Printer) -> Result<()> {
    let may_end = |job: &JobView| !job.status.is_final() && job.status != JobStatus::Cancelling;
    let mut jobs = client.job_list_where(parse::filters(&args.filter)?).await?;
    jobs.retain(may_end);
    if !args.force && !jobs.is_empty() {
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        confirm(&format!("cancel {} jobs ({})?", jobs.len(), names.join(", ")))?;
    }
    let mut cancelled = Vec::new();
    let mut refused = Vec::new();
    for job in &jobs {
        match client.job_cancel(&job.id).await {
            Ok(job) => cancelled.push(job),
            Err(error) => refused.push((job, error)),
        }
    }
    if !cancelled.is_empty() {
        printer.accepted_list("Cancel request has been submitted")?;
    }
    printer.list(&cancelled)?;
    match refused.as_slice() {
        [] => Ok(()),
        [(job, error), ..] => {
            let message = format!("{} of {} jobs not cancelled; job {}: {error}", refused.len(), jobs.len(), job.id);
            bail!(Local::new(message, "`float list` shows the status of each job"))
        }
    }
}

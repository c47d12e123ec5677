//! `float list`, `float show`, `float modify` and `float cancel`.

use anyhow::{Result, bail};
use clap::Args;
use mooring_api::Client;
use mooring_api::view::{JobModifyRequest, JobView};
use mooring_types::job::JobStatus;

use crate::cli::Switch;
use crate::confirm::confirm;
use crate::error::Local;
use crate::parse;
use crate::printer::Printer;

/// What `float list` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float list -F table
  float list -f 'status=Executing or status=Floating' -f user=alice -F json
  float list -f 'update<=12w and (tag:project=course-7 or name~notebook)'

A filter has comparisons, `and`, `or` and parentheses:
  id, name, user, image, host, tag:KEY      =, !=, ~ (contains, in any case)
  status, category                          =, !=
  submit, update                            an age: `update<=12w` is what changed within the last 12 weeks;
                                            or a time: `submit>=2026-08-01`
  duration                                  how long it has run: `duration>2h`
Values with blanks or parentheses stand in double quotes.")]
pub(crate) struct ListArgs {
    /// show only these jobs; repeatable: all must hold
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// What `float show` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float show -j uqaj8l6a407u88v0106ol

`portMappings` has `<published port> -> <gateway>:<port>`, `accessUrls` what one pastes into a browser, `inputArgs`
what `float submit` is given for the same job, and `migrations` each move with what its phases took, in seconds.")]
pub(crate) struct ShowArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
}

/// What `float modify` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float modify -j uqaj8l6a407u88v0106ol --addCustomTag project:course-7 --rmCustomTag draft
  float modify -j uqaj8l6a407u88v0106ol --timeLimit 4h --idle 0s
  float modify -j uqaj8l6a407u88v0106ol --migratePolicy '[mem.upperBoundRatio=80,cpu.disable=true]'

A job that has not ended can be modified. Prints its record.")]
pub(crate) struct ModifyArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// its new name
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// a tag to add; one of the same key is replaced; repeatable
    #[arg(long = "addCustomTag", value_name = "KEY:VALUE")]
    add_custom_tag: Vec<String>,
    /// the key of a tag to remove; repeatable
    #[arg(long = "rmCustomTag", value_name = "KEY")]
    rm_custom_tag: Vec<String>,
    /// what kind of host it wants, as for `float submit`; replaces the whole policy
    #[arg(long = "vmPolicy", value_name = "POLICY")]
    vm_policy: Option<String>,
    /// when it moves by itself, as for `float submit`; replaces the whole policy
    #[arg(short = 'M', long = "migratePolicy", value_name = "POLICY")]
    migrate_policy: Option<String>,
    /// end it when it has executed for so long; 0s for never
    #[arg(long = "timeLimit", value_name = "TIME")]
    time_limit: Option<String>,
    /// suspend it when it was not used for so long; 0s for never
    #[arg(long, value_name = "TIME")]
    idle: Option<String>,
    /// whether a client that connects resumes it
    #[arg(long = "resumeOnConnect", value_name = "on|off", value_enum, hide_possible_values = true)]
    resume_on_connect: Option<Switch>,
    /// take a capsule of it so often while it runs; 0s for never
    #[arg(long = "snapshotInterval", value_name = "TIME")]
    snapshot_interval: Option<String>,
    /// for scripts that say it: nothing is asked anyway
    #[arg(short, long)]
    force: bool,
}

/// What `float cancel` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float cancel -j uqaj8l6a407u88v0106ol              asks first
  float cancel -j uqaj8l6a407u88v0106ol -f
  float cancel --filter tag:project=course-7 -f      all that have not ended")]
pub(crate) struct CancelArgs {
    /// the job
    #[arg(short, long, value_name = "ID", required_unless_present = "filter", conflicts_with = "filter")]
    job: Option<String>,
    /// the jobs for which it holds, as for `float list`; repeatable: all must hold
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// don't ask
    #[arg(short, long)]
    force: bool,
}

/// Lists jobs.
pub(crate) async fn list(args: &ListArgs, client: &Client, printer: &Printer) -> Result<()> {
    printer.list(&client.job_list_where(parse::filters(&args.filter)?).await?)
}

/// Shows a job.
pub(crate) async fn show(args: &ShowArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    printer.object(&client.job_get(id.as_str()).await?)
}

/// Changes what is to happen to a job by itself, its tags, or its name.
pub(crate) async fn modify(args: ModifyArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    let request = JobModifyRequest {
        name: args.name.unwrap_or_default(),
        add_custom_tags: parse::tags(&args.add_custom_tag)?,
        remove_custom_tags: args.rm_custom_tag,
        vm_policy: args.vm_policy.unwrap_or_default(),
        migrate_policy: args.migrate_policy.unwrap_or_default(),
        time_limit: args.time_limit.unwrap_or_default(),
        idle: args.idle.unwrap_or_default(),
        resume_on_connect: args.resume_on_connect.map(|switch| switch == Switch::On),
        snapshot_interval: args.snapshot_interval.unwrap_or_default(),
    };
    printer.object(&client.job_modify(id.as_str(), &request).await?)
}

/// Asks OpCenter to end a job, or several; they end by themselves then.
pub(crate) async fn cancel(args: &CancelArgs, client: &Client, printer: &Printer) -> Result<()> {
    let Some(id) = &args.job else { return cancel_all(args, client, printer).await };
    let id = parse::job_id(id)?;
    if !args.force {
        let job = client.job_get(id.as_str()).await?;
        confirm(&format!("cancel job {id} ({}), which is {}?", job.name, job.status))?;
    }
    let job = client.job_cancel(id.as_str()).await?;
    printer.note("Cancel request has been submitted");
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
        match client.job_cancel(job.id.as_str()).await {
            Ok(job) => cancelled.push(job),
            Err(error) => refused.push((job, error)),
        }
    }
    if !cancelled.is_empty() {
        printer.note("Cancel request has been submitted");
    }
    printer.list(&cancelled)?;
    match refused.as_slice() {
        [] => Ok(()),
        [(job, error), ..] => {
            let message = format!("{} of {} jobs are not cancelled; {}: {error}", refused.len(), jobs.len(), job.id);
            bail!(Local::new(message, "`float list` shows how they are"))
        }
    }
}

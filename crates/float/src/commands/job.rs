//! `float list`, `float show` and `float cancel`.

use anyhow::Result;
use clap::Args;
use mooring_api::Client;

use crate::confirm::confirm;
use crate::filter::Filter;
use crate::parse;
use crate::printer::Printer;

/// What `float list` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float list -F table
  float list -f 'status=Executing or status=Floating' -f user=alice -F json")]
pub(crate) struct ListArgs {
    /// show only these jobs: `key=value`, joined by `or`; keys: id, name, status, user. Repeatable: all must hold
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// What `float show` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  float show -j uqaj8l6a407u88v0106ol

`portMappings` has `<published port> -> <gateway>:<port>`, `accessUrls` what one pastes into a browser, and
`migrations` each move with what its phases took, in seconds.")]
pub(crate) struct ShowArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
}

/// What `float cancel` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float cancel -j uqaj8l6a407u88v0106ol              asks first
  float cancel -j uqaj8l6a407u88v0106ol -f")]
pub(crate) struct CancelArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// don't ask
    #[arg(short, long)]
    force: bool,
}

/// Lists jobs.
pub(crate) async fn list(args: &ListArgs, client: &Client, printer: &Printer) -> Result<()> {
    let filters: Vec<Filter> = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_>>()?;
    let mut jobs = client.job_list().await?;
    jobs.retain(|job| filters.iter().all(|filter| filter.holds(job)));
    printer.list(&jobs)
}

/// Shows a job.
pub(crate) async fn show(args: &ShowArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    printer.object(&client.job_get(id.as_str()).await?)
}

/// Asks OpCenter to end a job; it ends by itself then.
pub(crate) async fn cancel(args: &CancelArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    if !args.force {
        let job = client.job_get(id.as_str()).await?;
        confirm(&format!("cancel job {id} ({}), which is {}?", job.name, job.status))?;
    }
    let job = client.job_cancel(id.as_str()).await?;
    printer.note("Cancel request has been submitted");
    printer.object(&job)
}

//! `float migrate`: asks for a move, and watches it to its end if that is wanted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mooring_api::view::{JobView, MigrateRequest, MigrationView};
use mooring_api::{Client, ClientError};
use mooring_types::JobId;
use mooring_types::migration::Phase;

use crate::error::Local;
use crate::parse;
use crate::printer::Printer;

/// How often a move is looked at; it takes seconds.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long OpCenter may be away while a move is watched; the move itself goes on.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

/// What `float migrate` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float migrate -j uqaj8l6a407u88v0106ol --wait
  float migrate -j uqaj8l6a407u88v0106ol --host host-2
  float migrate -j uqaj8l6a407u88v0106ol -c 4 -m 16      it goes on with four cores and 16 GB

The job goes on where it was, with its memory, files and connections through gateways. A move that fails leaves it
where it is; `float show` says why under `migrations`.")]
pub(crate) struct MigrateArgs {
    /// the job
    #[arg(short, long, value_name = "ID")]
    job: String,
    /// the host to go to, by name [default: chosen]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// cores that it has afterwards [default: as before]
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// memory in GB that it has afterwards [default: as before]
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// for scripts that say it: nothing is asked anyway
    #[arg(short, long)]
    force: bool,
    /// wait for the end of the move and fail if it fails; its phases are shown on stderr
    #[arg(long)]
    wait: bool,
}

/// Starts a move.
pub(crate) async fn migrate(args: MigrateArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = parse::job_id(&args.job)?;
    let request = MigrateRequest {
        host: args.host.unwrap_or_default(),
        cpu: args.cpu.as_deref().map(parse::cores).transpose()?,
        mem_gb: args.mem.as_deref().map(parse::memory).transpose()?,
    };
    let start = async || client.job_migrate(id.as_str(), &request).await;
    send(client, printer, &id, "Migrate", if args.wait { Wait::ToTheEnd } else { Wait::No }, start).await
}

/// Whether the end of what was asked for is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is not.
    No,
    /// It is, and a failure is one of the command.
    ToTheEnd,
}

/// Asks for something that sends a job on its way, and follows it if that is wanted.
pub(super) async fn send(
    client: &Client,
    printer: &Printer,
    id: &JobId,
    what: &str,
    wait: Wait,
    start: impl AsyncFnOnce() -> Result<JobView, ClientError>,
) -> Result<()> {
    if wait == Wait::No {
        let job = start().await?;
        printer.accepted(&format!("{what} request has been submitted"))?;
        return printer.object(&job);
    }
    let before = client.job_get(id.as_str()).await?;
    let known: BTreeSet<String> = before.migrations.iter().map(|known| known.id.to_string()).collect();
    let first = start().await?;
    let mut progress = Progress::new(printer);
    let (job, outcome) = watch(client, id, first, &known, &mut progress).await?;
    progress.end();
    printer.object(&job)?;
    outcome
}

/// Follows the one move that was not known before.
async fn watch(
    client: &Client,
    id: &JobId,
    first: JobView,
    known: &BTreeSet<String>,
    progress: &mut Progress<'_>,
) -> Result<(JobView, Result<()>)> {
    let mut job = first;
    loop {
        if let Some(found) = job.migrations.iter().find(|found| !known.contains(found.id.as_str())) {
            progress.show(found);
            if let Some(outcome) = ended(found) {
                return Ok((job, outcome));
            }
        } else if job.status.is_final() {
            bail!("the job is {} and was not moved", job.status);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        job = look(client, id).await?;
    }
}

/// Looks at the job, past a restart of OpCenter's.
async fn look(client: &Client, id: &JobId) -> Result<JobView> {
    let began = Instant::now();
    loop {
        match client.job_get(id.as_str()).await {
            Err(error) if may_pass(&error) && began.elapsed() < AWAY_LIMIT => tokio::time::sleep(LOOK_EVERY).await,
            answer => return Ok(answer?),
        }
    }
}

fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. }) || error.code().is_some_and(|code| code.is_retryable())
}

fn ended(migration: &MigrationView) -> Option<Result<()>> {
    let failed = migration.outcome.strip_prefix("failed");
    match (failed, migration.outcome.as_str()) {
        (Some(why), _) => {
            let message = match migration.kind.as_str() {
                "migrate" => format!("the move to {} failed{why}", migration.to),
                kind => format!("the {kind} failed{why}"),
            };
            let hint = "`float log events -j <job>` tells more; the job is where it was";
            Some(Err(Local::new(message, hint).into()))
        }
        (None, "succeeded") => Some(Ok(())),
        (None, _) => None,
    }
}

/// What is shown of a move while it goes on: a line for each phase, and on a terminal one that lives.
struct Progress<'a> {
    printer: &'a Printer,
    live: Option<ProgressBar>,
    shown: BTreeSet<Phase>,
    named: bool,
}

impl<'a> Progress<'a> {
    fn new(printer: &'a Printer) -> Self {
        let live = printer.is_watched().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style.tick_chars("|/-\\ "));
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { printer, live, shown: BTreeSet::new(), named: false }
    }

    fn show(&mut self, migration: &MigrationView) {
        if !self.named {
            self.named = true;
            let what = if migration.kind == "migrate" { "moving" } else { migration.kind.as_str() };
            self.line(&format!("{what} from {} to {}", migration.from, migration.to));
        }
        for phase in &migration.phases {
            if self.shown.insert(phase.name) {
                self.line(&format!("  {:<9} {:.3} s", phase.name.to_string(), phase.seconds));
            }
        }
        if migration.outcome == "succeeded" {
            let megabytes = migration.bytes_moved as f64 / 1e6;
            let done = match migration.kind.as_str() {
                "migrate" => format!("moved: the job stood still for {:.3} s", migration.pause_seconds),
                "snapshot" => format!("snapshot taken: the job stood still for {:.3} s", migration.pause_seconds),
                kind => format!("done: {kind}"),
            };
            self.line(&format!("{done}, {megabytes:.1} MB were sent"));
        } else if let Some(bar) = &self.live {
            bar.set_message(migration.outcome.clone());
        }
    }

    fn line(&self, text: &str) {
        match &self.live {
            Some(bar) => bar.suspend(|| self.printer.note(text)),
            None => self.printer.note(text),
        }
    }

    fn end(self) {
        if let Some(bar) = self.live {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_move_ends_when_it_succeeds_or_has_failed() {
        let mut moved = samples::moved_job().migrations.remove(0);
        assert!(ended(&moved).unwrap().is_ok());
        for going in ["running", "undoing: Restore: out of room"] {
            moved.outcome = going.into();
            assert!(ended(&moved).is_none(), "{going}");
        }
        moved.outcome = "failed: Restore: out of room".into();
        let error = ended(&moved).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the move to host-2 failed: Restore: out of room");
    }
}

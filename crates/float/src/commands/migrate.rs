//! `float migrate`: starts a migration, and with `--wait` follows it to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mooring_api::view::{JobView, MigrateRequest, MigrationView};
use mooring_api::{Client, ClientError};
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use mooring_types::{JobId, MigrationId};

use super::wait::Follow;
use super::which_job::WhichJob;
use crate::error::Local;
use crate::parse;
use crate::printer::Printer;

/// The arguments of `float migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float migrate -j uqaj8l6a407u88v0106ol --wait
  float migrate -j uqaj8l6a407u88v0106ol --host host-2
  float migrate -j uqaj8l6a407u88v0106ol -c 4 -m 16      with 4 cores and 16 GB on the new host

The job keeps its memory, files and connections through gateways. After a failed migration the job continues on
its host; `migrations` of `float show` has the reason.")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    job: WhichJob,
    /// destination host, by name [default: chosen by OpCenter]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// cores on the new host [default: unchanged]
    #[arg(short, long, value_name = "CORES")]
    cpu: Option<String>,
    /// memory in GB on the new host [default: unchanged]
    #[arg(short, long, value_name = "GB")]
    mem: Option<String>,
    /// accepted for scripts; this command asks nothing
    #[arg(short, long)]
    force: bool,
    /// wait for the migration to end and exit with 1 if it fails; shows its phases on stderr
    #[arg(long)]
    wait: bool,
}

/// Starts a migration.
pub(crate) async fn migrate(args: MigrateArgs, client: &Client, printer: &Printer) -> Result<()> {
    let id = args.job.find(client).await?;
    let request = MigrateRequest {
        host: args.host.unwrap_or_default(),
        cpu: args.cpu.as_deref().map(parse::cores).transpose()?,
        mem_gb: args.mem.as_deref().map(parse::memory).transpose()?,
    };
    let start = async || client.job_migrate(&id, &request).await;
    send(client, printer, &id, "Migrate", args.wait.into(), start).await
}

/// The wait of a command for the migration that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until OpCenter accepts the request.
    Accepted,
    /// Until the migration ends; a failed migration fails the command.
    Ended,
}

impl From<bool> for Wait {
    /// The meaning of the flag `--wait`.
    fn from(flag: bool) -> Self {
        if flag { Self::Ended } else { Self::Accepted }
    }
}

/// Starts a migration of any kind and waits for it as requested.
pub(super) async fn send(
    client: &Client,
    printer: &Printer,
    id: &JobId,
    what: &str,
    wait: Wait,
    start: impl AsyncFnOnce() -> Result<JobView, ClientError>,
) -> Result<()> {
    if wait == Wait::Accepted {
        let job = start().await?;
        printer.accepted(&format!("{what} request has been submitted"))?;
        return printer.object(&job);
    }
    let before = client.job_get(id).await?;
    let earlier: BTreeSet<MigrationId> = before.migrations.into_iter().map(|migration| migration.id).collect();
    let first = start().await?;
    let mut progress = Progress::new(printer);
    let (job, outcome) = watch(client, id, first, &earlier, &mut progress).await?;
    progress.end();
    printer.object(&job)?;
    outcome
}

/// Follows the migration that is not one of the earlier ones.
async fn watch(
    client: &Client,
    id: &JobId,
    first: JobView,
    earlier: &BTreeSet<MigrationId>,
    progress: &mut Progress<'_>,
) -> Result<(JobView, Result<()>)> {
    let mut follow = Follow::new(async || client.job_watch(id).await);
    let mut job = first;
    loop {
        if let Some(migration) = job.migrations.iter().find(|migration| !earlier.contains(&migration.id)) {
            progress.show(migration);
            if let Some(outcome) = ended(migration) {
                return Ok((job, outcome));
            }
        } else if job.status.is_final() {
            bail!("the job is {} and did not migrate", job.status);
        }
        job = follow.next().await?;
    }
}

fn ended(migration: &MigrationView) -> Option<Result<()>> {
    match &migration.outcome {
        Outcome::Running | Outcome::RollingBack { .. } => None,
        Outcome::Succeeded => Some(Ok(())),
        Outcome::Failed { phase, reason } => {
            let noun = migration.kind.noun();
            let message = match migration.kind {
                MigrationKind::Migrate => format!("the migration to {} failed: {phase}: {reason}", migration.to),
                _ => format!("the {noun} failed: {phase}: {reason}"),
            };
            let hint = "the job continues on its host; `float log events -j <job>` shows the details";
            let hint = if migration.kind.is_out_of_store() { "the job stays suspended" } else { hint };
            Some(Err(Local::new(message, hint).into()))
        }
    }
}

/// The progress of a migration on stderr: a line for each phase, and a spinner on a terminal.
struct Progress<'a> {
    printer: &'a Printer,
    spinner: Option<ProgressBar>,
    shown: BTreeSet<Phase>,
    is_headed: bool,
}

impl<'a> Progress<'a> {
    fn new(printer: &'a Printer) -> Self {
        let spinner = printer.is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style.tick_chars("|/-\\ "));
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { printer, spinner, shown: BTreeSet::new(), is_headed: false }
    }

    fn show(&mut self, migration: &MigrationView) {
        if !self.is_headed {
            self.is_headed = true;
            self.line(&format!("{} from {} to {}", migration.kind.noun(), migration.from, migration.to));
        }
        for phase in &migration.phases {
            if self.shown.insert(phase.name) {
                self.line(&format!("  {:<9} {:.3} s", phase.name.to_string(), phase.seconds));
            }
        }
        if migration.outcome == Outcome::Succeeded {
            let megabytes = migration.bytes_moved as f64 / 1e6;
            let done = match migration.kind {
                MigrationKind::Migrate => format!("migrated: the job was frozen for {:.3} s", migration.pause_seconds),
                MigrationKind::Snapshot => {
                    format!("snapshot taken: the job was frozen for {:.3} s", migration.pause_seconds)
                }
                kind => format!("{} done", kind.noun()),
            };
            self.line(&format!("{done}, {megabytes:.1} MB sent"));
        } else if let Some(bar) = &self.spinner {
            bar.set_message(migration.outcome.to_string());
        }
    }

    fn line(&self, text: &str) {
        match &self.spinner {
            Some(bar) => bar.suspend(|| self.printer.note(text)),
            None => self.printer.note(text),
        }
    }

    fn end(self) {
        if let Some(bar) = self.spinner {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn migration_ends_in_success_or_failure() {
        let mut moved = samples::moved_job().migrations.remove(0);
        assert!(ended(&moved).unwrap().is_ok());
        let (phase, reason) = (Phase::Restore, "out of room".to_owned());
        for running in [Outcome::Running, Outcome::RollingBack { phase, reason: reason.clone() }] {
            moved.outcome = running;
            assert!(ended(&moved).is_none(), "{}", moved.outcome);
        }
        moved.outcome = Outcome::Failed { phase, reason };
        let error = ended(&moved).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the migration to host-2 failed: Restore: out of room");
    }
}

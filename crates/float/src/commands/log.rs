//! `float log`: what a job has written, and what happened to it.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::view::LogPiece;
use mooring_api::{Client, ErrorCode};
use mooring_types::JobId;

use crate::error::{self, invalid};
use crate::parse;
use crate::printer::Printer;

/// The one file that a job's output is kept in.
const OUTPUT: &str = "stdout.autosave";
/// Other names that it goes by.
const OUTPUT_ALIASES: [&str; 2] = [OUTPUT, "output"];
/// How long nothing may come before one asks again.
const ASK_EVERY: Duration = Duration::from_millis(400);

/// What `float log` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float log -j uqaj8l6a407u88v0106ol                 all that it has written
  float log -j uqaj8l6a407u88v0106ol --follow        and what it writes, until it ends
  float log tail -j uqaj8l6a407u88v0106ol --lines 50
  float log events -j uqaj8l6a407u88v0106ol -F table every status and phase with its time")]
pub(crate) struct LogArgs {
    /// the job
    #[arg(short, long, global = true, value_name = "ID")]
    job: Option<String>,
    /// go on until the job ends
    #[arg(long, global = true)]
    follow: bool,
    #[command(subcommand)]
    command: Option<LogCommand>,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// print all that the job has written
    #[command(after_help = "\
Example:
  float log cat stdout.autosave -j uqaj8l6a407u88v0106ol")]
    Cat {
        /// the file [default: stdout.autosave, stdout and stderr together]
        file: Option<String>,
    },
    /// print the end of what the job has written
    #[command(after_help = "\
Example:
  float log tail --follow output -j uqaj8l6a407u88v0106ol")]
    Tail {
        /// the file [default: stdout.autosave, stdout and stderr together]
        file: Option<String>,
        /// how many lines
        #[arg(short = 'n', long, value_name = "LINES", default_value_t = 10)]
        lines: usize,
    },
    /// list the files of the job's output
    #[command(after_help = "\
Example:
  float log ls -j uqaj8l6a407u88v0106ol")]
    Ls,
    /// print every status and phase of the job with its time
    #[command(after_help = "\
Example:
  float log events -j uqaj8l6a407u88v0106ol -F table")]
    Events,
}

/// Prints output or events.
pub(crate) async fn log(args: LogArgs, client: &Client, printer: &Printer) -> Result<()> {
    let Some(job) = &args.job else { return Err(invalid("no job", "name it with `-j <ID>`")) };
    let output = Output { client, printer, job: parse::job_id(job)?, follow: args.follow };
    match args.command {
        None => output.copy(0).await,
        Some(LogCommand::Cat { file }) => {
            known(file.as_deref())?;
            output.copy(0).await
        }
        Some(LogCommand::Tail { file, lines }) => {
            known(file.as_deref())?;
            output.tail(lines).await
        }
        Some(LogCommand::Ls) => {
            output.client.job_get(output.job.as_str()).await?;
            printer.line(OUTPUT)
        }
        Some(LogCommand::Events) => printer.list(&client.job_events(output.job.as_str()).await?),
    }
}

fn known(file: Option<&str>) -> Result<()> {
    match file {
        Some(other) if !OUTPUT_ALIASES.contains(&other) => {
            Err(error::refused(ErrorCode::NotFound, format!("no log file `{other}`"), format!("there is `{OUTPUT}`")))
        }
        _ => Ok(()),
    }
}

/// The output of one job.
struct Output<'a> {
    client: &'a Client,
    printer: &'a Printer,
    job: JobId,
    follow: bool,
}

impl Output<'_> {
    async fn copy(&self, mut offset: u64) -> Result<()> {
        loop {
            let piece = self.piece(offset).await?;
            self.printer.raw(&piece.text)?;
            if self.is_over(&piece) {
                return Ok(());
            }
            if piece.text.is_empty() {
                tokio::time::sleep(ASK_EVERY).await;
            }
            offset = piece.next;
        }
    }

    async fn tail(&self, lines: usize) -> Result<()> {
        let (mut end, mut offset) = (LastLines::new(lines), 0);
        loop {
            let piece = self.piece(offset).await?;
            end.add(&piece.text);
            offset = piece.next;
            if piece.text.is_empty() {
                break;
            }
        }
        self.printer.raw(&end.into_text())?;
        if self.follow { self.copy(offset).await } else { Ok(()) }
    }

    async fn piece(&self, offset: u64) -> Result<LogPiece> {
        Ok(self.client.job_log(self.job.as_str(), offset).await?)
    }

    fn is_over(&self, piece: &LogPiece) -> bool {
        piece.text.is_empty() && (piece.ended || !self.follow)
    }
}

/// The last lines of a text that comes in pieces; one without its end counts too.
struct LastLines {
    limit: usize,
    lines: VecDeque<String>,
}

impl LastLines {
    fn new(limit: usize) -> Self {
        Self { limit, lines: VecDeque::new() }
    }

    fn add(&mut self, text: &str) {
        for part in text.split_inclusive('\n') {
            match self.lines.back_mut() {
                Some(open) if !open.ends_with('\n') => open.push_str(part),
                _ => self.lines.push_back(part.to_owned()),
            }
            while self.lines.len() > self.limit {
                self.lines.pop_front();
            }
        }
    }

    fn into_text(self) -> String {
        self.lines.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_same_however_the_text_is_cut() {
        let text = "one\ntwo\nthree\nfour";
        for cut in 0..=text.len() {
            let mut last = LastLines::new(2);
            last.add(&text[..cut]);
            last.add(&text[cut..]);
            assert_eq!(last.into_text(), "three\nfour", "{cut}");
        }
    }

    #[test]
    fn no_lines_are_no_text() {
        let mut last = LastLines::new(0);
        last.add("one\ntwo");
        last.add(" and more");
        assert_eq!(last.into_text(), "");
    }
}

//! `float log`: a job's output and its events.

use std::cell::Cell;
use std::collections::VecDeque;

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::view::LogPiece;
use mooring_api::{Client, ErrorCode};
use mooring_types::JobId;
use mooring_types::job::OutputFile;

use super::wait::Follow;
use super::which_job;
use crate::error::{self, invalid};
use crate::printer::Printer;

/// The name for both streams together, in the order of the writes.
const BOTH_STREAMS: &str = "output";

/// The arguments of `float log`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float log -j uqaj8l6a407u88v0106ol                 all output, both streams
  float log -j uqaj8l6a407u88v0106ol --follow        and new output, until the job ends
  float log tail -j uqaj8l6a407u88v0106ol --lines 50
  float log events -j uqaj8l6a407u88v0106ol
      status changes and phases with their times")]
pub(crate) struct LogArgs {
    /// job, by id or name [default: $FLOAT_JOB_ID, which is set inside a job]
    #[arg(short, long, global = true, value_name = "JOB", env = which_job::THIS_JOB, hide_env = true)]
    job: Option<String>,
    /// print new output until the job ends
    #[arg(long, global = true)]
    follow: bool,
    #[command(subcommand)]
    command: Option<LogCommand>,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// print a file of the job
    #[command(after_help = "\
Examples:
  float log cat stderr.autosave -j uqaj8l6a407u88v0106ol
  float log cat results/figures.tar.gz -j uqaj8l6a407u88v0106ol > figures.tar.gz")]
    Cat {
        /// file name, as listed by `float log ls` [default: output, both streams together]
        file: Option<String>,
    },
    /// print the end of a file of the job
    #[command(after_help = "\
Example:
  float log tail --follow output -j uqaj8l6a407u88v0106ol")]
    Tail {
        /// file name, as listed by `float log ls` [default: output, both streams together]
        file: Option<String>,
        /// number of lines
        #[arg(short = 'n', long, value_name = "LINES", default_value_t = 10)]
        lines: usize,
    },
    /// list the job's files: its output streams and its results
    #[command(after_help = "\
Example:
  float log ls -j uqaj8l6a407u88v0106ol")]
    Ls,
    /// print the job's status changes, migration phases and other events
    #[command(after_help = "\
Example:
  float log events -j uqaj8l6a407u88v0106ol -F table")]
    Events,
}

/// Prints output or events.
pub(crate) async fn log(args: LogArgs, client: &Client, printer: &Printer) -> Result<()> {
    let Some(job) = &args.job else { return Err(invalid("no job", "give it with `-j <JOB>`")) };
    let job = which_job::find(client, job).await?;
    let output = |file| Output { client, printer, job: job.clone(), file, follow: args.follow };
    match args.command {
        None => output(None).copy(0).await,
        Some(LogCommand::Cat { file }) => {
            let output = output(known(client, &job, file).await?);
            if args.follow { output.copy(0).await } else { output.download().await }
        }
        Some(LogCommand::Tail { file, lines }) => output(known(client, &job, file).await?).tail(lines).await,
        Some(LogCommand::Ls) => {
            let files = client.job_log_list(&job).await?;
            if printer.is_json() {
                return printer.object(&files);
            }
            files.iter().try_for_each(|file| printer.line(&file.name))
        }
        Some(LogCommand::Events) => printer.list(&client.job_events(&job).await?),
    }
}

/// The named file if the job has it; `None` for both streams together.
async fn known(client: &Client, job: &JobId, named: Option<String>) -> Result<Option<OutputFile>> {
    let Some(named) = named.filter(|name| name != BOTH_STREAMS) else { return Ok(None) };
    let names: Vec<String> = client.job_log_list(job).await?.into_iter().map(|file| file.name).collect();
    match named.parse::<OutputFile>() {
        Ok(file) if names.contains(&file.to_string()) => Ok(Some(file)),
        _ => {
            let all = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(error::refused(
                ErrorCode::NotFound,
                format!("no log file `{named}`"),
                format!("the files are {all}, and `{BOTH_STREAMS}` for both streams together"),
            ))
        }
    }
}

/// A file of one job.
struct Output<'a> {
    client: &'a Client,
    printer: &'a Printer,
    job: JobId,
    /// Both streams together when absent.
    file: Option<OutputFile>,
    follow: bool,
}

impl Output<'_> {
    /// Prints the file as it is now, byte by byte: a result may be no text.
    async fn download(&self) -> Result<()> {
        let mut download = self.client.job_file(&self.job, self.file.as_ref()).await?;
        while let Some(piece) = download.piece().await? {
            self.printer.bytes(&piece)?;
        }
        Ok(())
    }

    /// Prints the file from an offset; with `--follow`, until the job ends.
    async fn copy(&self, mut offset: u64) -> Result<()> {
        loop {
            let piece = self.piece(offset).await?;
            self.printer.raw(&piece.text)?;
            offset = piece.next;
            if piece.ended || (piece.text.is_empty() && !self.follow) {
                return Ok(());
            }
            if piece.text.is_empty() {
                return self.follow(offset).await;
            }
        }
    }

    /// Prints what is written from now on. After an outage of OpCenter it goes on where it was.
    async fn follow(&self, offset: u64) -> Result<()> {
        let offset = Cell::new(offset);
        let open = async || self.client.job_log_watch(&self.job, self.file.as_ref(), offset.get()).await;
        let mut pieces = Follow::new(open);
        loop {
            let piece = pieces.next().await?;
            self.printer.raw(&piece.text)?;
            offset.set(piece.next);
            if piece.ended {
                return Ok(());
            }
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
        Ok(match &self.file {
            Some(file) => self.client.job_log_file(&self.job, file, offset).await?,
            None => self.client.job_log(&self.job, offset).await?,
        })
    }
}

/// The last lines of a text that arrives in pieces; an incomplete line counts.
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
    fn last_lines_ignore_piece_boundaries() {
        let text = "one\ntwo\nthree\nfour";
        for cut in 0..=text.len() {
            let mut last = LastLines::new(2);
            last.add(&text[..cut]);
            last.add(&text[cut..]);
            assert_eq!(last.into_text(), "three\nfour", "{cut}");
        }
    }

    #[test]
    fn zero_lines_are_empty() {
        let mut last = LastLines::new(0);
        last.add("one\ntwo");
        last.add(" and more");
        assert_eq!(last.into_text(), "");
    }
}

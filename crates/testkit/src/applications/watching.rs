//! A client's program outside of any job, and its record.
//!
//! The program gets `<address>:<port>` and its arguments. It prints a line `ok` for each operation
//! that was answered as it has to be, and `error <text>` for any other. When its input ends it
//! makes its last check and prints `end <text>`. Its messages go to a log.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mooring_linux::netns;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinSet;

use super::packages::Places;
use super::row::Row;
use crate::wait::wait_for;
use crate::world::World;

/// Operations that show that a client advances.
const ADVANCES: usize = 5;
/// Time limit of these operations. It is longer than any wait that a client puts up with.
const ADVANCES_WITHIN: Duration = Duration::from_secs(180);
/// Time limit of the last check.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// The number of errors that are kept as text.
const KEPT: usize = 10;

/// A client under way.
#[derive(Debug)]
pub struct Watching {
    process: Child,
    input: Option<ChildStdin>,
    seen: Arc<Mutex<Seen>>,
    reader: JoinSet<()>,
}

/// A client's record.
#[derive(Debug, Default)]
struct Seen {
    /// When operations were answered.
    answered: Vec<Instant>,
    errors: Vec<String>,
    error_count: usize,
    /// The last check.
    end: Option<String>,
    /// The output has ended.
    closed: bool,
}

/// A client's record since a moment.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// Answered operations.
    pub operations: usize,
    /// The longest time between two answers, the open one included.
    pub longest_wait: Duration,
}

/// A client's record from beginning to end.
#[derive(Debug)]
pub struct Total {
    pub operations: usize,
    pub error_count: usize,
    /// The first errors.
    pub errors: Vec<String>,
    /// The last check's words; none if it was not made.
    pub end: Option<String>,
}

impl Watching {
    /// Starts the row's client in the world's namespace.
    pub fn start(world: &World, places: &Places, row: &Row, address: SocketAddr, log: &Path) -> Result<Self> {
        let python = match row.pypi.is_empty() {
            true => "/usr/bin/python3",
            false => "python",
        };
        let mut command = places.command(row, &format!("exec {python} -u \"$APPS\"/clients/{}", client(row, address)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        netns::enter_command(&mut command, &world.namespace())?;
        let mut process =
            tokio::process::Command::from(command).kill_on_drop(true).spawn().context("start the client")?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("the client's output")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut reader = JoinSet::new();
        reader.spawn(read(output, seen.clone()));
        Ok(Self { process, input, seen, reader })
    }

    /// Waits until the client has advanced.
    pub async fn advances(&self) -> Result<()> {
        let before = self.seen.lock().answered.len();
        wait_for("answers to the client", ADVANCES_WITHIN, async || {
            let seen = self.seen.lock();
            if seen.answered.len() >= before + ADVANCES {
                return Ok(Some(()));
            }
            if seen.closed {
                bail!("the client has ended: {}", seen.errors.last().map_or("no error", String::as_str));
            }
            Ok(None)
        })
        .await
    }

    /// Returns the record since `moment`.
    #[must_use]
    pub fn since(&self, moment: Instant) -> Since {
        let seen = self.seen.lock();
        let first = seen.answered.partition_point(|answered| *answered < moment);
        let times: Vec<Instant> =
            seen.answered[first.saturating_sub(1)..].iter().copied().chain([Instant::now()]).collect();
        let longest_wait = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        Since { operations: seen.answered.len() - first, longest_wait }
    }

    /// Waits for the end of the client, which makes its last check.
    pub async fn finish(mut self) -> Result<Total> {
        drop(self.input.take());
        if tokio::time::timeout(ENDS_WITHIN, self.reader.join_next()).await.is_err() {
            self.seen.lock().error("the last check did not end");
        }
        let _ = self.process.start_kill();
        let _ = self.process.wait().await;
        let seen = self.seen.lock();
        Ok(Total {
            operations: seen.answered.len(),
            error_count: seen.error_count,
            errors: seen.errors.clone(),
            end: seen.end.clone(),
        })
    }
}

/// The client's file name and its arguments, the address first.
fn client(row: &Row, address: SocketAddr) -> String {
    let (program, arguments) = row.client.split_once(' ').unwrap_or((&row.client, ""));
    format!("{program} {address} {arguments}")
}

async fn read(output: ChildStdout, seen: Arc<Mutex<Seen>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        seen.lock().take(&line);
    }
    seen.lock().closed = true;
}

impl Seen {
    fn take(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", _) => self.answered.push(Instant::now()),
            ("end", text) => self.end = Some(text.to_owned()),
            ("error", text) => self.error(text),
            _ => self.error(&format!("the client printed `{line}`")),
        }
    }

    fn error(&mut self, text: &str) {
        self.error_count += 1;
        if self.errors.len() < KEPT {
            self.errors.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_client_are_counted() {
        let mut seen = Seen::default();
        for line in ["ok", "ok", "error 7 after 5", "nonsense", "end 2 rows"] {
            seen.take(line);
        }
        assert_eq!((seen.answered.len(), seen.error_count), (2, 2));
        assert_eq!(seen.errors, ["7 after 5", "the client printed `nonsense`"]);
        assert_eq!(seen.end.as_deref(), Some("2 rows"));
    }
}

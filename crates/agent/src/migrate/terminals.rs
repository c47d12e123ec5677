//! The bytes in the terminals of a frozen job.
//!
//! CRIU writes output that waits back through the terminal, where it is processed a second time,
//! and blocks when it does not fit. So the terminals are empty when CRIU reads them:
//!
//! ```text
//!   freeze ─► take ─► checkpoint ─┬─► the job goes on here ─► put back ─► thaw
//!              │                  └─► restore elsewhere ─► put back (frozen) ─► thaw
//!              └─ the record: `terminals` in the job directory, and an image of the checkpoint
//! ```
//!
//! The record in the job directory exists while bytes of the job's terminals are outside of them.
//! It is written as they are taken, and [`put_back`] may be interrupted and repeated.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use mooring_linux::terminal_queue::{self, Input, Settings, Terminal, Waiting};
use mooring_ops::log::chain;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::job_dir::JobDir;

/// The image of a checkpoint, which is a copy of the record.
const IMAGE: &str = "terminals.img";

/// An entry of the record: one line of JSON, and the bytes whose numbers it gives.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Entry {
    /// A terminal's settings. All of them precede the first change to a terminal.
    Settings { terminal: u32, settings: Settings },
    /// Output that was not read.
    Output { terminal: u32, bytes: usize, is_stopped: bool },
    /// Input that was not read.
    Input { terminal: u32, processed: usize, lines: usize, unprocessed: usize },
}

/// The bytes of one terminal, and its settings.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    terminal: u32,
    settings: Settings,
    waiting: Waiting,
}

/// Takes out what waits in the terminals of a frozen job, and adds it to its checkpoint.
///
/// # Errors
/// The record can't be written, or a terminal can't be read; [`put_back`] makes up for it.
pub(crate) fn take(job_dir: &JobDir, images: &Path) -> Result<()> {
    put_back_now(job_dir);
    let terminals = terminal_queue::find(&job_dir.cgroup().pids(), &[]);
    if terminals.is_empty() {
        return Ok(());
    }
    let record = job_dir.terminals();
    let any = record_all(&terminals, &record)
        .map_err(Error::system(format!("take out what waits in the terminals of {}", job_dir.container())))?;
    if any {
        let image = images.join(IMAGE);
        fs::copy(&record, &image).map_err(Error::system(format!("write {}", image.display())))?;
        return Ok(());
    }
    fs::remove_file(&record).map_err(Error::system(format!("remove {}", record.display())))
}

/// Takes out what waits in each terminal, and records it. Returns whether anything did.
fn record_all(terminals: &[Terminal], record: &Path) -> io::Result<bool> {
    let mut file = File::create(record)?;
    let mut each = Vec::new();
    for terminal in terminals {
        let settings = terminal.settings()?;
        write_entry(&mut file, &Entry::Settings { terminal: terminal.index, settings: settings.clone() }, &[])?;
        each.push((terminal, settings));
    }
    terminal_queue::settle(terminals);
    // A restore does not know of those that are hung up.
    let mut any = terminals.iter().any(|terminal| terminal.is_hung_up);
    for (terminal, settings) in each {
        let (output, is_stopped) = terminal.take_output()?;
        if is_stopped || !output.is_empty() {
            let entry = Entry::Output { terminal: terminal.index, bytes: output.len(), is_stopped };
            write_entry(&mut file, &entry, &[&output])?;
            any = true;
        }
        let Input { processed, lines, unprocessed } = terminal.take_input(&settings)?;
        if !processed.is_empty() {
            let (index, [taken, behind]) = (terminal.index, [&processed, &unprocessed].map(Vec::len));
            let entry = Entry::Input { terminal: index, processed: taken, lines, unprocessed: behind };
            write_entry(&mut file, &entry, &[&processed, &unprocessed])?;
            any = true;
        }
    }
    Ok(any)
}

fn write_entry(file: &mut File, entry: &Entry, bytes: &[&[u8]]) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    file.write_all(&[&line, &bytes.concat()[..]].concat())
}

/// Puts back what was taken out of the terminals of a job that goes on here. Has to be called
/// before any thaw of a job that was checkpointed; does nothing where nothing was taken.
pub(crate) async fn put_back(job_dir: &JobDir) {
    let job_dir = job_dir.clone();
    // What it panics with is logged already.
    let _ = tokio::task::spawn_blocking(move || put_back_now(&job_dir)).await;
}

fn put_back_now(job_dir: &JobDir) {
    let record = job_dir.terminals();
    let bytes = match fs::read(&record) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return tracing::error!(%error, "what was in the terminals of a job can't be read"),
    };
    let cgroup = job_dir.cgroup();
    // CRIU lets the job execute when it is killed.
    if !cgroup.is_frozen()
        && let Err(error) = cgroup.freeze()
    {
        tracing::warn!(error = %chain(&error), "a job executes while its terminals are filled again");
    }
    put(job_dir, read_entries(&bytes));
    if let Err(error) = fs::remove_file(&record) {
        tracing::error!(%error, "can't remove {}", record.display());
    }
}

/// Puts what the checkpoint has of terminals into those of its restored job, which is frozen.
///
/// # Errors
/// The image can't be read.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    let image = images.join(IMAGE);
    match fs::read(&image) {
        Ok(bytes) => put(job_dir, read_entries(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::system(format!("read {}", image.display()))(error)),
    }
    // The processes that the record was taken from are gone.
    let _ = fs::remove_file(job_dir.terminals());
    Ok(())
}

fn put(job_dir: &JobDir, taken: Vec<Taken>) {
    let were_open: Vec<u32> = taken.iter().map(|taken| taken.terminal).collect();
    let terminals = terminal_queue::find(&job_dir.cgroup().pids(), &were_open);
    for Taken { terminal, settings, waiting } in taken {
        let job = job_dir.container();
        let Some(found) = terminals.iter().find(|found| found.index == terminal) else {
            if !waiting.is_empty() {
                tracing::warn!("terminal {terminal} of {job} is gone, and with it what waited there");
            }
            continue;
        };
        match found.put_back(&settings, waiting) {
            Ok(0) => {}
            Ok(bytes) => tracing::warn!("{bytes} bytes did not fit into terminal {terminal} of {job} again"),
            Err(error) => tracing::warn!(%error, "terminal {terminal} of {job} did not get back what waited there"),
        }
    }
}

/// Reads a record as far as it was written.
fn read_entries(mut bytes: &[u8]) -> Vec<Taken> {
    let mut taken: Vec<Taken> = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
        && let Ok(entry) = serde_json::from_slice(&bytes[..end])
    {
        bytes = &bytes[end + 1..];
        let mut next = |count: usize| {
            let (read, rest) = bytes.split_at(count.min(bytes.len()));
            bytes = rest;
            read.to_vec()
        };
        let (terminal, waiting) = match entry {
            Entry::Settings { terminal, settings } => {
                taken.push(Taken { terminal, settings, waiting: Waiting::default() });
                continue;
            }
            Entry::Output { terminal, bytes, is_stopped } => {
                (terminal, Waiting { output: next(bytes), is_stopped, ..Waiting::default() })
            }
            Entry::Input { terminal, processed, lines, unprocessed } => {
                let (processed, unprocessed) = (next(processed), next(unprocessed));
                let input = Input { lines: lines.min(processed.len()), processed, unprocessed };
                (terminal, Waiting { input, ..Waiting::default() })
            }
        };
        let Some(known) = taken.iter_mut().find(|known| known.terminal == terminal) else { break };
        known.waiting.output.extend(waiting.output);
        known.waiting.is_stopped |= waiting.is_stopped;
        if !waiting.input.processed.is_empty() {
            known.waiting.input = waiting.input;
        }
    }
    taken
}

//! The monitor's own process: `float monitor`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use mooring_linux::private_run::PrivateRun;
use mooring_linux::{process, reaper};
use mooring_ops::file::{self, Durability, Mode};

use super::{End, SEPARATOR};
use crate::runtime::{fence, job_dir};

/// Runs the command on stdin, tells on stdout how it ended, and waits for the container's first
/// process. Writes into the job directory how that has ended. The lock of the file on stdin is kept
/// until then. Freezes the job when the lease of its host has ended.
///
/// # Errors
/// The command can't be run, or the end can't be written down.
pub fn watch(directory: &Path, private_run: Option<&Path>) -> io::Result<()> {
    reaper::adopt_orphans()?;
    let fenced = directory.to_owned();
    thread::Builder::new().name("fence".to_owned()).spawn(move || fence::watch(&fenced))?;
    let runc = start(private_run)?;
    let mut ended = HashMap::new();
    let status = wait_for(runc, &mut ended)?;
    // An agent that was killed does not read it.
    let _ = writeln!(io::stdout(), "{}", status.into_raw());
    if !status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(directory.join(job_dir::PID_FILE))?;
    let first = text.trim().parse().map_err(io::Error::other)?;
    let status = wait_for(first, &mut ended)?;
    let Some(end) = End::of(status) else { return Ok(()) };
    file::replace(&directory.join(job_dir::END), Durability::Renamed, Mode::Private, end.write().as_bytes())
}

fn start(private_run: Option<&Path>) -> io::Result<i32> {
    let mut words = Vec::new();
    io::stdin().read_to_end(&mut words)?;
    let mut words = words.split(|byte| *byte == SEPARATOR).map(OsStr::from_bytes);
    let mut command = Command::new(words.next().unwrap_or_default());
    // The container would keep what it inherits.
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(directory) = private_run {
        PrivateRun::open(directory).map_err(io::Error::other)?.give(&mut command);
    }
    process::killed_with_parent(&mut command);
    i32::try_from(command.spawn()?.id()).map_err(io::Error::other)
}

/// Waits for the end of a child; `ended` has those that have ended before.
fn wait_for(child: i32, ended: &mut HashMap<i32, ExitStatus>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = ended.remove(&child) {
            return Ok(status);
        }
        let (pid, status) = reaper::next_ended()?;
        ended.insert(pid, status);
    }
}

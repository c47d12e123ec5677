//! The seizing of a job's processes by CRIU.
//!
//! The agent freezes a job before CRIU seizes it. With version 1 of control groups, the kernel lets
//! nobody seize a frozen process that is stopped (state T). CRIU seizes such a job without a
//! freezer, and the agent freezes it while CRIU still holds all processes:
//!
//! ```text
//!   hook             usually                   with a stopped process
//!   pre-dump         freeze, empty terminals
//!   (CRIU seizes)    CRIU thaws at the end
//!   network-lock                               empty terminals
//!   (CRIU reads)
//!   network-unlock                             freeze
//!   (CRIU lets go)   CRIU freezes before it
//! ```
//!
//! runc tells CRIU of the freezer that it finds in its own state. It gets a copy of its state that
//! has none.
//!
//! A CRIU that makes no progress while it seizes is ended, and the job is thawed. A process that
//! the kernel keeps from CRIU would hold up everything else.
//!
//! The lease of the host may end meanwhile, and the job's monitor freezes it. CRIU's own code in
//! the processes then stops, too. Once the lease is confirmed again, the job is thawed as long as
//! CRIU holds all processes: none of them executes the job's code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_linux::cgroup::{self, Version};
use mooring_linux::{process, process_tree};
use mooring_ops::log::chain;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use super::fence;
use super::job_dir::JobDir;
use crate::error::{CriuError, Error, Result};
use crate::lease::Lease;

/// The longest time without progress. CRIU needs microseconds for a process.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
/// The file with a container's state in runc's state directory.
const STATE: &str = "state.json";

/// Decides how CRIU seizes the job. Returns runc's state directory for the checkpoint.
///
/// # Errors
/// runc's state can't be copied.
pub(crate) fn prepare(job_dir: &JobDir, runc: &Path) -> Result<PathBuf> {
    finish(job_dir);
    let is_stopped = |pid: &i32| process::state(*pid) == Some(b'T');
    if cgroup::version() == Version::V2 || !job_dir.cgroup().pids().iter().any(is_stopped) {
        return Ok(runc.to_owned());
    }
    let (copy, marker) = (job_dir.runc_without_freezer(), job_dir.criu_unfrozen());
    let prepare = || {
        let mut state: Value = serde_json::from_slice(&fs::read(runc.join(job_dir.container()).join(STATE))?)?;
        if let Some(paths) = state.get_mut("cgroup_paths").and_then(Value::as_object_mut) {
            paths.remove("freezer");
        }
        let directory = copy.join(job_dir.container());
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(STATE), serde_json::to_vec(&state)?)?;
        fs::write(&marker, "")
    };
    prepare().map_err(Error::system(format!("copy runc's state of {}", job_dir.container())))?;
    Ok(copy)
}

/// Removes what [`prepare`] and CRIU's hooks have left.
pub(crate) fn finish(job_dir: &JobDir) {
    for file in [job_dir.criu_unfrozen(), job_dir.criu_seized()] {
        if let Err(error) = fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "can't remove {}", file.display());
        }
    }
    let _ = fs::remove_dir_all(job_dir.runc_without_freezer());
}

/// Waits for a checkpoint. Ends its CRIU, and thaws the job, when it makes no progress while it
/// seizes the job's processes. `is_asked` tells that CRIU's first hook was answered.
///
/// # Errors
/// The checkpoint failed.
pub(crate) async fn bounded(
    job_dir: &JobDir,
    images: &Path,
    lease: &Lease,
    is_asked: impl Fn() -> bool,
    checkpoint: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::pin!(checkpoint);
    tokio::select! {
        outcome = &mut checkpoint => return outcome,
        () = stalled(job_dir, images, is_asked) => {}
        () = thaw_while_seized(job_dir, lease) => {}
    }
    // A job that is thawed executes, and may be executed elsewhere by now.
    while fence::is_closed(job_dir) && !lease.is_confirmed() {
        tokio::time::sleep(POLL).await;
    }
    let error = CriuError::Unseizable { process: unseized(job_dir), limit: STALL_TIMEOUT };
    tracing::warn!("CRIU is ended: {error}");
    end_criu(images);
    // CRIU waits in the kernel for a process that is frozen.
    if let Err(error) = job_dir.cgroup().thaw() {
        tracing::error!(error = %chain(&error), "a job whose checkpoint is given up may be frozen");
    }
    checkpoint.await.map_err(|_| error.into())
}

/// Waits until CRIU has made no progress for [`STALL_TIMEOUT`], which its log shows. Never returns
/// once all processes are seized.
async fn stalled(job_dir: &JobDir, images: &Path, is_asked: impl Fn() -> bool) {
    let log = images.join("dump.log");
    let size = || fs::metadata(&log).map_or(0, |found| found.len());
    let (mut last, mut since) = (size(), Instant::now());
    while since.elapsed() < STALL_TIMEOUT {
        tokio::time::sleep(POLL).await;
        if job_dir.criu_seized().exists() {
            return std::future::pending().await;
        }
        let now = size();
        if now != last || !is_asked() {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Thaws the job whenever its monitor has frozen it and the lease is confirmed again, as long as
/// CRIU holds all processes. Never returns.
async fn thaw_while_seized(job_dir: &JobDir, lease: &Lease) {
    let cgroup = job_dir.cgroup();
    let is_held = |pid: &i32| process::tracer(*pid) != Some(0) || process::state(*pid) == Some(b'Z');
    loop {
        tokio::time::sleep(POLL).await;
        let is_fenced = job_dir.criu_seized().exists() && fence::is_closed(job_dir) && lease.is_confirmed();
        if is_fenced && cgroup.is_frozen() && cgroup.pids().iter().all(is_held) {
            tracing::warn!("the checkpoint of {} goes on, which a lost lease held up", job_dir.container());
            // The next look tries again.
            drop(cgroup.thaw());
        }
    }
}

/// Returns the first process of the job that CRIU has not seized, in words.
fn unseized(job_dir: &JobDir) -> String {
    let pids = job_dir.cgroup().pids();
    let open = pids.iter().find(|pid| process::tracer(**pid) == Some(0) && process::state(**pid) != Some(b'Z'));
    open.map_or_else(|| "a process".to_owned(), |pid| describe(*pid))
}

/// Describes a process for the job's user: `process 12 (sleep)`, with its id in the job.
pub(crate) fn describe(pid: i32) -> String {
    let name = process_tree::name(pid).unwrap_or_default();
    format!("process {} ({})", process_tree::own_pid(pid).unwrap_or(pid), String::from_utf8_lossy(&name).escape_debug())
}

/// Kills the CRIU that writes `images`: it is a descendant of the process that has them among its
/// arguments.
fn end_criu(images: &Path) {
    let wanted = images.as_os_str().as_encoded_bytes();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<i32> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let writes = |pid: &i32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.windows(wanted.len()).any(|window| window == wanted)
    };
    let mut family: Vec<i32> = all.iter().copied().filter(writes).collect();
    let mut next = 0;
    while let Some(known) = family.get(next).copied() {
        let children = all.iter().filter(|pid| process::parent(**pid) == Some(known) && !family.contains(pid));
        let children: Vec<i32> = children.copied().collect();
        family.extend(children);
        next += 1;
    }
    for pid in family {
        if process_tree::name(pid).as_deref() == Some(b"criu")
            && let Some(criu) = process::ProcessId::find(pid)
        {
            // It may have ended meanwhile.
            let _ = criu.signal(Signal::SIGKILL);
        }
    }
}

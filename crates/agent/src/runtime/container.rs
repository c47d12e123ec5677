//! A job's container: started, checkpointed, restored, stopped and removed through runc.
//!
//! A checkpoint is not interrupted once CRIU has seized the job. It runs in a session of its own
//! and leaves its exit code beside its images, where a restarted agent finds it. All other commands
//! may be killed and are cleaned up later; a restore without progress is. What is started or
//! restored has a [`monitor`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mooring_linux::{mount, process, tree};
use mooring_ops::log::chain;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::Instant;

use super::hidden::{self, Hidden};
use super::image::Image;
use super::inode_list;
use super::job_dir::JobDir;
use super::monitor::{self, IfDropped};
use super::seize;
use super::volume;
use crate::error::{CriuError, Error, Result};
use crate::tools::Tools;
use mooring_linux::process::ProcessId;

/// The time a job has to exit after SIGTERM.
const TERM_GRACE_PERIOD: Duration = Duration::from_secs(5);
/// The time limit of runc for starting or deleting a container.
const RUNC_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit of a checkpoint or a restore.
const CRIU_TIMEOUT: Duration = Duration::from_secs(600);
/// The time after which a restore without progress is ended. It may wait for something that never
/// comes, like a lock that another process has.
const RESTORE_STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a restore that may wait for memory out of a store.
const GATED_STALL_TIMEOUT: Duration = Duration::from_secs(120);
const STALL_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The tools of a start, a checkpoint and a restore.
const RUNS: &str = "runc run";
const CHECKPOINTS: &str = "runc checkpoint";
const RESTORES: &str = "runc restore";
const POLL: Duration = Duration::from_millis(20);
/// The file with a checkpoint's exit code, in its image directory.
const EXIT_CODE_FILE: &str = "status";
const CHECKPOINT: &str = "\"$@\"; code=$?; echo $code >\"$0.new\" && mv \"$0.new\" \"$0\"; exit $code";
const CRIU_FLAGS: [&str; 4] = ["--tcp-established", "--file-locks", "--manage-cgroups-mode", "ignore"];

/// The state of a container after its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// Its processes have exited.
    Ended,
    /// Its processes are frozen until their control group is thawed.
    Frozen,
}

/// runc on this host.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    tools: Tools,
    float: PathBuf,
    root: PathBuf,
}

impl Runtime {
    /// Uses runc with its state directory at `root`, under monitors of the program `float`.
    pub(crate) fn new(tools: Tools, float: PathBuf, root: PathBuf) -> Self {
        Self { tools, float, root }
    }

    /// Mounts the root file system, unless it is mounted.
    pub(crate) fn mount_root(job_dir: &JobDir, image: &Image, hidden: Hidden<'_>) -> Result<()> {
        if mount::is_mounted(&job_dir.root())? {
            return Ok(());
        }
        Self::mount_layers(job_dir, &layers(job_dir, image, hidden)?)
    }

    /// Mounts the root file system of a job that is restored from `images`, unless it is mounted.
    /// Its open files keep their inode numbers.
    pub(crate) async fn mount_root_again(
        job_dir: &JobDir,
        image: &Image,
        images: &Path,
        hidden: Hidden<'_>,
    ) -> Result<()> {
        if mount::is_mounted(&job_dir.root())? {
            return Ok(());
        }
        let mut layers = layers(job_dir, image, hidden)?;
        match inode_list::apply(job_dir, images).await {
            Ok(layer) => layers.extend(layer),
            Err(error) => tracing::warn!(
                error = %chain(&error),
                "the files of {} get other inode numbers: databases that it has open may refuse to be written",
                job_dir.container()
            ),
        }
        Self::mount_layers(job_dir, &layers)
    }

    fn mount_layers(job_dir: &JobDir, layers: &[PathBuf]) -> Result<()> {
        Ok(mount::overlay(layers, &job_dir.upper(), &job_dir.work(), &job_dir.root())?)
    }

    /// Starts the container, whose root and network exist. Returns `None` when the job has exited
    /// already.
    ///
    /// # Errors
    /// runc failed.
    pub(crate) async fn run(&self, job_dir: &JobDir) -> Result<Option<ProcessId>> {
        let log = job_dir.directory().join("run.log");
        let mut command = self.runc(&log);
        command.args(["run", "--detach", "--pid-file"]).arg(job_dir.pid_file()).arg("--bundle").arg(job_dir.bundle());
        command.arg(job_dir.container());
        self.finish_monitored(job_dir, &command, RUNS, RUNC_TIMEOUT, IfDropped::RunsOn, &log).await?;
        Ok(self.init(job_dir))
    }

    /// Checkpoints the container into `images`, where [`inode_list::record`] has left the inode
    /// list.
    ///
    /// # Errors
    /// The checkpoint failed. The job continues, unless CRIU ended some of its processes: the
    /// caller checks the first one.
    pub(crate) async fn checkpoint(&self, job_dir: &JobDir, images: &Path, afterwards: Afterwards) -> Result<()> {
        let log = images.join("dump.log");
        let inner = self.runc_at(&seize::prepare(job_dir, &self.root)?, &images.join("runc.log"));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", CHECKPOINT]).arg(images.join(EXIT_CODE_FILE)).arg(inner.as_std().get_program());
        command.args(inner.as_std().get_args()).arg("checkpoint").args(CRIU_FLAGS);
        command.arg("--image-path").arg(images).arg("--work-path").arg(images);
        if afterwards == Afterwards::Frozen {
            command.arg("--leave-running");
        }
        command.arg(job_dir.container());
        self.tools.prepare(&mut command);
        process::new_session(command.as_std_mut());
        finish(command, CHECKPOINTS, CRIU_TIMEOUT, &log).await
    }

    /// Waits for a checkpoint into `images` that still runs, and returns whether it succeeded;
    /// `None` when it was interrupted.
    pub(crate) async fn checkpoint_outcome(&self, images: &Path) -> Option<bool> {
        self.settled(images).await;
        let status = fs::read_to_string(images.join(EXIT_CODE_FILE)).ok()?;
        Some(status.trim() == "0")
    }

    /// Restores the container from `images`; its root and network exist. With `is_gated`, CRIU asks
    /// the agent before it reads memory.
    ///
    /// # Errors
    /// The restore failed; no process of the job exists.
    pub(crate) async fn restore(&self, job_dir: &JobDir, images: &Path, is_gated: bool) -> Result<ProcessId> {
        let (log, gate) = (images.join("restore.log"), job_dir.criu_gate());
        if is_gated {
            fs::write(&gate, "").map_err(Error::system(format!("write {}", gate.display())))?;
        } else if let Err(error) = fs::remove_file(&gate)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::system(format!("remove {}", gate.display()))(error));
        }
        seize::finish(job_dir);
        let mut command = self.runc(&images.join("runc.log"));
        command.args(["restore", "--detach"]).args(CRIU_FLAGS);
        command.arg("--image-path").arg(images).arg("--work-path").arg(images);
        command
            .arg("--bundle")
            .arg(job_dir.bundle())
            .arg("--pid-file")
            .arg(job_dir.pid_file())
            .arg(job_dir.container());
        let restored = self.finish_monitored(job_dir, &command, RESTORES, CRIU_TIMEOUT, IfDropped::Killed, &log);
        let limit = if is_gated { GATED_STALL_TIMEOUT } else { RESTORE_STALL_TIMEOUT };
        tokio::select! {
            restored = restored => restored?,
            () = stalled(job_dir, images, limit) => return Err(CriuError::RestoreStalled { limit }.into()),
        }
        self.init(job_dir).ok_or_else(|| CriuError::EndedAtRestore.into())
    }

    /// Waits until no process has `images` in its arguments.
    pub(crate) async fn settled(&self, images: &Path) {
        let started = Instant::now();
        while started.elapsed() < CRIU_TIMEOUT && someone_works_on(images) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// The container's first process, if it is alive.
    pub(crate) fn init(&self, job_dir: &JobDir) -> Option<ProcessId> {
        let pid = fs::read_to_string(job_dir.pid_file()).ok()?.trim().parse().ok()?;
        ProcessId::find(pid).filter(|init| job_dir.cgroup().pids().contains(&init.pid))
    }

    /// Sends SIGTERM to the job and waits for [`TERM_GRACE_PERIOD`].
    ///
    /// The kernel keeps the signal from a first process that does nothing about it. Any other
    /// process would end by it, so there is nothing to wait for once the others have ended.
    pub(crate) async fn stop(&self, job_dir: &JobDir, init: ProcessId) {
        let heeds = !process::leaves_to_kernel(init.pid, Signal::SIGTERM);
        let mut all: Vec<ProcessId> = job_dir.cgroup().pids().into_iter().filter_map(ProcessId::find).collect();
        // A process may have exited meanwhile.
        all.retain(|process| process.signal(Signal::SIGTERM));
        let others: Vec<ProcessId> = all.into_iter().filter(|process| process.pid != init.pid).collect();
        let goes_on = || init.lives() && (heeds || others.iter().any(ProcessId::lives));
        let started = Instant::now();
        while goes_on() && started.elapsed() < TERM_GRACE_PERIOD {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Removes the container and its job directory. Continues after errors and returns the first.
    ///
    /// # Errors
    /// Something can't be removed; another call continues there.
    pub(crate) async fn remove(&self, job_dir: &JobDir) -> Result<()> {
        let cgroup = job_dir.cgroup();
        let mut first = cgroup.kill_all().map_err(Error::from);
        let mut delete = self.runc(&job_dir.directory().join("delete.log"));
        delete.args(["delete", "--force", job_dir.container()]).stdout(Stdio::null()).stderr(Stdio::null());
        // An unknown container was removed already.
        let _ = tokio::time::timeout(RUNC_TIMEOUT, delete.status()).await;
        let unwatched = monitor::gone(job_dir, || drop(cgroup.kill_all())).await;
        let volumes = volume::detach(job_dir).await;
        let outcomes = [
            unwatched,
            volumes,
            mount::unmount_below(&job_dir.bundle()).map_err(Error::from),
            job_dir.net(0).teardown().await.map_err(Error::from),
            mount::unmount_below(job_dir.directory()).map_err(Error::from),
            cgroup.remove().map_err(Error::from),
            tree::remove_tree(job_dir.directory()).map_err(Error::from),
        ];
        for outcome in outcomes {
            if first.is_ok() {
                first = outcome;
            }
        }
        first
    }

    /// Runs a command of runc that makes processes of the container.
    async fn finish_monitored(
        &self,
        job_dir: &JobDir,
        runc: &Command,
        tool: &str,
        limit: Duration,
        if_dropped: IfDropped,
        log: &Path,
    ) -> Result<()> {
        let private_run = self.tools.private_run();
        let status = monitor::run(&self.float, private_run, job_dir, runc.as_std(), limit, if_dropped).await?;
        outcome(status, tool, log)
    }

    fn runc(&self, log: &Path) -> Command {
        self.runc_at(&self.root, log)
    }

    fn runc_at(&self, root: &Path, log: &Path) -> Command {
        let mut command = self.tools.command("runc");
        command.arg("--root").arg(root).arg("--log").arg(log);
        command
    }
}

/// Makes the lower layers of a job's root ready, topmost first.
///
/// A directory of the host is mounted by its descriptor at a path of the agent's own. What takes
/// its path later is not seen, and its name is never read as several.
fn layers(job_dir: &JobDir, image: &Image, hidden: Hidden<'_>) -> Result<Vec<PathBuf>> {
    let Some(directory) = &image.directory else { return Ok(image.layers.clone()) };
    let lower = job_dir.image();
    directory.bind_to(&lower)?;
    let mut below = hidden.relation(directory)?.below;
    if let Some(host_root) = &image.host_root {
        host_root.apply(&job_dir.upper(), &lower)?;
        below.retain(|path| !host_root.lacks(path));
    }
    hidden::hide(&job_dir.upper(), &lower, &below)?;
    Ok(vec![lower])
}

/// Waits until a restore has made no progress for `limit`. It progresses while CRIU or a restored
/// process uses the processor, CRIU logs, or images still arrive.
async fn stalled(job_dir: &JobDir, images: &Path, limit: Duration) {
    let progress = || {
        let pids = job_dir.cgroup().pids();
        let ticks: u64 = pids.iter().filter_map(|pid| process::processor_ticks(*pid)).sum();
        let sizes = fs::read_dir(images).into_iter().flatten().flatten();
        let bytes: u64 = sizes.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|found| found.len()).sum();
        (pids, ticks, bytes)
    };
    let (mut last, mut since) = (progress(), Instant::now());
    while since.elapsed() < limit {
        tokio::time::sleep(STALL_POLL_INTERVAL).await;
        let now = progress();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

async fn finish(mut command: Command, tool: &str, limit: Duration, log: &Path) -> Result<()> {
    // A job would keep inherited descriptors of the agent.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(Error::system(format!("run `{tool}`")))?;
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.map_err(Error::system(format!("wait for `{tool}`")))?,
        Err(_) => {
            child.kill().await.map_err(Error::system(format!("end `{tool}`")))?;
            return Err(Error::TimedOut(format!("`{tool}`")));
        }
    };
    outcome(status, tool, log)
}

fn outcome(status: ExitStatus, tool: &str, log: &Path) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let text = errors(log);
    Err(match tool {
        CHECKPOINTS => Error::job_tool(tool, "the job could not be checkpointed", &text),
        RESTORES => Error::job_tool(tool, "the job could not be restored", &text),
        _ => Error::tool(tool, status, &text),
    })
}

/// Extracts the errors of CRIU's log, or of runc's log beside it.
fn errors(log: &Path) -> String {
    let texts =
        [log.to_path_buf(), log.with_file_name("runc.log")].map(|path| fs::read_to_string(path).unwrap_or_default());
    // CRIU continues when it can't raise its own limits.
    let is_reason = |line: &&str| line.contains("Error (") && !line.contains("RLIMIT_NOFILE for self");
    let mut lines: Vec<&str> = texts[0].lines().filter(is_reason).collect();
    if lines.is_empty() {
        lines = texts.iter().flat_map(|text| text.lines()).filter(|line| line.contains("error")).collect();
    }
    // The first line is the cause, the last the consequence.
    if lines.len() > 3 {
        lines.drain(2..lines.len() - 1);
    }
    lines.join("\n")
}

/// Returns whether a process has `path` in its arguments.
fn someone_works_on(path: &Path) -> bool {
    let wanted = path.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|arguments| arguments.windows(wanted.len()).any(|window| window == wanted))
}

//! The daemons of `float up`: started, restarted when they die, stopped in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use mooring_linux::{netns, process};
use mooring_ops::log_file;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The delay before a dead daemon is restarted.
const RESTART_DELAY: Duration = Duration::from_millis(500);
/// The time limit for the stop of a daemon; an agent checkpoints its jobs.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon with its arguments.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    arguments: Vec<std::ffi::OsString>,
    namespace: Option<PathBuf>,
}

impl Daemon {
    pub(crate) fn new(name: &str, arguments: &[&str]) -> Self {
        Self { name: name.to_owned(), arguments: arguments.iter().map(Into::into).collect(), namespace: None }
    }

    pub(crate) fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    pub(crate) fn path(&mut self, name: &str, value: &Path) -> &mut Self {
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    pub(crate) fn flag(&mut self, name: &str) -> &mut Self {
        self.arguments.push(name.into());
        self
    }

    pub(crate) fn inside(&mut self, namespace: PathBuf) -> &mut Self {
        self.namespace = Some(namespace);
        self
    }
}

#[derive(Debug)]
struct Running {
    daemon: Daemon,
    child: Option<Child>,
    again: Instant,
}

/// The running daemons.
#[derive(Debug)]
pub(crate) struct Supervisor {
    logs: PathBuf,
    program: PathBuf,
    running: Vec<Running>,
}

impl Supervisor {
    pub(crate) fn new(logs: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(logs).with_context(|| format!("can't create {}", logs.display()))?;
        let program = std::env::current_exe().context("can't find this program's own file")?;
        Ok(Self { logs: logs.to_owned(), program, running: Vec::new() })
    }

    /// Starts a daemon. Must be called from the main thread: the daemons end with that thread.
    pub(crate) fn start(&mut self, daemon: Daemon) -> anyhow::Result<()> {
        let child = Some(self.spawn(&daemon)?);
        self.running.push(Running { daemon, child, again: Instant::now() });
        Ok(())
    }

    /// Sleeps for `pause`, then restarts dead daemons and rotates logs that have grown large.
    pub(crate) async fn restart_after(&mut self, pause: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(pause).await;
        for index in 0..self.running.len() {
            // A full disk is no reason to end the daemons.
            let _ = log_file::rotate(&self.log(&self.running[index].daemon), log_file::BYTES_MAX);
            let one = &mut self.running[index];
            let ended = one.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() {
                (one.child, one.again) = (None, Instant::now() + RESTART_DELAY);
            }
            if one.child.is_none() && one.again <= Instant::now() {
                let child = self.spawn(&self.running[index].daemon)?;
                self.running[index].child = Some(child);
            }
        }
        Ok(())
    }

    /// Stops all daemons but the first at once, then the first, to which the others report. Returns
    /// the names of those that failed.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        let mut failed = Vec::new();
        let rest = self.running.split_off(self.running.len().min(1));
        for group in [rest, self.running] {
            let mut children: Vec<(String, Child)> =
                group.into_iter().filter_map(|one| Some((one.daemon.name, one.child?))).collect();
            for pid in children.iter().filter_map(|(_, child)| child.id()) {
                // A daemon that has ended is fine.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            }
            for (name, child) in &mut children {
                match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
                    Ok(Ok(status)) if status.success() => continue,
                    Ok(_) => {}
                    // A daemon that does not stop is killed; its state survives that.
                    Err(_) => drop(child.kill().await),
                }
                failed.push(name.clone());
            }
        }
        failed
    }

    fn log(&self, daemon: &Daemon) -> PathBuf {
        self.logs.join(format!("{}.log", daemon.name))
    }

    fn spawn(&self, daemon: &Daemon) -> anyhow::Result<Child> {
        let path = self.log(daemon);
        let log = log_file::open(&path).with_context(|| format!("can't open {}", path.display()))?;
        let mut command = std::process::Command::new(&self.program);
        command.args(&daemon.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some(namespace) = &daemon.namespace {
            netns::enter_command(&mut command, namespace)?;
        }
        // The terminal's Ctrl-C is for this process, which stops the daemons in order.
        process::new_session(&mut command);
        process::die_with_parent(&mut command);
        Command::from(command).spawn().with_context(|| format!("can't start {}", daemon.name))
    }
}

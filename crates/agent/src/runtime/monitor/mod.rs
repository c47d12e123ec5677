//! The monitor of a container: a process beside it that learns how the job ends.
//!
//! The job's command is the first process of the container. Only a parent learns how a process
//! ends, and the agent may be killed and started again. So each container has a monitor,
//! `float monitor`, which is no child of the agent for longer than the agent lives:
//!
//! ```text
//!   agent ──► monitor ──► runc ──► first process
//!                │                      ▲
//!                └──────────────────────┘ its parent, once runc has ended
//! ```
//!
//! The monitor is the subreaper of what runc starts or restores. It tells the agent how runc ended,
//! waits for the first process, and writes down how that ended. Meanwhile it is the job's
//! [fence](super::fence).
//!
//! | file in the job directory | content |
//! |---|---|
//! | `monitor` | the command of runc; the monitor has it locked as long as it lives |
//! | `end` | how the first process ended |
//!
//! The agent takes the lock and passes it on with the file, as the monitor's stdin. So there is no
//! moment in which a container without a lock may still be started.
//!
//! A monitor that was killed has left no end: the job counts as lost, as with its host. Containers
//! of agents before record 40 have no monitor, and leave their exit code in a file of their own.

mod watch;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mooring_linux::process;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::job_dir::JobDir;
use crate::error::{Error, Result};

pub use watch::watch;

/// The time that a monitor has to write down an end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// Between the words of a command. No word has it.
const SEPARATOR: u8 = 0;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It has exited with this code.
    Exited(i32),
    /// This signal has ended it.
    Killed(i32),
}

impl End {
    fn of(status: ExitStatus) -> Option<Self> {
        status.code().map(Self::Exited).or_else(|| status.signal().map(Self::Killed))
    }

    /// The exit code by which a shell tells of such an end.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }

    fn write(self) -> String {
        match self {
            Self::Exited(code) => format!("exited {code}\n"),
            Self::Killed(signal) => format!("killed {signal}\n"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (how, number) = text.trim().split_once(' ')?;
        let number = number.parse().ok()?;
        match how {
            "exited" => Some(Self::Exited(number)),
            "killed" => Some(Self::Killed(number)),
            _ => None,
        }
    }
}

/// The fate of runc when nobody waits for it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfDropped {
    Killed,
    RunsOn,
}

/// Runs runc under a monitor, which stays where runc succeeds. `private_run` is the `/run` that
/// runc sees, where it has its own.
///
/// # Errors
/// The monitor can't be started, or runc takes longer than `limit` and is killed.
pub(super) async fn run(
    float: &Path,
    private_run: Option<&Path>,
    job_dir: &JobDir,
    runc: &std::process::Command,
    limit: Duration,
    if_dropped: IfDropped,
) -> Result<ExitStatus> {
    let claimed = claim(job_dir, runc).await?;
    let mut command = Command::new(float);
    command.arg("monitor").arg(job_dir.directory()).args(private_run);
    command.envs(runc.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(claimed).stdout(Stdio::piped()).stderr(Stdio::null());
    process::new_session(command.as_std_mut());
    let mut monitor = Monitor { child: command.spawn().map_err(Error::system("start a monitor"))?, if_dropped };
    // It has a copy of the lock.
    drop(command);
    let mut answer = String::new();
    let answered = async {
        match monitor.child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).read_line(&mut answer).await,
            None => Ok(0),
        }
    };
    let answered = tokio::time::timeout(limit, answered).await;
    if answered.is_err() {
        monitor.child.kill().await.map_err(Error::system("end a monitor"))?;
        return Err(Error::TimedOut("`runc`".to_owned()));
    }
    let status = answer.trim().parse().map_err(|_| io::Error::other("it has ended"));
    monitor.if_dropped = IfDropped::RunsOn;
    status.map(ExitStatus::from_raw).map_err(Error::system("learn from a monitor how runc ended"))
}

/// A monitor whose runc may still run.
struct Monitor {
    child: Child,
    if_dropped: IfDropped,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if self.if_dropped == IfDropped::Killed {
            // runc dies with it. It may have ended meanwhile.
            let _ = self.child.start_kill();
        }
    }
}

/// Locks the file of the monitor, and writes runc's command into it.
async fn claim(job_dir: &JobDir, runc: &std::process::Command) -> Result<File> {
    let path = job_dir.monitor();
    let failed = || format!("write {}", path.display());
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = open.map_err(Error::system(failed()))?;
    let started = Instant::now();
    // The monitor of an earlier container may still write down its end.
    while let Err(error) = file.try_lock() {
        match error {
            TryLockError::Error(error) => return Err(Error::system(failed())(error)),
            TryLockError::WouldBlock if started.elapsed() > END_TIMEOUT => {
                return Err(Error::TimedOut("the end of an earlier monitor".to_owned()));
            }
            TryLockError::WouldBlock => tokio::time::sleep(POLL).await,
        }
    }
    let words: Vec<&[u8]> = [runc.get_program()].into_iter().chain(runc.get_args()).map(OsStr::as_bytes).collect();
    let mut write = || {
        match fs::remove_file(job_dir.end()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        file.set_len(0)?;
        file.write_all(&words.join(&SEPARATOR))?;
        file.rewind()
    };
    write().map_err(Error::system(failed()))?;
    Ok(file)
}

/// Returns how the first process has ended, which is gone. Waits for the monitor to write it down.
/// `None` where no monitor saw the end.
pub(crate) async fn end(job_dir: &JobDir) -> Option<End> {
    let started = Instant::now();
    loop {
        let is_watched = is_watched(job_dir);
        let end = fs::read_to_string(job_dir.end()).ok().and_then(|text| End::read(&text));
        if end.is_some() || !is_watched || started.elapsed() > END_TIMEOUT {
            return end;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until no monitor is left, while `again` ends what a monitor may have started meanwhile.
///
/// # Errors
/// A monitor is still there after [`END_TIMEOUT`].
pub(super) async fn gone(job_dir: &JobDir, again: impl Fn()) -> Result<()> {
    let started = Instant::now();
    while is_watched(job_dir) {
        if started.elapsed() > END_TIMEOUT {
            return Err(Error::TimedOut("the end of a monitor".to_owned()));
        }
        tokio::time::sleep(POLL).await;
        again();
    }
    Ok(())
}

fn is_watched(job_dir: &JobDir) -> bool {
    let file = File::open(job_dir.monitor());
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_written_and_read() {
        for end in [End::Exited(0), End::Exited(137), End::Killed(9), End::Killed(35)] {
            assert_eq!(End::read(&end.write()), Some(end));
        }
        assert_eq!((End::Exited(3).code(), End::Killed(11).code()), (3, 139));
        for text in ["", "exited", "exited x", "9 killed"] {
            assert_eq!(End::read(text), None);
        }
    }
}

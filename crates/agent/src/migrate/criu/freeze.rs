//! Freezes a job at a moment that CRIU can restore.
//!
//! CRIU records each terminal's foreground process group and can't restore one that has exited.
//! Between two shell commands that is briefly the case, and a checkpoint of that moment would lose
//! the job. The job is thawed for a millisecond instead, and frozen again. The same is done where
//! the job has a connection that no checkpoint has.

use std::thread;
use std::time::{Duration, Instant};

use mooring_linux::{Error as LinuxError, terminal};

use crate::error::Result;
use crate::migrate::connections;
use crate::runtime::job_dir::JobDir;

/// The longest wait for a shell to take its terminal back; a shell that runs needs microseconds.
const FOREGROUND_GAP_MAX: Duration = Duration::from_secs(1);
/// The longest wait for connections that came up between the look and the freeze.
const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(1);
/// The time limit of one attempt: a process that waits for its vfork child may keep a group from
/// freezing until the group is thawed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);
/// The time limit of all attempts.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which the job is thawed between two attempts.
const THAW_INTERVAL: Duration = Duration::from_millis(1);

/// Freezes a job at a moment that can be restored.
///
/// # Errors
/// The job does not freeze, one of its terminals keeps a foreground group that has exited, or a
/// connection stays that no checkpoint has. The job may be frozen after an error.
pub(crate) fn freeze(job_dir: &JobDir) -> Result<()> {
    let (cgroup, began) = (job_dir.cgroup(), Instant::now());
    loop {
        match cgroup.freeze_within(ATTEMPT_TIMEOUT) {
            Ok(()) if !terminal::are_in_use(&cgroup.pids()) => {
                if began.elapsed() > FOREGROUND_GAP_MAX {
                    let reason = "the processes in the foreground of one of its terminals are gone".to_owned();
                    return Err(LinuxError::Refused { attempt: "freeze the job".to_owned(), reason }.into());
                }
            }
            Ok(()) => match connections::pending(job_dir)? {
                None => return Ok(()),
                Some(pending) if began.elapsed() > CONNECTIONS_TIMEOUT => return Err(pending.refusal(job_dir)),
                Some(_) => {}
            },
            Err(error) if began.elapsed() > FREEZE_TIMEOUT => return Err(error.into()),
            Err(_) => {}
        }
        cgroup.thaw()?;
        thread::sleep(THAW_INTERVAL);
    }
}

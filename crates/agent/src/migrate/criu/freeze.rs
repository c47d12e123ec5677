//! Freezes a job at a moment that CRIU can restore.
//!
//! CRIU records each terminal's foreground process group and can't restore one that has exited.
//! Between two shell commands that is briefly the case, and a checkpoint of that moment would lose
//! the job. The job is thawed for a millisecond instead, and frozen again.

use std::thread;
use std::time::{Duration, Instant};

use mooring_linux::cgroup::Cgroup;
use mooring_linux::{Error as LinuxError, terminal};

use crate::error::Result;

/// The longest wait for a shell to take its terminal back; a shell that runs needs microseconds.
const FOREGROUND_GAP_MAX: Duration = Duration::from_secs(1);
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
/// The job does not freeze, or one of its terminals keeps a foreground group that has exited. The
/// job may be frozen after an error.
pub(crate) fn freeze(cgroup: &Cgroup) -> Result<()> {
    let began = Instant::now();
    loop {
        match cgroup.freeze_within(ATTEMPT_TIMEOUT) {
            Ok(()) if terminal::are_in_use(&cgroup.pids()) => return Ok(()),
            Ok(()) if began.elapsed() > FOREGROUND_GAP_MAX => {
                let reason = "the processes in the foreground of one of its terminals are gone".to_owned();
                return Err(LinuxError::Refused { attempt: "freeze the job".to_owned(), reason }.into());
            }
            Err(error) if began.elapsed() > FREEZE_TIMEOUT => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        cgroup.thaw()?;
        thread::sleep(THAW_INTERVAL);
    }
}

//! Having a job stand still where it can be restored.
//!
//! CRIU writes down which group of processes is in the foreground of a terminal, and can't put one there that is no more. Between two
//! commands of a shell that is what a terminal has, for as long as the shell takes to take it back. A checkpoint of such a moment would be
//! the end of the job: the job runs on a little instead, and stands still again.

use std::thread;
use std::time::{Duration, Instant};

use mooring_linux::cgroup::Cgroup;
use mooring_linux::{Error as LinuxError, terminal};

use crate::error::Result;

/// How long such a moment may take; a shell that may run needs microseconds.
const FOREGROUND_GAP_MAX: Duration = Duration::from_secs(1);
/// How long the job runs on.
const THAW_INTERVAL: Duration = Duration::from_millis(1);

/// Freezes a job where it can be restored.
///
/// # Errors
/// It does not freeze, or has a terminal that stays without anybody in its foreground. It may be frozen then.
pub(crate) fn freeze(cgroup: &Cgroup) -> Result<()> {
    let began = Instant::now();
    loop {
        cgroup.freeze()?;
        if terminal::are_in_use(&cgroup.pids()) {
            return Ok(());
        }
        if began.elapsed() > FOREGROUND_GAP_MAX {
            let reason = "the processes in the foreground of one of its terminals are gone".to_owned();
            return Err(LinuxError::Refused { attempt: "freeze the job".to_owned(), reason }.into());
        }
        cgroup.thaw()?;
        thread::sleep(THAW_INTERVAL);
    }
}

//! Freezes a job at a moment that CRIU can restore.
//!
//! CRIU records each terminal's foreground process group and can't restore one that has exited.
//! Between two shell commands that is briefly the case, and a checkpoint of that moment would lose
//! the job. The job is thawed for a millisecond instead, and frozen again. The same is done where
//! the job has a connection that no checkpoint has, or an event of inotify that it is about to
//! read.
//!
//! CRIU can't seize a parent that waits in vfork, and a frozen child never ends that wait. The job
//! is thawed until the parent goes on, and frozen again. Where that meets the next vfork each time,
//! the child alone is thawed.

use std::thread;
use std::time::{Duration, Instant};

use mooring_linux::cgroup::Cgroup;
use mooring_linux::vfork::{self, Waiting};
use mooring_linux::{Error as LinuxError, terminal};

use crate::error::{Error, Result};
use crate::migrate::connections::{self, Gateways, Pending};
use crate::migrate::watches::Watched;
use crate::runtime::job_dir::JobDir;
use crate::runtime::seize::describe;
use crate::runtime::thaw;

/// The longest wait for a shell to take its terminal back; a shell that runs needs microseconds.
const FOREGROUND_GAP_MAX: Duration = Duration::from_secs(1);
/// The longest wait for connections that came up between the look and the freeze.
const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest wait for events of inotify to be read.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(1);
/// The time limit of one attempt: a process that waits for its vfork child may keep a group from
/// freezing until the group is thawed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);
/// The time limit of all attempts.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which the job is thawed between two attempts.
const THAW_INTERVAL: Duration = Duration::from_millis(1);
/// The interval at which a parent in vfork is looked at. It may wait again soon after.
const VFORK_POLL_INTERVAL: Duration = Duration::from_micros(200);
/// The time after which the child of a vfork is thawed alone.
const TOGETHER_MAX: Duration = Duration::from_secs(1);
/// The ending of the group of a child that is thawed alone.
const ALONE: &str = "vfork";

/// A reason for which a frozen job can't be restored or seized.
enum Obstacle {
    Foreground,
    Vfork(Waiting),
    Connection(Pending),
    Events,
}

/// Freezes a job at a moment that can be restored.
///
/// # Errors
/// The job does not freeze, or something stays for which it can't be restored. The job may be
/// frozen after an error.
pub(crate) fn freeze(job_dir: &JobDir, gateways: Gateways, watched: &Watched) -> Result<()> {
    let (cgroup, began) = (job_dir.cgroup(), Instant::now());
    let alone = cgroup.with_ending(ALONE);
    // An agent that was killed may have left a child there.
    bring_back(&cgroup, &alone)?;
    loop {
        let frozen = cgroup.freeze_within(ATTEMPT_TIMEOUT);
        let events = || (watched.has_events() && began.elapsed() <= EVENTS_TIMEOUT).then_some(Obstacle::Events);
        let obstacle = Obstacle::find(job_dir, gateways)?.or_else(events);
        match (frozen, &obstacle) {
            (Ok(()), None) => return Ok(()),
            (_, Some(obstacle)) if began.elapsed() > obstacle.timeout() => return Err(obstacle.refusal(job_dir)),
            (Err(error), _) if began.elapsed() > FREEZE_TIMEOUT => return Err(error.into()),
            _ => {}
        }
        match obstacle {
            Some(Obstacle::Vfork(waiting)) if began.elapsed() > TOGETHER_MAX => {
                alone.take_from_freezer(waiting.child)?;
                wait_for(waiting, began);
                bring_back(&cgroup, &alone)?;
            }
            Some(Obstacle::Vfork(waiting)) => {
                thaw::thaw(job_dir)?;
                wait_for(waiting, began);
            }
            Some(Obstacle::Foreground | Obstacle::Connection(_) | Obstacle::Events) | None => {
                thaw::thaw(job_dir)?;
                thread::sleep(THAW_INTERVAL);
            }
        }
    }
}

/// Checks a job whose processes CRIU has seized.
///
/// # Errors
/// It can't be restored from this moment.
pub(crate) fn check(job_dir: &JobDir, gateways: Gateways) -> Result<()> {
    Obstacle::find(job_dir, gateways)?.map_or(Ok(()), |obstacle| Err(obstacle.refusal(job_dir)))
}

impl Obstacle {
    fn find(job_dir: &JobDir, gateways: Gateways) -> Result<Option<Self>> {
        let pids = job_dir.cgroup().pids();
        if let Some(waiting) = vfork::find(&pids) {
            return Ok(Some(Self::Vfork(waiting)));
        }
        if !terminal::are_in_use(&pids) {
            return Ok(Some(Self::Foreground));
        }
        Ok(connections::pending(job_dir, gateways)?.map(Self::Connection))
    }

    /// The longest wait for it to pass.
    fn timeout(&self) -> Duration {
        match self {
            Self::Foreground => FOREGROUND_GAP_MAX,
            Self::Vfork(_) => FREEZE_TIMEOUT,
            Self::Connection(_) => CONNECTIONS_TIMEOUT,
            // It is none any more after its own limit.
            Self::Events => FREEZE_TIMEOUT,
        }
    }

    fn refusal(&self, job_dir: &JobDir) -> Error {
        let reason = match self {
            Self::Foreground => "the processes in the foreground of one of its terminals are gone".to_owned(),
            Self::Vfork(Waiting { parent, child }) => format!(
                "{} waits in vfork for its child {} to execute a program: try again once it has, or end it",
                describe(*parent),
                describe(*child)
            ),
            Self::Connection(pending) => return pending.refusal(job_dir),
            Self::Events => "its events of inotify are not read".to_owned(),
        };
        LinuxError::Refused { attempt: "freeze the job".to_owned(), reason }.into()
    }
}

fn wait_for(waiting: Waiting, began: Instant) {
    while waiting.still_waits() && began.elapsed() <= FREEZE_TIMEOUT {
        thread::sleep(VFORK_POLL_INTERVAL);
    }
}

/// Moves a child, and what it has started meanwhile, back to its job.
fn bring_back(cgroup: &Cgroup, alone: &Cgroup) -> Result<()> {
    loop {
        let pids = alone.pids();
        if pids.is_empty() {
            // It is in use again where a child was started at this very moment.
            let _ = alone.remove();
            if alone.pids().is_empty() {
                return Ok(());
            }
            continue;
        }
        // What is frozen starts nothing meanwhile.
        let _ = alone.freeze_within(ATTEMPT_TIMEOUT);
        for pid in pids {
            cgroup.take_from_freezer(pid)?;
        }
    }
}

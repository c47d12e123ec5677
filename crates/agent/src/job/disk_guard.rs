//! The guard of the disk: jobs that fill it are frozen before it is full.
//!
//! ```text
//!  free disk   more than twice the reserve │ less: writes are counted │ less than the reserve
//!  jobs        go on                       │                          │ the one that wrote most
//!                                          │                          │ since then is frozen
//! ```
//!
//! One job is frozen at each look, so that one that writes less is frozen only where that was not
//! enough. With a quarter more than the reserve free, all go on. A job that was frozen has a file
//! in its directory, so that nothing else [thaws](crate::runtime::thaw) it meanwhile, a restarted
//! agent included. Its driver thaws it: only the driver knows whether a migration has it frozen as
//! well.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mooring_linux::usage::written;
use mooring_ops::file::{self, Durability, Mode};
use mooring_ops::log::chain;
use mooring_types::JobId;
use tokio_util::sync::CancellationToken;

use super::Jobs;
use super::record::{Record, RecordedState};
use crate::config::Config;
use crate::disk;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::runtime::job_dir::JobDir;

/// The time between two looks at a disk with more than twice its reserve.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two looks at a disk with more than its reserve and a quarter.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two looks at a disk with less.
const CLOSE_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The bytes from which on what a job writes counts. Logs and settings of an idle job are less.
const WRITTEN_MIN: u64 = 1 << 20;
/// The longest wait for a job to freeze.
const FREEZE_LIMIT: Duration = Duration::from_secs(1);

/// Freezes jobs that fill the disk of the agent's state.
#[derive(Debug)]
pub(crate) struct DiskGuard {
    host: Arc<Host>,
    jobs: Jobs,
    writers: HashMap<JobId, Writer>,
}

/// The bytes that the processes of a job have written since the guard began to count.
#[derive(Debug, Default, Clone)]
struct Writer {
    bytes: u64,
    /// True when it has written since the last look.
    grows: bool,
    /// The counter of each process at the last look.
    processes: HashMap<i32, u64>,
}

/// The free space of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// More than twice the reserve.
    Ample,
    /// More than the reserve and a quarter.
    Enough,
    /// More than the reserve. A job that is frozen for lack of disk stays frozen.
    Scarce,
    /// Less than the reserve.
    Short,
}

impl Room {
    fn of(free: u64, reserve: u64) -> Self {
        match free {
            free if free > reserve.saturating_mul(2) => Self::Ample,
            free if free > reserve.saturating_add(reserve / 4) => Self::Enough,
            free if free >= reserve => Self::Scarce,
            _ => Self::Short,
        }
    }
}

/// Returns whether the disk lacks room for jobs that are frozen for lack of it. An agent that
/// starts leaves them frozen then.
pub(crate) fn is_short(config: &Config) -> bool {
    let room = disk::measure(&config.state_dir).map(|disk| Room::of(disk.free, config.image_bounds.reserve));
    matches!(room, Ok(Room::Scarce | Room::Short))
}

impl DiskGuard {
    pub(crate) fn new(host: Arc<Host>, jobs: Jobs) -> Self {
        Self { host, jobs, writers: HashMap::new() }
    }

    /// Guards the disk until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = self.look().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at the disk once. Returns the time until the next look.
    async fn look(&mut self) -> Duration {
        let config = &self.host.config;
        // A disk that can't be asked is one that nothing can be said of.
        let Ok(found) = disk::measure(&config.state_dir) else { return LOOK_INTERVAL };
        let room = Room::of(found.free, config.image_bounds.reserve);
        match room {
            Room::Ample | Room::Enough => self.host.disk_is_short.send_if_modified(|is| std::mem::replace(is, false)),
            Room::Scarce => false,
            Room::Short => self.host.disk_is_short.send_if_modified(|is| !std::mem::replace(is, true)),
        };
        if room == Room::Ample {
            self.writers.clear();
            return LOOK_INTERVAL;
        }
        let executing: HashMap<JobId, JobDir> =
            self.jobs.executing().into_iter().map(|(job, _, job_dir)| (job, job_dir)).collect();
        self.count(&executing);
        if room == Room::Short {
            self.freeze(&executing).await;
        }
        if room == Room::Enough { COUNT_INTERVAL } else { CLOSE_LOOK_INTERVAL }
    }

    fn count(&mut self, executing: &HashMap<JobId, JobDir>) {
        self.writers.retain(|job, _| executing.contains_key(job));
        for (job, job_dir) in executing {
            let now = job_dir.cgroup().pids().into_iter().filter_map(|pid| Some((pid, written(pid)?))).collect();
            match self.writers.get_mut(job) {
                Some(writer) => writer.add(now),
                None => drop(self.writers.insert(job.clone(), Writer { processes: now, ..Writer::default() })),
            }
        }
    }

    /// Freezes the job that has written most, of those that go on.
    async fn freeze(&mut self, executing: &HashMap<JobId, JobDir>) {
        let candidates = self.writers.iter().filter(|(_, writer)| writer.bytes >= WRITTEN_MIN && writer.grows);
        let mut candidates: Vec<(&JobId, u64)> = candidates.map(|(job, writer)| (job, writer.bytes)).collect();
        candidates.sort_by_key(|(_, bytes)| Reverse(*bytes));
        let Some((job, bytes)) = candidates.into_iter().find(|(job, _)| self.may_freeze(job)) else { return };
        let Some(job_dir) = executing.get(job) else { return };
        let reserve = self.host.config.image_bounds.reserve;
        tracing::warn!(%job, "job {job} is frozen: it wrote {bytes} bytes to a disk with less than {reserve} free");
        if let Err(error) = freeze(job_dir).await {
            tracing::error!(%job, error = %chain(&error), "job {job} fills the disk and can't be frozen");
        }
        self.host.observed.notify_one();
    }

    /// Says whether a job executes and no checkpoint of it is being made: CRIU can't seize what
    /// somebody else freezes meanwhile.
    fn may_freeze(&self, job: &JobId) -> bool {
        let record = Record::load(&self.host.jobs().join(job.as_str())).ok().flatten();
        record.is_some_and(|record| {
            matches!(record.state, RecordedState::Running { .. } | RecordedState::Restored { .. })
        })
    }
}

impl Writer {
    /// Adds what processes have written since the last look. A new one has written all of its own.
    fn add(&mut self, now: HashMap<i32, u64>) {
        let since = |(pid, bytes): (&i32, &u64)| bytes.saturating_sub(self.processes.get(pid).copied().unwrap_or(0));
        let more: u64 = now.iter().map(since).sum();
        self.grows = more > 0;
        self.bytes += more;
        self.processes = now;
    }
}

/// Freezes a job, after the file that says so.
async fn freeze(job_dir: &JobDir) -> Result<()> {
    let path = job_dir.short_of_disk();
    file::replace(&path, Durability::Renamed, Mode::Private, b"")
        .map_err(Error::system(format!("write {}", path.display())))?;
    let group = job_dir.cgroup();
    let frozen = tokio::task::spawn_blocking(move || group.freeze_within(FREEZE_LIMIT)).await;
    // A task that can't be awaited has panicked, which the runtime has told.
    frozen.map_or(Ok(()), |frozen| Ok(frozen?))
}

/// Waits until a job is frozen for lack of disk, and the disk has room again.
pub(crate) async fn freed(host: &Host, job_dir: &JobDir) {
    let (mut is_short, path) = (host.disk_is_short.subscribe(), job_dir.short_of_disk());
    loop {
        if !*is_short.borrow_and_update() && path.exists() {
            return;
        }
        if is_short.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Forgets that a job is frozen for lack of disk.
///
/// # Errors
/// The file can't be removed.
pub(crate) fn forget(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(Error::system(format!("remove {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_has_its_limits_at_the_reserve() {
        let room = |free| Room::of(free, 1000);
        assert_eq!([0, 999].map(room), [Room::Short; 2]);
        assert_eq!([1000, 1250].map(room), [Room::Scarce; 2]);
        assert_eq!([1251, 2000].map(room), [Room::Enough; 2]);
        assert_eq!([2001, u64::MAX].map(room), [Room::Ample; 2]);
        assert_eq!(Room::of(0, 0), Room::Scarce, "no reserve: nothing is frozen");
    }

    #[test]
    fn what_processes_write_is_added_up() {
        let mut writer = Writer { processes: [(1, 100)].into(), ..Writer::default() };
        writer.add([(1, 150), (2, 30)].into());
        assert_eq!((writer.bytes, writer.grows), (80, true));
        // Process 1 has ended, and its id is another's.
        writer.add([(1, 10), (2, 30)].into());
        assert_eq!((writer.bytes, writer.grows), (80, false));
        writer.add([(1, 25)].into());
        assert_eq!(writer.bytes, 95);
    }
}

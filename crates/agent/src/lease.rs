//! The lease of this host: how long it may let jobs execute that OpCenter can recover elsewhere.
//!
//! A report that OpCenter has answered renews the lease to [`LEASE`] after it was sent.
//! OpCenter recovers a job no sooner than 10 seconds after the last report of its host came in. So
//! the lease of a host that OpCenter calls lost ended 2 seconds before at least.
//!
//! | clock | measures |
//! |---|---|
//! | `CLOCK_BOOTTIME` of the host, which goes on while the machine sleeps | the lease |
//! | the monotonic clock of OpCenter | the silence of a host |
//!
//! The two rates may differ by a sixth: a monitor takes up to a quarter of a second. No clock is
//! compared with another.
//!
//! The end of the lease is in a file, [`END_FILE`]. The monitor of each job reads that file and
//! freezes the job in time, also when the agent is dead; see [`fence`](crate::runtime::fence).
//!
//! A lease that was not renewed in time has *lapsed*. Each lapse has a number, which goes into the
//! reports, and OpCenter's slices repeat it. A frozen job goes on only when the lease is valid and
//! a slice repeats the number of the last lapse. OpCenter has decided on the job since it heard of
//! the host again then.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_ops::file::{self, Durability, Mode};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The time from a report until the lease that it renews ends.
pub(crate) const LEASE: Duration = Duration::from_secs(8);
/// The file with the end of the lease, in the agent's state directory.
const END_FILE: &str = "lease";
/// The kernel's name of this boot. The clock of leases starts from 0 with each.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The time since the machine was booted, its sleep included.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// Sleeps on the clock of leases: a machine that was asleep for longer wakes it at once.
pub(crate) fn sleep(pause: Duration) {
    let until = TimeSpec::from_duration(now() + pause);
    // A signal may end it early. The caller looks again then.
    let _ = clock_nanosleep(ClockId::CLOCK_BOOTTIME, ClockNanosleepFlags::TIMER_ABSTIME, &until);
}

/// Returns the end of the lease in a file; `None` where there is none, or one of an earlier boot.
pub(crate) fn end_in(path: &Path) -> Option<Duration> {
    parse(&fs::read_to_string(path).ok()?, &boot_id()?)
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string(BOOT_ID).ok()?.trim().to_owned())
}

fn parse(text: &str, boot: &str) -> Option<Duration> {
    let (of_boot, millis) = text.trim().split_once(' ')?;
    (of_boot == boot).then(|| millis.parse().map(Duration::from_millis).ok())?
}

/// The lease of this host.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    end: Duration,
    /// The number of the last lapse.
    lapse: u64,
    /// The number that the last applied slice repeats.
    repeated: u64,
}

impl State {
    /// Begins a lapse. No earlier one, of this agent or of one before it, has its number.
    fn lapse(&mut self, now: Duration) {
        self.lapse = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    }
}

/// A report on its way, with the lapse that it names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentReport {
    at: Duration,
    pub(crate) lapse: u64,
    /// The lease was valid when the report was sent.
    was_valid: bool,
}

impl Lease {
    /// Opens the lease in a state directory. The lapse of an agent that was away is a new one.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(END_FILE);
        let mut state = State { end: Duration::ZERO, lapse: 0, repeated: 0 };
        state.lapse(now());
        Self { path, state: Mutex::new(state) }
    }

    /// The file with the end of the lease.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a report.
    pub(crate) fn report(&self) -> SentReport {
        self.report_at(now())
    }

    fn report_at(&self, at: Duration) -> SentReport {
        let mut state = self.state.lock();
        let was_valid = at < state.end;
        if !was_valid {
            // OpCenter may have called this host lost since the report before.
            state.lapse(at);
        }
        SentReport { at, lapse: state.lapse, was_valid }
    }

    /// Renews the lease by a report that OpCenter has answered. Returns whether the lease had
    /// lapsed meanwhile, so that OpCenter has to be told.
    ///
    /// # Errors
    /// The file can't be written. The lease is not renewed then.
    pub(crate) fn answered(&self, report: SentReport) -> Result<bool> {
        self.answered_at(report, now())
    }

    fn answered_at(&self, report: SentReport, now: Duration) -> Result<bool> {
        let mut state = self.state.lock();
        if report.was_valid && now >= state.end {
            state.lapse(now);
        }
        let end = report.at + LEASE;
        if end > state.end {
            let boot = boot_id().unwrap_or_default();
            let text = format!("{boot} {}\n", end.as_millis());
            file::replace(&self.path, Durability::Renamed, Mode::Private, text.as_bytes())
                .map_err(Error::system(format!("write {}", self.path.display())))?;
            state.end = end;
        }
        Ok(state.lapse != report.lapse)
    }

    /// Notes the lapse that a slice repeats, once its orders are passed on.
    pub(crate) fn repeated(&self, lapse: u64) {
        self.state.lock().repeated = lapse;
    }

    /// Returns whether jobs that OpCenter may recover can be let execute here.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.is_confirmed_at(now())
    }

    fn is_confirmed_at(&self, now: Duration) -> bool {
        let state = self.state.lock();
        now < state.end && state.repeated == state.lapse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lease_lasts_from_the_report_and_not_from_its_answer() {
        let directory = tempfile::tempdir().unwrap();
        let lease = Lease::open(directory.path());
        let start = now();
        let report = lease.report_at(start);
        assert!(!lease.answered_at(report, start + 3 * SECOND).unwrap(), "the report has told of the lapse");
        let end = end_in(lease.path()).unwrap();
        assert!(end <= start + LEASE && end + Duration::from_millis(2) > start + LEASE, "{end:?} from {start:?}");
    }

    #[test]
    fn jobs_go_on_only_when_a_slice_repeats_the_last_lapse() {
        let directory = tempfile::tempdir().unwrap();
        let lease = Lease::open(directory.path());
        let start = now();
        let first = lease.report_at(start);
        lease.answered_at(first, start).unwrap();
        assert!(!lease.is_confirmed_at(start), "no slice has come yet");
        lease.repeated(first.lapse);
        assert!(lease.is_confirmed_at(start) && !lease.is_confirmed_at(start + LEASE));

        // The lease has ended. Each report of that time has a number of its own, and alone it does
        // not let jobs go on.
        let lost = lease.report_at(start + 10 * SECOND);
        let later = lease.report_at(start + 20 * SECOND);
        assert!(later.lapse != first.lapse && later.lapse != lost.lapse);
        lease.repeated(lost.lapse);
        lease.answered_at(later, start + 20 * SECOND).unwrap();
        assert!(!lease.is_confirmed_at(start + 20 * SECOND));
        lease.repeated(first.lapse);
        assert!(!lease.is_confirmed_at(start + 20 * SECOND), "a slice from before the lapse");
        lease.repeated(later.lapse);
        assert!(lease.is_confirmed_at(start + 20 * SECOND));
    }

    #[test]
    fn answer_that_comes_after_the_end_of_the_lease_is_a_lapse() {
        let directory = tempfile::tempdir().unwrap();
        let lease = Lease::open(directory.path());
        let start = now();
        let first = lease.report_at(start);
        lease.answered_at(first, start).unwrap();
        lease.repeated(first.lapse);
        // Sent in time, answered too late: OpCenter may have called this host lost in between.
        let late = lease.report_at(start + 7 * SECOND);
        assert_eq!(late.lapse, first.lapse);
        assert!(lease.answered_at(late, start + 9 * SECOND).unwrap(), "OpCenter has to hear of the lapse");
        assert!(!lease.is_confirmed_at(start + 9 * SECOND));
    }

    #[test]
    fn late_answer_takes_nothing_away() {
        let directory = tempfile::tempdir().unwrap();
        let lease = Lease::open(directory.path());
        let start = now();
        let (first, second) = (lease.report_at(start), lease.report_at(start + SECOND));
        lease.answered_at(second, start + SECOND).unwrap();
        let end = end_in(lease.path()).unwrap();
        lease.answered_at(first, start + 2 * SECOND).unwrap();
        assert_eq!(end_in(lease.path()).unwrap(), end);
    }

    #[test]
    fn lease_of_an_earlier_boot_is_none() {
        assert_eq!(parse("a-boot 1500\n", "a-boot"), Some(Duration::from_millis(1500)));
        for text in ["another-boot 1500\n", "", "a-boot", "a-boot x", "1500"] {
            assert_eq!(parse(text, "a-boot"), None, "{text:?}");
        }
    }
}

//! Timers of other processes that are descriptors (`timerfd`).

#![expect(unsafe_code, reason = "timers are set by system calls")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::time::{ClockId, clock_gettime};

use crate::connections::{pidfd_getfd, pidfd_open};
use crate::process_tree::own_pid;

/// The name that the kernel gives to a timer.
const LINK: &str = "anon_inode:[timerfd]";
/// The request that sets the expirations that were not read (`linux/timerfd.h`).
const TFD_IOC_SET_TICKS: libc::c_ulong = 0x4008_5400;
const NANOS: i64 = 1_000_000_000;

/// A timer, by a descriptor of a process.
#[derive(Debug)]
pub struct Timer {
    /// The kernel's id of the process.
    pub pid: i32,
    /// The id of the process as it sees itself.
    pub own_pid: i32,
    pub descriptor: RawFd,
    timer: OwnedFd,
}

/// The setting of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    clock: i32,
    flags: i32,
    /// The expirations that were not read.
    ticks: u64,
    /// The next expiration in nanoseconds, as the process sees it; absent where none is to come. By
    /// the timer's clock where it is absolute, else by the monotonic one.
    deadline: Option<i64>,
    /// The nanoseconds from one expiration to the next; 0 for a single one.
    interval: i64,
}

/// Finds the timers that processes have open. One that several descriptors lead to is found several
/// times.
#[must_use]
pub fn find(pids: &[i32]) -> Vec<Timer> {
    // A process may end at any time.
    pids.iter().flat_map(|pid| find_in(*pid).unwrap_or_default()).collect()
}

fn find_in(pid: i32) -> io::Result<Vec<Timer>> {
    let (mut found, mut process) = (Vec::new(), None);
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !fs::read_link(entry.path()).is_ok_and(|leads| leads.as_os_str() == LINK) {
            continue;
        }
        let Some(own_pid) = own_pid(pid) else { break };
        let process = match &process {
            Some(opened) => opened,
            None => process.insert(pidfd_open(pid)?),
        };
        found.push(Timer { pid, own_pid, descriptor, timer: pidfd_getfd(process, descriptor)? });
    }
    Ok(found)
}

impl Timer {
    /// Opens the timer that a process has as a descriptor.
    ///
    /// # Errors
    /// The process has ended, or the descriptor is none of a timer.
    pub fn open(pid: i32, own_pid: i32, descriptor: RawFd) -> io::Result<Self> {
        if fs::read_link(format!("/proc/{pid}/fd/{descriptor}"))?.as_os_str() != LINK {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { pid, own_pid, descriptor, timer: pidfd_getfd(&pidfd_open(pid)?, descriptor)? })
    }

    /// Reads the setting. Returns `None` where the kernel does not show it.
    #[must_use]
    pub fn setting(&self) -> Option<Setting> {
        let Shown { clock, flags, ticks, value, interval } = self.shown()?;
        let now = self.now(reference(clock, flags))?;
        let deadline = (value > 0).then(|| now.saturating_add(value));
        Some(Setting { clock, flags, ticks, deadline, interval })
    }

    fn shown(&self) -> Option<Shown> {
        // A steady timer that has fired begins its next turn when it is asked for.
        let mut current = libc::itimerspec { it_interval: time(0), it_value: time(0) };
        // SAFETY: `current` lives for the call.
        unsafe { libc::timerfd_gettime(self.timer.as_raw_fd(), &raw mut current) };
        Shown::read(&fs::read_to_string(format!("/proc/self/fdinfo/{}", self.timer.as_raw_fd())).ok()?)
    }

    /// Sets the timer again, to the same time by the clock that its process sees.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, setting: &Setting) -> io::Result<()> {
        let reference = reference(setting.clock, setting.flags);
        let before = match setting.flags & libc::TFD_TIMER_ABSTIME {
            0 => self.now(reference).unwrap_or_default(),
            _ => self.ahead(reference),
        };
        // 0 would end the timer.
        let value = setting.deadline.map_or(0, |deadline| deadline.saturating_sub(before).max(1));
        let new = libc::itimerspec { it_interval: time(setting.interval.max(0)), it_value: time(value) };
        // SAFETY: `new` lives for the call, and the old setting is not asked for.
        let answer = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), setting.flags, &raw const new, std::ptr::null_mut())
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        if setting.ticks == 0 {
            return Ok(());
        }
        // It may have fired by now.
        let ticks = setting.ticks.saturating_add(self.shown().map_or(0, |shown| shown.ticks));
        // SAFETY: the request reads an integer, which lives for the call.
        let answer = unsafe { libc::ioctl(self.timer.as_raw_fd(), TFD_IOC_SET_TICKS as _, &raw const ticks) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The time of a clock as the process sees it.
    fn now(&self, number: i32) -> Option<i64> {
        Some(clock(number)?.saturating_add(self.ahead(number)))
    }

    /// The nanoseconds by which a clock of the process is ahead of that of this process.
    fn ahead(&self, clock: i32) -> i64 {
        offset(&format!("{}", self.pid), clock) - offset("self", clock)
    }
}

/// The clock by which a timer's deadline is known. A time from now passes as the monotonic clock
/// does.
fn reference(clock: i32, flags: i32) -> i32 {
    if flags & libc::TFD_TIMER_ABSTIME == 0 { libc::CLOCK_MONOTONIC } else { clock }
}

fn time(nanos: i64) -> libc::timespec {
    libc::timespec { tv_sec: nanos / NANOS, tv_nsec: nanos % NANOS }
}

fn clock(clock: i32) -> Option<i64> {
    let now = clock_gettime(ClockId::from_raw(clock)).ok()?;
    now.tv_sec().checked_mul(NANOS)?.checked_add(now.tv_nsec())
}

/// The offset of a clock of a process's time namespace, in nanoseconds.
fn offset(pid: &str, clock: i32) -> i64 {
    let name = match clock {
        libc::CLOCK_MONOTONIC => "monotonic",
        libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => "boottime",
        _ => return 0,
    };
    let shown = fs::read_to_string(format!("/proc/{pid}/timens_offsets")).unwrap_or_default();
    let offset = shown.lines().find_map(|line| {
        let mut fields = line.strip_prefix(name)?.split_whitespace().map(str::parse::<i64>);
        fields.next()?.ok()?.checked_mul(NANOS)?.checked_add(fields.next()?.ok()?)
    });
    offset.unwrap_or(0)
}

/// A timer in `/proc/PID/fdinfo`; times are nanoseconds from now.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    clock: i32,
    flags: i32,
    ticks: u64,
    value: i64,
    interval: i64,
}

impl Shown {
    fn read(text: &str) -> Option<Self> {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let time = |name: &str| {
            let (seconds, nanos) = field(name)?.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
            seconds.parse::<i64>().ok()?.checked_mul(NANOS)?.checked_add(nanos.parse().ok()?)
        };
        Some(Self {
            clock: field("clockid")?.parse().ok()?,
            flags: i32::from_str_radix(field("settime flags")?, 8).ok()?,
            ticks: field("ticks")?.parse().ok()?,
            value: time("it_value")?,
            interval: time("it_interval")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    #[test]
    fn fdinfo_is_read() {
        let text = "pos:\t0\nflags:\t02\nclockid: 7\nticks: 3\nsettime flags: 01\n\
            it_value: (14, 5)\nit_interval: (0, 7)\n";
        let shown = Shown { clock: 7, flags: 1, ticks: 3, value: 14 * NANOS + 5, interval: 7 };
        assert_eq!(Shown::read(text), Some(shown));
        for damaged in ["", "clockid: 1", &text.replace("(14", "14"), &text.replace("14", "99999999999999999999")] {
            assert_eq!(Shown::read(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_setting_is_read_and_set_again() {
        // SAFETY: the call takes two integers.
        let made = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        // SAFETY: the call made this descriptor, and nobody else has it.
        let _owned = unsafe { OwnedFd::from_raw_fd(made) };
        let pid = i32::try_from(std::process::id()).unwrap();
        let timer = find(&[pid]).into_iter().find(|found| found.descriptor == made).unwrap();
        let now = clock(libc::CLOCK_MONOTONIC).unwrap();
        let setting = Setting {
            clock: libc::CLOCK_MONOTONIC,
            flags: libc::TFD_TIMER_ABSTIME,
            ticks: 2,
            deadline: Some(now + 1000 * NANOS),
            interval: 5,
        };
        timer.set(&setting).unwrap();
        let read = timer.setting().unwrap();
        let differs = read.deadline.unwrap() - setting.deadline.unwrap();
        assert!(differs.abs() < NANOS, "{differs}");
        assert_eq!(Setting { deadline: setting.deadline, ..read }, setting);
        // One that fires at once, and has fired twice before.
        let late = Setting { deadline: Some(now - 2 * NANOS), interval: 1000 * NANOS, ..setting };
        timer.set(&late).unwrap();
        let read = timer.setting().unwrap();
        assert_eq!((read.ticks, read.interval), (3, 1000 * NANOS));
        let next = late.deadline.unwrap() + late.interval - read.deadline.unwrap();
        assert!(next.abs() < NANOS, "{next}");
        let from_now = Setting { flags: 0, deadline: Some(now + 1000 * NANOS), ..setting };
        timer.set(&from_now).unwrap();
        let read = timer.setting().unwrap();
        assert!((read.deadline.unwrap() - from_now.deadline.unwrap()).abs() < NANOS, "{read:?}");
        let ended = Setting { deadline: None, interval: 0, ..setting };
        timer.set(&ended).unwrap();
        assert_eq!(timer.setting(), Some(ended));
        assert!(Timer::open(pid, pid, 0).is_err());
    }
}

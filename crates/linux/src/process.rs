//! Processes, identified by id and start time: the kernel may give an id to another process later.

#![expect(
    unsafe_code,
    reason = "a child sets its session and its parent-death signal between fork and exec, and is given limits"
)]

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process, told from another one that got the same id later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The id that the kernel knows it by.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl ProcessId {
    /// The process of this id, if it lives.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        start_time(pid).map(|started| Self { pid, started })
    }

    /// Returns `true` while the process lives.
    #[must_use]
    pub fn lives(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Sends a signal to the process if it lives; returns whether it did.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> bool {
        self.lives() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// Returns the start time of a process, in clock ticks since boot. Returns `None` where the process
/// does not exist or is a zombie.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let fields = stat_fields(pid)?;
    let mut fields = fields.split_whitespace();
    // The state is field 3, the start time field 22.
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Returns the processor time that a process has used, in clock ticks.
#[must_use]
pub fn processor_ticks(pid: i32) -> Option<u64> {
    let fields = stat_fields(pid)?;
    // User time is field 14, system time field 15.
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// Returns the letter of a process's state, like `T` of one that is stopped.
#[must_use]
pub fn state(pid: i32) -> Option<u8> {
    stat_fields(pid)?.split_whitespace().next()?.bytes().next()
}

/// Returns the kernel's id of a process's parent.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    stat_fields(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the kernel's id of the process that traces a process; 0 if none does.
#[must_use]
pub fn tracer(pid: i32) -> Option<i32> {
    status_field(pid, "TracerPid:")
}

/// Returns the last number in a line of `/proc/PID/status`.
fn status_field(pid: i32, field: &str) -> Option<i32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(field.as_bytes()))?;
    std::str::from_utf8(value).ok()?.split_whitespace().next_back()?.parse().ok()
}

/// Returns the fields of `/proc/PID/stat` from the third on. The name in parentheses before them
/// may contain any byte.
fn stat_fields(pid: i32) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    String::from_utf8(stat.get(end + 1..)?.to_vec()).ok()
}

/// Sends a signal to the process with this start time. Returns whether it still existed.
#[must_use]
pub fn signal(pid: i32, started: u64, signal: Signal) -> bool {
    start_time(pid) == Some(started) && kill(Pid::from_raw(pid), signal).is_ok()
}

/// Sets the limit of open descriptors of a process, as far as this process may.
pub fn allow_descriptors(pid: i32, count: u64) -> std::io::Result<()> {
    let limit = |most| libc::rlimit64 { rlim_cur: most, rlim_max: most };
    let set = |limit: &libc::rlimit64| {
        // SAFETY: the new limit lives for the call, and the old one is not requested.
        let answer = unsafe { libc::prlimit64(pid, libc::RLIMIT_NOFILE, limit, std::ptr::null_mut()) };
        if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    set(&limit(count)).or_else(|error| {
        let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
        most.filter(|most| *most < count).map_or(Err(error), |most| set(&limit(most)))
    })
}

/// Makes `command` receive SIGTERM when the thread that spawned it ends.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes a single system call.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(Into::into));
    }
}

/// Makes `command` receive SIGKILL when the thread that spawned it ends.
pub fn killed_with_parent(command: &mut Command) {
    // SAFETY: the closure makes a single system call.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
}

/// Returns whether a process does nothing about a signal: it neither handles, ignores nor blocks
/// it. The kernel keeps such a signal from the first process of a container.
#[must_use]
pub fn leaves_to_kernel(pid: i32, signal: Signal) -> bool {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let masks = status.lines().filter_map(|line| line.split_once(':'));
    let mut masks = masks.filter(|(name, _)| matches!(*name, "SigBlk" | "SigIgn" | "SigCgt"));
    masks.all(|(_, mask)| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (signal as u32 - 1) & 1 == 0))
}

/// Says whether this process may read and set the limits of processes of other users.
#[must_use]
pub fn has_sys_resource() -> bool {
    const SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits >> SYS_RESOURCE & 1 == 1)
}

/// Gives `command` an open file or directory under a fixed descriptor number. The number is at
/// least 10, out of the way of descriptors that the command opens.
pub fn give(command: &mut Command, file: fs::File, number: RawFd) {
    // SAFETY: the closure makes a single system call on a descriptor that it owns; the copy that
    // dup2 makes is inherited.
    unsafe {
        command.pre_exec(move || {
            if libc::dup2(file.as_raw_fd(), number) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// Keeps `command` and all that it runs from privileges of set-user-ID programs.
pub fn without_new_privileges(command: &mut Command) {
    // SAFETY: the closure makes a single system call.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_no_new_privs().map_err(Into::into));
    }
}

/// Makes `command` run in a session of its own, which terminal signals do not reach.
pub fn new_session(command: &mut Command) {
    // SAFETY: the closure makes a single system call.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_process_gets_the_descriptors_that_it_is_allowed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        allow_descriptors(pid, 77).unwrap();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(line.split_whitespace().filter(|word| *word == "77").count(), 2);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(allow_descriptors(pid, 77).is_err());
    }

    #[test]
    fn a_signal_that_is_handled_or_ignored_is_not_left_to_the_kernel() {
        for (trap, left) in [("", true), ("trap : TERM;", false), ("trap '' TERM;", false)] {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("{trap} echo; read line")]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
            assert_eq!(leaves_to_kernel(i32::try_from(child.id()).unwrap(), Signal::SIGTERM), left, "{trap}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_time(pid).unwrap();
        assert!(!signal(pid, started + 1, Signal::SIGKILL));
        assert!(signal(pid, started, Signal::SIGKILL));
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }
}

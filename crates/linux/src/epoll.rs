//! Targets of epoll sets that their process no longer has open.
//!
//! A program may hand a connection to another process and close its own descriptor. The connection
//! stays in its epoll set, under the number that it had. The set is changed from outside: a target
//! is named by a file and a number, so a thread opens the file under that number. It has a table of
//! descriptors of its own for that.

#![expect(unsafe_code, reason = "descriptors are compared and duplicated by system calls")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::connections::{pidfd_getfd, pidfd_open};

/// The comparisons of `linux/kcmp.h`.
const KCMP_FILE: libc::c_int = 0;
const KCMP_EPOLL_TFD: libc::c_int = 7;
const LINK: &str = "anon_inode:[eventpoll]";

/// A target of an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The number under which it was added.
    pub number: RawFd,
    pub events: u32,
    pub data: u64,
    #[serde(skip)]
    inode: u64,
    /// Its place among the targets with the same number.
    #[serde(skip)]
    place: u32,
}

/// A descriptor of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The kernel's id of the process.
    pub pid: i32,
    pub number: RawFd,
}

/// The slot of `linux/kcmp.h`.
#[repr(C)]
struct Slot {
    set: u32,
    number: u32,
    place: u32,
}

/// Returns the epoll sets that a process has open.
#[must_use]
pub fn sets(pid: i32) -> Vec<Descriptor> {
    let is_set = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|leads| leads.as_os_str() == LINK);
    let descriptors = numbers(pid, is_set).into_iter();
    descriptors.map(|number| Descriptor { pid, number }).collect()
}

/// Returns the targets of an epoll set that its process no longer has open.
#[must_use]
pub fn lost_targets(set: Descriptor) -> Vec<Target> {
    let Descriptor { pid, number } = set;
    let shown = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let mut lost: Vec<Target> = targets(&shown);
    let inode = |number: RawFd| fs::metadata(format!("/proc/{pid}/fd/{number}")).ok().map(|found| found.ino());
    lost.retain(|target| inode(target.number) != Some(target.inode));
    if !lost.is_empty() {
        // It may be open under another number.
        let open: BTreeSet<u64> = numbers(pid, |_| true).into_iter().filter_map(inode).collect();
        lost.retain(|target| !open.contains(&target.inode));
    }
    lost
}

/// Returns a descriptor of one of these processes that is the target of a set.
#[must_use]
pub fn find(set: Descriptor, target: &Target, pids: &[i32]) -> Option<Descriptor> {
    let slot =
        Slot { set: u32::try_from(set.number).ok()?, number: u32::try_from(target.number).ok()?, place: target.place };
    let is_it = |pid: i32, number: RawFd| {
        // SAFETY: the call takes integers and a slot, which is read and lives for the call.
        let order = unsafe {
            libc::syscall(libc::SYS_kcmp, pid, set.pid, KCMP_EPOLL_TFD, number as libc::c_ulong, &raw const slot)
        };
        order == 0
    };
    pids.iter().find_map(|pid| {
        let has_inode =
            |entry: &fs::DirEntry| fs::metadata(entry.path()).is_ok_and(|metadata| metadata.ino() == target.inode);
        let number = numbers(*pid, has_inode).into_iter().find(|number| is_it(*pid, *number))?;
        Some(Descriptor { pid: *pid, number })
    })
}

/// Returns whether two descriptors are of one open file.
#[must_use]
pub fn are_same(one: Descriptor, other: Descriptor) -> bool {
    // SAFETY: the call takes five integers.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            one.pid,
            other.pid,
            KCMP_FILE,
            one.number as libc::c_ulong,
            other.number as libc::c_ulong,
        )
    };
    order == 0
}

/// Removes a target from a set; `holder` is a descriptor of it.
///
/// # Errors
/// The set does not have it, or a process has ended.
pub fn remove(set: Descriptor, target: &Target, holder: Descriptor) -> io::Result<()> {
    control(set, target, holder, libc::EPOLL_CTL_DEL)
}

/// Adds a target to a set. One that it has already is left alone.
///
/// # Errors
/// A process has ended, or the kernel refuses.
pub fn add(set: Descriptor, target: &Target, holder: Descriptor) -> io::Result<()> {
    match control(set, target, holder, libc::EPOLL_CTL_ADD) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        outcome => outcome,
    }
}

fn control(set: Descriptor, target: &Target, holder: Descriptor, operation: libc::c_int) -> io::Result<()> {
    let target = *target;
    let work = move || {
        // This thread's descriptors are copies from here on: any number may be replaced.
        unshare(CloneFlags::CLONE_FILES)?;
        let set = above(&pidfd_getfd(&pidfd_open(set.pid)?, set.number)?, target.number)?;
        let file = above(&pidfd_getfd(&pidfd_open(holder.pid)?, holder.number)?, target.number)?;
        // SAFETY: the call takes two integers, of which the first is an open descriptor. The other
        // is of this thread's own table, in which nothing else is used any more.
        if unsafe { libc::dup2(file.as_raw_fd(), target.number) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut event = libc::epoll_event { events: target.events, u64: target.data };
        // SAFETY: both descriptors are open, and the event is read and lives for the call.
        let answer = unsafe { libc::epoll_ctl(set.as_raw_fd(), operation, target.number, &raw mut event) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(io::Error::other("a thread has failed")))
}

/// Duplicates a descriptor to a number above another one.
fn above(descriptor: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes three integers, of which the first is an open descriptor.
    let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number.saturating_add(1)) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn numbers(pid: i32, is_wanted: impl Fn(&fs::DirEntry) -> bool) -> Vec<RawFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter(is_wanted).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Reads `tfd:        5 events:       19 data:                5  pos:0 ino:1e sdev:f`.
fn targets(shown: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for line in shown.lines() {
        let field = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            rest.split_whitespace().next()
        };
        let hex = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let read = || {
            let number = field("tfd:")?.parse().ok()?;
            let place = targets.iter().filter(|known| known.number == number).count() as u32;
            let events = u32::try_from(hex("events:")?).ok()?;
            Some(Target { number, events, data: hex("data:")?, inode: hex("ino:")?, place })
        };
        let target = read();
        targets.extend(target);
    }
    targets
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    /// A set keeps two ends of pipes that only a child has, both under one number. The child writes
    /// when it reads a line.
    const SCRIPT: &str = "
import os, select, sys
watched = select.epoll()
holders = []
for _ in range(2):
    reader, writer = os.pipe()
    child_in, child_out = os.pipe()
    if os.fork() == 0:
        os.close(child_out)
        os.read(child_in, 1)
        os.write(writer, b'x')
        os.read(child_in, 1)
        os._exit(0)
    holders.append(child_out)
    os.close(child_in)
    os.close(writer)
    os.dup2(reader, 900)
    os.close(reader)
    watched.register(900, select.EPOLLIN)
    os.close(900)
print('ready', flush=True)
for line in sys.stdin:
    if line == 'write\\n':
        for holder in holders:
            os.write(holder, b'x')
        print(len(watched.poll(20, 1)), flush=True)
    else:
        print(len(watched.poll(0)), flush=True)
";

    #[test]
    fn target_of_another_process_is_removed_and_added_again() {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || output.next().unwrap().unwrap();
        assert_eq!(line(), "ready");
        let pid = i32::try_from(child.id()).unwrap();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pids: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        let [set] = sets(pid)[..] else { panic!("one set") };
        let lost = lost_targets(set);
        assert_eq!(lost.iter().map(|target| target.number).collect::<Vec<_>>(), [900, 900]);
        assert_eq!(find(set, &lost[0], &[pid]), None);
        let holders: Vec<_> = lost.iter().map(|target| find(set, target, &pids).expect("a holder")).collect();
        assert!(!are_same(holders[0], holders[1]) && are_same(set, set));
        for (target, holder) in lost.iter().zip(&holders) {
            remove(set, target, *holder).unwrap();
            assert!(remove(set, target, *holder).is_err());
        }
        assert!(lost_targets(set).is_empty());
        for (target, holder) in lost.iter().zip(&holders) {
            add(set, target, *holder).unwrap();
            add(set, target, *holder).unwrap();
        }
        assert_eq!(lost_targets(set).len(), 2);
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"write\n").unwrap();
        assert_eq!(line(), "1");
        drop(input);
        child.wait().unwrap();
    }
}

//! Record locks (`fcntl`) of other processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::injection::{self, Argument};
use crate::process_tree;
use crate::{Error, Result};

/// A record lock of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordLock {
    /// The process as those of its own pid namespace know it.
    pub pid: i32,
    /// A descriptor of the locked file.
    pub descriptor: i32,
    pub exclusive: bool,
    pub start: i64,
    /// The last locked byte; the end of all files where absent.
    pub end: Option<i64>,
}

/// Returns those of these processes that have record locks. One file lists all locks of the host.
fn holders(pids: &[i32]) -> Vec<i32> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // Like `1: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
    let holder = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? == "POSIX" { words.nth(2)?.parse().ok() } else { None }
    };
    let holders: BTreeSet<i32> = locks.lines().filter_map(holder).collect();
    pids.iter().copied().filter(|pid| holders.contains(pid)).collect()
}

/// Returns the record locks of these processes, each by the lowest descriptor of its file.
#[must_use]
pub fn find(pids: &[i32]) -> BTreeSet<RecordLock> {
    let mut locks = BTreeSet::new();
    for pid in &holders(pids) {
        let Some(inner) = process_tree::own_pid(*pid) else { continue };
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut descriptors: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        descriptors.sort_unstable();
        let mut known = BTreeSet::new();
        for descriptor in descriptors {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
            for (file, exclusive, start, end) in info.lines().filter_map(parse) {
                if known.insert((file, exclusive, start, end)) {
                    locks.insert(RecordLock { pid: inner, descriptor, exclusive, start, end });
                }
            }
        }
    }
    locks
}

/// Parses a line like `lock: 1: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
fn parse(line: &str) -> Option<(String, bool, i64, Option<i64>)> {
    let words: Vec<&str> = line.strip_prefix("lock:")?.split_ascii_whitespace().collect();
    let [_, "POSIX", _, mode, _, file, start, end] = words[..] else { return None };
    let end = if end == "EOF" { None } else { Some(end.parse().ok()?) };
    Some((file.to_owned(), mode == "WRITE", start.parse().ok()?, end))
}

impl RecordLock {
    /// Makes a frozen process of `group` take this lock; `pid` is its id here.
    ///
    /// # Errors
    /// Another process has the lock, or the process can't make the call.
    pub fn take(&self, group: &Cgroup, pid: i32) -> Result<()> {
        let record = self.record();
        let arguments = [
            Argument::Value(self.descriptor.cast_unsigned().into()),
            Argument::Value(libc::F_SETLK.cast_unsigned().into()),
            Argument::Bytes(&record),
        ];
        let results = injection::call(group, pid, &[(libc::SYS_fcntl, &arguments)])?;
        let result = results.first().copied().unwrap_or_default();
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or_default());
        Err(Error::system(format!("lock descriptor {} of process {}", self.descriptor, self.pid))(error))
    }

    /// The lock as the kernel's `struct flock`.
    fn record(&self) -> [u8; 32] {
        let kind = if self.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
        // A length of zero leads to the end of all files.
        let length = self.end.map_or(0, |end| end.saturating_sub(self.start).saturating_add(1));
        let mut record = [0; 32];
        record[..2].copy_from_slice(&(kind as i16).to_ne_bytes());
        record[2..4].copy_from_slice(&(libc::SEEK_SET as i16).to_ne_bytes());
        record[8..16].copy_from_slice(&self.start.to_ne_bytes());
        record[16..24].copy_from_slice(&length.to_ne_bytes());
        record
    }
}

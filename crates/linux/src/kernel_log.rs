//! The kernel's log of processes that it has killed for lack of memory.
//!
//! The log is read from the moment at which it was opened. Reading it takes a privilege
//! (CAP_SYSLOG): without it, nothing is known of a kill but that it happened.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// The most records that are read at once; the kernel's buffer has fewer.
const RECORDS_MAX: usize = 100_000;
/// The longest record of the kernel.
const RECORD_MAX_BYTES: usize = 8192;

/// A process that the kernel killed for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryKill {
    /// The path of its control group, from the root of the hierarchy.
    pub cgroup: String,
    /// The name of its program, as the kernel writes it.
    pub program: String,
    /// The kernel's id.
    pub pid: i32,
}

/// The kernel's log, open for reading.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// Opens the log at its end. Returns `None` where that is not allowed.
    #[must_use]
    pub fn open() -> Option<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// Reads the kills since the last call.
    pub fn memory_kills(&mut self) -> Vec<MemoryKill> {
        let mut kills = Vec::new();
        let mut record = [0; RECORD_MAX_BYTES];
        for _ in 0..RECORDS_MAX {
            match self.0.read(&mut record) {
                Ok(0) => break,
                Ok(length) => kills.extend(kill(&String::from_utf8_lossy(&record[..length]))),
                // Records were overwritten before they were read; the next read goes on.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
        kills
    }
}

/// Reads `6,1,2,-;oom-kill:constraint=…,oom_memcg=/a,task_memcg=/a/b,task=python3,pid=7,uid=0`.
fn kill(record: &str) -> Option<MemoryKill> {
    let (_, message) = record.lines().next()?.split_once(";oom-kill:")?;
    let (_, rest) = message.split_once(",task_memcg=")?;
    let (cgroup, rest) = rest.split_once(",task=")?;
    // The name may have any letters, also commas.
    let (rest, _) = rest.rsplit_once(",uid=")?;
    let (program, pid) = rest.rsplit_once(",pid=")?;
    Some(MemoryKill { cgroup: cgroup.to_owned(), program: program.to_owned(), pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_kills_are_read() {
        let record = "6,9731,110296,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
                      oom_memcg=/mooring/a-1,task_memcg=/mooring/a-1/b,task=a,pid=1,uid=2,pid=17183,uid=0\n KEY=x\n";
        let expected = MemoryKill { cgroup: "/mooring/a-1/b".into(), program: "a,pid=1,uid=2".into(), pid: 17183 };
        assert_eq!(kill(record), Some(expected));
        for other in ["", "6,1,1,-;eth0: renamed", "6,1,1,-;oom-kill:task_memcg=/a,task=b", "oom-kill:,task_memcg=/a"] {
            assert_eq!(kill(other), None, "{other}");
        }
    }
}

//! Locks on files that several hosts share.
//!
//! A frozen process keeps its locks. On a file of the job's own the destination has a copy, and the
//! locks of both don't meet. On a file of a shared volume the destination could not take the lock
//! that the source still has. The processes of such a job end with the checkpoint, and a rollback
//! restores them from it.

use std::collections::BTreeSet;
use std::fs;

use mooring_types::job::Volume;

use crate::runtime::container::Afterwards;
use crate::runtime::job_dir::JobDir;
use crate::runtime::volume;

/// Returns the state in which the checkpoint of a job leaves its processes.
pub(crate) fn afterwards(job_dir: &JobDir, volumes: &[Volume]) -> Afterwards {
    let shared = volume::shared_devices(job_dir, volumes);
    if !shared.is_empty() && job_dir.cgroup().pids().into_iter().any(|pid| has_lock(pid, &shared)) {
        Afterwards::Ended
    } else {
        Afterwards::Frozen
    }
}

/// Returns whether a process has a file open, on one of these devices, on which it has a lock.
fn has_lock(pid: i32, devices: &BTreeSet<u64>) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let locked = |text: String| text.lines().filter_map(device_of_lock).any(|device| devices.contains(&device));
    files.filter_map(|entry| fs::read_to_string(entry.path()).ok()).any(locked)
}

/// Returns the device of the file in a line like
/// `lock: 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
fn device_of_lock(line: &str) -> Option<u64> {
    let file = line.strip_prefix("lock:")?.split_ascii_whitespace().nth(5)?;
    let mut numbers = file.split(':');
    let mut number = || u64::from_str_radix(numbers.next()?, 16).ok();
    Some(nix::sys::stat::makedev(number()?, number()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::fcntl::{Flock, FlockArg};

    use super::*;

    #[test]
    fn locks_are_found_by_the_device_of_their_file() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let device = file.metadata().unwrap().dev();
        let own = i32::try_from(std::process::id()).unwrap();
        let (here, elsewhere) = (BTreeSet::from([device]), BTreeSet::from([device + 1]));
        let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        assert!(has_lock(own, &here));
        assert!(!has_lock(own, &elsewhere));
        drop(lock);
        assert_eq!(
            device_of_lock("lock:\t1: POSIX  ADVISORY  READ  1 fd:0a:7 0 EOF"),
            Some(nix::sys::stat::makedev(253, 10))
        );
        assert_eq!(device_of_lock("lock:\t1: POSIX"), None);
        assert_eq!(device_of_lock("flags:\t0100002"), None);
    }
}

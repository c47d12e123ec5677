//! The record locks (`fcntl`) of a job, which have to outlive its checkpoint.
//!
//! CRIU takes them before it restores mappings, and closes a descriptor for each mapped file. A
//! process that closes any descriptor of a file loses all its record locks on that file. So the
//! locks are written down with the checkpoint, and compared after the restore. Those that are gone
//! are taken again by the process itself, still frozen, since nobody else can.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mooring_linux::cgroup::Cgroup;
use mooring_linux::process_tree;
use mooring_linux::record_locks::{self, RecordLock};
use mooring_ops::log::chain;

use crate::error::{CriuError, Result};
use crate::runtime::own_image::OwnImage;

const IMAGE: OwnImage = OwnImage("record-locks.img");

/// Writes the locks of these processes into the directory of a checkpoint.
///
/// # Errors
/// The list can't be written.
pub(crate) fn write(pids: &[i32], images: &Path) -> Result<()> {
    let locks = record_locks::find(pids);
    if locks.is_empty() {
        return Ok(());
    }
    IMAGE.write(images, &locks)
}

/// Takes the locks again that a checkpoint lists and that restored, frozen processes have lost.
///
/// # Errors
/// The list can't be read, or a lock can't be taken again.
pub(crate) fn take_again(group: &Cgroup, images: &Path) -> Result<()> {
    // Most jobs have none.
    let Some(locks) = IMAGE.read::<BTreeSet<RecordLock>>(images)? else { return Ok(()) };
    let hosts_pids: BTreeMap<i32, i32> =
        group.pids().into_iter().filter_map(|pid| Some((process_tree::own_pid(pid)?, pid))).collect();
    let wanted: BTreeSet<i32> = locks.iter().map(|lock| lock.pid).collect();
    let now = record_locks::find(
        &hosts_pids.iter().filter(|(pid, _)| wanted.contains(pid)).map(|(_, pid)| *pid).collect::<Vec<_>>(),
    );
    for lock in locks.difference(&now) {
        let lost = |reason: String| CriuError::LockLost { pid: lock.pid, descriptor: lock.descriptor, reason };
        let pid = hosts_pids.get(&lock.pid).ok_or_else(|| lost("the process is gone".to_owned()))?;
        lock.take(group, *pid).map_err(|error| lost(chain(&error).to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that locks parts of a file, in a control group of its own.
    struct Locker {
        group: Cgroup,
        child: Child,
    }

    const PROGRAM: &str = "
import fcntl, sys
file = open(sys.argv[1], 'r+b')
print(file.fileno(), flush=True)
for line in sys.stdin:
    if line == 'lock\\n':
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 0, 100)
    else:
        open(sys.argv[1]).close()
    print('done', flush=True)";

    impl Locker {
        fn start(path: &Path) -> Self {
            let group = Cgroup::open(&format!("mooring-test/locks-{}", std::process::id()));
            group.make_limited(1, 1 << 30).unwrap();
            let mut command = Command::new("python3");
            command.args(["-c", PROGRAM]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
            let child = command.spawn().unwrap();
            group.add(i32::try_from(child.id()).unwrap()).unwrap();
            let mut locker = Self { group, child };
            locker.line();
            locker
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            BufReader::with_capacity(1, self.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            line
        }

        fn tell(&mut self, what: &str) {
            writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
            assert_eq!(self.line(), "done\n");
        }
    }

    impl Drop for Locker {
        fn drop(&mut self) {
            let _ = self.group.kill_all();
            let _ = self.child.wait();
            let _ = self.group.remove();
        }
    }

    #[test]
    fn lost_locks_are_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let mut locker = Locker::start(&path);
        write(&locker.group.pids(), directory.path()).unwrap();
        assert!(
            IMAGE.read::<BTreeSet<RecordLock>>(directory.path()).unwrap().is_none(),
            "a process without locks has no list"
        );

        locker.tell("lock");
        let pids = locker.group.pids();
        let before = record_locks::find(&pids);
        assert_eq!(
            before.iter().map(|lock| (lock.exclusive, lock.start, lock.end)).collect::<Vec<_>>(),
            [(false, 100, None), (true, 5, Some(14)),]
        );
        write(&pids, directory.path()).unwrap();
        locker.tell("close");
        assert!(record_locks::find(&pids).is_empty());
        locker.group.freeze().unwrap();
        take_again(&locker.group, directory.path()).unwrap();
        assert_eq!(record_locks::find(&pids), before);
        locker.group.thaw().unwrap();
        locker.tell("lock");
        assert_eq!(record_locks::find(&pids), before);
    }
}

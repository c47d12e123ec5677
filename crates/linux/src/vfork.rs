//! Parents that wait in vfork for their child to execute a program.
//!
//! The parent waits in a state in which nobody can trace it, and shares its memory with the child
//! until then. A process that shares its memory with a child of its own is rare otherwise.

#![expect(unsafe_code, reason = "the kernel compares the memory of two processes")]

use std::collections::BTreeSet;
use std::fs;

use crate::process::parent;

/// Tells whether two processes share their memory (`kcmp_type` of `linux/kcmp.h`).
const KCMP_VM: libc::c_int = 1;

/// A parent and its child, by the kernel's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub parent: i32,
    pub child: i32,
}

impl Waiting {
    /// Returns whether the parent still waits.
    #[must_use]
    pub fn still_waits(&self) -> bool {
        shares_memory(self.parent, self.child) && is_in_clone(self.parent)
    }
}

/// Returns a parent among these processes that waits in vfork, if there is one.
#[must_use]
pub fn find(pids: &[i32]) -> Option<Waiting> {
    let known: BTreeSet<i32> = pids.iter().copied().collect();
    let pairs = pids.iter().filter_map(|child| Some(Waiting { parent: parent(*child)?, child: *child }));
    pairs.filter(|pair| known.contains(&pair.parent)).find(Waiting::still_waits)
}

fn shares_memory(one: i32, other: i32) -> bool {
    // SAFETY: the call takes five integers.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) == 0 }
}

/// Returns whether a thread of the process is in a system call that makes processes.
fn is_in_clone(pid: i32) -> bool {
    let calls = [
        libc::SYS_clone,
        libc::SYS_clone3,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
    ];
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let current = threads.filter_map(|thread| fs::read_to_string(thread.path().join("syscall")).ok());
    let mut numbers = current.filter_map(|call| call.split_whitespace().next()?.parse().ok());
    numbers.any(|number| calls.contains(&number))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// Starts a child that shares the memory and sleeps for half a second. `clone` gets the flags
    /// VM, VFORK and SIGCHLD, and for another child no VFORK.
    const SCRIPT: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16) - 64)
for flags in 0x4111, 0x111:
    os.waitpid(libc.clone(libc.usleep, top, flags, ctypes.c_void_p(500000)), 0)
"#;

    #[test]
    fn a_parent_waits_while_its_child_has_its_memory() {
        let mut forks = Command::new("python3").args(["-c", SCRIPT]).stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(forks.id()).unwrap();
        let (mut seen, began) = (BTreeSet::new(), Instant::now());
        while forks.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60));
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            if let Some(child) = children.split_whitespace().next().and_then(|child| child.parse().ok()) {
                let found = find(&[pid, child]);
                assert_eq!(find(&[child]), None);
                if let Some(waiting) = found {
                    assert_eq!(waiting, Waiting { parent: pid, child });
                    seen.insert(child);
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(seen.len(), 1, "only the first of the two is waited for");
    }
}

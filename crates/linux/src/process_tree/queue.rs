//! The POSIX message queues of an IPC namespace.
//!
//! They are listed from a mount of their own that no path leads to. The job may have unmounted its
//! `/dev/mqueue`, or have put something else there.

#![expect(unsafe_code, reason = "a file system is mounted without a path by system calls")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// The most queues that are listed: one is enough to refuse a job.
const QUEUES_MAX: usize = 64;
/// `FSCONFIG_CMD_CREATE` (include/uapi/linux/mount.h).
const CREATE: libc::c_uint = 6;
/// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_uint = 1;

/// A POSIX message queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// The name without the slash at its start.
    pub name: Vec<u8>,
    /// The bytes of all messages that wait in it.
    pub bytes: u64,
    pub device: u64,
    pub inode: u64,
}

/// Lists the queues in the IPC namespace of a process. A process that is gone has none.
pub(super) fn list(pid: i32) -> Vec<Queue> {
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/ipc")) else { return Vec::new() };
    // A thread that changes namespaces is thrown away afterwards.
    thread::scope(|scope| scope.spawn(move || in_namespace(&namespace)).join())
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}

fn in_namespace(namespace: &File) -> io::Result<Vec<Queue>> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWIPC)?;
    let directory = mounted()?;
    let mut queues = Vec::new();
    for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?.take(QUEUES_MAX) {
        let entry = entry?;
        // A queue may be removed meanwhile.
        let (Ok(metadata), Ok(text)) = (entry.metadata(), fs::read(entry.path())) else { continue };
        let name = entry.file_name().into_vec();
        queues.push(Queue { name, bytes: bytes(&text), device: metadata.dev(), inode: metadata.ino() });
    }
    Ok(queues)
}

/// Reads `QSIZE:129 NOTIFY:0 …`.
fn bytes(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let size = text.split_whitespace().find_map(|field| field.strip_prefix("QSIZE:"));
    size.and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Mounts the queues of this thread's namespace where nobody sees them.
fn mounted() -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends with a zero byte and lives for the call.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"mqueue".as_ptr(), CLOSE_ON_EXEC) })?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes neither a key nor a value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, null, null, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes three integers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, 0) })
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = libc::c_int::try_from(answer).ok().filter(|descriptor| *descriptor >= 0);
    let descriptor = descriptor.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

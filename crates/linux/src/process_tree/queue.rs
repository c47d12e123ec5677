//! The POSIX message queues of an IPC namespace.
//!
//! They are listed from a mount of their own that no path leads to. The job may have unmounted its
//! `/dev/mqueue`, or have put something else there.

#![expect(unsafe_code, reason = "a file system is mounted without a path by system calls")]

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

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
    /// The number of these messages, of which each may be empty.
    pub messages: u64,
    pub device: u64,
    pub inode: u64,
}

/// The name, owner and limits of a message queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueForm {
    /// The name without the slash at its start.
    pub name: Vec<u8>,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub messages_max: i64,
    pub message_max_bytes: i64,
}

/// The attributes of a queue (`mq_attr` of `linux/mqueue.h`).
#[derive(Debug, Default)]
#[repr(C)]
struct Attributes {
    flags: libc::c_long,
    messages_max: libc::c_long,
    message_max_bytes: libc::c_long,
    messages: libc::c_long,
    reserved: [libc::c_long; 4],
}

/// Returns the queues without messages in the IPC namespace of a process.
///
/// # Errors
/// The process is gone, or the queues can't be read.
pub fn empty_queues(pid: i32) -> io::Result<Vec<QueueForm>> {
    beside(pid, |directory| {
        let mut forms = Vec::new();
        for entry in entries(directory)?.take(QUEUES_MAX) {
            let entry = entry?;
            let (metadata, attributes) = (entry.metadata()?, Attributes::of(&File::open(entry.path())?)?);
            if attributes.messages == 0 {
                forms.push(QueueForm {
                    name: entry.file_name().into_vec(),
                    mode: metadata.mode() & 0o7777,
                    user: metadata.uid(),
                    group: metadata.gid(),
                    messages_max: attributes.messages_max,
                    message_max_bytes: attributes.message_max_bytes,
                });
            }
        }
        Ok(forms)
    })
}

/// Removes queues from the IPC namespace of a process. One that is gone already is no error.
///
/// # Errors
/// The process is gone, or the kernel refuses.
pub fn remove_queues(pid: i32, forms: &[QueueForm]) -> io::Result<()> {
    beside(pid, |directory| {
        for QueueForm { name, .. } in forms {
            let removed = fs::remove_file(path(directory).join(OsStr::from_bytes(name)));
            removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    })
}

/// Makes queues in the IPC namespace of a process. One that is there already is left alone.
///
/// # Errors
/// The process is gone, or the kernel refuses.
pub fn make_queues(pid: i32, forms: &[QueueForm]) -> io::Result<()> {
    beside(pid, |_| forms.iter().try_for_each(QueueForm::make))
}

impl QueueForm {
    fn make(&self) -> io::Result<()> {
        let name = CString::new(self.name.clone())?;
        let attributes = Attributes {
            messages_max: self.messages_max,
            message_max_bytes: self.message_max_bytes,
            ..Attributes::default()
        };
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the name ends with a zero byte. It and the attributes are read and live for the
        // call.
        let answer = unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, 0, &raw const attributes) };
        let queue = match owned(answer) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            queue => queue?,
        };
        fchown(&queue, Some(self.user), Some(self.group))?;
        File::from(queue).set_permissions(Permissions::from_mode(self.mode))
    }
}

impl Attributes {
    fn of(queue: &File) -> io::Result<Self> {
        let mut attributes = Self::default();
        let none = std::ptr::null::<Self>();
        // SAFETY: the kernel writes a C struct of integers, which lives for the call, and reads
        // nothing.
        let answer = unsafe { libc::syscall(libc::SYS_mq_getsetattr, queue.as_raw_fd(), none, &raw mut attributes) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
    }
}

/// Lists the queues in the IPC namespace of a process. A process that is gone has none.
pub(super) fn list(pid: i32) -> Vec<Queue> {
    let queues = |directory: &OwnedFd| {
        let mut queues = Vec::new();
        for entry in entries(directory)?.take(QUEUES_MAX) {
            let entry = entry?;
            // A queue may be removed meanwhile.
            let (Ok(metadata), Ok(text)) = (entry.metadata(), fs::read(entry.path())) else { continue };
            let attributes = File::open(entry.path()).and_then(|queue| Attributes::of(&queue));
            queues.push(Queue {
                name: entry.file_name().into_vec(),
                bytes: bytes(&text),
                messages: attributes.map_or(0, |attributes| attributes.messages.unsigned_abs()),
                device: metadata.dev(),
                inode: metadata.ino(),
            });
        }
        Ok(queues)
    };
    beside(pid, queues).unwrap_or_default()
}

/// Runs `work` in the IPC namespace of a process, with the directory of its queues.
fn beside<T: Send>(pid: i32, work: impl FnOnce(&OwnedFd) -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/ipc"))?;
    let work = move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWIPC)?;
        work(&mounted()?)
    };
    // A thread that changes namespaces is thrown away afterwards.
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(io::Error::other("a thread has failed")))
}

fn path(directory: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

fn entries(directory: &OwnedFd) -> io::Result<fs::ReadDir> {
    fs::read_dir(path(directory))
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

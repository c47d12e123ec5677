//! Files by handle: where the file lies that the kernel names by a handle and not by a path.

#![expect(unsafe_code, reason = "a handle is opened by a system call")]

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The longest handle that the kernel makes.
const LONGEST: usize = 128;

/// The layout that `open_by_handle_at` reads.
#[repr(C)]
struct FileHandle {
    length: u32,
    kind: i32,
    bytes: [u8; LONGEST],
}

/// The path of the file that a handle names on the file system that `directory` lies on. `None` when there is no such file any more, or it
/// can't be told.
#[must_use]
pub fn path(directory: &Path, kind: i32, handle: &[u8]) -> Option<PathBuf> {
    let mount = File::open(directory).ok()?;
    let mut given = FileHandle { length: u32::try_from(handle.len()).ok()?, kind, bytes: [0; LONGEST] };
    given.bytes.get_mut(..handle.len())?.copy_from_slice(handle);
    let pointer = (&raw mut given).cast::<libc::file_handle>();
    // SAFETY: `given` has the layout of a `file_handle` with `length` bytes, and lives until the call returns.
    let opened = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), pointer, libc::O_PATH | libc::O_CLOEXEC) };
    if opened < 0 {
        return None;
    }
    // SAFETY: the call gave this descriptor to us alone.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
}

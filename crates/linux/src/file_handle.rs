//! Files by handle, by which the kernel identifies them without a path.

#![expect(unsafe_code, reason = "a handle is opened by a system call")]

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The longest handle of the kernel.
const HANDLE_MAX_BYTES: usize = 128;

/// The layout that `open_by_handle_at` reads.
#[repr(C)]
struct FileHandle {
    length: u32,
    kind: i32,
    bytes: [u8; HANDLE_MAX_BYTES],
}

/// Returns the path of a file by its handle, on the file system of `directory`. Returns `None`
/// where the file is gone or its path is unknown.
#[must_use]
pub fn path(directory: &Path, kind: i32, handle: &[u8]) -> Option<PathBuf> {
    let mount = File::open(directory).ok()?;
    let mut request = FileHandle { length: u32::try_from(handle.len()).ok()?, kind, bytes: [0; HANDLE_MAX_BYTES] };
    request.bytes.get_mut(..handle.len())?.copy_from_slice(handle);
    let pointer = (&raw mut request).cast::<libc::file_handle>();
    // SAFETY: `request` has the layout of a `file_handle` with `length` bytes, and lives until the
    // call returns.
    let opened = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), pointer, libc::O_PATH | libc::O_CLOEXEC) };
    if opened < 0 {
        return None;
    }
    // SAFETY: the call made this descriptor, and nobody else has it.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
}

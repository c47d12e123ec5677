//! Files by handle, by which the kernel identifies them without a path.

#![expect(unsafe_code, reason = "handles are made and opened by system calls")]

use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest handle of the kernel.
const HANDLE_MAX_BYTES: usize = 128;

/// The kernel's handle of a file, which is the same as long as its file system is mounted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileHandle {
    pub kind: i32,
    pub bytes: Vec<u8>,
}

impl FileHandle {
    /// The handle of the file at `path`, of a link itself. Some file systems open no handles: it is
    /// one to compare. Returns `None` on kernels before 6.5.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        Self::at(path, libc::AT_HANDLE_FID)
    }

    /// The handle of the file that a link in `/proc`, like `/proc/PID/fd/N`, leads to.
    #[must_use]
    pub fn behind(link: &Path) -> Option<Self> {
        Self::at(link, libc::AT_HANDLE_FID | libc::AT_SYMLINK_FOLLOW)
    }

    fn at(path: &Path, flags: libc::c_int) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let mut answer = Raw { length: u32::try_from(HANDLE_MAX_BYTES).ok()?, kind: 0, bytes: [0; HANDLE_MAX_BYTES] };
        let (pointer, mut mount) = ((&raw mut answer).cast::<libc::file_handle>(), 0);
        // SAFETY: the path ends with NUL, `answer` has room for `length` bytes, and all of them
        // live until the call returns.
        let made = unsafe { libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), pointer, &raw mut mount, flags) };
        let bytes = answer.bytes.get(..usize::try_from(answer.length).ok()?)?;
        (made == 0).then(|| Self { kind: answer.kind, bytes: bytes.to_vec() })
    }

    /// Returns the path of the file on the file system of `directory`. Returns `None` where the
    /// file is gone or its path is unknown.
    #[must_use]
    pub fn path(&self, directory: &Path) -> Option<PathBuf> {
        let opened = self.open(&File::open(directory).ok()?)?;
        fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()
    }

    /// Returns the attributes of the file on the file system of `mount`, an open file there.
    ///
    /// # Errors
    /// The file is gone.
    pub fn metadata(&self, mount: &File) -> io::Result<Metadata> {
        File::from(self.open(mount).ok_or(io::ErrorKind::NotFound)?).metadata()
    }

    /// Opens the file only as a place (`O_PATH`).
    fn open(&self, mount: &File) -> Option<OwnedFd> {
        let length = u32::try_from(self.bytes.len()).ok()?;
        let mut request = Raw { length, kind: self.kind, bytes: [0; HANDLE_MAX_BYTES] };
        request.bytes.get_mut(..self.bytes.len())?.copy_from_slice(&self.bytes);
        let pointer = (&raw mut request).cast::<libc::file_handle>();
        // SAFETY: `request` has the layout of a `file_handle` with `length` bytes, and lives until
        // the call returns.
        let opened = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), pointer, libc::O_PATH | libc::O_CLOEXEC) };
        if opened < 0 {
            return None;
        }
        // SAFETY: the call made this descriptor, and nobody else has it.
        Some(unsafe { OwnedFd::from_raw_fd(opened) })
    }
}

/// The layout that the kernel reads and writes.
#[repr(C)]
struct Raw {
    length: u32,
    kind: i32,
    bytes: [u8; HANDLE_MAX_BYTES],
}

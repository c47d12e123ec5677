//! Extended attributes of files.

#![expect(unsafe_code, reason = "extended attributes are read and removed by system calls")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The most bytes of the names of a file's attributes.
const NAMES_MAX_BYTES: usize = 64 << 10;

/// Removes all extended attributes of a file that can be removed.
///
/// # Errors
/// Its attributes can't be listed or removed.
pub fn remove_all(file: &File) -> io::Result<()> {
    let mut names = vec![0_u8; NAMES_MAX_BYTES];
    // SAFETY: the buffer has the length that the kernel is told, and lives until the call returns.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Ok(()) } else { Err(error) };
    };
    names.truncate(length);
    let mut rest = names.as_slice();
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = rest.get(name.count_bytes() + 1..).unwrap_or_default();
        // SAFETY: the name ends with NUL and lives until the call returns.
        let removed = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
        let error = io::Error::last_os_error();
        // Nobody can remove the attributes that a file system shows of its own accord.
        let stays = [Some(libc::ENODATA), Some(libc::EOPNOTSUPP), Some(libc::EPERM)];
        if removed < 0 && !stays.contains(&error.raw_os_error()) {
            return Err(error);
        }
    }
    Ok(())
}

//! Descendants of this process that have lost their parents, and how they end.

#![expect(unsafe_code, reason = "a status is read that may name a signal without a name")]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Makes this process the parent of each later descendant whose parent ends.
///
/// # Errors
/// The kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Waits until a child has ended. Returns its id and how it ended.
///
/// # Errors
/// There is no child.
pub fn next_ended() -> io::Result<(i32, ExitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes the status of a child into an integer that lives for the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid > 0 {
            return Ok((pid, ExitStatus::from_raw(status)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

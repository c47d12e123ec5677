//! A `/run` in memory for a program, where the machine's own is on disk.
//!
//! CRIU finds out at every start what the kernel can do, which takes it some 35 ms, and keeps the answer in `/run` only if that is a
//! tmpfs: an answer must not outlive the kernel that gave it. Machines have one; containers and small virtual machines often don't.

#![expect(unsafe_code, reason = "a child enters a mount namespace of its own between fork and exec")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::mount::{tmpfs, unmount_below};
use crate::{Error, Result};

const RUN: &str = "/run";
const SIZE: &str = "size=4m,mode=755";

/// A directory in memory that programs see as `/run`.
#[derive(Debug, Clone)]
pub struct PrivateRun {
    directory: PathBuf,
    source: CString,
}

/// Whether the machine's `/run` is on disk.
#[must_use]
pub fn is_of_use() -> bool {
    statfs(RUN).is_ok_and(|found| found.filesystem_type() != TMPFS_MAGIC)
}

impl PrivateRun {
    /// Mounts a tmpfs at `directory`, or finds the one that is there.
    ///
    /// # Errors
    /// It could not be mounted.
    pub fn open(directory: &Path) -> Result<Self> {
        let attempt = || format!("mount a tmpfs at {}", directory.display());
        tmpfs(directory, SIZE)?;
        let source =
            CString::new(directory.as_os_str().as_bytes()).map_err(|error| Error::system(attempt())(error.into()))?;
        Ok(Self { directory: directory.to_owned(), source })
    }

    /// Has `command` see it as `/run`. What it mounts is seen by itself and its children alone.
    pub fn give(&self, command: &mut Command) {
        let source = self.source.clone();
        // SAFETY: the closure makes three system calls on strings that it owns and allocates nothing.
        unsafe {
            command.pre_exec(move || enter(&source).map_err(io::Error::from));
        }
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// It is in use.
    pub fn close(&self) -> Result<()> {
        unmount_below(&self.directory)
    }
}

fn enter(source: &CString) -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Unmounts of the machine's still arrive, so that nothing is kept from being removed.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)?;
    mount(Some(source.as_c_str()), RUN, NOTHING, MsFlags::MS_BIND, NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_its_own_run_and_leaves_the_machines_alone() {
        let directory = tempfile::tempdir().unwrap();
        let run = PrivateRun::open(directory.path()).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 1 > /run/mooring-test"]);
        run.give(&mut command);
        assert!(command.status().unwrap().success());
        assert!(!Path::new("/run/mooring-test").exists());
        assert!(directory.path().join("mooring-test").exists());
        // A second agent of the same directory finds it.
        PrivateRun::open(directory.path()).unwrap();
        assert!(directory.path().join("mooring-test").exists());
        run.close().unwrap();
        assert!(!directory.path().join("mooring-test").exists());
    }
}

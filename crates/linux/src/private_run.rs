//! A `/run` in memory for a program, on machines whose `/run` is on disk.
//!
//! CRIU probes the kernel's features at each start, which takes some 35 ms. It caches the result in
//! `/run`, but only in a tmpfs, since the result must not outlive the kernel. Containers and small
//! virtual machines often have no tmpfs there.

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
const TMPFS_OPTIONS: &str = "size=4m,mode=755";

/// A directory in memory that programs see as `/run`.
#[derive(Debug, Clone)]
pub struct PrivateRun {
    directory: PathBuf,
    source: CString,
}

/// Says whether the machine's `/run` is on disk.
#[must_use]
pub fn is_needed() -> bool {
    statfs(RUN).is_ok_and(|found| found.filesystem_type() != TMPFS_MAGIC)
}

impl PrivateRun {
    /// Mounts a tmpfs at `directory`, unless one is there already.
    pub fn open(directory: &Path) -> Result<Self> {
        let attempt = || format!("mount a tmpfs at {}", directory.display());
        tmpfs(directory, TMPFS_OPTIONS)?;
        let source =
            CString::new(directory.as_os_str().as_bytes()).map_err(|error| Error::system(attempt())(error.into()))?;
        Ok(Self { directory: directory.to_owned(), source })
    }

    /// Gives `command` this directory as `/run`. Its mounts are invisible to all but its children.
    pub fn give(&self, command: &mut Command) {
        let source = self.source.clone();
        // SAFETY: the closure makes three system calls on strings that it owns and allocates
        // nothing.
        unsafe {
            command.pre_exec(move || enter(&source).map_err(io::Error::from));
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Unmounts the tmpfs.
    pub fn close(&self) -> Result<()> {
        unmount_below(&self.directory)
    }
}

fn enter(source: &CString) -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Unmounts of the machine still propagate here, so that no file system is kept busy.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)?;
    mount(Some(source.as_c_str()), RUN, NOTHING, MsFlags::MS_BIND, NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_has_a_private_run() {
        let directory = tempfile::tempdir().unwrap();
        let run = PrivateRun::open(directory.path()).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 1 > /run/mooring-test"]);
        run.give(&mut command);
        assert!(command.status().unwrap().success());
        assert!(!Path::new("/run/mooring-test").exists());
        assert!(directory.path().join("mooring-test").exists());
        // Opening the directory again finds the same tmpfs.
        PrivateRun::open(directory.path()).unwrap();
        assert!(directory.path().join("mooring-test").exists());
        run.close().unwrap();
        assert!(!directory.path().join("mooring-test").exists());
    }
}

//! A file system of a job's own, in a file.
//!
//! All of the file is reserved when it is made: a job is told that its volume is full, and never that its host is. It has no journal: a
//! machine that breaks down takes the job with it, and what is recovered comes from a capsule.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use tokio::process::Command;

use crate::error::{Error, Result};
use crate::runtime::tool::run;
use crate::runtime::user::User;

/// Bytes in a GB, as everywhere.
const GB: i64 = 1_000_000_000;
const BLOCK: i64 = 4096;

/// Makes an empty one, in place of one that is there. It is its user's.
pub(super) async fn make(image: &Path, size_gb: u32, user: &User) -> Result<()> {
    let failed = || format!("make {}", image.display());
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(image);
    let file = file.map_err(Error::system(failed()))?;
    let size = i64::from(size_gb) * GB / BLOCK * BLOCK;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        Ok(()) => {}
        // A file system that can't reserve has to do without.
        Err(Errno::EOPNOTSUPP) => file.set_len(size.unsigned_abs()).map_err(Error::system(failed()))?,
        Err(error) => {
            drop(fs::remove_file(image));
            let full = matches!(error, Errno::ENOSPC | Errno::EFBIG | Errno::EDQUOT);
            let told = if full { io::Error::other("the host's disk has no room for it") } else { error.into() };
            return Err(Error::system(failed())(told));
        }
    }
    let mut mkfs = Command::new("mkfs.ext4");
    let options = format!("nodiscard,lazy_itable_init=1,root_owner={}:{}", user.uid, user.gid);
    mkfs.args(["-q", "-F", "-m", "0", "-b", "4096", "-O", "^has_journal", "-E", &options]).arg(image);
    run(mkfs).await
}

/// Mounts it. The device behind it goes with its last mount.
pub(super) async fn mount(image: &Path, directory: &Path) -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "ext4", "-o", "loop,nosuid,nodev"]).arg(image).arg(directory);
    run(mount).await
}

/// Removes what a new file system has in it.
pub(super) fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory.join("lost+found")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! A fresh volume: a file system of the job's own, in a file.
//!
//! All of the file is reserved at its creation: a job may find its volume full, but never its host.
//! The file system has no journal: a machine that fails takes the job with it, and recovery uses a
//! capsule.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use tokio::process::Command;

use crate::error::{Error, Result};
use crate::runtime::tool::run;
use crate::runtime::user::User;

/// The bytes of a GB.
const GB: i64 = 1_000_000_000;
const BLOCK: i64 = 4096;

/// Creates an empty file system that belongs to `user`; replaces an earlier one.
pub(super) async fn make(image: &Path, size_gb: u32, user: &User) -> Result<()> {
    let failed = || format!("make {}", image.display());
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(image);
    let file = file.map_err(Error::system(failed()))?;
    let size = i64::from(size_gb) * GB / BLOCK * BLOCK;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        Ok(()) => {}
        // Some file systems can't reserve blocks.
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

/// Mounts the file system. Its loop device is removed with the last mount.
pub(super) async fn mount(image: &Path, directory: &Path) -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "ext4", "-o", "loop,nosuid,nodev"]).arg(image).arg(directory);
    run(mount).await
}

/// Removes the content of a new file system: `lost+found`.
pub(super) fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory.join("lost+found")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

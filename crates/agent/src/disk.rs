//! The disk of the agent's state: the files of jobs, and images.
//!
//! Below a reserve no job starts or arrives, and no image is unpacked. A job that executes may use
//! the rest.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::config::Config;
use crate::error::{Error, Result};

/// Returns the size of a directory's file system, in bytes.
///
/// # Errors
/// The directory is not there.
pub(crate) fn measure(directory: &Path) -> Result<Disk> {
    let failed = || format!("ask how full the disk of {} is", directory.display());
    let found = statvfs(directory).map_err(|errno| Error::system(failed())(errno.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Ok(Disk { bytes: bytes(found.blocks()), free: bytes(found.blocks_available()) })
}

/// The size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) bytes: u64,
    pub(crate) free: u64,
}

/// Returns the reason for which no job starts here, if there is one. It changes only when the
/// answer does.
pub(crate) fn shortage(config: &Config) -> Option<String> {
    let (directory, reserve) = (&config.state_dir, config.image_bounds.reserve);
    let is_short = measure(directory).is_ok_and(|disk| disk.free < reserve);
    is_short.then(|| {
        format!(
            "less than {} GB is free on the disk of {}: remove files there, or start the agent with a smaller `--disk-reserve`",
            reserve / 1_000_000_000,
            directory.display()
        )
    })
}

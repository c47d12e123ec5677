//! The bounds of what is unpacked for an image. A small archive may hold any number of bytes and
//! files, and the disk that it fills is that of all jobs of the host.

use std::io;
use std::path::Path;

use crate::disk;

/// The most that one layer or archive may have unpacked, and what it leaves on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub bytes: u64,
    pub files: u64,
    /// The bytes of the disk that stay free.
    pub reserve: u64,
}

/// A layer or an archive that has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("it has more than {} GB: use a smaller image, or start the agent with a larger `--image-max-size`", max / GB)]
    Bytes { max: u64 },
    #[error("it has more than {max} files: use a smaller image, or start the agent with a larger `--image-max-files`")]
    Files { max: u64 },
    #[error(
        "it would leave less than {} GB of the host's disk: remove files there, or start the agent with a smaller `--disk-reserve`",
        reserve / GB
    )]
    Disk { reserve: u64 },
}

const GB: u64 = 1_000_000_000;

impl Bounds {
    /// Checks a number of bytes.
    pub(super) fn bytes(self, bytes: u64) -> Result<(), Excess> {
        if bytes > self.bytes { Err(Excess::Bytes { max: self.bytes }) } else { Ok(()) }
    }

    /// Checks a number of files.
    pub(super) fn files(self, files: u64) -> Result<(), Excess> {
        if files > self.files { Err(Excess::Files { max: self.files }) } else { Ok(()) }
    }

    /// Checks the disk of a directory. One that does not tell is not checked.
    pub(super) fn disk(self, directory: &Path) -> Result<(), Excess> {
        let is_short = disk::measure(directory).is_ok_and(|disk| disk.free < self.reserve);
        if is_short { Err(Excess::Disk { reserve: self.reserve }) } else { Ok(()) }
    }
}

impl From<Excess> for io::Error {
    fn from(excess: Excess) -> Self {
        Self::other(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_with_what_to_do() {
        let bounds = Bounds { bytes: 2 * GB, files: 3, reserve: 0 };
        assert_eq!((bounds.bytes(2 * GB), bounds.files(3), bounds.disk(Path::new("/"))), (Ok(()), Ok(()), Ok(())));
        assert!(bounds.bytes(2 * GB + 1).unwrap_err().to_string().contains("more than 2 GB"));
        assert!(bounds.files(4).unwrap_err().to_string().contains("--image-max-files"));
        let all = Bounds { reserve: u64::MAX, ..bounds };
        assert!(all.disk(Path::new("/")).unwrap_err().to_string().contains("--disk-reserve"));
    }
}

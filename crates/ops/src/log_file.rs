//! The log files of daemons, which their starters rotate.
//!
//! A daemon writes to its standard error, which is the file, and knows nothing of it. So a file
//! that has grown to [`BYTES_MAX`] is copied and emptied: `x.log` to `x.log.1`, which replaces an
//! older one. Lines that are written in that moment are lost.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The size from which a log file is rotated. The copy before it may be as large.
pub const BYTES_MAX: u64 = 32 << 20;

/// Opens a log file for a daemon's standard error. Its owner alone can read it.
///
/// # Errors
/// The file can't be opened.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Rotates a log file that has grown to `bytes_max`. Returns whether it has.
///
/// # Errors
/// The file can't be copied or emptied. A missing file is none.
pub fn rotate(path: &Path, bytes_max: u64) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.len() >= bytes_max => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(false),
    }
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    fs::copy(path, PathBuf::from(older))?;
    // A process that appends goes on at the new end.
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn file_is_copied_and_emptied_under_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let (path, older) = (directory.path().join("x.log"), directory.path().join("x.log.1"));
        assert!(!rotate(&path, 10).unwrap());
        let mut log = open(&path).unwrap();
        log.write_all(b"one line\n").unwrap();
        assert!(!rotate(&path, 10).unwrap());
        log.write_all(b"two\n").unwrap();
        assert!(rotate(&path, 10).unwrap());
        log.write_all(b"three\n").unwrap();
        assert_eq!(
            (fs::read(&older).unwrap(), fs::read(&path).unwrap()),
            (b"one line\ntwo\n".into(), b"three\n".into())
        );
        log.write_all(b"and four\n").unwrap();
        assert!(rotate(&path, 10).unwrap());
        assert_eq!(fs::read(&older).unwrap(), b"three\nand four\n");
        for file in [path, older] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

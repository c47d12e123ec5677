//! Files that are replaced as a whole.
//!
//! A new file is written beside the old one and renamed over it. A reader finds the old bytes or
//! the new ones, never a part of either. [`Durability`] says which crashes a finished replacement
//! survives.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The crashes that a finished replacement survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of every process. After a loss of power the file may be old, new or empty.
    Renamed,
    /// A loss of power as well: file and directory are synced before the call returns.
    Synced,
}

/// The readers of a new file. The umask may take more away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its owner alone (0600).
    Private,
    /// Everybody (0644).
    Public,
}

impl Mode {
    fn bits(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Replaces the file at `path`, or makes it. Its directory has to exist.
///
/// Writers of the same file do not disturb each other: the last rename wins.
///
/// # Errors
/// The file system refuses. The old file is then whole and in place, unless only the last sync of
/// the directory failed.
pub fn replace(path: &Path, durability: Durability, mode: Mode, bytes: &[u8]) -> io::Result<()> {
    let draft = draft(path)?;
    let replaced = write(&draft, durability, mode, bytes).and_then(|()| fs::rename(&draft, path));
    if replaced.is_err() {
        // The caller learns of the first failure, which is the cause of this one.
        let _ = fs::remove_file(&draft);
    }
    replaced?;
    match durability {
        Durability::Renamed => Ok(()),
        Durability::Synced => File::open(directory(path))?.sync_all(),
    }
}

/// Makes a directory, with its parents, that its owner alone can enter (0700).
///
/// A directory that exists already is closed to all others.
///
/// # Errors
/// The directory can't be made, or belongs to another user.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    take_from_others(path)
}

/// Closes everything below a directory to all but its owner. Symbolic links are not followed.
///
/// # Errors
/// Some entry can't be read, or belongs to another user.
pub fn private_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_symlink() {
            continue;
        }
        take_from_others(&path)?;
        if kind.is_dir() {
            private_tree(&path)?;
        }
    }
    Ok(())
}

/// Takes all permissions of group and others from a file or directory.
fn take_from_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700))
}

/// Returns the text of a file that its owner alone can read, without white space around it.
///
/// A file that does not exist is made, synced, with the text that `make` returns.
///
/// # Errors
/// The file can't be read, or can't be made.
pub fn secret(path: &Path, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret = make()?;
            replace(path, Durability::Synced, Mode::Private, format!("{secret}\n").as_bytes())?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

fn write(draft: &Path, durability: Durability, mode: Mode, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(draft)?;
    file.write_all(bytes)?;
    match durability {
        Durability::Renamed => Ok(()),
        Durability::Synced => file.sync_all(),
    }
}

/// A name beside `path` that no other writer has. One that a killed process left under it goes.
fn draft(path: &Path) -> io::Result<PathBuf> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else { return Err(ErrorKind::InvalidInput.into()) };
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}-{}.new", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let draft = path.with_file_name(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(draft),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_directories_are_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let (new, old) = (directory.path().join("a/b"), directory.path().join("old"));
        let inner = old.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", inner.join("link")).unwrap();
        for (path, bits) in [(&old, 0o755), (&inner, 0o777), (&inner.join("file"), 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
        }
        private_dir(&new).unwrap();
        private_dir(&old).unwrap();
        assert_eq!((mode(&new), mode(&old), mode(&inner)), (0o700, 0o700, 0o777));
        private_tree(&old).unwrap();
        assert_eq!((mode(&inner), mode(&inner.join("file")), mode(Path::new("/")) & 0o055), (0o700, 0o600, 0o055));
    }

    #[test]
    fn replace_leaves_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        replace(&path, Durability::Renamed, Mode::Public, b"a long first version").unwrap();
        replace(&path, Durability::Synced, Mode::Private, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_replace_keeps_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(replace(&path, Durability::Synced, Mode::Private, b"bytes").is_err());
        assert!(path.join("full").is_dir());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(replace(&directory.path().join("missing/file"), Durability::Renamed, Mode::Public, b"").is_err());
        assert!(replace(Path::new("/"), Durability::Renamed, Mode::Public, b"").is_err());
    }

    #[test]
    fn concurrent_replaces_never_mix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        std::thread::scope(|scope| {
            for byte in [b'a', b'b', b'c', b'd'] {
                let path = &path;
                scope.spawn(move || {
                    for length in 1..100 {
                        replace(path, Durability::Renamed, Mode::Private, &vec![byte; length * 100]).unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len().is_multiple_of(100) && found.iter().all(|other| *other == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn secret_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert_eq!(secret(&path, || Ok("first".to_owned())).unwrap(), "first");
        assert_eq!(secret(&path, || Ok("second".to_owned())).unwrap(), "first");
        assert_eq!(mode(&path), 0o600);
        let refused = secret(&directory.path().join("other"), || Err(ErrorKind::Other.into()));
        assert!(refused.is_err() && !directory.path().join("other").exists());
        assert!(secret(directory.path(), || Ok(String::new())).is_err(), "a directory holds no secret");
    }
}

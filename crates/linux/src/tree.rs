//! Removal of directory trees, which never crosses into a mount.
//!
//! A killed checkpoint or restore leaves bind mounts behind, one of which is the container's root.
//! A recursive removal that followed it would remove the job's files. So a tree is removed only
//! when nothing is mounted below it.
//!
//! A job may leave a tree that is deeper than the longest path, and deeper than a stack. The
//! removal goes from directory to directory by descriptors and has one of them open at a time. The
//! names that are left are in memory. No link is followed. Attributes that keep a file from its
//! removal are taken away.

#![expect(unsafe_code, reason = "attributes of files are read and set by `ioctl`")]

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::{Error, Result, mount};

/// The attributes that keep a file from its removal: immutable, and append only.
const KEPT: libc::c_int = 0x10 | 0x20;

/// Removes `path` and everything below it, on its own file system only. Where something is mounted
/// below `path`, nothing is removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    remove_trees([path.to_owned()])
}

/// Removes several trees as [`remove_tree`] does.
pub fn remove_trees(paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    let mut mounts_now = None;
    for path in paths {
        if fs::symlink_metadata(&path).is_err() {
            continue;
        }
        let known = mounts_now.take().map_or_else(mount::mounts, Ok)?;
        let attempt = || format!("remove {}", path.display());
        if let Some(mounted) = known.iter().find(|mounted| mounted.starts_with(&path)) {
            let reason = format!("{} is mounted", mounted.display());
            return Err(Error::Refused { attempt: attempt(), reason });
        }
        match remove(&path) {
            Ok(()) => {}
            Err(Errno::EXDEV) => {
                let reason = "something is mounted below it".into();
                return Err(Error::Refused { attempt: attempt(), reason });
            }
            Err(error) => return Err(Error::errno(attempt())(error)),
        }
        mounts_now = Some(known);
    }
    Ok(())
}

/// A directory on the way to the one that is open.
struct Level {
    /// Its name in the directory above it.
    name: CString,
    identity: Identity,
    /// The directories in it that are left.
    left: Vec<CString>,
}

/// Device and inode number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

fn remove(path: &Path) -> nix::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = File::open(above).map_err(errno)?;
    let name = name(path.file_name().ok_or(Errno::EINVAL)?)?;
    if !is_directory(&above, &name)? {
        return unlink(&above, &name, UnlinkatFlags::NoRemoveDir);
    }
    let mut here = enter(&above, &name)?;
    let mut way = vec![empty(&here, name)?];
    while let Some(level) = way.last_mut() {
        if let Some(next) = level.left.pop() {
            here = enter(&here, &next)?;
            way.push(empty(&here, next)?);
            continue;
        }
        let Some(removed) = way.pop() else { break };
        let Some(parent) = way.last() else { return unlink(&above, &removed.name, UnlinkatFlags::RemoveDir) };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        here = File::from(openat(&here, c"..", flags, Mode::empty())?);
        if identity(&here)? != parent.identity {
            // Somebody has moved the directory out of the tree.
            return Err(Errno::ESTALE);
        }
        unlink(&here, &removed.name, UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Removes everything but directories from an open directory.
fn empty(directory: &File, name_of_it: CString) -> nix::Result<Level> {
    let mut left = Vec::new();
    for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())).map_err(errno)? {
        let name = name(&entry.map_err(errno)?.file_name())?;
        if is_directory(directory, &name)? {
            left.push(name);
        } else {
            unlink(directory, &name, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(Level { name: name_of_it, identity: identity(directory)?, left })
}

/// Opens a directory that is no link and where nothing is mounted.
fn enter(directory: &File, name: &CString) -> nix::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    Ok(File::from(openat2(directory, name.as_c_str(), how)?))
}

fn is_directory(directory: &File, name: &CString) -> nix::Result<bool> {
    let found = fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(found.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Removes an entry; takes attributes away that forbid it.
fn unlink(directory: &File, name: &CString, flag: UnlinkatFlags) -> nix::Result<()> {
    match unlinkat(directory, name.as_c_str(), flag) {
        Err(Errno::EPERM) => {
            release(directory);
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            // A link or a device file has no attributes.
            if let Ok(entry) = openat(directory, name.as_c_str(), flags, Mode::empty()) {
                release(&File::from(entry));
            }
            unlinkat(directory, name.as_c_str(), flag)
        }
        outcome => outcome,
    }
}

/// Takes the attributes away that keep a file from its removal. Without success, the removal fails.
fn release(file: &File) {
    let mut attributes: libc::c_int = 0;
    // SAFETY: the request writes one `int` to the pointer, which lives for the call.
    let read = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut attributes) };
    if read == 0 && attributes & KEPT != 0 {
        attributes &= !KEPT;
        // SAFETY: the request reads one `int` from the pointer, which lives for the call.
        unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const attributes) };
    }
}

fn identity(directory: &File) -> nix::Result<Identity> {
    let found = directory.metadata().map_err(errno)?;
    Ok(Identity(found.dev(), found.ino()))
}

fn name(name: &OsStr) -> nix::Result<CString> {
    CString::new(name.to_owned().into_vec()).map_err(|_| Errno::EINVAL)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use nix::mount::{MsFlags, mount};
    use nix::sys::stat::mkdirat;

    use super::*;

    #[test]
    fn tree_with_a_mount_is_refused() {
        let world = tempfile::tempdir().unwrap();
        let (precious, doomed) = (world.path().join("precious"), world.path().join("doomed"));
        let inside = doomed.join("a/mount");
        fs::create_dir_all(&precious).unwrap();
        fs::create_dir_all(&inside).unwrap();
        fs::write(precious.join("file"), "kept").unwrap();
        mount(Some(&precious), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();

        assert!(matches!(remove_tree(&doomed), Err(Error::Refused { .. })));
        // A mount that is made after the look at the list of mounts.
        assert_eq!(remove(&doomed), Err(Errno::EXDEV));
        mount::unmount_below(&doomed).unwrap();
        remove_tree(&doomed).unwrap();
        remove_tree(&doomed).unwrap();

        assert!(!doomed.exists());
        assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
    }

    #[test]
    fn whatever_is_in_a_tree_is_removed_and_nothing_outside() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let (outside, tree) = (world.path().join("outside"), world.path().join("tree"));
        fs::create_dir_all(outside.join("kept")).unwrap();
        for directory in ["a/b/c", "a/d", "immutable/inner", "wide"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        symlink(&outside, tree.join("a/link")).unwrap();
        nix::unistd::mkfifo(&tree.join("a/pipe"), Mode::S_IRWXU).unwrap();
        for number in 0..3000 {
            fs::create_dir(tree.join(format!("wide/{number}"))).unwrap();
            fs::write(tree.join(format!("wide/file-{number}")), "").unwrap();
        }
        for (flag, path) in [("+i", "immutable/inner"), ("+a", "immutable"), ("+i", "a/d")] {
            assert!(Command::new("chattr").arg(flag).arg(tree.join(path)).status().unwrap().success());
        }
        // Deeper than the longest path.
        let mut here = File::open(tree.join("a")).unwrap();
        for _ in 0..600 {
            mkdirat(&here, "deep-deep", Mode::S_IRWXU).unwrap();
            here = enter(&here, &c"deep-deep".to_owned()).unwrap();
        }
        drop(here);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        fs::write(&tree, "a file alone").unwrap();
        remove_tree(&tree).unwrap();
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err() && outside.join("kept").exists());
    }
}

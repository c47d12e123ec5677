//! Paths of this host that users name, opened once and without following links.
//!
//! A job that may write to a directory can exchange what is in it between a check and a use. What
//! is open stays the same directory, also when its path leads elsewhere. It is compared and mounted
//! by its descriptor, and its path is not used again.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::MsFlags;

use crate::mount::{self, is_mounted};
use crate::mount_copy::{MountCopy, Reach};
use crate::{Error, Result};

/// A directory or a file of this host, open only as a place (`O_PATH`).
#[derive(Debug)]
pub struct HostPath {
    name: PathBuf,
    file: File,
}

impl HostPath {
    /// Opens the directory or file at an absolute path. No part of the path may be a link.
    ///
    /// # Errors
    /// It is not there, or a part of the path is a link (`ELOOP`).
    pub fn open(path: &Path) -> io::Result<Self> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        Ok(Self { name: path.to_owned(), file: File::from(openat2(AT_FDCWD, path, how)?) })
    }

    /// Opens the directory or file at a path of the host's administrator, whose links are followed.
    ///
    /// # Errors
    /// It is not there.
    pub fn follow(path: &Path) -> io::Result<Self> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
        Ok(Self { name: path.to_owned(), file: File::from(openat2(AT_FDCWD, path, how)?) })
    }

    /// The path by which it was opened. It may lead to something else by now.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Says whether it is a directory.
    pub fn is_dir(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.is_dir())
    }

    /// The path by which this process and its children reach it as long as this value lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Returns where it is in its file system.
    ///
    /// # Errors
    /// It was removed, or `/proc` can't be read.
    pub fn location(&self) -> Result<Location> {
        let attempt = || Error::system("find an open file of the host in its file system");
        let path = fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).map_err(attempt())?;
        let information =
            fs::read_to_string(format!("/proc/self/fdinfo/{}", self.file.as_raw_fd())).map_err(attempt())?;
        let mount = information.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
        let mount = mount.map(mount::of_id).transpose()?.flatten();
        let found = mount.and_then(|mount| {
            let below = path.strip_prefix(&mount.point).ok()?;
            Some(Location { device: mount.device, path: mount.root.join(below) })
        });
        found.ok_or_else(|| attempt()(io::ErrorKind::NotFound.into()))
    }

    /// Mounts it at `target` as well, unless something is mounted there. What is mounted below it,
    /// now or later, is not seen at `target`. Set-user-ID bits and device files have no effect
    /// there.
    ///
    /// # Errors
    /// The kernel is older than 5.12, or `target` can't be made.
    pub fn bind_to(&self, target: &Path) -> Result<()> {
        let attempt = || Error::system(format!("mount a path of the host at {}", target.display()));
        if is_mounted(target)? {
            return Ok(());
        }
        let bind = || {
            if self.is_dir()? {
                fs::create_dir_all(target)?;
            } else {
                target.parent().map_or(Ok(()), fs::create_dir_all)?;
                File::create(target)?;
            }
            let copy = MountCopy::of(&self.path(), Reach::Mount)?;
            copy.set(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, MsFlags::MS_PRIVATE.bits())?;
            copy.attach(target)
        };
        bind().map_err(attempt())
    }
}

/// The location of a file in its file system, which is the same whichever mount leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The numbers of the file system's device, as the kernel lists them.
    pub(crate) device: String,
    /// The path from the file system's root.
    pub(crate) path: PathBuf,
}

impl Location {
    /// Returns the path of this location below another one; empty for the same location.
    #[must_use]
    pub fn below(&self, other: &Self) -> Option<&Path> {
        self.path.strip_prefix(&other.path).ok().filter(|_| self.device == other.device)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_open_stays_whatever_takes_its_path() {
        let world = tempfile::tempdir().unwrap();
        let [given, other, target] = ["given", "other", "target"].map(|name| world.path().join(name));
        for directory in [&given, &other] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), directory.to_str().unwrap()).unwrap();
        }
        let open = HostPath::open(&given).unwrap();
        fs::rename(&given, world.path().join("away")).unwrap();
        symlink(&other, &given).unwrap();
        assert_eq!(HostPath::open(&given).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert!(HostPath::open(&given.join("file")).is_err());
        open.bind_to(&target).unwrap();
        open.bind_to(&target).unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), given.to_str().unwrap());
        let file = world.path().join("one-file");
        HostPath::open(&other.join("file")).unwrap().bind_to(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), other.to_str().unwrap());
        mount::unmount_below(world.path()).unwrap();
        assert!(!target.join("file").exists() && !is_mounted(&file).unwrap());
    }

    #[test]
    fn location_is_the_same_by_every_mount() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let [inner, second] = ["a b/inner", "second"].map(|name| world.path().join(name));
        fs::create_dir_all(inner.join("deep")).unwrap();
        fs::write(inner.join("deep/file"), "").unwrap();
        let location = |path: &Path| HostPath::open(path).unwrap().location().unwrap();
        HostPath::open(&inner).unwrap().bind_to(&second).unwrap();
        let (here, there) = (location(&inner.join("deep/file")), location(&second.join("deep/file")));
        assert_eq!(here, there);
        assert_eq!(here.below(&location(&second)), Some(Path::new("deep/file")));
        assert_eq!(location(&second).below(&location(&inner)), Some(Path::new("")));
        assert_eq!(location(&inner).below(&here), None);
        assert_eq!(location(Path::new("/proc")).below(&location(Path::new("/"))), None);
        mount::unmount_below(world.path()).unwrap();
    }
}

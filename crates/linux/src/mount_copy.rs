//! Copies of mounts: attached nowhere, or at a second directory.

#![expect(unsafe_code, reason = "mounts are copied, changed and attached by system calls")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The reach of a copy: how much it has of the mounts below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing: the directories there are those of the mount itself.
    Mount,
    /// Everything.
    Tree,
}

impl Reach {
    fn flag(self) -> libc::c_uint {
        match self {
            Self::Mount => 0,
            Self::Tree => libc::AT_RECURSIVE as libc::c_uint,
        }
    }
}

/// The structure of the kernel's `mount_setattr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A copy of a mount that is attached nowhere.
#[derive(Debug)]
pub(crate) struct MountCopy {
    root: OwnedFd,
    reach: Reach,
}

impl MountCopy {
    /// Copies the mount at `path`, with that directory or file as its root. Links are followed.
    pub(crate) fn of(path: &Path, reach: Reach) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | reach.flag();
        // SAFETY: the path ends with NUL and lives until the call returns.
        let root = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        let root = i32::try_from(root).unwrap_or(-1);
        if root < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made this descriptor, and nobody else has it.
        Ok(Self { root: unsafe { OwnedFd::from_raw_fd(root) }, reach })
    }

    /// Sets attributes (`MOUNT_ATTR_…`) and, where it is not 0, the propagation (`MS_…`).
    pub(crate) fn set(&self, attributes: u64, propagation: u64) -> io::Result<()> {
        let attributes = MountAttributes { set: attributes, clear: 0, propagation, user_namespace: 0 };
        let flags = self.reach.flag() | libc::AT_EMPTY_PATH as libc::c_uint;
        // SAFETY: the empty path ends with NUL, and `attributes` has the layout and the length that
        // the kernel is told; both live until the call returns.
        let set = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.root.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attributes,
                size_of::<MountAttributes>(),
            )
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Attaches the copy at `target`, which is a directory or a file as its root is.
    pub(crate) fn attach(self, target: &Path) -> io::Result<()> {
        let target = CString::new(target.as_os_str().as_bytes())?;
        // SAFETY: both paths end with NUL and live until the call returns.
        let attached = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.root.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                target.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        if attached < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A view of a directory tree through which no link leads anywhere: opening a path with a link in
/// it fails. It is there as long as this value.
#[derive(Debug)]
pub struct WithoutLinks(MountCopy);

impl WithoutLinks {
    /// Makes a view of a directory, with what is mounted below it.
    ///
    /// # Errors
    /// The kernel is older than 5.12, or there is no such directory.
    pub fn of(directory: &Path) -> Result<Self> {
        let view = MountCopy::of(directory, Reach::Tree).and_then(|copy| {
            copy.set(libc::MOUNT_ATTR_NOSYMFOLLOW, 0)?;
            Ok(Self(copy))
        });
        view.map_err(Error::system(format!("open {} without links", directory.display())))
    }

    /// The path of the view, for this process and its children.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.root.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_link_leads_out_of_a_view_without_links() {
        let world = tempfile::tempdir().unwrap();
        let [tree, outside] = ["tree", "outside"].map(|name| world.path().join(name));
        fs::create_dir_all(tree.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "").unwrap();
        fs::write(tree.join("a/file"), "text").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        let view = WithoutLinks::of(&tree).unwrap();
        assert_eq!(fs::read_to_string(view.path().join("a/file")).unwrap(), "text");
        assert_eq!(fs::read_link(view.path().join("link")).unwrap(), outside);
        assert!(fs::read_dir(view.path().join("link")).is_err());
        assert!(tree.join("link/secret").exists() && !view.path().join("link/secret").exists());
        let tar =
            std::process::Command::new("tar").arg("-C").arg(view.path()).args(["-cf", "-", "./link/secret"]).output();
        assert!(!tar.unwrap().status.success());
        assert!(WithoutLinks::of(&world.path().join("none")).is_err());
    }
}

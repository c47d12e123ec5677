//! The files of a job as the job sees them, also those of its volumes and of `/dev/shm`.
//!
//! A job that has processes is seen through one of them. Without processes, the overlay has what is
//! in no volume, and a fresh volume is below the upper layer. Links lead where they lead for the
//! job, never out of its root.

use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mooring_linux::mount;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, unlinkat};

use crate::error::{Error, Result};
use crate::runtime::job_dir::JobDir;

/// The directory of file systems in memory, whose content is in CRIU's images.
const IN_MEMORY: &str = "dev";
/// Directories in it that have no sockets.
const WITHOUT_SOCKETS: [&str; 2] = ["dev/pts", "dev/mqueue"];

/// The root of a job.
#[derive(Debug)]
pub(super) struct Root {
    /// The root of the job's processes.
    seen: Option<File>,
    overlay: File,
    upper: File,
    /// The mount points of fresh volumes, below the root.
    volumes: Vec<PathBuf>,
}

/// A file by the device of its directory, in the kernel's encoding, and the lower half of its inode
/// number. The kernel tells no more of a socket.
pub(super) type FileNumbers = (u32, u32);

impl Root {
    pub(super) fn open(job_dir: &JobDir) -> Result<Self> {
        let (root, upper) = (job_dir.root(), job_dir.upper());
        let failed = || Error::system(format!("open {}", root.display()));
        let overlay = File::open(&root).map_err(failed())?;
        let numbers = |found: fs::Metadata| (found.dev(), found.ino());
        let own = numbers(overlay.metadata().map_err(failed())?);
        // A process may have another root.
        let seen = job_dir.cgroup().pids().into_iter().find_map(|pid| {
            let file = File::open(format!("/proc/{pid}/root")).ok()?;
            file.metadata().is_ok_and(|found| numbers(found) == own).then_some(file)
        });
        let volumes = mount::mounts_below(&upper)?;
        let volumes = volumes.iter().filter_map(|path| Some(path.strip_prefix(&upper).ok()?.to_owned())).collect();
        Ok(Self { seen, overlay, upper: File::open(&upper).map_err(failed())?, volumes })
    }

    /// Returns whether files at a path come with CRIU's images alone.
    pub(super) fn is_in_memory(path: &Path) -> bool {
        path.starts_with(IN_MEMORY)
    }

    /// The socket files of the file systems in memory.
    pub(super) fn sockets_in_memory(&self) -> Vec<PathBuf> {
        let (mut found, mut directories) = (Vec::new(), vec![PathBuf::from(IN_MEMORY)]);
        while let Some(directory) = directories.pop() {
            // Through the job's processes alone: nobody else sees these file systems.
            let Some(root) = &self.seen else { break };
            let Ok(opened) = openat2(root, &directory, how(OFlag::O_PATH)) else { continue };
            let entries = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            for entry in entries.into_iter().flatten().flatten() {
                let (path, kind) = (directory.join(entry.file_name()), entry.file_type());
                if kind.as_ref().is_ok_and(FileType::is_socket) {
                    found.push(path);
                } else if kind.is_ok_and(|kind| kind.is_dir())
                    && !WITHOUT_SOCKETS.iter().any(|other| path == Path::new(other))
                {
                    directories.push(path);
                }
            }
        }
        found
    }

    /// Opens the directory of a path; returns the last name in it as well.
    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let root = match &self.seen {
            Some(seen) => seen,
            None if self.volumes.iter().any(|volume| path.starts_with(volume)) => &self.upper,
            None => &self.overlay,
        };
        Ok((openat2(root, parent, how(OFlag::O_PATH))?, name.to_owned()))
    }

    /// Returns whether it made the directory.
    fn make_directory(&self, path: &Path) -> Result<bool> {
        let make = || {
            let (parent, name) = self.parent(path)?;
            Ok(mkdirat(parent, name.as_os_str(), Mode::from_bits_truncate(0o755))?)
        };
        match make() {
            Ok(()) => Ok(true),
            Err(error) if io::Error::kind(&error) == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::system(format!("make the job's {}", path.display()))(error)),
        }
    }

    /// Makes the directories of a path that are missing.
    pub(super) fn make_parents(&self, path: &Path) -> Result<()> {
        let mut missing = self.missing_parents(path);
        missing.reverse();
        missing.iter().try_for_each(|directory| self.make_directory(directory).map(drop))
    }

    /// The directories of a path that are missing, the deepest first.
    pub(super) fn missing_parents(&self, path: &Path) -> Vec<PathBuf> {
        let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        parents.take_while(|parent| !self.exists(parent)).map(Path::to_owned).collect()
    }

    /// Removes directories in this order that are empty.
    pub(super) fn remove_directories<'a>(&self, directories: impl Iterator<Item = &'a Path>) {
        for directory in directories {
            // Another socket of the job may have its name there.
            let _ = self.remove(directory, UnlinkatFlags::RemoveDir);
        }
    }

    fn look(&self, path: &Path) -> io::Result<(OwnedFd, FileStat)> {
        let (parent, name) = self.parent(path)?;
        let found = fstatat(&parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok((parent, found))
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.look(path).is_ok()
    }

    /// Returns the attributes of a socket file; `None` where there is none.
    pub(super) fn socket(&self, path: &Path) -> Option<(FileNumbers, FileStat)> {
        let (parent, found) = self.look(path).ok()?;
        // An overlay shows its own device on directories alone.
        let device = mount::kernel_device(fstat(&parent).ok()?.st_dev);
        let is_socket = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits();
        is_socket.then_some(((device, found.st_ino as u32), found))
    }

    pub(super) fn remove(&self, path: &Path, kind: UnlinkatFlags) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(unlinkat(parent, name.as_os_str(), kind)?)
    }

    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_parent, from_name), (parent, name)) = (self.parent(from)?, self.parent(to)?);
        if self.socket(to).is_some() {
            unlinkat(&parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(linkat(from_parent, from_name.as_os_str(), parent, name.as_os_str(), AtFlags::empty())?)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_parent, from_name), (parent, name)) = (self.parent(from)?, self.parent(to)?);
        Ok(renameat(from_parent, from_name.as_os_str(), parent, name.as_os_str())?)
    }

    /// Makes a socket file at which nobody listens, unless there is one.
    pub(super) fn make(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        if self.socket(path).is_some() {
            return Ok(());
        }
        Ok(mknodat(parent, name.as_os_str(), SFlag::S_IFSOCK, Mode::from_bits_truncate(mode), 0)?)
    }

    pub(super) fn give_to(&self, path: &Path, owner: u32, group: u32, mode: u32) -> io::Result<()> {
        let (parent, last) = self.parent(path)?;
        let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
        fchownat(parent.as_fd(), last.as_os_str(), owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_bits_truncate(mode);
        Ok(fchmodat(parent.as_fd(), last.as_os_str(), mode, FchmodatFlags::FollowSymlink)?)
    }
}

/// Opens what is below a root, as the job does.
fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

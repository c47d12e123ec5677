//! The files of a job's unix sockets, with all their names.
//!
//! tar leaves them out, and CRIU makes the name that a socket was bound to, and no other. So the
//! source lists each socket file with its names, mode and owner, and the name that its socket was
//! bound to. Before the restore, the destination makes the directories of the bound names. After
//! it, the names become those of the list.
//!
//! CRIU takes a socket for a deleted one where the bound name does not lead to it. Such a name is
//! there for the time of a checkpoint.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use mooring_linux::unix_sockets::{self, BoundSocket};
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::job_dir::JobDir;

/// The name of the list among the images of a checkpoint.
pub(crate) const IMAGE: &str = "socket-files.img";

/// A path below the job's root: the kernel's bytes, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Name(Vec<u8>);

/// A socket file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SocketFile {
    names: Vec<Name>,
    /// The name that its socket was bound to; absent where no process has it open.
    bound: Option<Name>,
    mode: u32,
    owner: u32,
    group: u32,
}

/// Describes the socket files with these names in the upper layer of a job; `None` without any.
///
/// # Errors
/// The kernel does not list the job's sockets.
pub(crate) fn list<'a>(job_dir: &JobDir, names: impl Iterator<Item = &'a Path>) -> Result<Option<Vec<u8>>> {
    let files = find(job_dir, names)?;
    let encode =
        || serde_json::to_vec(&files).map_err(io::Error::from).map_err(Error::system("list the job's sockets"));
    if files.is_empty() { Ok(None) } else { encode().map(Some) }
}

fn find<'a>(job_dir: &JobDir, names: impl Iterator<Item = &'a Path>) -> Result<Vec<SocketFile>> {
    let mut files: BTreeMap<u64, SocketFile> = BTreeMap::new();
    for name in names {
        // A name that is gone at this moment is in no list.
        let Ok(found) = fs::symlink_metadata(job_dir.root().join(name)) else { continue };
        let file = files.entry(found.ino()).or_insert_with(|| SocketFile {
            names: Vec::new(),
            bound: None,
            mode: found.mode() & 0o7777,
            owner: found.uid(),
            group: found.gid(),
        });
        file.names.push(Name::of(name));
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    for BoundSocket { name, inode } in unix_sockets::bound(&job_dir.namespace())? {
        // A relative name is that of a directory that nobody knows any more.
        let Ok(name) = name.strip_prefix("/") else { continue };
        // The kernel tells the lower half of an inode number.
        if let Some((_, file)) = files.iter_mut().find(|(known, _)| **known as u32 == inode) {
            file.bound = Some(Name::of(name));
        }
    }
    Ok(files.into_values().collect())
}

/// Names to which sockets were bound and which no longer lead to them. They are there as long as
/// this value.
#[derive(Debug)]
pub(crate) struct BoundNames {
    root: Root,
    names: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl BoundNames {
    /// Makes these names for the socket files with the given names.
    ///
    /// # Errors
    /// The kernel does not list the job's sockets, or a name can't be made.
    pub(crate) fn make<'a>(job_dir: &JobDir, sockets: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let mut made = Self { root: Root::open(job_dir)?, names: Vec::new(), directories: Vec::new() };
        for file in find(job_dir, sockets)? {
            let (Some(bound), Some(name)) = (&file.bound, file.names.first()) else { continue };
            let path = bound.path();
            // Another file may have the name by now.
            if file.names.contains(bound) || made.root.exists(&path) {
                continue;
            }
            made.directories.extend(made.root.make_parents(&path)?);
            let linked = made.root.link(&name.path(), &path);
            linked.map_err(Error::system(format!("make the job's socket {}", path.display())))?;
            made.names.push(path);
        }
        Ok(made)
    }
}

impl Drop for BoundNames {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = self.root.remove(name, UnlinkatFlags::NoRemoveDir) {
                tracing::warn!(%error, "the job's socket {} stays", name.display());
            }
        }
        self.root.remove_directories(&self.directories);
    }
}

/// Makes the directories in which CRIU binds sockets, where they are gone under that name; returns
/// those that it made.
///
/// # Errors
/// The list can't be read, or a directory can't be made.
pub(crate) fn make_directories(job_dir: &JobDir, checkpoint: &Checkpoint) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let files = read(checkpoint)?;
    if files.is_empty() {
        return Ok(made);
    }
    let root = Root::open(job_dir)?;
    for bound in files.iter().filter_map(|file| file.bound.as_ref()) {
        made.extend(root.make_parents(&bound.path())?);
    }
    Ok(made)
}

/// Gives the socket files of a restored, frozen job their names, modes and owners. Removes the
/// directories of [`make_directories`].
///
/// # Errors
/// The list can't be read, or a name can't be made.
pub(crate) fn name(job_dir: &JobDir, checkpoint: &Checkpoint, made: &[PathBuf]) -> Result<()> {
    let files = read(checkpoint)?;
    if files.is_empty() {
        return Ok(());
    }
    let root = Root::open(job_dir)?;
    for file in &files {
        root.name(file)?;
    }
    root.remove_directories(made);
    Ok(())
}

fn read(checkpoint: &Checkpoint) -> Result<Vec<SocketFile>> {
    let path = checkpoint.images().join(IMAGE);
    let failed = || Error::system(format!("read {}", path.display()));
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from).map_err(failed()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed()(error)),
    }
}

/// The root of a job. Links in it lead where they lead for the job, never out of it.
#[derive(Debug)]
struct Root(File);

impl Root {
    fn open(job_dir: &JobDir) -> Result<Self> {
        let root = job_dir.root();
        Ok(Self(File::open(&root).map_err(Error::system(format!("open {}", root.display())))?))
    }

    /// Opens the directory of a path; returns the last name in it as well.
    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((openat2(&self.0, parent, how)?, name.to_owned()))
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

    /// Makes the directories of a path that are missing; returns those that it made.
    fn make_parents(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let (mut directory, mut made) = (PathBuf::new(), Vec::new());
        for part in path.parent().into_iter().flat_map(Path::components) {
            directory.push(part);
            if self.make_directory(&directory)? {
                made.push(directory.clone());
            }
        }
        Ok(made)
    }

    fn remove_directories(&self, made: &[PathBuf]) {
        for directory in made.iter().rev() {
            // Another socket of the job may have its name there.
            let _ = self.remove(directory, UnlinkatFlags::RemoveDir);
        }
    }

    fn exists(&self, path: &Path) -> bool {
        let look = || {
            let (parent, name) = self.parent(path).ok()?;
            fstatat(parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()
        };
        look().is_some()
    }

    fn is_socket(&self, path: &Path) -> bool {
        let look = || {
            let (parent, name) = self.parent(path).ok()?;
            fstatat(parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()
        };
        look().is_some_and(|found| found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits())
    }

    fn remove(&self, path: &Path, kind: UnlinkatFlags) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(unlinkat(parent, name.as_os_str(), kind)?)
    }

    /// Gives a socket file all of its names, its mode and its owner.
    fn name(&self, file: &SocketFile) -> Result<()> {
        let bound = file.bound.as_ref().filter(|name| self.is_socket(&name.path()));
        let mut first = bound.filter(|name| file.names.contains(name)).map(Name::path);
        for name in file.names.iter().map(Name::path) {
            if first.as_ref() == Some(&name) {
                continue;
            }
            let made = match (&first, bound) {
                (Some(first), _) => self.link(first, &name),
                // CRIU takes a socket for a deleted one whose bound name was removed: it is
                // renamed.
                (None, Some(bound)) => self.rename(&bound.path(), &name),
                (None, None) => self.make(&name, file.mode),
            };
            made.map_err(Error::system(format!("make the job's socket {}", name.display())))?;
            first.get_or_insert(name);
        }
        if let Some(name) = file.names.first().map(Name::path) {
            let own = || {
                let (parent, last) = self.parent(&name)?;
                let (owner, group) = (Some(Uid::from_raw(file.owner)), Some(Gid::from_raw(file.group)));
                fchownat(&parent, last.as_os_str(), owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let mode = Mode::from_bits_truncate(file.mode);
                Ok(fchmodat(&parent, last.as_os_str(), mode, FchmodatFlags::FollowSymlink)?)
            };
            own().map_err(Error::system(format!("set the owner of the job's socket {}", name.display())))?;
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_parent, from_name), (parent, name)) = (self.parent(from)?, self.parent(to)?);
        if self.is_socket(to) {
            unlinkat(&parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(linkat(from_parent, from_name.as_os_str(), parent, name.as_os_str(), AtFlags::empty())?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_parent, from_name), (parent, name)) = (self.parent(from)?, self.parent(to)?);
        Ok(renameat(from_parent, from_name.as_os_str(), parent, name.as_os_str())?)
    }

    fn make(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        if self.is_socket(path) {
            return Ok(());
        }
        Ok(mknodat(parent, name.as_os_str(), SFlag::S_IFSOCK, Mode::from_bits_truncate(mode), 0)?)
    }
}

impl Name {
    fn of(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }

    /// The path without names that lead upwards.
    fn path(&self) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(&self.0));
        path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
    }
}

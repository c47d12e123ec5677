//! The files of a job's unix sockets, with all their names.
//!
//! tar leaves them out, and CRIU makes the name that a socket was bound to, and no other. So the
//! source lists each socket file with its names, mode and owner, and the name that its socket was
//! bound to. Before the restore, the destination makes the directories of the bound names. After
//! it, the names become those of the list.
//!
//! CRIU takes a socket for a deleted one where the bound name does not lead to it. Such a name is
//! there for the time of a checkpoint. A record in the job directory has these names, since the
//! agent may be killed meanwhile.
//!
//! The list that travels is made of the files as they are sent. A list on the host's own disk is
//! older, and serves a restore from the host's own checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use mooring_linux::unix_sockets::{self, BoundSocket};
use mooring_ops::log::chain;
use nix::unistd::UnlinkatFlags;
use serde::{Deserialize, Serialize};

use self::root::{FileNumbers, Root};
use crate::error::{Error, Result};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::job_dir::JobDir;

mod root;

/// The name of the list among the images of a checkpoint.
pub(crate) const IMAGE: &str = "socket-files.img";
/// The name of the list that does not travel.
const OWN_LIST: &str = "socket-files.own";

/// A path below the job's root: the kernel's bytes, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Name(Vec<u8>);

/// A socket file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SocketFile {
    names: Vec<Name>,
    /// The name that its socket was bound to; absent where no process has it open.
    bound: Option<Name>,
    /// The directories of that name that are not there, the deepest first.
    #[serde(default)]
    missing: Vec<Name>,
    mode: u32,
    owner: u32,
    group: u32,
}

/// A name that is there for a checkpoint alone.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    name: Name,
    file: FileNumbers,
    directories: Vec<Name>,
}

/// Describes the socket files with these names in the upper layer of a job, and those of its file
/// systems in memory; `None` without any.
///
/// # Errors
/// The kernel does not list the job's sockets.
pub(crate) fn list<'a>(job_dir: &JobDir, names: impl Iterator<Item = &'a Path>) -> Result<Option<Vec<u8>>> {
    let files = find(job_dir, &Root::open(job_dir)?, names)?;
    if files.is_empty() { Ok(None) } else { encode(files.into_values().collect::<Vec<_>>()).map(Some) }
}

/// Makes the list for a restore from this host's own checkpoint.
///
/// # Errors
/// The kernel does not list the job's sockets, or the list can't be written.
pub(crate) fn record<'a>(job_dir: &JobDir, images: &Path, names: impl Iterator<Item = &'a Path>) -> Result<()> {
    let Some(list) = list(job_dir, names)? else { return Ok(()) };
    let path = images.join(OWN_LIST);
    fs::write(&path, list).map_err(Error::system(format!("write {}", path.display())))
}

fn encode(what: impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(&what).map_err(io::Error::from).map_err(Error::system("list the job's sockets"))
}

fn find<'a>(
    job_dir: &JobDir,
    root: &Root,
    names: impl Iterator<Item = &'a Path>,
) -> Result<BTreeMap<FileNumbers, SocketFile>> {
    let mut files: BTreeMap<FileNumbers, SocketFile> = BTreeMap::new();
    let names: BTreeSet<PathBuf> = names.map(Path::to_owned).chain(root.sockets_in_memory()).collect();
    for name in &names {
        // A name that is gone at this moment is in no list.
        let Some((numbers, found)) = root.socket(name) else { continue };
        let file = files.entry(numbers).or_insert_with(|| SocketFile {
            names: Vec::new(),
            bound: None,
            missing: Vec::new(),
            mode: found.st_mode & 0o7777,
            owner: found.st_uid,
            group: found.st_gid,
        });
        file.names.push(Name::of(name));
    }
    if files.is_empty() {
        return Ok(files);
    }
    for BoundSocket { name, device, inode } in unix_sockets::bound(&job_dir.namespace())? {
        // A relative name is that of a directory that nobody knows any more.
        let Ok(name) = name.strip_prefix("/") else { continue };
        if let Some(file) = files.get_mut(&(device, inode)) {
            let bound = Name::of(name);
            file.missing = root.missing_parents(&bound.path()).iter().map(|path| Name::of(path)).collect();
            file.bound = Some(bound);
        }
    }
    Ok(files)
}

/// Names to which sockets were bound and which no longer lead to them. They are there as long as
/// this value.
#[derive(Debug)]
pub(crate) struct BoundNames(JobDir);

impl BoundNames {
    /// Makes these names for the socket files with the given names.
    ///
    /// # Errors
    /// The kernel does not list the job's sockets, or a name can't be made.
    pub(crate) fn make<'a>(job_dir: &JobDir, sockets: impl Iterator<Item = &'a Path>) -> Result<Self> {
        sweep(job_dir);
        let root = Root::open(job_dir)?;
        let (mut made, mut links) = (Vec::new(), Vec::new());
        for (numbers, file) in find(job_dir, &root, sockets)? {
            let (Some(bound), Some(name)) = (file.bound, file.names.first()) else { continue };
            // Another file may have the name by now.
            if file.names.contains(&bound) || root.exists(&bound.path()) {
                continue;
            }
            links.push((name.path(), bound.path()));
            made.push(Made { name: bound, file: numbers, directories: file.missing });
        }
        let names = Self(job_dir.clone());
        if made.is_empty() {
            return Ok(names);
        }
        let record = job_dir.socket_names();
        fs::write(&record, encode(made)?).map_err(Error::system(format!("write {}", record.display())))?;
        for (name, bound) in links {
            root.make_parents(&bound)?;
            let linked = root.link(&name, &bound);
            linked.map_err(Error::system(format!("make the job's socket {}", bound.display())))?;
        }
        Ok(names)
    }
}

impl Drop for BoundNames {
    fn drop(&mut self) {
        sweep(&self.0);
    }
}

/// Removes the names of [`BoundNames`], also those of an agent that was killed. Does nothing where
/// none is on record.
pub(crate) fn sweep(job_dir: &JobDir) {
    let record = job_dir.socket_names();
    let sweep = || {
        let made: Vec<Made> = match fs::read(&record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes
                .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
                .map_err(Error::system(format!("read {}", record.display())))?,
        };
        let root = Root::open(job_dir)?;
        for Made { name, file, directories } in &made {
            let path = name.path();
            if root.socket(&path).is_some_and(|(numbers, _)| numbers == *file)
                && let Err(error) = root.remove(&path, UnlinkatFlags::NoRemoveDir)
            {
                tracing::warn!(%error, "the job's socket {} stays", path.display());
            }
            let directories: Vec<PathBuf> = directories.iter().map(Name::path).collect();
            root.remove_directories(directories.iter().map(PathBuf::as_path));
        }
        fs::remove_file(&record).map_err(Error::system(format!("remove {}", record.display())))
    };
    if let Err(error) = sweep() {
        tracing::warn!(error = %chain(&error), "names of sockets may be left in {}", job_dir.container());
    }
}

/// Makes the directories in which CRIU binds sockets, where they are gone under that name.
///
/// # Errors
/// The list can't be read, or a directory can't be made.
pub(crate) fn make_directories(job_dir: &JobDir, checkpoint: &Checkpoint) -> Result<()> {
    let files = read(checkpoint)?;
    if files.is_empty() {
        return Ok(());
    }
    let root = Root::open(job_dir)?;
    let bound = files.iter().filter_map(|file| file.bound.as_ref()).map(Name::path);
    bound.filter(|path| !Root::is_in_memory(path)).try_for_each(|path| root.make_parents(&path))
}

/// Gives the socket files of a restored, frozen job their names, modes and owners. Removes the
/// directories of [`make_directories`]. Goes on after an error and returns the first.
///
/// # Errors
/// The list can't be read, or a name can't be made.
pub(crate) fn name(job_dir: &JobDir, checkpoint: &Checkpoint) -> Result<()> {
    let files = read(checkpoint)?;
    if files.is_empty() {
        return Ok(());
    }
    let root = Root::open(job_dir)?;
    let mut outcome = Ok(());
    for file in &files {
        outcome = outcome.and(file.name(&root));
    }
    for file in &files {
        let missing: Vec<PathBuf> = file.missing.iter().map(Name::path).collect();
        root.remove_directories(missing.iter().map(PathBuf::as_path));
    }
    outcome
}

fn read(checkpoint: &Checkpoint) -> Result<Vec<SocketFile>> {
    for list in [IMAGE, OWN_LIST] {
        let path = checkpoint.images().join(list);
        let failed = || Error::system(format!("read {}", path.display()));
        match fs::read(&path) {
            Ok(bytes) => return serde_json::from_slice(&bytes).map_err(io::Error::from).map_err(failed()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(Vec::new())
}

impl SocketFile {
    /// Gives the file all of its names, its mode and its owner.
    fn name(&self, root: &Root) -> Result<()> {
        let bound = self.bound.as_ref().filter(|name| root.socket(&name.path()).is_some());
        let mut first = bound.filter(|name| self.names.contains(name)).map(Name::path);
        for name in self.names.iter().map(Name::path) {
            if first.as_ref() == Some(&name) {
                continue;
            }
            let made = match (&first, bound) {
                (Some(first), _) => root.link(first, &name),
                // CRIU takes a socket for a deleted one whose bound name was removed: it is
                // renamed.
                (None, Some(bound)) => root.rename(&bound.path(), &name),
                (None, None) => root.make(&name, self.mode),
            };
            made.map_err(Error::system(format!("make the job's socket {}", name.display())))?;
            first.get_or_insert(name);
        }
        let Some(name) = self.names.first().map(Name::path) else { return Ok(()) };
        let given = root.give_to(&name, self.owner, self.group, self.mode);
        given.map_err(Error::system(format!("set the owner of the job's socket {}", name.display())))
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

//! All files of a job at one moment, and what has changed since.
//!
//! A file counts as unchanged when its inode, size and change time are equal. Reading a listing
//! takes 15 to 30 microseconds per file. So a frozen job's files are not listed again: only the
//! names of which the kernel has told are looked at ([`Listing::look_again`]). A directory that has
//! appeared is listed. With each file go all its names, so that they stay one file.
//!
//! The listing is out of step with the tree where a file has more names than are known. Then the
//! tree is read again as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mooring_linux::directory_changes::{Changes, Touch};
use mooring_linux::mount;

use super::mapped::MappedFile;
use crate::error::{Error, Result};
use crate::runtime::removed_names::Link;

/// Device and inode number: the identity of a file under any of its names.
type FileId = (u64, u64);

/// Is called with each directory, and its device, before the directory is read.
pub(crate) type Enter<'a> = &'a mut dyn FnMut(&Path, u64);

/// The attributes that show a change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    kind: u32,
    device: u64,
    /// The number of its names.
    names: u64,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let (kind, device) = (found.mode() & nix::libc::S_IFMT, found.dev());
        if mount::is_whiteout(found) {
            // The kernel links whiteouts to each other.
            return Self { inode: 0, size: 0, changed: (0, 0), kind, device, names: 1 };
        }
        Self {
            inode: found.ino(),
            size: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
            kind,
            device,
            names: found.nlink(),
        }
    }

    /// Looks at a name; `None` where there is none.
    fn at(root: &Path, path: &Path) -> Result<Option<Self>> {
        match fs::symlink_metadata(root.join(path)) {
            Ok(found) => Ok(Some(Self::of(&found))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(Error::system(format!("look at {}", path.display()))(error)),
        }
    }

    fn file(&self) -> FileId {
        (self.device, self.inode)
    }

    fn is_directory(&self) -> bool {
        self.kind == nix::libc::S_IFDIR
    }

    /// Returns whether it is a file with other names.
    fn has_others(&self) -> bool {
        self.names > 1 && !self.is_directory()
    }
}

/// Says whether a name does not exist, or no longer leads through directories.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::StaleNetworkFileHandle];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(nix::libc::ELOOP)
}

/// All files below a directory at one moment, and the directory itself with an empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    files: BTreeMap<PathBuf, Stamp>,
    sockets: BTreeSet<PathBuf>,
}

/// The difference to an earlier listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) changed: BTreeSet<PathBuf>,
    pub(crate) removed: BTreeSet<PathBuf>,
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.changed.extend(other.changed);
        self.removed.extend(other.removed);
    }
}

impl Listing {
    /// Lists everything below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        Self::read_with(root, &mut |_, _| ())
    }

    /// Lists everything below `root`, and calls `enter` before it reads a directory.
    pub(crate) fn read_with(root: &Path, enter: Enter<'_>) -> Result<Self> {
        let mut listing = Self::default();
        let found = fs::metadata(root).map_err(Error::system(format!("read {}", root.display())))?;
        listing.insert(PathBuf::new(), Stamp::of(&found));
        listing.walk(root, Path::new(""), found.dev(), enter)?;
        Ok(listing)
    }

    fn walk(&mut self, root: &Path, below: &Path, device: u64, enter: Enter<'_>) -> Result<()> {
        enter(below, device);
        let directory = root.join(below);
        let attempt = || format!("read {}", directory.display());
        let entries = match fs::read_dir(&directory) {
            // A directory that is removed at this moment is empty.
            Err(error) if is_gone(&error) && !below.as_os_str().is_empty() => return Ok(()),
            entries => entries.map_err(Error::system(attempt()))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::system(attempt()))?;
            // A file that is removed at this moment is missing in the listing.
            let Ok(found) = entry.metadata() else { continue };
            let path = below.join(entry.file_name());
            self.insert(path.clone(), Stamp::of(&found));
            if found.is_dir() {
                self.walk(root, &path, found.dev(), enter)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, stamp: Stamp) {
        if stamp.kind == nix::libc::S_IFSOCK {
            self.sockets.insert(path.clone());
        } else {
            self.sockets.remove(&path);
        }
        self.files.insert(path, stamp);
    }

    /// Removes a name and everything below it, and returns it.
    fn take_below(&mut self, path: &Path) -> BTreeMap<PathBuf, Stamp> {
        let from = (Bound::Included(path), Bound::Unbounded);
        let below = self.files.range::<Path, _>(from).take_while(|(other, _)| other.starts_with(path));
        let paths: Vec<PathBuf> = below.map(|(other, _)| other.clone()).collect();
        let taken = |path: PathBuf| {
            self.sockets.remove(&path);
            self.files.remove(&path).map(|stamp| (path, stamp))
        };
        paths.into_iter().filter_map(taken).collect()
    }

    /// Returns the difference from `earlier` to this listing.
    pub(crate) fn since(&self, earlier: &Self) -> Difference {
        let mut difference = Difference::default();
        compare(&earlier.files, self.files.iter(), &mut difference);
        let removed = earlier.files.keys().filter(|path| !self.files.contains_key(*path)).cloned();
        difference.removed.extend(removed);
        difference
    }

    /// Looks again at what may have changed, brings this listing up to date, and returns the
    /// difference. Returns `false` beside it when the whole tree has to be read again: the
    /// difference from this listing to that one comes in addition.
    ///
    /// # Errors
    /// A name or a directory can't be read.
    pub(crate) fn look_again(
        &mut self,
        root: &Path,
        changes: &Changes,
        enter: Enter<'_>,
    ) -> Result<(Difference, bool)> {
        let mut look =
            Look { root, enter, difference: Difference::default(), plain: HashSet::new(), linked: HashSet::new() };
        for (path, touch) in &changes.names {
            self.look_at(&mut look, path, *touch)?;
        }
        // A name that came and went has changed the times of its directory as well.
        let names = look.difference.changed.iter().chain(&look.difference.removed).chain(changes.names.keys());
        let directories: BTreeSet<PathBuf> = names.filter_map(|path| path.parent()).map(Path::to_owned).collect();
        for directory in directories.iter().filter(|directory| self.files.contains_key(*directory)).collect::<Vec<_>>()
        {
            self.look_at(&mut look, directory, Touch::Closed)?;
        }
        let Look { mut difference, plain, linked, .. } = look;
        let told: HashSet<FileId> = changes.files.iter().copied().filter(|file| !plain.contains(file)).collect();
        let others: HashSet<FileId> = linked.union(&told).copied().collect();
        let is_whole = others.is_empty() || self.look_at_names(root, &others, &told, &mut difference)?;
        Ok((difference, is_whole))
    }

    fn look_at(&mut self, look: &mut Look<'_>, path: &Path, touch: Touch) -> Result<()> {
        let known = self.files.get(path).copied();
        let Some(found) = Stamp::at(look.root, path)? else {
            if known.is_some() {
                look.linked.extend(self.take_below(path).values().filter(|stamp| stamp.has_others()).map(Stamp::file));
                look.difference.removed.insert(path.to_owned());
            }
            return Ok(());
        };
        look.note(&found);
        let is_other = known.is_none_or(|known| known.file() != found.file() || known.kind != found.kind);
        if is_other || (touch == Touch::Appeared && found.is_directory()) {
            let before = self.take_below(path);
            self.insert(path.to_owned(), found);
            if found.is_directory() {
                self.walk(look.root, path, found.device, look.enter)?;
            }
            let from = (Bound::Included(path), Bound::Unbounded);
            let now = self.files.range::<Path, _>(from).take_while(|(other, _)| other.starts_with(path));
            let now: Vec<(&PathBuf, &Stamp)> = now.collect();
            now.iter().for_each(|(_, stamp)| look.note(stamp));
            compare(&before, now.into_iter(), &mut look.difference);
            for (path, stamp) in before {
                if stamp.has_others() {
                    look.linked.insert(stamp.file());
                }
                if !self.files.contains_key(&path) {
                    look.difference.removed.insert(path);
                }
            }
        } else {
            self.insert(path.to_owned(), found);
        }
        if touch > Touch::Closed || known != Some(found) {
            look.difference.changed.insert(path.to_owned());
        }
        Ok(())
    }

    /// Adds all names of files to a difference. Returns whether they are all known; `told` are
    /// files that have a name.
    fn look_at_names(
        &mut self,
        root: &Path,
        files: &HashSet<FileId>,
        told: &HashSet<FileId>,
        difference: &mut Difference,
    ) -> Result<bool> {
        let mut names: HashMap<FileId, Vec<PathBuf>> = HashMap::new();
        for (path, stamp) in self.files.iter().filter(|(_, stamp)| !stamp.is_directory()) {
            if files.contains(&stamp.file()) {
                names.entry(stamp.file()).or_default().push(path.clone());
            }
        }
        let mut are_known = told.iter().all(|file| names.contains_key(file));
        for (file, paths) in names {
            let count = paths.len() as u64;
            for path in paths {
                match Stamp::at(root, &path)?.filter(|found| found.file() == file) {
                    Some(found) => {
                        are_known &= found.names == count;
                        self.insert(path.clone(), found);
                        difference.changed.insert(path);
                    }
                    None => are_known = false,
                }
            }
        }
        Ok(are_known)
    }

    /// The names of mapped files in this listing of `upper`; the job sees these files below `root`.
    pub(crate) fn names_of(&self, mapped: &[MappedFile], upper: &Path, root: &Path) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for file in mapped {
            let is_at = |path: &Path| self.files.contains_key(path) && file.is_at([upper, root], path);
            match file.hint().filter(|path| is_at(path)) {
                Some(path) => drop(found.insert(path.to_owned())),
                // It has lost that name, and has another one, or is none of these files.
                None if file.is_in_memory() => {}
                None => found.extend(self.of_size(file.size()).filter(|path| is_at(path)).map(Path::to_owned)),
            }
        }
        let stamps = found.iter().filter_map(|path| self.files.get(path));
        let files: HashSet<_> = stamps.filter(|stamp| stamp.names > 1).map(Stamp::file).collect();
        if !files.is_empty() {
            let others = self.files.iter().filter(|(_, stamp)| stamp.names > 1 && files.contains(&stamp.file()));
            found.extend(others.map(|(path, _)| path.clone()));
        }
        found
    }

    /// The links that have to be made to be sent, each with a name that its file has here.
    pub(crate) fn remap_links(&self, links: Vec<Link>) -> Vec<(Link, PathBuf)> {
        let missing = links.into_iter().filter(|link| !self.files.contains_key(&link.path));
        let with_name = |link: Link| {
            let leads_there = |stamp: &Stamp| stamp.file() == (link.device, link.inode);
            let (path, _) = self.files.iter().find(|(_, stamp)| leads_there(stamp))?;
            Some((link, path.clone()))
        };
        missing.filter_map(with_name).collect()
    }

    /// The names of the files that links lead to. A link that is sent without them would be a file
    /// of its own at the destination.
    pub(crate) fn names_behind(&self, links: &[Link]) -> Vec<PathBuf> {
        let files: HashSet<FileId> = links.iter().map(|link| (link.device, link.inode)).collect();
        self.files.iter().filter(|(_, stamp)| files.contains(&stamp.file())).map(|(path, _)| path.clone()).collect()
    }

    /// The paths of the socket files.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Path> {
        self.sockets.iter().map(PathBuf::as_path)
    }

    /// The paths of the regular files with this size.
    fn of_size(&self, size: u64) -> impl Iterator<Item = &Path> {
        let has_size = move |stamp: &Stamp| stamp.kind == nix::libc::S_IFREG && stamp.size == size;
        self.files.iter().filter(move |(_, stamp)| has_size(stamp)).map(|(path, _)| path.as_path())
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// All paths but that of the root.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
    }

    /// The paths with the types of their files.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> Vec<(PathBuf, u32)> {
        self.files.iter().map(|(path, stamp)| (path.clone(), stamp.kind)).collect()
    }
}

/// A look at what may have changed.
struct Look<'a> {
    root: &'a Path,
    enter: Enter<'a>,
    difference: Difference,
    /// Files of which the only name was looked at.
    plain: HashSet<FileId>,
    /// Files that have, or had, several names.
    linked: HashSet<FileId>,
}

impl Look<'_> {
    fn note(&mut self, stamp: &Stamp) {
        if stamp.has_others() {
            self.linked.insert(stamp.file());
        } else {
            self.plain.insert(stamp.file());
        }
    }
}

/// Adds what is new or other than `before`.
fn compare<'a>(
    before: &BTreeMap<PathBuf, Stamp>,
    now: impl Iterator<Item = (&'a PathBuf, &'a Stamp)>,
    difference: &mut Difference,
) {
    for (path, stamp) in now {
        match before.get(path) {
            Some(known) if known == stamp => {}
            known => {
                if known.is_some_and(|known| known.kind != stamp.kind) {
                    difference.removed.insert(path.clone());
                }
                difference.changed.insert(path.clone());
            }
        }
    }
}

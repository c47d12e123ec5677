//! The names that change in directories, as the kernel tells them (fanotify).
//!
//! A mark on a directory reports what is created, removed, renamed, written, closed after a write
//! or given other attributes in it. An overlay acts upon its upper layer, so that a mark on a
//! directory there sees what happens through the overlay. [`sees_through_overlays`] finds out
//! whether this kernel tells writes as well.
//!
//! Nothing is told of a write through a mapping, and of one that ends in the background (AIO).
//!
//! An overlay knows an open file in its upper layer by one name. When that name is removed, writes
//! through another name are still told with it. So an event has the handle of its file as well.
//!
//! ```text
//!  event   length, version, length of this part, mask, descriptor (none), process, records
//!  record  type, length, file system, length and type of a handle, the handle
//!          of the directory, with a name and NUL; of the file
//! ```

#![expect(unsafe_code, reason = "nix reads no records of an event")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::file_handle::FileHandle;
use crate::{Result, mount, tree};

/// The events that are asked for.
const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_MODIFY
    | libc::FAN_ATTRIB
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ONDIR
    | libc::FAN_EVENT_ON_CHILD;
/// The size of the buffer for events: several hundred of them.
const BUFFER_BYTES: usize = 64 << 10;
/// The most names and files that are kept; beyond that, looking at everything is cheaper.
const NAMES_MAX: usize = 200_000;
/// The lengths of an event's first part and of a record's part before the handle.
const EVENT_BYTES: usize = 24;
const RECORD_BYTES: usize = 20;
/// The name of a directory in an event about itself.
const ITSELF: &[u8] = b".";

/// The change of a name; a later kind includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// A file was closed that had been open for writing: it may have changed.
    Closed,
    /// The file was written, got other attributes, or lost this name.
    Changed,
    /// Another file has the name. A directory may have content that no event told of.
    Appeared,
}

/// All changes in marked directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The names, as paths below the root.
    pub names: BTreeMap<PathBuf, Touch>,
    /// Device and inode number of the files that have a name, maybe not one of `names`.
    pub files: BTreeSet<(u64, u64)>,
}

/// Marked directories of one file system, and the paths that they had when they were marked.
#[derive(Debug)]
pub struct DirectoryChanges {
    group: OwnedFd,
    /// A directory of the file system, by which files are found.
    mount: Option<File>,
    paths: HashMap<FileHandle, PathBuf>,
    buffer: Vec<u8>,
    names: BTreeMap<PathBuf, Touch>,
    files: HashSet<FileHandle>,
    is_whole: bool,
}

impl DirectoryChanges {
    /// Begins without any directory.
    ///
    /// # Errors
    /// The kernel is older than 6.5, or this process lacks `CAP_SYS_ADMIN`.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_MARKS
            | libc::FAN_REPORT_FID
            | libc::FAN_REPORT_DFID_NAME;
        // SAFETY: the call takes numbers only.
        let group = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) };
        if group < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made this descriptor, and nobody else has it.
        let group = unsafe { OwnedFd::from_raw_fd(group) };
        Ok(Self {
            group,
            mount: None,
            paths: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
            names: BTreeMap::new(),
            files: HashSet::new(),
            is_whole: true,
        })
    }

    /// Marks the directory `below` of `root`. Its events have this path from now on.
    ///
    /// # Errors
    /// There is no such directory, or its file system can't report it.
    pub fn mark(&mut self, root: &Path, below: &Path) -> io::Result<()> {
        // With a slash at its end, an empty path below is the root itself.
        let at = root.join(below);
        if self.mount.is_none() {
            self.mount = Some(File::open(&at)?);
        }
        let unsupported = || fs::symlink_metadata(&at).err().unwrap_or_else(|| io::ErrorKind::Unsupported.into());
        self.paths.insert(FileHandle::of(&at).ok_or_else(unsupported)?, below.to_owned());
        let path = CString::new(at.as_os_str().as_bytes())?;
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_ONLYDIR | libc::FAN_MARK_DONT_FOLLOW;
        // SAFETY: the path ends with NUL and lives until the call returns.
        let marked = unsafe { libc::fanotify_mark(self.group.as_raw_fd(), flags, MASK, libc::AT_FDCWD, path.as_ptr()) };
        if marked < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads what has happened, so that the kernel's queue is empty.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn read(&mut self) -> io::Result<()> {
        loop {
            let length = match nix::unistd::read(&self.group, &mut self.buffer) {
                Ok(0) | Err(nix::Error::EAGAIN) => return Ok(()),
                Err(nix::Error::EINTR) => continue,
                read => read?,
            };
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let (event, after) = Event::split(rest).ok_or(io::ErrorKind::InvalidData)?;
                rest = after;
                self.files.extend(event.file);
                let Some(directory) = event.directory.as_ref().and_then(|handle| self.paths.get(handle)) else {
                    // A directory that has just appeared in a marked one tells of itself.
                    self.is_whole &= event.directory.is_some() && event.name == ITSELF;
                    continue;
                };
                let path = match event.name {
                    ITSELF | b"" => directory.clone(),
                    name => directory.join(OsStr::from_bytes(name)),
                };
                let known = self.names.entry(path).or_insert(event.touch);
                *known = event.touch.max(*known);
            }
            if self.names.len().max(self.files.len()) > NAMES_MAX {
                self.is_whole = false;
                self.names.clear();
                self.files.clear();
            }
        }
    }

    /// Takes all that has happened since the last call; `None` where some of it is not known.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn take(&mut self) -> io::Result<Option<Changes>> {
        self.read()?;
        let (names, handles) = (std::mem::take(&mut self.names), std::mem::take(&mut self.files));
        if !std::mem::replace(&mut self.is_whole, true) {
            return Ok(None);
        }
        let Some(mount) = &self.mount else { return Ok(Some(Changes::default())) };
        let found = handles.iter().filter_map(|handle| handle.metadata(mount).ok());
        let files = found.filter(|found| found.nlink() > 0 && !found.is_dir() && !mount::is_whiteout(found));
        Ok(Some(Changes { names, files: files.map(|found| (found.dev(), found.ino())).collect() }))
    }
}

/// An event in a marked directory.
#[derive(Debug, PartialEq, Eq)]
struct Event<'a> {
    /// The directory; `None` when the kernel has lost events.
    directory: Option<FileHandle>,
    name: &'a [u8],
    /// The file, where it is known.
    file: Option<FileHandle>,
    touch: Touch,
}

impl<'a> Event<'a> {
    /// Splits off the first event.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = u32::from_ne_bytes(array(bytes, 0)?) as usize;
        let head = usize::from(u16::from_ne_bytes(array(bytes, 6)?));
        let mask = u64::from_ne_bytes(array(bytes, 8)?);
        if length < EVENT_BYTES || head < EVENT_BYTES {
            return None;
        }
        let (event, after) = bytes.split_at_checked(length)?;
        let touch = match mask {
            _ if mask & (libc::FAN_CREATE | libc::FAN_MOVED_TO) != 0 => Touch::Appeared,
            _ if mask & !(libc::FAN_CLOSE_WRITE | libc::FAN_ONDIR) != 0 => Touch::Changed,
            _ => Touch::Closed,
        };
        let mut found = Self { directory: None, name: b"", file: None, touch };
        let mut records = event.get(head..)?;
        while !records.is_empty() {
            let (record, others) = records.split_at_checked(usize::from(u16::from_ne_bytes(array(records, 2)?)))?;
            records = others;
            let size = u32::from_ne_bytes(array(record, 12)?) as usize;
            let kind = i32::from_ne_bytes(array(record, 16)?);
            let (handle, name) = record.get(RECORD_BYTES..)?.split_at_checked(size)?;
            let handle = FileHandle { kind, bytes: handle.to_vec() };
            match record.first() {
                Some(&libc::FAN_EVENT_INFO_TYPE_DFID_NAME) => {
                    found.directory = Some(handle);
                    found.name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                }
                Some(&libc::FAN_EVENT_INFO_TYPE_FID) => found.file = Some(handle),
                _ => {}
            }
        }
        Some((found, after))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Finds out whether marks in an overlay's upper layer see what is written through the overlay. It
/// is tried in the directory `scratch`, which is removed.
///
/// # Errors
/// No overlay can be mounted there, or the kernel refuses marks.
pub fn sees_through_overlays(scratch: &Path) -> Result<bool> {
    let attempt = || crate::Error::system(format!("try marks in {}", scratch.display()));
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| scratch.join(name));
    for directory in [&lower, &upper, &work, &root] {
        fs::create_dir_all(directory).map_err(attempt())?;
    }
    let tried = || {
        fs::write(upper.join("file"), "before")?;
        mount::overlay(&[lower], &upper, &work, &root).map_err(io::Error::other)?;
        let mut changes = DirectoryChanges::new()?;
        changes.mark(&upper, Path::new(""))?;
        fs::write(root.join("file"), "after")?;
        let told = changes.take()?.unwrap_or_default();
        Ok(told.names.get(Path::new("file")) == Some(&Touch::Changed))
    };
    let seen = tried().map_err(attempt());
    mount::unmount_below(scratch)?;
    tree::remove_tree(scratch)?;
    seen
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    fn read(changes: &mut DirectoryChanges) -> BTreeMap<PathBuf, Touch> {
        changes.take().unwrap().unwrap().names
    }

    #[test]
    fn a_file_that_lost_the_name_by_which_it_is_open_is_told() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        let (mut open, mut nameless) = (File::create(at("a")).unwrap(), File::create(at("b")).unwrap());
        fs::hard_link(at("a"), at("other")).unwrap();
        let mut changes = DirectoryChanges::new().unwrap();
        changes.mark(world.path(), Path::new("")).unwrap();
        fs::remove_file(at("a")).unwrap();
        fs::remove_file(at("b")).unwrap();
        open.write_all(b"more").unwrap();
        nameless.write_all(b"more").unwrap();
        let told = changes.take().unwrap().unwrap();
        let other = fs::metadata(at("other")).unwrap();
        assert_eq!(told.files, [(other.dev(), other.ino())].into());
        assert_eq!(told.names, ["a", "b"].map(|name| (name.into(), Touch::Changed)).into());
    }

    #[test]
    fn what_happens_in_a_marked_directory_is_told() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| world.path().join(OsStr::from_bytes(name));
        fs::create_dir(at(b"a")).unwrap();
        for name in [&b"a/gone"[..], b"a/written", b"a/caf\xe9\n", b"outside"] {
            fs::write(at(name), "before").unwrap();
        }
        let mut changes = DirectoryChanges::new().unwrap();
        changes.mark(world.path(), Path::new("a")).unwrap();
        assert!(changes.mark(world.path(), Path::new("none")).is_err());
        assert_eq!(read(&mut changes), BTreeMap::new());

        fs::remove_file(at(b"a/gone")).unwrap();
        fs::write(at(b"outside"), "after").unwrap();
        OpenOptions::new().append(true).open(at(b"a/written")).unwrap().write_all(b"more").unwrap();
        drop(OpenOptions::new().append(true).open(at(b"a/caf\xe9\n")).unwrap());
        drop(File::open(at(b"a/written")).unwrap());
        let told = [(&b"a/gone"[..], Touch::Changed), (b"a/written", Touch::Changed), (b"a/caf\xe9\n", Touch::Closed)];
        assert_eq!(read(&mut changes), told.map(|(name, touch)| (OsStr::from_bytes(name).into(), touch)).into());

        // A name of the directory that it has no more: it keeps the last path by which it was
        // marked.
        fs::rename(at(b"a"), at(b"b")).unwrap();
        fs::write(at(b"b/new"), "").unwrap();
        assert_eq!(read(&mut changes)[Path::new("a/new")], Touch::Appeared);
        changes.mark(world.path(), Path::new("b")).unwrap();
        fs::set_permissions(at(b"b"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(read(&mut changes), [("b".into(), Touch::Changed)].into());
    }

    #[test]
    fn lost_events_are_told() {
        let world = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut changes = DirectoryChanges::new().unwrap();
        changes.mark(world.path(), Path::new("")).unwrap();
        let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
        for number in 0..limit.trim().parse::<usize>().unwrap() {
            fs::create_dir(world.path().join(number.to_string())).unwrap();
            fs::remove_dir(world.path().join(number.to_string())).unwrap();
        }
        assert_eq!(changes.take().unwrap(), None);
        assert_eq!(changes.take().unwrap(), Some(Changes::default()));
    }

    #[test]
    fn a_write_through_an_overlay_is_seen() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let scratch = world.path().join("scratch");
        assert!(sees_through_overlays(&scratch).unwrap());
        assert!(!scratch.exists());
    }

    #[test]
    fn damaged_events_are_no_events() {
        let event = |length: u32, head: u16, mask: u64, record: &[u8]| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([3, 0]);
            bytes.extend(head.to_ne_bytes());
            bytes.extend(mask.to_ne_bytes());
            bytes.extend([0; 8]);
            bytes.extend(record);
            bytes
        };
        let lost = event(24, 24, libc::FAN_Q_OVERFLOW, &[]);
        assert_eq!(Event::split(&lost).unwrap().0.directory, None);
        for damaged in [
            event(0, 24, 2, &[]),
            event(24, 0, 2, &[]),
            event(30, 24, 2, &[]),
            event(28, 24, 2, &[2, 0, 9, 0]),
            vec![1],
        ] {
            assert_eq!(Event::split(&damaged), None, "{damaged:?}");
        }
    }
}

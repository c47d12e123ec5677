//! The files that a job watches with inotify, and how a restore finds them.
//!
//! The kernel reports a watch by inode number and handle. A restore needs a path, since inode
//! numbers differ at the destination. An overlay's handle can't be opened, but it contains the
//! handle of the file in its layer, which can. A file whose layer has another name for it is found
//! among the open files of the job, or below its upper layer. The handle says which file it is.
//!
//! CRIU restores a watch by a path from its path cache. It takes only a path that shows the device
//! of the overlay, and forgets the flags of a watch. A file shows another device once its overlay
//! has layers on two file systems. So [`watches`](crate::migrate::watches) restores those watches
//! that CRIU can't.
//!
//! ```text
//!   overlay's handle: 3 bytes of padding, version, magic, length (without padding), flags, type,
//!                     16 bytes of file system UUID, the layer's own handle
//! ```

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mooring_linux::file_handle::FileHandle;
use mooring_linux::inotify::Watch;
use mooring_linux::mount::{self, Layers};
use mooring_linux::process_tree::own_pid;
use serde::{Deserialize, Serialize};

use super::job_dir::JobDir;

/// The name of CRIU's path cache in its working directory.
const IRMAP_CACHE: &str = "irmap-cache";
/// The magic numbers of CRIU's service images, and of this image.
const IRMAP_MAGIC: [u32; 2] = [0x5510_5940, 0x5700_4059];
/// The type of an overlay's handle, the lengths before it and before the layer's handle, and the
/// flag of a file in the upper layer.
const OVERLAY: i32 = 0xf8;
const PADDING: usize = 3;
const HEAD: usize = 24;
const IN_UPPER: u8 = 4;
/// The events in a mask, which has flags as well (`IN_ALL_EVENTS`).
const ALL_EVENTS: u32 = 0xfff;

/// The place of a watched file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Place {
    /// A path below the job's root: the kernel's bytes, which need not be UTF-8.
    Path(Vec<u8>),
    /// A link in the directory of a process in `/proc`, by the id that the process itself sees. The
    /// file has no name any more.
    Link { pid: i32, link: String },
}

impl Place {
    fn of(path: &Path) -> Self {
        // The root itself has no name in it.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Self::Path(path.as_os_str().as_bytes().to_vec())
    }

    /// Opens the file in the job with this root and these processes, by the ids that they see.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn open(&self, root: &Path, pids: &HashMap<i32, i32>) -> io::Result<File> {
        match self {
            Self::Path(path) => mount::find_below(root, Path::new(OsStr::from_bytes(path))),
            Self::Link { pid, link } => {
                let pid = pids.get(pid).ok_or(io::ErrorKind::NotFound)?;
                let flags = nix::fcntl::OFlag::O_PATH.bits();
                OpenOptions::new().read(true).custom_flags(flags).open(format!("/proc/{pid}/{link}"))
            }
        }
    }
}

/// Finds the files that processes of one job watch.
#[derive(Debug)]
pub(crate) struct Finder {
    root: PathBuf,
    layers: Layers,
    pids: Vec<i32>,
    /// The device number of the root, in the kernel's own encoding.
    device: u32,
    open: OnceCell<HashMap<FileHandle, Place>>,
    named: OnceCell<HashMap<FileHandle, Place>>,
}

impl Finder {
    /// Finds files of the job with these processes. Returns `None` where its root is no overlay.
    ///
    /// # Errors
    /// The root can't be read.
    pub(crate) fn new(job_dir: &JobDir, pids: Vec<i32>) -> io::Result<Option<Self>> {
        let root = job_dir.root();
        let Some(layers) = Layers::of(&root).map_err(io::Error::other)? else { return Ok(None) };
        let device = mount::kernel_device(fs::metadata(&root)?.dev());
        Ok(Some(Self { root, layers, pids, device, open: OnceCell::new(), named: OnceCell::new() }))
    }

    /// Returns whether a watch is one of a file of the job's root.
    pub(crate) fn knows(&self, watch: &Watch) -> bool {
        watch.handle.kind == OVERLAY && watch.device == self.device
    }

    /// Returns the place of a watched file.
    pub(crate) fn find(&self, watch: &Watch) -> Option<Place> {
        let by_handle = self.in_layer(&watch.handle).map(|path| Place::of(&path));
        by_handle
            .or_else(|| self.open.get_or_init(|| self.open_files()).get(&watch.handle).cloned())
            .or_else(|| self.named.get_or_init(|| self.names()).get(&watch.handle).cloned())
    }

    /// Returns whether a file that was found is still there.
    pub(crate) fn is_at(&self, watch: &Watch, place: &Place) -> bool {
        match place {
            Place::Path(path) => self.leads_to(Path::new(OsStr::from_bytes(path)), &watch.handle),
            Place::Link { .. } => false,
        }
    }

    /// Returns whether CRIU restores a watch as it is.
    pub(crate) fn criu_restores(&self, watch: &Watch, place: &Place) -> bool {
        let Place::Path(path) = place else { return false };
        let seen = mount::look_below(&self.root, Path::new(OsStr::from_bytes(path)));
        watch.mask & !ALL_EVENTS == 0
            && seen.is_ok_and(|seen| (mount::kernel_device(seen.dev()), seen.ino()) == (watch.device, watch.inode))
    }

    fn leads_to(&self, path: &Path, handle: &FileHandle) -> bool {
        FileHandle::of(&self.root.join(path)).as_ref() == Some(handle)
    }

    /// The path by which the file's layer has it, if the overlay has it there as well.
    fn in_layer(&self, handle: &FileHandle) -> Option<PathBuf> {
        let &[_, _, _, _, _, length, flags, kind, ..] = handle.bytes.as_slice() else { return None };
        let bytes = handle.bytes.get(HEAD..PADDING + usize::from(length))?.to_vec();
        let inner = FileHandle { kind: i32::from(kind), bytes };
        let candidates = match flags & IN_UPPER {
            0 => self.layers.lower.as_slice(),
            _ => std::slice::from_ref(&self.layers.upper),
        };
        candidates.iter().find_map(|layer| {
            let path = inner.path(layer)?;
            let inside = path.strip_prefix(layer).ok()?;
            self.leads_to(inside, handle).then(|| inside.to_owned())
        })
    }

    /// The open and mapped files of the processes.
    fn open_files(&self) -> HashMap<FileHandle, Place> {
        let mut found = HashMap::new();
        for pid in &self.pids {
            let Some(own) = own_pid(*pid) else { continue };
            for directory in ["fd", "map_files"] {
                let entries = fs::read_dir(format!("/proc/{pid}/{directory}")).into_iter().flatten().flatten();
                for entry in entries {
                    let Some(handle) = FileHandle::behind(&entry.path()).filter(|handle| handle.kind == OVERLAY) else {
                        continue;
                    };
                    let Some(name) = entry.file_name().to_str().map(|name| format!("{directory}/{name}")) else {
                        continue;
                    };
                    let shown = fs::read_link(entry.path()).unwrap_or_default();
                    let place = match shown.strip_prefix("/") {
                        Ok(path) if self.leads_to(path, &handle) => Place::of(path),
                        _ => Place::Link { pid: own, link: name },
                    };
                    found.entry(handle).or_insert(place);
                }
            }
        }
        found
    }

    /// All files of the upper layer.
    fn names(&self) -> HashMap<FileHandle, Place> {
        let (mut found, mut directories) = (HashMap::new(), vec![PathBuf::new()]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(self.layers.upper.join(&directory)).into_iter().flatten().flatten() {
                let path = directory.join(entry.file_name());
                if let Some(handle) = FileHandle::of(&self.root.join(&path)) {
                    found.insert(handle, Place::of(&path));
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(path);
                }
            }
        }
        found
    }
}

/// Writes CRIU's path cache.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write_cache(found: &[(Watch, Place)], images: &Path) -> io::Result<()> {
    let mut cache: Vec<u8> = IRMAP_MAGIC.iter().flat_map(|magic| magic.to_le_bytes()).collect();
    for (watch, place) in found {
        if let Place::Path(path) = place {
            let entry = entry(watch, path);
            cache.extend(u32::try_from(entry.len()).unwrap_or_default().to_le_bytes());
            cache.extend(entry);
        }
    }
    if found.is_empty() { Ok(()) } else { fs::write(images.join(IRMAP_CACHE), cache) }
}

/// An entry in CRIU's format: a Protocol Buffers message of device (1), inode (2) and path (3).
fn entry(watch: &Watch, path: &[u8]) -> Vec<u8> {
    let mut entry = vec![1 << 3];
    number(u64::from(watch.device), &mut entry);
    entry.push(2 << 3);
    number(watch.inode, &mut entry);
    entry.push(3 << 3 | 2);
    number(path.len() as u64 + 1, &mut entry);
    entry.push(b'/');
    entry.extend(path);
    entry
}

/// Appends a Protocol Buffers varint: seven bits per byte, the lowest first.
fn number(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_criu_reads() {
        let handle = FileHandle { kind: OVERLAY, bytes: Vec::new() };
        let watch = Watch { number: 1, device: 0x2a, inode: 300, mask: 4, handle };
        assert_eq!(entry(&watch, b"a"), [8, 0x2a, 16, 0xac, 2, 26, 2, b'/', b'a']);
    }
}

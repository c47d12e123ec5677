//! The paths of the files that a job watches with inotify.
//!
//! The kernel reports a watch by inode number and handle. CRIU needs a path, since inode numbers
//! differ at the destination. An overlay's handle can't be opened, but it contains the handle of
//! the file in its layer, which can. The path found that way is given to CRIU in the format of
//! CRIU's own path cache. CRIU reads its cache before it searches a few directories, and checks
//! each path. Kernels before 6.6 report no handle: a job with watches does not migrate there.
//!
//! The job executes meanwhile. A watch that it adds before its freeze fails the checkpoint, and the
//! job continues.
//!
//! ```text
//!   overlay's handle: 3 bytes of padding, version, magic, length (without padding), flags, type,
//!                     16 bytes of file system UUID, the layer's own handle
//! ```

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mooring_linux::file_handle;
use mooring_linux::mount::{self, Layers};

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

/// A watch from `/proc/PID/fdinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    device: u32,
    inode: u64,
    kind: i32,
    handle: Vec<u8>,
}

/// Writes CRIU's path cache for all watches of these processes in the overlay at `root`.
pub(crate) fn write(pids: &[i32], root: &Path, images: &Path) -> io::Result<()> {
    let Some(layers) = Layers::of(root).map_err(io::Error::other)? else { return Ok(()) };
    let mut watches: Vec<Watch> = pids.iter().flat_map(|pid| watches(*pid)).collect();
    watches.sort_by_key(|watch| (watch.device, watch.inode));
    watches.dedup_by_key(|watch| (watch.device, watch.inode));
    let mut cache: Vec<u8> = IRMAP_MAGIC.iter().flat_map(|magic| magic.to_le_bytes()).collect();
    let mut found = 0;
    for watch in &watches {
        if let Some(path) = path(watch, root, &layers) {
            let entry = entry(watch, &path);
            cache.extend(u32::try_from(entry.len()).unwrap_or_default().to_le_bytes());
            cache.extend(entry);
            found += 1;
        }
    }
    if found > 0 { fs::write(images.join(IRMAP_CACHE), cache) } else { Ok(()) }
}

/// Returns the path in the container of what is watched in the overlay at `root`.
fn path(watch: &Watch, root: &Path, layers: &Layers) -> Option<PathBuf> {
    let &[_, _, _, _, _, length, flags, kind, ..] = watch.handle.as_slice() else { return None };
    let handle = watch.handle.get(HEAD..PADDING + usize::from(length)).filter(|_| watch.kind == OVERLAY)?;
    let candidates = match flags & IN_UPPER {
        0 => layers.lower.as_slice(),
        _ => std::slice::from_ref(&layers.upper),
    };
    candidates.iter().find_map(|layer| {
        let path = file_handle::path(layer, i32::from(kind), handle)?;
        let inside = path.strip_prefix(layer).ok()?;
        let seen = mount::look_below(root, inside).ok()?;
        (seen.ino() == watch.inode).then(|| Path::new("/").join(inside))
    })
}

fn watches(pid: i32) -> Vec<Watch> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_inotify = |path: &PathBuf| fs::read_link(path).is_ok_and(|leads| leads.as_os_str() == "anon_inode:inotify");
    let inotify = descriptors.map(|descriptor| descriptor.path()).filter(is_inotify);
    let told = inotify
        .filter_map(|path| fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", path.file_name()?.to_str()?)).ok());
    told.flat_map(|told| told.lines().filter_map(read).collect::<Vec<_>>()).collect()
}

/// Parses a line like `inotify wd:1 ino:20454d sdev:2d mask:fc6 ignored_mask:0 fhandle-bytes:20
/// fhandle-type:f8 f_handle:00…`.
fn read(line: &str) -> Option<Watch> {
    let fields = line.strip_prefix("inotify ")?;
    let field = |name: &str| fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix(':'));
    let number = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    let digits = field("f_handle")?.as_bytes().chunks(2);
    let handle: Option<Vec<u8>> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let (device, kind) = (u32::try_from(number("sdev")?).ok()?, i32::try_from(number("fhandle-type")?).ok()?);
    Some(Watch { device, inode: number("ino")?, kind, handle: handle? })
}

/// An entry in CRIU's format: a Protocol Buffers message of device (1), inode (2) and path (3).
fn entry(watch: &Watch, path: &Path) -> Vec<u8> {
    let path = path.as_os_str().as_bytes();
    let mut entry = vec![1 << 3];
    number(u64::from(watch.device), &mut entry);
    entry.push(2 << 3);
    number(watch.inode, &mut entry);
    entry.push(3 << 3 | 2);
    number(path.len() as u64, &mut entry);
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
    fn a_watch_is_read() {
        let line = "inotify wd:7 ino:20454d sdev:2d mask:fc6 ignored_mask:0 fhandle-bytes:20 fhandle-type:f8 f_handle:00000000fb1d0401";
        let handle = vec![0, 0, 0, 0, 0xfb, 0x1d, 4, 1];
        assert_eq!(read(line), Some(Watch { device: 0x2d, inode: 0x0020_454d, kind: OVERLAY, handle }));
        for none in ["pos:\t0", "inotify wd:1", "inotify wd:1 ino:1 sdev:1 fhandle-type:1 f_handle:0g"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn an_entry_is_what_criu_reads() {
        let watch = Watch { device: 0x2a, inode: 300, kind: OVERLAY, handle: Vec::new() };
        assert_eq!(entry(&watch, Path::new("/a")), [8, 0x2a, 16, 0xac, 2, 26, 2, b'/', b'a']);
    }
}

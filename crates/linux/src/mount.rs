//! Mounts: overlays and their layers, temporary file systems, bind mounts.

#![expect(unsafe_code, reason = "extended attributes are set by a system call")]

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, major, minor, mknod};

use crate::{Error, Result};

/// Mounts an overlay at `target`: `lower` read-only under `upper`, with `work` for the kernel's own
/// use.
///
/// The kernel takes the paths as one text of less than a page in which `:` separates layers, `,`
/// separates options and `\` escapes.
pub fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let layers: Vec<Vec<u8>> = lower.iter().map(|layer| escape(layer)).collect();
    let [upper, work] = [upper, work].map(escape);
    let options = [&b"lowerdir="[..], &layers.join(&b':'), b",upperdir=", &upper, b",workdir=", &work].concat();
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_slice()))
        .map_err(Error::errno(format!("mount an overlay at {}", target.display())))
}

/// The layers of a mounted overlay.
#[derive(Debug, PartialEq, Eq)]
pub struct Layers {
    pub upper: PathBuf,
    pub lower: Vec<PathBuf>,
}

impl Layers {
    /// Finds the layers of the overlay at `target`. Returns `None` where no overlay is mounted.
    pub fn of(target: &Path) -> Result<Option<Self>> {
        Ok(Self::find(target, &mountinfo()?))
    }

    fn find(target: &Path, mountinfo: &[u8]) -> Option<Self> {
        let options = mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let dash = fields.iter().position(|field| *field == b"-")?;
            let is_there =
                fields.get(dash + 1) == Some(&&b"overlay"[..]) && to_path(&unescape(fields.get(4)?)) == target;
            fields.last().copied().filter(|_| is_there)
        })?;
        let (mut upper, mut lower) = (None, Vec::new());
        for option in options.split(|byte| *byte == b',') {
            let (name, value) = option.split_at(option.iter().position(|byte| *byte == b'=').unwrap_or(option.len()));
            let value = unescape(value.get(1..).unwrap_or_default());
            match name {
                b"upperdir" => upper = split_layers(&value).pop(),
                b"lowerdir" => lower = split_layers(&value),
                b"lowerdir+" => lower.push(to_path(&value)),
                _ => {}
            }
        }
        Some(Self { upper: upper?, lower })
    }
}

/// Splits the layers of an overlay, and undoes [`escape`].
fn split_layers(text: &[u8]) -> Vec<PathBuf> {
    let (mut layers, mut layer) = (Vec::new(), Vec::new());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => layers.push(to_path(&std::mem::take(&mut layer))),
            b'\\' => layer.extend(bytes.next()),
            _ => layer.push(byte),
        }
    }
    layers.push(to_path(&layer));
    layers
}

/// Escapes a path for the options of an overlay.
fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// Mounts a tmpfs at `target`, unless something is mounted there. `options` are those of tmpfs,
/// like `size=4m`.
pub fn tmpfs(target: &Path, options: &str) -> Result<()> {
    let attempt = || format!("mount a tmpfs at {}", target.display());
    fs::create_dir_all(target).map_err(Error::system(attempt()))?;
    if is_mounted(target)? {
        return Ok(());
    }
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some(options)).map_err(Error::errno(attempt()))
}

/// Binds the directory `source` to the directory `below` of `root`, unless something is mounted
/// there. No link is followed below `root`, where a job may have made any.
pub fn bind_below(root: &Path, below: &Path, source: &Path) -> Result<()> {
    let target = root.join(below);
    let attempt = || format!("bind {} to {}", source.display(), target.display());
    if is_mounted(&target)? {
        return Ok(());
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let root = File::open(root).map_err(Error::system(attempt()))?;
    let place = openat2(&root, below, how).map_err(Error::errno(attempt()))?;
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    mount(Some(source), place.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Error::errno(attempt()))
}

/// Puts a whiteout at `path` of an overlay's upper layer, which hides that path of the lower
/// layers.
pub fn whiteout(path: &Path) -> Result<()> {
    let attempt = || format!("make whiteout {}", path.display());
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::system(attempt()))?;
    }
    mknod(path, SFlag::S_IFCHR, Mode::empty(), 0).map_err(Error::errno(attempt()))
}

/// Says whether a file of an upper layer is a whiteout. The kernel makes one file of several.
#[must_use]
pub fn is_whiteout(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == 0
}

/// Makes a directory of an overlay's layer hide the content of the same directory in lower layers.
pub fn make_opaque(path: &Path) -> Result<()> {
    let attempt = || format!("make {} opaque", path.display());
    let name = c"trusted.overlay.opaque";
    let file = CString::new(path.as_os_str().as_bytes()).map_err(|error| Error::system(attempt())(error.into()))?;
    // SAFETY: both strings end with NUL, the value is one byte, and all of them live for the call.
    let answer = unsafe { libc::lsetxattr(file.as_ptr(), name.as_ptr(), c"y".as_ptr().cast(), 1, 0) };
    if answer == 0 { Ok(()) } else { Err(Error::system(attempt())(std::io::Error::last_os_error())) }
}

/// Marks a file of an overlay's upper layer as a copy of the file with the handle `origin`, whose
/// inode number the overlay shows then.
pub fn set_origin(file: &File, origin: &[u8]) -> std::io::Result<()> {
    let name = c"trusted.overlay.origin";
    // SAFETY: the name ends with NUL, the length is that of the value, and both live for the call.
    let answer = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), origin.as_ptr().cast(), origin.len(), 0) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Opens the file `below` of `root` for reading. No link is followed below `root`, where a job may
/// have made any.
pub fn open_below(root: &Path, below: &Path) -> std::io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(File::open(root)?, below, how)?))
}

/// Opens the file `below` of `root`, or a link itself, as a place alone (`O_PATH`). No link is
/// followed below `root`, where a job may have made any.
pub fn find_below(root: &Path, below: &Path) -> std::io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(File::open(root)?, below, how)?))
}

/// Returns the attributes of the file `below` of `root`, or of a link itself. No link is followed
/// below `root`, where a job may have made any.
pub fn look_below(root: &Path, below: &Path) -> std::io::Result<Metadata> {
    find_below(root, below)?.metadata()
}

/// Says whether something is mounted exactly at `path`.
pub fn is_mounted(path: &Path) -> Result<bool> {
    Ok(mounts()?.iter().any(|mounted| mounted == path))
}

/// Unmounts everything at and below `path`, deepest first.
pub fn unmount_below(path: &Path) -> Result<()> {
    let mut below: Vec<PathBuf> = mounts()?.into_iter().filter(|mounted| mounted.starts_with(path)).collect();
    below.reverse();
    for mounted in below {
        match umount2(&mounted, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(Error::errno(format!("unmount {}", mounted.display()))(error)),
        }
    }
    Ok(())
}

/// Returns the mount points below a directory, in mount order.
pub fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut mounts = mounts()?;
    mounts.retain(|mounted| mounted.starts_with(directory) && mounted != directory);
    Ok(mounts)
}

/// Returns a device number in the kernel's own encoding, in which it lists watches and sockets.
#[must_use]
pub fn kernel_device(device: u64) -> u32 {
    u32::try_from(major(device) << 20 | minor(device)).unwrap_or_default()
}

/// A line of the kernel's list of mounts.
pub(crate) struct Listed {
    /// The numbers of the device.
    pub(crate) device: String,
    /// The root of the mount in its file system.
    pub(crate) root: PathBuf,
    pub(crate) point: PathBuf,
}

/// Finds a mount of this process by its id.
pub(crate) fn of_id(id: &str) -> Result<Option<Listed>> {
    let list = mountinfo()?;
    Ok(list.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        if fields.next() != Some(id.as_bytes()) {
            return None;
        }
        let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
        let (root, point) = (to_path(&unescape(fields.next()?)), to_path(&unescape(fields.next()?)));
        Some(Listed { device, root, point })
    }))
}

/// Returns the mount points of this process, in mount order.
pub(crate) fn mounts() -> Result<Vec<PathBuf>> {
    let fields = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
    Ok(mountinfo()?.split(|byte| *byte == b'\n').filter_map(fields).map(|path| to_path(&path)).collect())
}

fn mountinfo() -> Result<Vec<u8>> {
    let file = "/proc/self/mountinfo";
    fs::read(file).map_err(Error::system(format!("read {file}")))
}

fn to_path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash, comma).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *byte == b'\\');
        bytes.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_below_follows_no_link() {
        let world = tempfile::tempdir().unwrap();
        let [root, source, outside] = ["root", "source", "outside"].map(|name| world.path().join(name));
        for directory in [&root.join("a/b"), &source, &outside.join("b")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(source.join("file"), "bound").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        assert!(bind_below(&root, Path::new("link/b"), &source).is_err());
        assert!(bind_below(&root, Path::new("../outside/b"), &source).is_err());
        bind_below(&root, Path::new("a/b"), &source).unwrap();
        bind_below(&root, Path::new("a/b"), &source).unwrap();
        assert_eq!(fs::read_to_string(root.join("a/b/file")).unwrap(), "bound");
        assert!(mounts().unwrap().iter().filter(|mounted| mounted.starts_with(&root)).count() == 1);
        unmount_below(&root).unwrap();
        assert!(!is_mounted(&root.join("a/b")).unwrap() && !outside.join("b/file").exists());
    }

    #[test]
    fn overlay_keeps_its_lower_layer() {
        let world = tempfile::tempdir().unwrap();
        let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|name| world.path().join(name));
        for directory in [&lower, &upper, &work, &target] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(lower.join("file"), "below").unwrap();
        fs::write(lower.join("secret"), "below").unwrap();
        whiteout(&upper.join("secret")).unwrap();
        overlay(std::slice::from_ref(&lower), &upper, &work, &target).unwrap();
        assert!(is_mounted(&target).unwrap());
        assert!(!target.join("secret").exists());
        fs::write(target.join("file"), "above").unwrap();
        unmount_below(&target).unwrap();
        assert_eq!(fs::read_to_string(lower.join("file")).unwrap(), "below");
        assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "above");
    }

    #[test]
    fn layers_are_mounted_and_found_whatever_they_are_called() {
        let world = tempfile::tempdir().unwrap();
        let names = [
            &b"a:b"[..],
            b"c,d",
            br"e\f",
            b"g h",
            b"i\nj",
            b"caf\xe9",
            b":",
            br"\072",
            b"k=l",
            b" - overlay ",
            b"\t,\\:",
        ];
        let directory = |name: &[u8]| {
            let path = world.path().join(OsStr::from_bytes(name));
            fs::create_dir_all(&path).unwrap();
            path
        };
        for (number, name) in names.iter().enumerate() {
            let lower = vec![directory(name), directory(names[(number + 1) % names.len()]), directory(b"plain")];
            let [upper, work, target] =
                [&b"upper"[..], b"work", b"target"].map(|kind| directory(&[kind, name, b"x"].concat()));
            fs::write(lower[0].join("file"), name).unwrap();
            overlay(&lower, &upper, &work, &target).unwrap();
            assert!(is_mounted(&target).unwrap());
            assert_eq!(fs::read(target.join("file")).unwrap(), *name);
            fs::write(target.join("new"), name).unwrap();
            assert_eq!(fs::read(upper.join("new")).unwrap(), *name);
            assert_eq!(Layers::of(&target).unwrap(), Some(Layers { upper, lower }));
            unmount_below(&target).unwrap();
            assert_eq!(Layers::of(&target).unwrap(), None);
        }
    }

    #[test]
    fn an_overlay_is_found_by_where_it_is_mounted() {
        let mounts = b"30 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
            44 30 0:45 / /a rw - overlay overlay rw,lowerdir=/x,upperdir=/y,workdir=/z\n\
            45 30 0:46 / /b rw master:3 - overlay overlay rw,lowerdir+=/1:,lowerdir+=/2,upperdir=/u,workdir=/w\n";
        let layers = Layers::find(Path::new("/b"), mounts).unwrap();
        assert_eq!((layers.lower, layers.upper), (vec!["/1:".into(), "/2".into()], "/u".into()));
        assert!(Layers::find(Path::new("/"), mounts).is_none());
        for damaged in [&b""[..], b"-", b"1 2 3 4 / - overlay", b"1 2 3 4 / - overlay o lowerdir"] {
            assert_eq!(Layers::find(Path::new("/"), damaged), None);
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c"), br"/a b\c");
        assert_eq!(unescape(b"\\9\\04\xe9\\"), b"\\9\\04\xe9\\");
    }
}

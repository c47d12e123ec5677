//! The files that a job has mapped for writing, and those that it has open for writing.
//!
//! A write through a mapping whose page is dirty already changes no attribute of the file. So each
//! file that was mapped during the pre-copy or at the freeze is sent again, under all its names.
//!
//! A write that ends in the background (AIO) is told to nobody, but changes the attributes. So a
//! file that is open for writing at the freeze is looked at again.
//!
//! Nothing of a name is parsed. The kernel has a link per mapping (`/proc/PID/map_files`). Device
//! and inode number tell which file it is. The link's text is a hint where to look for it first.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mooring_linux::mount;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// A file that a process of the job has mapped shared and writable, or open for writing, as the job
/// sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedFile {
    /// The name by which it was opened, if it still has that name.
    hint: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    is_in_memory: bool,
}

/// Finds the files that processes have mapped shared and writable. Skips processes and mappings
/// that end meanwhile, and files without a name.
pub(crate) fn find(pids: &[i32]) -> Vec<MappedFile> {
    let mut found = BTreeMap::new();
    for pid in pids {
        let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        for range in maps.split(|byte| *byte == b'\n').filter_map(written) {
            let link = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
            if let Some(file) = MappedFile::of(Path::new(&link)) {
                found.insert((file.device, file.inode), file);
            }
        }
    }
    found.into_values().collect()
}

/// Finds the files that processes have open for writing. Skips those without a name.
pub(crate) fn open_for_writing(pids: &[i32]) -> Vec<MappedFile> {
    let mut found = BTreeMap::new();
    for pid in pids {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for link in descriptors.map(|entry| entry.path()) {
            let is_written = fs::symlink_metadata(&link).is_ok_and(|link| link.mode() & nix::libc::S_IWUSR != 0);
            if is_written && let Some(file) = MappedFile::of(&link) {
                found.insert((file.device, file.inode), file);
            }
        }
    }
    found.into_values().collect()
}

impl MappedFile {
    /// The file to which a link in `/proc` leads, if it is a regular one and has a name.
    fn of(link: &Path) -> Option<Self> {
        let hint = fs::read_link(link).ok().filter(|hint| hint.is_absolute())?;
        let file = fs::metadata(link).ok().filter(|file| file.is_file() && file.nlink() > 0)?;
        let is_in_memory = statfs(link).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        Some(Self { hint, device: file.dev(), inode: file.ino(), size: file.len(), is_in_memory })
    }

    /// Says whether the file is in a file system in memory, which the job's layers are not for the
    /// job.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.is_in_memory
    }

    /// The path below the job's root at which the file should be.
    pub(crate) fn hint(&self) -> Option<&Path> {
        self.hint.strip_prefix("/").ok()
    }

    /// The size in bytes when the file was found.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Says whether the file is at this path below one of the directories.
    pub(crate) fn is_at(&self, roots: [&Path; 2], below: &Path) -> bool {
        roots.into_iter().any(|root| {
            mount::look_below(root, below).is_ok_and(|seen| (seen.dev(), seen.ino()) == (self.device, self.inode))
        })
    }
}

/// Returns the addresses of a shared, writable mapping of a file, by its line in `maps`.
fn written(line: &[u8]) -> Option<Range<u64>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    if !permissions.contains('w') || !permissions.ends_with('s') {
        return None;
    }
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::io::{Read, Write};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::process::{Child, Command, Stdio};

    use proptest::prelude::*;

    use crate::migrate::listing::Listing;

    use super::*;

    /// Maps the files whose names it is given, apart from each other by NUL.
    const MAPPER: &str = "import mmap, sys\n\
        names = [name for name in sys.stdin.buffer.read().split(b'\\0') if name]\n\
        maps = []\n\
        for name in names:\n \
            with open(name, 'r+b') as file: maps.append(mmap.mmap(file.fileno(), 0))\n\
        print(flush=True)\n\
        import time; time.sleep(60)";

    /// A process that has files mapped.
    struct Mapper(Child);

    impl Mapper {
        fn start(paths: &[PathBuf]) -> Self {
            let mut command = Command::new("python3");
            command.args(["-c", MAPPER]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let names: Vec<u8> = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect();
            child.stdin.take().unwrap().write_all(&names).unwrap();
            child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
            Self(child)
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Mapper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        let odd = prop::sample::select(vec![
            &b" "[..],
            b"  ",
            b"\t",
            b"\n",
            b"\\",
            b"\\012",
            b"\\040",
            b"\"",
            b"'",
            b" (deleted)",
            b"//deleted",
            b"\xe9",
            b"\xff\xfe",
            b"-",
            b":",
            b",",
            b"rw-s",
            b"[vdso]",
        ]);
        let any_bytes = prop::collection::vec(any::<u8>(), 1..255);
        let parts = prop::collection::vec(odd, 1..6).prop_map(|parts| parts.concat());
        let names = prop_oneof![parts, any_bytes, Just(vec![b'x'; 255])];
        names
            .prop_map(|name| name.into_iter().filter(|byte| !matches!(byte, 0 | b'/')).collect())
            .prop_filter("a name", |name: &Vec<u8>| {
                !name.is_empty() && name.len() <= 255 && name != b"." && name != b".."
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn mapped_files_are_found_whatever_their_names(
            names in prop::collection::btree_set(name(), 1..20),
            directory in name(),
        ) {
            let world = tempfile::tempdir().unwrap();
            let directory = PathBuf::from(std::ffi::OsString::from_vec(directory));
            fs::create_dir(world.path().join(&directory)).unwrap();
            let below: BTreeSet<PathBuf> = names.iter().map(|name| directory.join(OsStr::from_bytes(name))).collect();
            for (number, path) in below.iter().enumerate() {
                fs::write(world.path().join(path), vec![0; 100 + number % 3]).unwrap();
            }
            fs::write(world.path().join("other"), [0; 100]).unwrap();
            let paths: Vec<PathBuf> = below.iter().map(|path| world.path().join(path)).collect();
            let mapper = Mapper::start(&paths);
            let mapped = find(&[mapper.pid()]);
            let hints: BTreeSet<&Path> = mapped.iter().map(|file| file.hint.as_path()).collect();
            prop_assert_eq!(hints, paths.iter().map(PathBuf::as_path).collect());
            let listing = Listing::read(world.path()).unwrap();
            prop_assert_eq!(listing.names_of(&mapped, world.path(), Path::new("/")), below);
        }
    }

    #[test]
    fn a_file_is_found_under_all_names_that_it_has_now() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        for name in ["a", "gone", "other"] {
            fs::write(at(name), name).unwrap();
        }
        let mapper = Mapper::start(&[at("a"), at("gone")]);
        fs::hard_link(at("a"), at("b")).unwrap();
        fs::hard_link(at("a"), at("c")).unwrap();
        fs::remove_file(at("a")).unwrap();
        fs::remove_file(at("gone")).unwrap();
        let mapped = find(&[mapper.pid()]);
        assert_eq!(mapped.len(), 1, "{mapped:?}");
        let listing = Listing::read(world.path()).unwrap();
        let names = listing.names_of(&mapped, world.path(), world.path());
        assert_eq!(names, ["b", "c"].map(PathBuf::from).into());
        assert!(find(&[i32::MAX]).is_empty());
    }

    #[test]
    fn lines_of_mappings() {
        assert_eq!(written(b"1000-3000 rw-s 00000000 fd:00 12   /a b"), Some(0x1000..0x3000));
        assert_eq!(written(b"00400000-00600000 -w-s 00000000 fd:00 12 /\xe9 r--p"), Some(0x40_0000..0x60_0000));
        for other in ["1000-3000 r--s 0 00:00 0 /a", "1000-3000 rw-p 0 00:00 0 /a rw-s", "nonsense", ""] {
            assert_eq!(written(other.as_bytes()), None, "{other}");
        }
    }
}

//! The names that CRIU gives to open files which have lost the name they were opened by.
//!
//! Such a file is still there under another name, which CRIU does not know. CRIU links it as
//! `link_remap.N` beside the removed name. It removes that link once the dump is over. A restore
//! opens the file by the link and removes it as well.
//!
//! ```text
//!  hook before the dump     is there such a file?          expect
//!  hook after the dump      CRIU's links are noted         note
//!  CRIU removes them
//!  changed files are sent   the links are made meanwhile   Links
//! ```
//!
//! The job is frozen all the while and never sees a link. Links in a file system in memory move
//! with its content, which CRIU reads itself.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mooring_linux::mount;
use mooring_ops::log::chain;

use super::job_dir::JobDir;
use crate::error::{Error, Result};

/// The end of a removed file's path, as the kernel shows it.
const REMOVED: &[u8] = b" (deleted)";
/// The unit of a file's blocks.
const BLOCK_BYTES: u64 = 512;
/// The most bytes of removed files whose images are kept in memory.
const IN_MEMORY_MAX_BYTES: u64 = 16 << 20;
/// The beginning of the names that CRIU gives.
const LINK: &[u8] = b"link_remap.";

/// A file that has lost the name it was opened by, as the job sees it.
#[derive(Debug, PartialEq, Eq)]
struct Renamed {
    /// The removed name, below the job's root.
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A link of CRIU, and which file of the upper layer it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Below the upper layer.
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Returns the number of open files without any name, where they are too large to keep their images
/// in memory.
pub(crate) fn large_without_name(pids: &[i32]) -> Option<usize> {
    let mut sizes = BTreeMap::new();
    for pid in pids {
        for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let seen = fs::metadata(descriptor.path()).ok();
            if let Some(seen) = seen.filter(|seen| seen.nlink() == 0 && (seen.is_file() || seen.is_dir())) {
                sizes.insert((seen.dev(), seen.ino()), seen.blocks() * BLOCK_BYTES);
            }
        }
    }
    (sizes.values().sum::<u64>() > IN_MEMORY_MAX_BYTES).then_some(sizes.len())
}

/// Looks before a dump whether CRIU will make links. The existence of the file of links makes CRIU
/// ask after the dump.
pub(crate) fn expect(job_dir: &JobDir) -> Result<()> {
    clear(job_dir)?;
    let file = job_dir.criu_links();
    if renamed(&job_dir.cgroup().pids()).is_empty() {
        return Ok(());
    }
    fs::write(&file, "").map_err(Error::system(format!("write {}", file.display())))
}

/// Notes the links of a dump that is over, before CRIU removes them.
pub(crate) fn note(job_dir: &JobDir) -> Result<()> {
    let (upper, root, file) = (job_dir.upper(), job_dir.root(), job_dir.criu_links());
    let mut links: Vec<Link> = Vec::new();
    for renamed in renamed(&job_dir.cgroup().pids()) {
        links
            .extend(find(&upper, &root, &renamed).into_iter().filter(|link| !links.contains(link)).collect::<Vec<_>>());
    }
    fs::write(&file, encode(&links)).map_err(Error::system(format!("write {}", file.display())))
}

/// The links that were noted after the last dump.
pub(crate) fn noted(job_dir: &JobDir) -> Vec<Link> {
    decode(&fs::read(job_dir.criu_links()).unwrap_or_default())
}

/// Removes noted links that are still there, and forgets them.
pub(crate) fn clear(job_dir: &JobDir) -> Result<()> {
    drop(Links { upper: job_dir.upper(), made: noted(job_dir) });
    let file = job_dir.criu_links();
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}", file.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Removes what a dump that failed has left, where CRIU could not do so itself.
pub(crate) fn sweep(job_dir: &JobDir) {
    if !job_dir.criu_links().exists() {
        return;
    }
    if let Err(error) = note(job_dir).and_then(|()| clear(job_dir)) {
        tracing::warn!(error = %chain(&error), "links of CRIU may be left in {}", job_dir.container());
    }
}

/// Links that are removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Links {
    upper: PathBuf,
    made: Vec<Link>,
}

impl Links {
    /// Makes the links of a frozen job, each from a path below `upper` that leads to the same file.
    ///
    /// # Errors
    /// A link can't be made.
    pub(crate) fn make(upper: &Path, links: impl IntoIterator<Item = (Link, PathBuf)>) -> Result<Self> {
        let mut made = Self { upper: upper.to_owned(), made: Vec::new() };
        for (link, from) in links {
            let path = upper.join(&link.path);
            fs::hard_link(upper.join(from), &path).map_err(Error::system(format!("link {}", path.display())))?;
            made.made.push(link);
        }
        Ok(made)
    }

    /// Their paths below the upper layer.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.made.iter().map(|link| link.path.as_path())
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in &self.made {
            let is_there = mount::look_below(&self.upper, &link.path)
                .is_ok_and(|seen| (seen.dev(), seen.ino()) == (link.device, link.inode) && seen.nlink() > 1);
            if is_there && let Err(error) = fs::remove_file(self.upper.join(&link.path)) {
                tracing::warn!(%error, "{} stays", link.path.display());
            }
        }
    }
}

/// The files that processes have open or mapped, by a name that was removed, and that have another.
fn renamed(pids: &[i32]) -> Vec<Renamed> {
    let mut found = Vec::new();
    for pid in pids {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mapped = maps.split(|byte| *byte == b'\n').filter(|line| line.ends_with(REMOVED)).filter_map(|line| {
            let addresses = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
            let (start, end) = addresses.split_once('-')?;
            let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16));
            Some(PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", start.ok()?, end.ok()?)))
        });
        let links = descriptors.map(|entry| entry.path()).chain(mapped);
        found.extend(links.filter_map(|link| {
            let path = fs::read_link(&link).ok()?;
            let path = path.as_os_str().as_bytes().strip_suffix(REMOVED)?.strip_prefix(b"/")?;
            let seen = fs::metadata(&link).ok().filter(|seen| seen.nlink() > 0 && !seen.is_dir())?;
            Some(Renamed { path: OsStr::from_bytes(path).into(), device: seen.dev(), inode: seen.ino() })
        }));
    }
    found
}

/// Finds the links of a file: beside its removed name, or above it where that directory is gone.
fn find(upper: &Path, root: &Path, renamed: &Renamed) -> Vec<Link> {
    let is_it = |path: &Path| {
        let is = |at: &Path| {
            mount::look_below(at, path).is_ok_and(|seen| (seen.dev(), seen.ino()) == (renamed.device, renamed.inode))
        };
        // The overlay shows other numbers than its upper layer; a volume does not.
        is(root) || is(upper)
    };
    let links = |directory: &Path| -> Vec<Link> {
        let is_directory =
            directory.as_os_str().is_empty() || mount::look_below(upper, directory).is_ok_and(|seen| seen.is_dir());
        let entries = is_directory.then(|| fs::read_dir(upper.join(directory))).and_then(io::Result::ok);
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let paths = names.filter(|name| name.as_bytes().starts_with(LINK)).map(|name| directory.join(name));
        let known = |path: PathBuf| {
            let seen = mount::look_below(upper, &path).ok()?;
            Some(Link { path, device: seen.dev(), inode: seen.ino() })
        };
        paths.filter(|path| is_it(path)).filter_map(known).collect()
    };
    renamed.path.ancestors().skip(1).map(links).find(|found| !found.is_empty()).unwrap_or_default()
}

fn encode(links: &[Link]) -> Vec<u8> {
    let entry = |Link { path, device, inode }: &Link| {
        [format!("{device} {inode} ").as_bytes(), path.as_os_str().as_bytes(), b"\0"].concat()
    };
    links.iter().flat_map(entry).collect()
}

fn decode(noted: &[u8]) -> Vec<Link> {
    let entry = |entry: &[u8]| {
        let mut fields = entry.splitn(3, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (device, inode) = (number()?, number()?);
        Some(Link { path: OsStr::from_bytes(fields.next()?).into(), device, inode })
    };
    noted.split(|byte| *byte == 0).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_link_of_a_removed_name_is_noted_made_and_removed() {
        let world = tempfile::tempdir().unwrap();
        let upper = world.path().join("upper");
        let directory = OsStr::from_bytes(b"caf\xe9 (deleted)");
        fs::create_dir_all(upper.join(directory).join("gone")).unwrap();
        let at = |name: &str| upper.join(directory).join(name);
        let first = at("gone/first");
        fs::write(&first, "text").unwrap();
        let (open, lost) = (File::open(&first).unwrap(), File::create(at("lost")).unwrap());
        fs::hard_link(&first, at("second")).unwrap();
        fs::remove_dir_all(at("gone")).unwrap();
        fs::remove_file(at("lost")).unwrap();

        let found = renamed(&[i32::try_from(std::process::id()).unwrap()]);
        let mut found: Vec<_> =
            found.into_iter().filter(|renamed| Path::new("/").join(&renamed.path) == first).collect();
        assert_eq!(found.len(), 1, "{open:?} {lost:?}");
        // As the job would see it.
        found[0].path = first.strip_prefix(&upper).unwrap().to_owned();
        assert_eq!(find(&upper, &upper, &found[0]), []);
        fs::hard_link(format!("/proc/self/fd/{}", open.as_raw_fd()), at("no link")).unwrap_err();
        fs::hard_link(at("second"), at("link_remap.7")).unwrap();
        fs::write(at("link_remap.8"), "of the job").unwrap();
        let links = find(&upper, &upper, &found[0]);
        let path = Path::new(directory).join("link_remap.7");
        assert_eq!(links.iter().map(|link| &link.path).collect::<Vec<_>>(), [&path]);
        assert_eq!(decode(&encode(&links)), links);
        fs::remove_file(at("link_remap.7")).unwrap();

        let again = links.iter().map(|link| (link.clone(), Path::new(directory).join("second")));
        let made = Links::make(&upper, again).unwrap();
        assert_eq!(made.paths().collect::<Vec<_>>(), [&path]);
        assert_eq!(fs::metadata(at("second")).unwrap().nlink(), 2);
        drop(made);
        assert!(!at("link_remap.7").exists() && at("link_remap.8").exists());
    }
}

//! The files of a checkpoint during a migration: CRIU's images in memory, the job's memory and
//! removed files on disk.
//!
//! ```text
//!  images-ID/            a tmpfs
//!    core-1.img, tcp-stream-7a.img, …  thousands of small files if a job has thousands of sockets
//!    pages-1.img ─► memory-ID/pages-1.img  as large as the job
//! ```
//!
//! CRIU creates a file per socket and process. A new file costs half a millisecond on a journaling
//! file system, and a hundredth of that on a tmpfs. The difference is part of the pause, on both
//! hosts. Pages are few files and can be larger than the machine's memory, and so are the images of
//! removed files (`ghost-file-N.img`). They stay on disk: CRIU opens their names, which are links
//! to files there.
//!
//! The tmpfs outlives the agent but not the machine, like the job itself.
//! [`Checkpoint::put_on_disk`] keeps a checkpoint for longer.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mooring_linux::{mount, tree};

use crate::error::{Error, Result, StreamError};

/// The mount options of the tmpfs. The kernel's default limit, half of the machine's memory, has
/// room for full socket queues.
const TMPFS_OPTIONS: &str = "mode=700";
/// The beginning of the names of CRIU's images of removed files.
const REMOVED_FILE: &str = "ghost-file-";
/// The links in addition to one per process. CRIU numbers the files with memory from 1: one per
/// process and one per shared memory segment.
const SPARE_LINKS: usize = 64;

/// The links in addition to one per removed file.
const SPARE_REMOVED: usize = 16;

/// The two directories of one checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    images: PathBuf,
    memory: PathBuf,
}

impl Checkpoint {
    /// The checkpoint `name` in the directory of a generation of a job.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        Self { images: directory.join(format!("images-{name}")), memory: directory.join(format!("memory-{name}")) }
    }

    /// The directory that CRIU reads and writes.
    pub(crate) fn images(&self) -> &Path {
        &self.images
    }

    /// Creates the empty directories; replaces an earlier checkpoint.
    pub(crate) fn make(&self) -> Result<()> {
        self.remove()?;
        fs::create_dir_all(&self.memory).map_err(Error::system(format!("make {}", self.memory.display())))?;
        Ok(mount::tmpfs(&self.images, TMPFS_OPTIONS)?)
    }

    /// Creates the empty directories, both on disk; replaces an earlier checkpoint.
    pub(crate) fn make_on_disk(&self) -> Result<()> {
        self.remove()?;
        fs::create_dir_all(&self.images).map_err(Error::system(format!("make {}", self.images.display())))
    }

    /// Creates the links for a checkpoint of `processes` processes.
    pub(crate) fn expect_memory(&self, processes: usize) -> Result<()> {
        let numbers = 1..=u32::try_from(processes + SPARE_LINKS).unwrap_or(u32::MAX);
        numbers.map(memory_name).try_for_each(|name| self.link(&name))
    }

    /// Creates the links for a checkpoint of `count` files that have no name any more.
    pub(crate) fn expect_removed_files(&self, count: usize) -> Result<()> {
        // CRIU numbers them from 1.
        let numbers = 1..=count + SPARE_REMOVED;
        numbers.map(|number| format!("{REMOVED_FILE}{number:x}.img")).try_for_each(|name| self.link(&name))
    }

    /// Creates an empty image in its directory.
    ///
    /// # Errors
    /// The file can't be created, or `name` is not the name of an image.
    pub(crate) fn create(&self, name: &str) -> Result<File> {
        let path = self.images.join(name);
        if name.contains('/') || name.starts_with('.') {
            return Err(StreamError::ImageName { name: name.to_owned() }.into());
        }
        if (is_memory(name) || name.starts_with(REMOVED_FILE)) && fs::symlink_metadata(&path).is_err() {
            self.link(name)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        file.map_err(Error::system(format!("write {}", path.display())))
    }

    /// The names of all images, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = || format!("read {}", self.images.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.images).map_err(Error::system(failed()))? {
            let entry = entry.map_err(Error::system(failed()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // CRIU did not use a link without a target.
            if (name.ends_with(".img") || name == "descriptors.json") && entry.path().exists() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The size of all images in bytes.
    pub(crate) fn size(&self) -> u64 {
        let entries = fs::read_dir(&self.images).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|found| found.len()).sum()
    }

    /// Copies the checkpoint from the tmpfs to disk, where it survives a reboot.
    ///
    /// # Errors
    /// The disk is full, for example; the checkpoint stays on the tmpfs.
    pub(crate) fn put_on_disk(&self) -> Result<()> {
        if !mount::is_mounted(&self.images)? {
            return Ok(());
        }
        let copy = self.images.with_extension("disk");
        tree::remove_tree(&copy)?;
        copy_files(&self.images, &copy).map_err(Error::system(format!("copy {} to disk", self.images.display())))?;
        mount::unmount_below(&self.images)?;
        tree::remove_tree(&self.images)?;
        fs::rename(&copy, &self.images).map_err(Error::system(format!("keep {}", self.images.display())))
    }

    /// Renames the checkpoint, so that a new one can be created while this one is removed. On a
    /// tmpfs it keeps its name.
    pub(crate) fn set_aside(self) -> Self {
        let used = |path: &Path| path.with_file_name(format!("used-{:016x}", rand::random::<u64>()));
        let aside = Self { images: used(&self.images), memory: used(&self.memory) };
        if fs::rename(&self.images, &aside.images).is_err() {
            return self;
        }
        match fs::rename(&self.memory, &aside.memory) {
            Ok(()) => aside,
            Err(_) => Self { images: aside.images, memory: self.memory },
        }
    }

    /// Removes the checkpoint, if it exists.
    ///
    /// # Errors
    /// The checkpoint is in use, or can't be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        mount::unmount_below(&self.images)?;
        tree::remove_tree(&self.images)?;
        Ok(tree::remove_tree(&self.memory)?)
    }

    fn link(&self, name: &str) -> Result<()> {
        let path = self.images.join(name);
        // A relative link: a restored process reads its memory through a descriptor of the
        // directory, when its root is the container's.
        let directory = self.memory.file_name().map_or_else(PathBuf::new, |name| Path::new("..").join(name));
        symlink(directory.join(name), &path).map_err(Error::system(format!("link {}", path.display())))
    }
}

/// Returns the name of the memory image with that number.
pub(crate) fn memory_name(number: u32) -> String {
    format!("pages-{number}.img")
}

/// Returns the number of a memory image by its name.
pub(crate) fn memory_number(name: &str) -> Option<u32> {
    name.strip_prefix("pages-")?.strip_suffix(".img")?.parse().ok()
}

/// Returns whether an image has memory.
pub(crate) fn is_memory(name: &str) -> bool {
    memory_number(name).is_some()
}

/// Copies the files and links of one directory, without mounts that CRIU left in it.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        let kind = fs::symlink_metadata(&entry)?.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(&entry)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&entry, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Ipv4Addr;

    use mooring_types::{Generation, JobId};

    use crate::runtime::job_dir::JobDir;

    use super::*;

    #[test]
    fn memory_lies_on_disk_and_everything_survives_there() {
        let world = tempfile::tempdir().unwrap();
        let job = JobId::random(&mut rand::rng());
        let job_dir = JobDir::new(world.path(), "mooring", "m", &job, Generation(1), Ipv4Addr::LOCALHOST);
        let checkpoint = Checkpoint::new(job_dir.directory(), "test");
        checkpoint.make().unwrap();
        checkpoint.expect_memory(2).unwrap();
        // As CRIU does it: by the names, without a look at what is there.
        fs::write(checkpoint.images().join("pages-2.img"), "memory").unwrap();
        fs::write(checkpoint.images().join("core-1.img"), "core").unwrap();
        checkpoint.create("pages-1000.img").unwrap().write_all(b"more").unwrap();
        assert!(checkpoint.create("../x").is_err());
        let names = ["core-1.img", "pages-1000.img", "pages-2.img"];
        assert_eq!(checkpoint.names().unwrap(), names);
        assert_eq!(checkpoint.size(), 14);
        assert!(mount::is_mounted(checkpoint.images()).unwrap());
        assert_eq!(fs::read(job_dir.directory().join("memory-test/pages-2.img")).unwrap(), b"memory");

        checkpoint.put_on_disk().unwrap();
        checkpoint.put_on_disk().unwrap();
        assert!(!mount::is_mounted(checkpoint.images()).unwrap());
        assert_eq!(checkpoint.names().unwrap(), names);
        assert_eq!(fs::read(checkpoint.images().join("pages-2.img")).unwrap(), b"memory");

        checkpoint.remove().unwrap();
        checkpoint.remove().unwrap();
        assert_eq!(fs::read_dir(job_dir.directory()).unwrap().count(), 0);
    }
}

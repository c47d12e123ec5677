//! The inode numbers of a job's files, which stay what they are where it goes.
//!
//! A file that is copied to another host is another inode there. Programs notice: SQLite compares the number of the database that it has
//! open with that of the file at its path before each transaction, and refuses to write where they differ. No file system makes a file with
//! a given number. But an overlay shows a copied-up file under the number of what it is a copy of, wherever that lies (`ovl_getattr`
//! in Linux's `fs/overlayfs/inode.c`). So each file that the job has open is said to be a copy of an empty file with the
//! wanted number, and those are in a file system made for the purpose:
//!
//! ```text
//!  g<generation>/
//!    images-…/inodes.img    what is to be kept, written down before a dump: it moves with the images
//!    inodes.ext4            a sparse ext4 with an empty file of each number, made without mounting it by `debugfs`
//!    inodes/                where that is mounted, read-only; `inodes/none` is the last lower layer of the job's root
//!    upper/…                the files, each with the handle of its empty file in `trusted.overlay.origin`
//! ```
//!
//! The file system takes some 40 ms, and is made while the job's memory still comes ([`prepare`]). Not kept: what is not open, has several names, or lies in a
//! volume; and device numbers, which belong to a mount. Where a step fails the job is restored all the same, with other numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use mooring_linux::mount;
use tokio::process::Command;

use super::job_dir::JobDir;
use super::tool;
use crate::error::{Error, Result};

/// Where the numbers are written down: beside CRIU's images, by a name of which it has none.
pub(crate) const INODE_LIST: &str = "inodes.img";
/// The empty directory that is a layer of the root.
const NONE: &str = "none";
/// How many inodes a group of ext4's blocks has at most, where there is one for each block of 4 KiB, and how large the group is then.
const GROUP: (u64, u64) = (32_768, 128 << 20);
/// The highest number that is kept: ext4 has no higher ones, and its descriptions of groups grow by it.
const NUMBER_MAX: u64 = 1 << 28;
/// The numbers below it are ext4's own.
const NUMBER_MIN: u64 = 16;
/// Where ext4 has its UUID.
const UUID_AT: u64 = 1024 + 0x68;
const GENERATION: u32 = 1;

type InodeNumbers = BTreeMap<PathBuf, u64>;

/// Writes down the numbers of the files that these processes have open in the overlay that is mounted at `root`.
///
/// # Errors
/// They can't be written.
pub(crate) fn record(pids: &[i32], root: &Path, images: &Path) -> Result<()> {
    let mut numbers = InodeNumbers::new();
    for pid in pids {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for descriptor in descriptors {
            let (Ok(open), Ok(path)) = (fs::metadata(descriptor.path()), fs::read_link(descriptor.path())) else {
                continue;
            };
            let Ok(below) = path.strip_prefix("/") else { continue };
            // A file of the same path and number, and no other: one that was removed or lies in another mount is none.
            let there = fs::symlink_metadata(root.join(below));
            if there.is_ok_and(|there| there.is_file() && there.nlink() == 1 && there.ino() == open.ino()) {
                numbers.insert(below.to_owned(), open.ino());
            }
        }
    }
    let path = images.join(INODE_LIST);
    let failed = |error: io::Error| Error::system(format!("write {}", path.display()))(error);
    let text = serde_json::to_vec(&numbers).map_err(|error| failed(error.into()))?;
    fs::write(&path, text).map_err(failed)
}

/// Makes the file system for the numbers that are written down beside `images`, before the files are there that get them.
///
/// # Errors
/// It could not be made or mounted.
pub(crate) async fn prepare(job_dir: &JobDir, images: &Path) -> Result<()> {
    let numbers = recorded(images)?;
    if numbers.is_empty() { Ok(()) } else { mount_new(job_dir, &numbers).await }
}

/// Has the files in the upper layer of a place keep the numbers that are written down beside `images`, once an overlay is mounted with the layer
/// that is given back, if it takes one. No overlay may be mounted yet.
///
/// # Errors
/// The file system with the numbers could not be made or mounted.
pub(super) async fn apply(job_dir: &JobDir, images: &Path) -> Result<Option<PathBuf>> {
    let directory = job_dir.inodes();
    let mut numbers = recorded(images)?;
    let mut seen = BTreeSet::new();
    numbers.retain(|path, number| {
        let found = mount::open_below(&job_dir.upper(), path).and_then(|file| file.metadata());
        let differs = found.is_ok_and(|found| found.is_file() && found.nlink() == 1 && found.ino() != *number);
        differs && seen.insert(*number)
    });
    if numbers.is_empty() {
        mount::unmount_below(&directory)?;
        return Ok(None);
    }
    // A number that is not there was not written down when it was made, by an earlier attempt say.
    let has = |number: &u64| directory.join(number.to_string()).exists();
    if !mount::is_mounted(&directory)? || !numbers.values().all(has) {
        mount_new(job_dir, &numbers).await?;
    }
    let uuid = uuid_of(&image(job_dir))?;
    for (path, number) in &numbers {
        let told = mount::open_below(&job_dir.upper(), path)
            .and_then(|file| mount::set_origin(&file, &origin(&uuid, *number)));
        told.map_err(Error::system(format!("keep the inode number of {}", path.display())))?;
    }
    Ok(Some(directory.join(NONE)))
}

/// The numbers that are written down beside `images`, as far as they can be kept.
fn recorded(images: &Path) -> Result<InodeNumbers> {
    let path = images.join(INODE_LIST);
    let failed = |error: io::Error| Error::system(format!("read {}", path.display()))(error);
    // One that was made before there was such a list has none.
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(InodeNumbers::new()),
        other => other.map_err(failed)?,
    };
    let mut numbers: InodeNumbers = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    numbers.retain(|_, number| (NUMBER_MIN..NUMBER_MAX).contains(number));
    Ok(numbers)
}

fn image(job_dir: &JobDir) -> PathBuf {
    job_dir.inodes().with_extension("ext4")
}

/// Makes and mounts a file system with these numbers, in place of one that is there.
async fn mount_new(job_dir: &JobDir, numbers: &InodeNumbers) -> Result<()> {
    let (directory, image) = (job_dir.inodes(), image(job_dir));
    mount::unmount_below(&directory)?;
    make(&image, numbers).await?;
    fs::create_dir_all(&directory).map_err(Error::system(format!("make {}", directory.display())))?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "ext4", "-o", "loop,ro,nosuid,nodev,noexec"]).arg(&image).arg(&directory);
    tool::run(mount).await
}

fn uuid_of(image: &Path) -> Result<[u8; 16]> {
    let mut uuid = [0; 16];
    let read = fs::File::open(image).and_then(|file| file.read_exact_at(&mut uuid, UUID_AT));
    read.map(|()| uuid).map_err(Error::system(format!("read {}", image.display())))
}

/// Makes a file system with an empty file of each number, in place of one that is there.
async fn make(image: &Path, numbers: &InodeNumbers) -> Result<()> {
    let failed = || format!("make {}", image.display());
    let highest = numbers.values().max().copied().unwrap_or_default();
    let (inodes, bytes) = GROUP;
    match fs::remove_file(image) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::system(failed())(error)),
        _ => {}
    }
    let file = fs::File::create_new(image).map_err(Error::system(failed()))?;
    file.set_len((highest / inodes + 1) * bytes).map_err(Error::system(failed()))?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-m", "0", "-b", "4096", "-i", "4096", "-O", "^has_journal,^resize_inode"]);
    mkfs.args(["-E", "nodiscard,lazy_itable_init=1"]).arg(image);
    tool::run(mkfs).await?;
    let mut debugfs = Command::new("debugfs");
    debugfs.args(["-w", "-f", "-"]).arg(image);
    // It tells of failures in its words alone, which the mount finds out.
    tool::run_with(debugfs, &script(numbers)).await
}

/// What `debugfs` is told.
fn script(numbers: &InodeNumbers) -> String {
    let mut script = format!("mkdir {NONE}\n");
    let each: BTreeSet<_> = numbers.values().collect();
    for number in each {
        let fields = format!("mode 0100600\nlinks_count 1\ngeneration {GENERATION}");
        // To a string everything can be written.
        let _ = writeln!(script, "seti <{number}>");
        for field in fields.lines() {
            let _ = writeln!(script, "sif <{number}> {field}");
        }
        let _ = writeln!(script, "ln <{number}> {number}");
    }
    script
}

/// The handle of the empty file with a number as overlays keep it (`struct ovl_fb` in Linux's `fs/overlayfs/overlayfs.h`): version, magic,
/// length, flags of a little-endian machine, the kind of ext4's handle (`FILEID_INO32_GEN`), its file system, and inode with generation.
fn origin(uuid: &[u8; 16], number: u64) -> Vec<u8> {
    let flags = u8::from(cfg!(target_endian = "big"));
    let number = u32::try_from(number).unwrap_or_default();
    let mut origin = vec![0, 0xFB, 29, flags, 1];
    origin.extend(uuid);
    origin.extend(number.to_ne_bytes());
    origin.extend(GENERATION.to_ne_bytes());
    origin
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mooring_types::{Generation, JobId};

    use super::*;

    #[tokio::test]
    async fn a_copied_file_is_shown_with_the_number_that_it_had() {
        let world = tempfile::tempdir().unwrap();
        let jobs = world.path();
        let job_dir =
            JobDir::new(jobs, "mooring", "m", &JobId::random(&mut rand::rng()), Generation(1), Ipv4Addr::LOCALHOST);
        for directory in
            [job_dir.upper().join("a"), job_dir.work(), job_dir.root(), jobs.join("lower"), jobs.join("images")]
        {
            fs::create_dir_all(directory).unwrap();
        }
        for file in ["a/open", "other", "twice"] {
            fs::write(job_dir.upper().join(file), file).unwrap();
        }
        fs::hard_link(job_dir.upper().join("twice"), job_dir.upper().join("again")).unwrap();
        std::os::unix::fs::symlink("/etc", job_dir.upper().join("link")).unwrap();
        let number = |file: &str| fs::metadata(job_dir.root().join(file)).unwrap().ino();
        let asked =
            [("a/open", 16_000_123), ("twice", 77_777), ("link/passwd", 88_888), ("gone", 99_999), ("other", 3)];
        let asked: InodeNumbers = asked.into_iter().map(|(path, number)| (path.into(), number)).collect();
        fs::write(jobs.join("images").join(INODE_LIST), serde_json::to_vec(&asked).unwrap()).unwrap();
        for again in 0..3 {
            if again == 1 {
                // As when the list comes before the files do.
                prepare(&job_dir, &jobs.join("images")).await.unwrap();
            }
            let layer = apply(&job_dir, &jobs.join("images")).await.unwrap().unwrap();
            mount::overlay(&[jobs.join("lower"), layer], &job_dir.upper(), &job_dir.work(), &job_dir.root()).unwrap();
            assert_eq!(number("a/open"), 16_000_123);
            assert!(number("other") > 3 && number("twice") != 77_777);
            assert_eq!(fs::read_to_string(job_dir.root().join("a/open")).unwrap(), "a/open");
            let mut seen: Vec<_> =
                fs::read_dir(job_dir.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            seen.sort();
            assert_eq!(seen, ["a", "again", "link", "other", "twice"]);

            mount::unmount_below(job_dir.directory()).unwrap();
        }
        fs::remove_file(jobs.join("images").join(INODE_LIST)).unwrap();
        assert_eq!(apply(&job_dir, &jobs.join("images")).await.unwrap(), None);
    }
}

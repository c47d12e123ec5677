//! The inode list: a job's open files keep their inode numbers across a migration.
//!
//! A copied file has another inode number on another host. Programs notice. Before each transaction
//! SQLite compares the number of its open database with that of its path. It refuses to write when
//! they differ. No file system creates a file with a given number. But an overlay
//! shows a copied-up file under the number of its origin in a lower layer (`ovl_getattr` in Linux's
//! `fs/overlayfs/inode.c`). So each open file is marked as a copy of an empty file that has the
//! number. A file system is built for these empty files:
//!
//! ```text
//!  g<generation>/
//!    images-…/inodes.img    the inode list, recorded before a dump; it moves with the images
//!    inodes.ext4            the inode file system: a sparse ext4 with an empty file per number,
//!                           built by `debugfs` without a mount
//!    inodes/                its read-only mount; `inodes/none` is the last lower layer of the root
//!    upper/…                the files, each with the handle of its empty file in
//!                           `trusted.overlay.origin`
//! ```
//!
//! The inode file system takes some 40 ms and is built while memory arrives ([`prepare`]). Files
//! that are not open or are in a volume get new inode numbers. Device numbers
//! belong to a mount and change. When a step fails, the job is restored with other numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use mooring_linux::mount;
use tokio::process::Command;

use super::job_dir::JobDir;
use super::tool;
use crate::error::{Error, Result};

/// The file name of the inode list, beside CRIU's images (CRIU uses no such name).
pub(crate) const INODE_LIST: &str = "inodes.img";
/// The empty directory that is the last lower layer of the root.
const EMPTY_LAYER: &str = "none";
/// The most inodes of an ext4 block group with one inode per 4 KiB block, and the size of that
/// group in bytes.
const EXT4_GROUP: (u64, u64) = (32_768, 128 << 20);
/// The highest number that is kept; a file system with higher ones needs too many group
/// descriptors.
const INODE_NUMBER_MAX: u64 = 1 << 28;
/// The lowest number that is kept; ext4 reserves those below.
const INODE_NUMBER_MIN: u64 = 16;
/// The offset of the UUID in an ext4 image.
const EXT4_UUID_OFFSET: u64 = 1024 + 0x68;
const GENERATION: u32 = 1;

type InodeNumbers = BTreeMap<PathBuf, u64>;

/// Records the inode numbers of the files that these processes have open in the overlay at `root`.
pub(crate) fn record(pids: &[i32], root: &Path, images: &Path) -> Result<()> {
    let mut numbers = InodeNumbers::new();
    for pid in pids {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for descriptor in descriptors {
            let (Ok(open), Ok(path)) = (fs::metadata(descriptor.path()), fs::read_link(descriptor.path())) else {
                continue;
            };
            let Ok(below) = path.strip_prefix("/") else { continue };
            // A removed file, or a file of another mount, has another number at that path.
            let there = fs::symlink_metadata(root.join(below));
            if there.is_ok_and(|there| there.is_file() && there.ino() == open.ino()) {
                numbers.insert(below.to_owned(), open.ino());
            }
        }
    }
    let path = images.join(INODE_LIST);
    fs::write(&path, encode(&numbers)).map_err(Error::system(format!("write {}", path.display())))
}

/// Encodes the list: a number, a blank, the bytes of the path and NUL for each file.
fn encode(numbers: &InodeNumbers) -> Vec<u8> {
    let entry = |(path, number): (&PathBuf, &u64)| {
        [number.to_string().as_bytes(), b" ", path.as_os_str().as_bytes(), b"\0"].concat()
    };
    numbers.iter().flat_map(entry).collect()
}

/// Decodes a list. Older capsules have it in JSON, where all paths are UTF-8.
fn decode(list: &[u8]) -> io::Result<InodeNumbers> {
    if list.starts_with(b"{") {
        return Ok(serde_json::from_slice(list)?);
    }
    let entry = |entry: &[u8]| {
        let (number, path) = entry.split_at_checked(entry.iter().position(|byte| *byte == b' ')?)?;
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some((PathBuf::from(OsStr::from_bytes(&path[1..])), number))
    };
    let entries = list.split(|byte| *byte == 0).filter(|bytes| !bytes.is_empty());
    entries.map(entry).collect::<Option<_>>().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Builds and mounts the inode file system for the list beside `images`, before the files arrive.
pub(crate) async fn prepare(job_dir: &JobDir, images: &Path) -> Result<()> {
    let numbers = recorded(images)?;
    if numbers.is_empty() { Ok(()) } else { mount_new(job_dir, &numbers).await }
}

/// Marks the files in the upper layer as copies of the empty files with the recorded numbers.
/// Returns the lower layer that the overlay needs for that, if any. The overlay must not be mounted
/// yet.
///
/// # Errors
/// The inode file system can't be built or mounted.
pub(super) async fn apply(job_dir: &JobDir, images: &Path) -> Result<Option<PathBuf>> {
    let directory = job_dir.inodes();
    let mut numbers = recorded(images)?;
    let mut seen = BTreeSet::new();
    numbers.retain(|path, number| {
        let found = mount::open_below(&job_dir.upper(), path).and_then(|file| file.metadata());
        let differs = found.is_ok_and(|found| found.is_file() && found.ino() != *number);
        differs && seen.insert(*number)
    });
    if numbers.is_empty() {
        mount::unmount_below(&directory)?;
        return Ok(None);
    }
    // An earlier attempt may have built the file system from another list.
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
    Ok(Some(directory.join(EMPTY_LAYER)))
}

/// The recorded numbers beside `images` that can be kept.
fn recorded(images: &Path) -> Result<InodeNumbers> {
    let path = images.join(INODE_LIST);
    let failed = |error: io::Error| Error::system(format!("read {}", path.display()))(error);
    // Older capsules have no inode list.
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(InodeNumbers::new()),
        other => other.map_err(failed)?,
    };
    let mut numbers = decode(&text).map_err(failed)?;
    numbers.retain(|_, number| (INODE_NUMBER_MIN..INODE_NUMBER_MAX).contains(number));
    Ok(numbers)
}

fn image(job_dir: &JobDir) -> PathBuf {
    job_dir.inodes().with_extension("ext4")
}

/// Builds and mounts an inode file system; replaces an earlier one.
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
    let read = fs::File::open(image).and_then(|file| file.read_exact_at(&mut uuid, EXT4_UUID_OFFSET));
    read.map(|()| uuid).map_err(Error::system(format!("read {}", image.display())))
}

/// Builds a file system with an empty file per number; replaces an earlier one.
async fn make(image: &Path, numbers: &InodeNumbers) -> Result<()> {
    let failed = || format!("make {}", image.display());
    let highest = numbers.values().max().copied().unwrap_or_default();
    let (inodes, bytes) = EXT4_GROUP;
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
    // `debugfs` exits with 0 after a failure; the mount finds out.
    tool::run_with(debugfs, &script(numbers)).await
}

/// The commands for `debugfs`.
fn script(numbers: &InodeNumbers) -> String {
    let mut script = format!("mkdir {EMPTY_LAYER}\n");
    let each: BTreeSet<_> = numbers.values().collect();
    for number in each {
        let fields = format!("mode 0100600\nlinks_count 1\ngeneration {GENERATION}");
        // A write to a string can't fail.
        let _ = writeln!(script, "seti <{number}>");
        for field in fields.lines() {
            let _ = writeln!(script, "sif <{number}> {field}");
        }
        let _ = writeln!(script, "ln <{number}> {number}");
    }
    script
}

/// The handle of the empty file with a number, in the overlay's format (`struct ovl_fb` in Linux's
/// `fs/overlayfs/overlayfs.h`).
///
/// The parts are version, magic, length, flags of a little-endian machine, the type
/// of ext4's handle (`FILEID_INO32_GEN`), the file system's UUID, inode number and generation.
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
        fs::write(jobs.join("images").join(INODE_LIST), encode(&asked)).unwrap();
        for again in 0..3 {
            if again == 1 {
                // As when the list comes before the files do.
                prepare(&job_dir, &jobs.join("images")).await.unwrap();
            }
            let layer = apply(&job_dir, &jobs.join("images")).await.unwrap().unwrap();
            mount::overlay(&[jobs.join("lower"), layer], &job_dir.upper(), &job_dir.work(), &job_dir.root()).unwrap();
            assert_eq!(number("a/open"), 16_000_123);
            assert!(number("other") > 3);
            // By any of its names, and by those that are made and removed later.
            assert_eq!([number("twice"), number("again")], [77_777; 2]);
            fs::hard_link(job_dir.root().join("again"), job_dir.root().join("passing")).unwrap();
            assert_eq!(fs::metadata(job_dir.root().join("twice")).unwrap().nlink(), 3);
            fs::remove_file(job_dir.root().join("passing")).unwrap();
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

    #[test]
    fn paths_are_bytes_and_older_lists_are_read() {
        let names = [&b"plain"[..], b"a b", b" ", b"caf\xe9/\xff", b"1 2\n", b"{"];
        let numbers: InodeNumbers =
            names.iter().zip(20..).map(|(name, n)| (OsStr::from_bytes(name).into(), n)).collect();
        assert_eq!(decode(&encode(&numbers)).unwrap(), numbers);
        assert_eq!(decode(b"").unwrap(), InodeNumbers::new());
        assert_eq!(decode(b"{}").unwrap(), InodeNumbers::new());
        assert_eq!(
            decode(br#"{"var/a b":77,"var/c":78}"#).unwrap(),
            [("var/a b".into(), 77), ("var/c".into(), 78)].into()
        );
        for damaged in [&b"7\0"[..], b"seven x\0", b"7 x\0y\0"] {
            assert!(decode(damaged).is_err(), "{damaged:?}");
        }
    }
}

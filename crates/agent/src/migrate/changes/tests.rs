use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mooring_linux::mount;

use super::super::files::{self, FileReceiver, Unreadable};
use super::super::listing::{Difference, Listing};
use super::super::stream::frame::{self, Frame};
use super::*;

/// Changes a tree at random: names, content, attributes, links, holes, whole directories.
const CHANGE: &str = r#"
import ctypes, mmap, os, random, shutil, stat, sys
root, seed, count = os.fsencode(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
pick = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
NAMES = [b"a", b"b", b"c", b"d e", b"-dash", b"caf\xe9", b"line\nfeed", b"\\012", b"lower", b"sub", b"f"]
os.chdir(root)

def all_of(kind):
    found = []
    for directory, names, files in os.walk(b"."):
        found += [os.path.join(directory, name) for name in (names if kind == "directories" else files)]
    return found or [b"none"]

def directory():
    return pick.choice(all_of("directories") + [b".", b"."])

def file():
    return pick.choice(all_of("files"))

def new():
    return os.path.join(directory(), pick.choice(NAMES) + (b"%d" % pick.randrange(30)))

def regular():
    return pick.choice([name for name in all_of("files") if os.path.isfile(name) and not os.path.islink(name)] or [b"none"])

def write():
    with open(new(), "wb") as out:
        out.write(pick.randbytes(pick.randrange(6000)))

def overwrite():
    with open(regular(), "r+b") as out:
        out.seek(pick.randrange(max(os.fstat(out.fileno()).st_size, 1)))
        out.write(b"x")

def append():
    with open(regular(), "ab") as out:
        out.write(b"more")

def cut():
    os.truncate(regular(), pick.randrange(9000))

def hole():
    with open(new(), "wb") as out:
        out.seek(1 << 20)
        out.write(b"end")
        out.truncate(3 << 20)

def mapped():
    with open(regular(), "r+b") as out:
        out.truncate(5000)
        with mmap.mmap(out.fileno(), 0) as memory:
            memory[pick.randrange(5000)] = pick.randrange(256)

def mode():
    os.chmod(pick.choice([regular(), directory()]), 0o700 | pick.randrange(0o100))

def owner():
    os.chown(pick.choice([file(), directory()]), pick.randrange(9), pick.randrange(9), follow_symlinks=False)

def times():
    os.utime(pick.choice([file(), directory()]), ns=(pick.randrange(10 ** 18), pick.randrange(10 ** 18)), follow_symlinks=False)

def attribute():
    os.setxattr(pick.choice([regular(), directory()]), b"user.a%d" % pick.randrange(3), pick.randbytes(4))

def no_attribute():
    name = pick.choice([regular(), directory()])
    attributes = [a for a in os.listxattr(name) if a.startswith("user.")]
    os.removexattr(name, attributes[0]) if attributes else None

def link():
    name = file()
    # tar makes two fifos of one with two names.
    if not stat.S_ISFIFO(os.lstat(name).st_mode):
        os.link(name, new(), follow_symlinks=False)

def linked_and_written():
    name, other = new(), new()
    with open(name, "xb") as out:
        out.write(b"before")
        out.flush()
        os.link(name, other)
        os.unlink(name)
        out.write(b"after")

def write_by_the_other_name():
    names = [name for name in all_of("files") if not os.path.islink(name) and os.lstat(name).st_nlink > 1]
    if names:
        name = pick.choice(names)
        inode = os.lstat(name).st_ino
        others = [other for other in names if other != name and os.lstat(other).st_ino == inode]
        os.unlink(name)
        if others and os.path.isfile(others[0]):
            with open(others[0], "ab") as out:
                out.write(b"by the other name")

def nameless():
    descriptor = os.open(directory(), os.O_TMPFILE | os.O_RDWR)
    os.write(descriptor, b"named later")
    os.link(f"/proc/self/fd/{descriptor}", new(), follow_symlinks=True)
    os.close(descriptor)

def symlink():
    os.symlink(pick.choice([b"nowhere", b"/etc", b"..", b"lower"]), new())

def fifo():
    os.mkfifo(new())

def make():
    os.mkdir(new())

def remove():
    os.unlink(file())

def remove_all():
    shutil.rmtree(directory())

def remove_and_make():
    name = directory()
    shutil.rmtree(name)
    os.mkdir(name)
    with open(os.path.join(name, b"in another"), "wb") as out:
        out.write(b"new")

def rename():
    os.rename(file(), pick.choice([new(), file()]))

def move():
    os.rename(directory(), new())

def exchange():
    one, other = pick.choice([file(), directory()]), pick.choice([file(), directory()])
    libc.renameat2(-100, one, -100, other, 2)

def to_and_fro():
    name = directory()
    os.rename(name, b"elsewhere")
    with open(b"elsewhere/while away", "wb") as out:
        out.write(b"x")
    os.rename(b"elsewhere", name)

def passing():
    name = new()
    os.mkdir(name)
    with open(name + b"/x", "wb") as out:
        out.write(b"x")
    shutil.rmtree(name)

CHANGES = [write, write, write, make, make, overwrite, overwrite, append, cut, hole, mapped, mode, owner, times,
           attribute, no_attribute, link, link, linked_and_written, write_by_the_other_name, nameless, symlink, fifo,
           remove, remove, remove_all, remove_and_make, rename, move, exchange, to_and_fro, passing]
for _ in range(count):
    try:
        pick.choice(CHANGES)()
    except OSError:
        pass
"#;

/// Describes a tree entirely, but for the order of a directory and inode numbers.
const DESCRIBE: &str = r#"
import hashlib, os, stat, sys
root = os.fsencode(sys.argv[1])
names = {}
def holes(name, found):
    if not stat.S_ISREG(found.st_mode) or found.st_size < (1 << 20):
        return None
    return found.st_blocks * 512 < found.st_size
def describe(name):
    found = os.lstat(name)
    kind = stat.S_IFMT(found.st_mode)
    content = None
    if kind == stat.S_IFREG:
        with open(name, "rb") as read:
            content = hashlib.md5(read.read()).hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.readlink(name)
    attributes = sorted((a, os.getxattr(name, a, follow_symlinks=False)) for a in os.listxattr(name, follow_symlinks=False))
    size = found.st_size if kind == stat.S_IFREG else 0
    if kind != stat.S_IFDIR and not (kind == stat.S_IFCHR and found.st_rdev == 0):
        names.setdefault((found.st_dev, found.st_ino), []).append(os.path.relpath(name, root))
    print(os.path.relpath(name, root), oct(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, found.st_rdev,
          size, content, attributes, holes(name, found))
def walk(name):
    describe(name)
    if stat.S_ISDIR(os.lstat(name).st_mode):
        for entry in sorted(os.listdir(name)):
            walk(os.path.join(name, entry))
walk(root)
for group in sorted(group for group in names.values() if len(group) > 1):
    print("one file", group)
"#;

fn python(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new("python3").args(["-c", program]).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// A job's root, which is an overlay, and a copy of its upper layer.
struct Carried {
    world: tempfile::TempDir,
    listing: Listing,
    follower: Follower,
    /// The number of times that the whole tree was read again.
    relisted: usize,
}

impl Carried {
    fn new(seed: usize) -> Self {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let [lower, upper, work, root, copy] =
            ["lower", "upper", "work", "root", "copy"].map(|name| world.path().join(name));
        for directory in [&lower, &upper, &work, &root, &copy] {
            std::fs::create_dir(directory).unwrap();
        }
        python(CHANGE, &[lower.to_str().unwrap(), &(seed + 1000).to_string(), "60"]);
        for directory in ["lower/sub", "lower/kept"] {
            std::fs::create_dir_all(lower.join(directory)).unwrap();
            std::fs::write(lower.join(directory).join("f"), "of the image").unwrap();
        }
        mount::overlay(&[lower], &upper, &work, &root).unwrap();
        let follower = Follower::of(&upper).unwrap();
        Self { world, listing: Listing::default(), follower, relisted: 0 }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    fn change(&self, seed: usize, count: usize) {
        python(CHANGE, &[self.at("root").to_str().unwrap(), &seed.to_string(), &count.to_string()]);
    }

    fn list(&self) -> Listing {
        Listing::read_with(&self.follower.root(), &mut |below, device| self.follower.enter(below, device)).unwrap()
    }

    async fn unpack(&self, wire: &[u8]) {
        let (mut rest, mut receiver) = (wire, FileReceiver::new(&self.at("copy")));
        while !rest.is_empty() {
            match frame::receive(&mut rest).await.unwrap() {
                Frame::Files(bytes) => receiver.unpack(&bytes).await.unwrap(),
                Frame::Kept(names) => receiver.keep_only(&names),
                Frame::Removed(names) => receiver.remove(&names).await.unwrap(),
                Frame::Bare(names) => receiver.bare(&names).await.unwrap(),
                other => {
                    assert_eq!(other, Frame::FilesEnd);
                    receiver.finish();
                    receiver.wait().await.unwrap();
                }
            }
        }
    }

    async fn begin(&mut self, meanwhile: impl FnOnce(&Self)) {
        self.listing = self.list();
        meanwhile(self);
        let mut wire = Vec::new();
        files::send_all(&mut wire, &self.follower.root(), &self.listing).await.unwrap();
        self.unpack(&wire).await;
    }

    /// Sends what has changed; returns the names.
    async fn round(&mut self, missing: &mut Difference, unreadable: Unreadable) -> Difference {
        let root = self.follower.root();
        let changes = self.follower.take().expect("all changes are known");
        let follower = &self.follower;
        let mut enter = |below: &Path, device| follower.enter(below, device);
        let (mut difference, is_whole) = self.listing.look_again(&root, &changes, &mut enter).unwrap();
        if !is_whole {
            self.relisted += 1;
            let now = self.list();
            difference.extend(now.since(&self.listing));
            self.listing = now;
        }
        difference.changed.extend(std::mem::take(&mut missing.changed));
        difference.changed.retain(|path| self.listing.contains(path));
        let mut wire = Vec::new();
        let sent = files::send_difference(&mut wire, &root, &difference, unreadable).await.unwrap();
        if sent.lacks_files {
            missing.changed.clone_from(&difference.changed);
        }
        self.unpack(&wire).await;
        difference
    }

    fn assert_equal(&self, seed: usize) {
        let [upper, copy] = ["upper", "copy"].map(|name| python(DESCRIBE, &[self.at(name).to_str().unwrap()]));
        let missing = |all: &str, other: &str| {
            let other: std::collections::HashSet<&str> = other.lines().collect();
            all.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(upper == copy, "seed {seed}: {:#?} became {:#?}", missing(&upper, &copy), missing(&copy, &upper));
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        mount::unmount_below(self.world.path()).unwrap();
    }
}

#[tokio::test]
async fn a_copy_is_the_same_after_random_changes() {
    let (mut relisted, mut rounds) = (0, 0);
    for seed in 0..3 {
        let mut job = Carried::new(seed);
        job.change(seed, 150);
        job.begin(|job| job.change(seed + 100, 40)).await;
        for round in 2..4 {
            job.round(&mut Difference::default(), Unreadable::Fails).await;
            job.assert_equal(seed);
            job.change(seed + 100 * round, 30);
            rounds += 1;
        }
        job.round(&mut Difference::default(), Unreadable::Fails).await;
        job.assert_equal(seed);
        relisted += job.relisted;
    }
    assert!(relisted * 2 < rounds, "{relisted} of {rounds} rounds looked at everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_where_the_job_executes_meanwhile() {
    for seed in 0..2 {
        let mut job = Carried::new(seed);
        job.change(seed, 100);
        job.begin(|_| ()).await;
        let (root, ended) = (job.at("root"), AtomicBool::new(false));
        let mut missing = Difference::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                python(CHANGE, &[root.to_str().unwrap(), &(seed + 50).to_string(), "300"]);
                ended.store(true, Ordering::Relaxed);
            });
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    while !ended.load(Ordering::Relaxed) {
                        job.round(&mut missing, Unreadable::IsLeftOut).await;
                    }
                });
            });
        });
        job.round(&mut missing, Unreadable::Fails).await;
        job.assert_equal(seed);
    }
}

#[tokio::test]
async fn directory_keeps_its_time_when_a_file_in_it_is_written() {
    let mut job = Carried::new(1);
    for directory in ["", "dir"] {
        std::fs::create_dir_all(job.at("root").join(directory)).unwrap();
        std::fs::write(job.at("root").join(directory).join("log"), "one").unwrap();
    }
    job.begin(|_| ()).await;
    for directory in ["", "dir"] {
        std::fs::write(job.at("root").join(directory).join("log"), "two").unwrap();
    }
    let difference = job.round(&mut Difference::default(), Unreadable::Fails).await;
    assert_eq!(difference.changed, ["log", "dir/log"].map(PathBuf::from).into());
    job.assert_equal(1);
}

#[tokio::test]
async fn only_what_has_changed_is_looked_at() {
    let mut job = Carried::new(1);
    std::fs::create_dir_all(job.at("root/many/inner")).unwrap();
    for number in 0..200 {
        std::fs::write(job.at("root/many/inner").join(number.to_string()), "same").unwrap();
    }
    job.begin(|_| ()).await;
    assert_eq!(job.round(&mut Difference::default(), Unreadable::Fails).await, Difference::default());
    std::fs::write(job.at("root/many/inner/7"), "other").unwrap();
    std::fs::remove_file(job.at("root/many/inner/8")).unwrap();
    std::fs::write(job.at("root/lower/kept/new"), "").unwrap_or_default();
    let difference = job.round(&mut Difference::default(), Unreadable::Fails).await;
    assert!(
        difference.changed.contains(Path::new("many/inner/7"))
            && !difference.changed.contains(Path::new("many/inner/9"))
    );
    assert_eq!(difference.removed, [PathBuf::from("many/inner/8")].into());
    assert!(difference.changed.len() < 10, "{difference:?}");
    job.assert_equal(1);
    assert_eq!(job.relisted, 0);
}

#[tokio::test]
async fn no_link_in_the_place_of_a_directory_leads_to_files_of_the_host() {
    let mut job = Carried::new(1);
    std::fs::create_dir(job.at("secret")).unwrap();
    std::fs::write(job.at("secret/file"), "of the host").unwrap();
    std::fs::create_dir(job.at("root/dir")).unwrap();
    job.begin(|_| ()).await;
    std::fs::write(job.at("root/dir/file"), "of the job").unwrap();
    let root = job.follower.root();
    let changes = job.follower.take().unwrap();
    let (difference, _) = job.listing.look_again(&root, &changes, &mut |_, _| ()).unwrap();
    assert!(difference.changed.contains(Path::new("dir/file")));
    // Between the look and the reading.
    std::fs::remove_dir_all(job.at("root/dir")).unwrap();
    std::os::unix::fs::symlink(job.at("secret"), job.at("root/dir")).unwrap();
    let mut wire = Vec::new();
    let sent = files::send_difference(&mut wire, &root, &difference, Unreadable::IsLeftOut).await.unwrap();
    assert!(sent.lacks_files);
    assert!(!wire.windows(11).any(|bytes| bytes == b"of the host"));
    let mut missing = Difference { changed: difference.changed, ..Difference::default() };
    job.round(&mut missing, Unreadable::Fails).await;
    job.assert_equal(1);
}

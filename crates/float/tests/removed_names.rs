//! Open files whose names were removed: those that have another name stay one file with it, and
//! those without any move whole.

use mooring_api::Submission;
use mooring_testkit::self_check::SelfCheck;
use mooring_testkit::world::{Plan, World};

/// Holds POSIX semaphores with a name and has a child that waits for one. Holds a log whose name
/// was changed by a link, and delivers mail by a link. Nothing else may appear beside them.
const LINKED: &str = r#"
import mmap, os, time
from _multiprocessing import SemLock
HOME = f"{ABOVE}/b\u00f6x (deleted)"
for directory in ("tmp", "new", "gone"):
    os.makedirs(f"{HOME}/{directory}")
kept, go, done = (SemLock(1, value, 10, f"/mooring-{value}", False) for value in (3, 0, 1))
done.acquire()
child = os.fork()
while child == 0:
    go.acquire()
    done.release()

def made(first, second):
    file = os.open(first, os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 8192)
    os.link(first, second)
    os.unlink(first)
    return file

mail = made(f"{HOME}/tmp/1", f"{HOME}/new/1")
memory = mmap.mmap(mail, 4096)
log = made(f"{HOME}/app.log", f"{HOME}/app.log.1")
orphan = made(f"{HOME}/gone/x", f"{HOME}/x")
os.rmdir(f"{HOME}/gone")
files = {mail: f"{HOME}/new/1", log: f"{HOME}/app.log.1", orphan: f"{HOME}/x"}
tick = 0
while True:
    bad = []
    tick += 1
    go.release()
    if not done.acquire(True, 5):
        bad.append("the child that waited was not woken")
    if kept._get_value() != 3:
        bad.append(f"the semaphore has {kept._get_value()}")
    memory[:8] = tick.to_bytes(8, "little")
    for file, name in files.items():
        os.pwrite(file, tick.to_bytes(8, "little"), 4096)
        with open(name, "rb") as read:
            shown = read.read(8192)
        if int.from_bytes(shown[4096:4104], "little") != tick or len(shown) != 8192:
            bad.append(f"{name} has not what was written")
        if file == mail and shown[:8] != memory[:8]:
            bad.append("the mail has not what was written through the mapping")
        if not os.path.sameopenfile(file, os.open(name, os.O_RDONLY)) or os.fstat(file).st_nlink != 1:
            bad.append(f"{name} is another file, or has {os.fstat(file).st_nlink} names")
    os.closerange(max(files) + 1, 60)
    for directory in ("/dev/shm", HOME, f"{HOME}/tmp", f"{HOME}/new", "/var/tmp"):
        bad += [f"{directory}/{name}" for name in os.listdir(directory) if name.startswith("link_remap")]
    print("BAD" if bad else "ok", tick, bad)
    time.sleep(0.1)
"#;

/// Holds deleted files: one larger than any limit of CRIU's own, one that never had a name, and one
/// that is a hole almost everywhere.
const DELETED: &str = r#"
import os, time
MIB = 1 << 20
named = os.open("/var/tmp/scratch", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
os.unlink("/var/tmp/scratch")
nameless = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
sparse = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
os.ftruncate(sparse, 2048 * MIB)
for number in range(300):
    os.pwrite(named, number.to_bytes(8, "little") * (MIB // 8), number * MIB)
for number in range(20):
    os.pwrite(nameless, number.to_bytes(8, "little") * (MIB // 8), number * MIB)
os.pwrite(sparse, b"x" * MIB, 1024 * MIB)
tick = 0
while True:
    bad = []
    for file, size in ((named, 300), (nameless, 20)):
        if os.fstat(file).st_size != size * MIB:
            bad.append(f"{os.fstat(file).st_size} bytes")
        for number in range(1, size):
            if os.pread(file, MIB, number * MIB) != number.to_bytes(8, "little") * (MIB // 8):
                bad.append(f"MiB {number} of {size} is another")
        if int.from_bytes(os.pread(file, 8, 0), "little") != tick:
            bad.append("what was written last is lost")
        os.pwrite(file, (tick + 1).to_bytes(8, "little"), 0)
    if os.pread(sparse, MIB, 1024 * MIB) != b"x" * MIB or os.fstat(sparse).st_size != 2048 * MIB:
        bad.append("the sparse file has changed")
    if os.fstat(sparse).st_blocks * 512 > 16 * MIB:
        bad.append(f"the sparse file takes {os.fstat(sparse).st_blocks * 512 // MIB} MiB")
    tick += 1
    print("BAD" if bad else "ok", tick, bad[:3])
    time.sleep(0.1)
"#;

#[test]
fn open_files_outlive_their_names() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        for above in ["/var/tmp", "/mnt/own"] {
            let program = format!("ABOVE = {above:?}\n{LINKED}");
            let data_volumes = vec!["[size=1]:/mnt/own".parse()?];
            let job =
                SelfCheck::launch(&client, &program, Submission { data_volumes, ..Submission::default() }).await?;
            job.migrates().await?;
            job.takes_snapshot().await?;
            job.suspends_and_resumes().await?;
            job.migrates().await?;
            job.cancel().await?;
        }
        let job = SelfCheck::launch(&client, DELETED, Submission::default()).await?;
        job.migrates().await?;
        job.suspends_and_resumes().await?;
        Ok(())
    });
    outcome.unwrap();
}

//! Names of files are bytes. What a job writes through a mapping arrives under any name, and so
//! does each file that it has open, watches, executes or listens at.

use mooring_api::Submission;
use mooring_testkit::self_check::SelfCheck;
use mooring_testkit::world::{Plan, World};

/// Writes a number into mapped files of odd names, and looks whether the last one is there. Half of
/// the files have a second name. Some are unmapped and mapped again all the time.
const MAPPED: &str = r#"
import mmap, os, time
NAMES = [b"Q3 report", b"two  blanks", b" edge ", b"tab\there", b"two\nlines", b"\"quotes'", b"back\\slash",
         b"\\012", b"end (deleted)", b"caf\xe9", b"\xff\xfe", b"n" * 255, b"plain"]
HOME = os.fsencode(ABOVE) + b"/do nn\xe9es"
os.makedirs(HOME)
os.chdir(HOME)

def mapped(name):
    with open(name, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)

maps, second = {}, {}
for number, name in enumerate(NAMES):
    with open(name, "wb") as file:
        file.truncate(4096)
    if number % 2:
        second[name] = b"second %d" % number
        os.link(name, second[name])
    maps[name] = mapped(name)
tick = 0
while True:
    bad = []
    for number, (name, memory) in enumerate(maps.items()):
        seen = int.from_bytes(memory[:8], "little")
        if seen != tick:
            bad.append(f"{name} has {seen} for {tick}")
        if name in second:
            with open(second[name], "rb") as file:
                seen = int.from_bytes(file.read(8), "little")
            if seen != tick or not os.path.samefile(name, second[name]):
                bad.append(f"the second name of {name} has {seen} for {tick}")
    tick += 1
    for number, (name, memory) in enumerate(maps.items()):
        memory[:8] = tick.to_bytes(8, "little")
        if number % 5 == 0 and tick % 20 == 0:
            memory.close()
            maps[name] = mapped(name)
    if bad or tick % 20 == 0:
        print("BAD" if bad else "ok", tick, bad)
    time.sleep(0.01)
"#;

/// Checks an open file, a removed one, a program, a watched directory and a socket. Their names and
/// that of the current directory are not UTF-8.
const OPEN: &str = r#"
import ctypes, os, shutil, socket, subprocess, time
HOME = b"/var/tmp/d\xe9jeuner"
os.makedirs(HOME + b"/w\xe9tched")
os.chdir(HOME)
log = open(b"caf\xe9.csv", "ab", 0)
inode = os.fstat(log.fileno()).st_ino
removed = open(b"g\xe9ne", "w+b", 0)
os.unlink(b"g\xe9ne")
removed.write(b"removed")
shutil.copy("/bin/sleep", b"sl\xe9ep")
child = subprocess.Popen([HOME + b"/sl\xe9ep", b"9999"], env={b"WH\xe9RE": b"h\xe9re"})
os.symlink(b"caf\xe9.csv", b"l\xefnk")
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(watch, HOME + b"/w\xe9tched", 0x100) >= 0
listener = socket.socket(socket.AF_UNIX)
listener.bind(HOME + b"/s\xe9cket")
listener.listen(4)
listener.settimeout(2)
tick = 0
while True:
    bad = []
    def check(what, holds):
        if not holds:
            bad.append(what)
    tick += 1
    log.write(b"%d\n" % tick)
    with open(HOME + b"/l\xefnk", "rb") as file:
        check("the open file", file.read().split() == [b"%d" % number for number in range(1, tick + 1)])
    check("its inode number", os.fstat(log.fileno()).st_ino == inode == os.stat(HOME + b"/caf\xe9.csv").st_ino)
    check("the removed file", os.pread(removed.fileno(), 100, 0) == b"removed")
    check("the directory", os.getcwdb() == HOME and os.path.samefile(b".", HOME))
    check("the child", child.poll() is None and os.readlink(f"/proc/{child.pid}/exe").encode(errors="surrogateescape") == HOME + b"/sl\xe9ep")
    with open(f"/proc/{child.pid}/environ", "rb") as file:
        check("its environment", file.read() == b"WH\xe9RE=h\xe9re\0")
    with open(b"w\xe9tched/%d" % tick, "w"):
        pass
    try:
        check("the watch", b"%d" % tick in os.read(watch, 4096))
    except BlockingIOError:
        bad.append("the watch")
    try:
        client = socket.socket(socket.AF_UNIX)
        client.connect(HOME + b"/s\xe9cket")
        listener.accept()[0].close()
        client.close()
    except OSError as error:
        bad.append(f"the socket: {error}")
    print("BAD" if bad else "ok", tick, bad)
    time.sleep(0.1)
"#;

#[test]
fn names_are_bytes() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let small = || Submission { mem_gb: Some(0.2), ..Submission::default() };
        for above in ["/var/tmp", "/mnt/own"] {
            let program = format!("ABOVE = {above:?}\n{MAPPED}");
            let submission = Submission { data_volumes: vec!["[size=1]:/mnt/own".parse()?], ..small() };
            let mapped = SelfCheck::launch(&client, &program, submission).await?;
            mapped.migrates().await?;
            mapped.migrates().await?;
            mapped.suspends_and_resumes().await?;
            mapped.cancel().await?;
        }

        let open = SelfCheck::launch(&client, OPEN, small()).await?;
        open.migrates().await?;
        open.suspends_and_resumes().await?;
        open.takes_snapshot().await?;
        open.migrates().await?;
        Ok(())
    });
    outcome.unwrap();
}

//! A job with many files that changes some of them all the time. All changes until the freeze
//! arrive, and what was removed stays away.

use mooring_api::Submission;
use mooring_testkit::self_check::SelfCheck;
use mooring_testkit::world::{Plan, World};

/// Keeps files that nothing changes. Creates, changes, renames, links and removes others, some of
/// them below directories of the image and of a volume, and checks all of that.
const BUSY: &str = r#"
import os, shutil, stat, time
HOME, IMAGE, OWN = "/var/lib/b\u00fcsy", "/usr/share/doc", "/mnt/own"
for bucket in range(20):
    os.makedirs(f"{HOME}/quiet/{bucket}")
    for number in range(100):
        with open(f"{HOME}/quiet/{bucket}/{number}", "w") as file:
            file.write(f"{bucket} {number}\n")
of_image = sorted(os.listdir(IMAGE))[:2]
kept = open(f"{HOME}/kept", "w+b", 0)
log = open(f"{HOME}/log", "ab", 0)
os.link(f"{HOME}/log", f"{HOME}/second")
os.unlink(f"{HOME}/log")
ABOVE = [HOME, OWN, f"{IMAGE}/{of_image[0]}"]
tick = 0
while True:
    tick += 1
    bad = []
    def check(what, holds):
        if not holds:
            bad.append(what)
    def text(path):
        with open(path, "rb") as file:
            return file.read()
    last = b"%d" % (tick - 1)
    if tick > 1:
        for above in ABOVE:
            check(f"{above}/made", text(f"{above}/made-{tick - 1}/new/file") == last)
            check(f"{above}/gone", not os.path.exists(f"{above}/made-{tick - 2}"))
            check(f"{above}/moved", text(f"{above}/moved-{tick - 1}/inner") == b"moved")
            check(f"{above}/same size", text(f"{above}/written") == b"%09d" % (tick - 1))
            check(f"{above}/links", os.path.samefile(f"{above}/written", f"{above}/link"))
            check(f"{above}/mode", stat.S_IMODE(os.stat(f"{above}/written").st_mode) == 0o600 + (tick - 1) % 8)
            check(f"{above}/attribute", os.getxattr(above, "user.tick") == last)
            check(f"{above}/times", os.stat(f"{above}/link").st_mtime_ns == (tick - 1) * 10 ** 9 + 7)
    check("the file that is kept open", os.pread(kept.fileno(), 9, 0) == (b"%09d" % (tick - 1) if tick > 1 else b""))
    check("the other name of the log", text(f"{HOME}/second").split() == [b"%d" % number for number in range(1, tick)])
    check("a directory of the image", (of_image[1] in os.listdir(IMAGE)) == (tick == 1))
    if tick % 20 == 0:
        for bucket in range(20):
            for number in range(100):
                check("what is quiet", text(f"{HOME}/quiet/{bucket}/{number}") == b"%d %d\n" % (bucket, number))
    for above in ABOVE:
        if tick == 1:
            os.makedirs(f"{above}/moved-0")
            with open(f"{above}/moved-0/inner", "w") as file:
                file.write("moved")
            with open(f"{above}/written", "w") as file:
                file.write("000000000")
            os.link(f"{above}/written", f"{above}/link")
        os.makedirs(f"{above}/made-{tick}/new")
        with open(f"{above}/made-{tick}/new/file", "w") as file:
            file.write(str(tick))
        if tick > 1:
            # `rmtree` stops where a directory gets another device number in between, as in a migration.
            os.unlink(f"{above}/made-{tick - 1}/new/file")
            os.rmdir(f"{above}/made-{tick - 1}/new")
            os.rmdir(f"{above}/made-{tick - 1}")
        os.rename(f"{above}/moved-{tick - 1}", f"{above}/moved-{tick}")
        with open(f"{above}/written", "r+b", 0) as file:
            file.write(b"%09d" % tick)
        os.chmod(f"{above}/link", 0o600 + tick % 8)
        os.utime(f"{above}/link", ns=(0, tick * 10 ** 9 + 7))
        os.setxattr(above, "user.tick", str(tick).encode())
    if tick == 1:
        shutil.rmtree(f"{IMAGE}/{of_image[1]}")
    os.pwrite(kept.fileno(), b"%09d" % tick, 0)
    log.write(b"%d\n" % tick)
    print("BAD" if bad else "ok", tick, bad[:5])
"#;

#[test]
fn what_changes_until_the_freeze_arrives() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let data_volumes = vec!["[size=1]:/mnt/own".parse()?];
        let submission = Submission { with_root: true, data_volumes, ..Submission::default() };
        let job = SelfCheck::launch(&client, BUSY, submission).await?;
        job.migrates().await?;
        job.takes_snapshot().await?;
        job.suspends_and_resumes().await?;
        job.migrates().await?;
        Ok(())
    });
    outcome.unwrap();
    let log = world.log();
    for refusal in ["changes of a job's files are not told", "does not tell which files"] {
        assert!(!log.contains(refusal), "{log}");
    }
}

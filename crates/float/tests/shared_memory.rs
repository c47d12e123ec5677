//! Memory that forked processes share stays shared while the job is suspended, resumed,
//! snapshotted and migrated. A migration sends it once.

use anyhow::ensure;
use mooring_api::Submission;
use mooring_testkit::self_check::SelfCheck;
use mooring_testkit::world::{Plan, World};

/// A block of memory that four forked workers read. It says how much memory all have together. Two
/// copies of the block do not fit beside each other in the job's limit.
const WORKERS: &str = r#"
import mmap, os, time
SIZE, PAGE = 100 << 20, 4096
block = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
block.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, SIZE, PAGE):
    block[at:at + 8] = at.to_bytes(8, "little")
block_sum = sum(block[::PAGE])
wrong = mmap.mmap(-1, PAGE)
pids = [os.getpid()]
for number in range(4):
    pid = os.fork()
    if pid == 0:
        while True:
            if sum(block[::PAGE]) != block_sum:
                wrong[number] = 1
            time.sleep(0.5)
    pids.append(pid)

def together():
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    return total

before = together()
while True:
    now = together()
    good = now <= before * 1.15 and not any(wrong[:4]) and sum(block[::PAGE]) == block_sum
    print("ok" if good else "BAD", f"{now >> 20} MB that were {before >> 20} MB, wrong: {wrong[:4]}", flush=True)
    time.sleep(0.2)
"#;

#[test]
fn shared_memory_stays_shared() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let submission = Submission { mem_gb: Some(0.25), ..Submission::default() };
        let job = SelfCheck::launch(&client, WORKERS, submission).await?;
        job.takes_snapshot().await?;
        job.suspends_and_resumes().await?;
        let moved = job.migrates().await?;
        // Each of the five processes has a little memory of its own.
        ensure!(moved.bytes_moved < 150 << 20, "{moved:?}");
        Ok(())
    });
    outcome.unwrap();
}

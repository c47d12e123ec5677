//! Epoll sets with targets that only another process has open, and empty message queues.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase};

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// A process hands sockets to workers and closes its own. Its epoll set keeps all of them, two
/// under one number. Each worker makes events of its socket. An empty queue is there as well.
const SCRIPT: &str = r#"
import ctypes, os, select, socket, time
libc = ctypes.CDLL(None, use_errno=True)

class Attributes(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_long), ("most", ctypes.c_long), ("size", ctypes.c_long), ("now", ctypes.c_long * 5)]

def make_queue(name, most, size):
    wanted = Attributes(0, most, size)
    queue = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, ctypes.byref(wanted))
    if queue < 0:
        raise OSError(ctypes.get_errno(), name)
    os.close(queue)

def look_at_queue(name):
    queue = libc.mq_open(name, os.O_RDONLY)
    if queue < 0:
        return "gone"
    found = Attributes()
    libc.mq_getattr(queue, ctypes.byref(found))
    status = os.fstat(queue)
    os.close(queue)
    return (found.most, found.size, oct(status.st_mode & 0o7777), status.st_uid, status.st_gid)

os.umask(0)
make_queue(b"/idle", 5, 100)
os.chown("/dev/mqueue/idle", 33, 34)
os.chmod("/dev/mqueue/idle", 0o640)

watched = select.epoll()
for number in range(3):
    near, far = socket.socketpair()
    # Two targets have one number.
    at = 100 + number // 2
    os.dup2(near.fileno(), at)
    near.close()
    if os.fork() == 0:
        # It has both ends, and reads what it has sent.
        watched.close()
        while True:
            far.send(b"x")
            time.sleep(0.05)
            os.read(at, 1)
    far.close()
    watched.register(at, select.EPOLLIN | select.EPOLLET)
    os.close(at)

print("ready", flush=True)
while True:
    time.sleep(0.1)
    seen = set()
    for _ in range(50):
        seen.update(number for number, _ in watched.poll(0.1))
        if len(seen) == 2:
            break
    faults = [f"no event of {at}" for at in (100, 101) if at not in seen]
    targets = open(f"/proc/self/fdinfo/{watched.fileno()}").read().count("tfd:")
    if targets != 3:
        faults.append(f"{targets} targets")
    queue = look_at_queue(b"/idle")
    if queue != (5, 100, "0o640", 33, 34):
        faults.append(f"queue {queue}")
    print("BAD " + ", ".join(faults) if faults else "ok", flush=True)
"#;
/// A set keeps a connection that was sent to another process, which has not received it.
const IN_FLIGHT: &str = r#"
import os, select, socket, time
here, there = socket.socketpair()
near, far = socket.socketpair()
watched = select.epoll()
watched.register(near, select.EPOLLIN)
number = near.fileno()
socket.send_fds(here, [b"x"], [number])
near.close()
print("ready", flush=True)
while True:
    time.sleep(1)
"#;

#[test]
fn targets_of_another_process_and_empty_queues_move() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, "handoff", SCRIPT).await?;
        holds(&client, &job).await?;
        for _ in 0..2 {
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            holds(&client, &job).await?;
        }
        // A rollback gives back what was taken.
        world.failpoint_set(&Phase::Transfer.failpoint(), "error")?;
        let migration = move_once(&client, &job).await?;
        ensure!(matches!(migration.outcome, Outcome::Failed { phase: Phase::Transfer, .. }), "{migration:?}");
        holds(&client, &job).await?;
        client.job_suspend(&job).await?;
        becomes(&client, &job, JobStatus::Suspended).await?;
        client.job_resume(&job).await?;
        becomes(&client, &job, JobStatus::Executing).await?;
        holds(&client, &job).await?;
        client.job_snapshot(&job).await?;
        becomes(&client, &job, JobStatus::Executing).await?;
        holds(&client, &job).await?;
        client.job_cancel(&job).await?;

        // One that is nobody's yet can't be found.
        let job = submit(&client, "in-flight", IN_FLIGHT).await?;
        let migration = move_once(&client, &job).await?;
        let outcome = migration.outcome.to_string();
        let said = "(python3) watches a connection or file that it has closed (number ";
        ensure!(outcome.contains(said) && migration.pause_seconds == 0.0, "{migration:?}");
        Ok(())
    });
    outcome.unwrap();
}

async fn submit(client: &Client, name: &str, script: &str) -> Result<JobId> {
    let job = Submission {
        image: Some("dir:/".parse()?),
        name: Some(name.parse()?),
        with_root: true,
        command: [PYTHON, "-c", script].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    let job = client.job_submit(&job).await?.id;
    executing(client, &job, LIMIT).await?;
    wait_for("the program", LIMIT, async || {
        Ok(client.job_log(&job, 0).await?.text.lines().any(|line| line == "ready").then_some(()))
    })
    .await?;
    Ok(job)
}

/// Waits for further lines of the job, of which none tells of a fault.
async fn holds(client: &Client, job: &JobId) -> Result<()> {
    let lines = async || anyhow::Ok(client.job_log(job, 0).await?.text.lines().map(str::to_owned).collect::<Vec<_>>());
    let before = lines().await?.len();
    let lines = wait_for("lines of the job", LIMIT, async || {
        let lines = lines().await?;
        Ok((lines.len() >= before + 3).then_some(lines))
    })
    .await?;
    match lines.iter().find(|line| line.starts_with("BAD")) {
        Some(fault) => bail!("{fault}"),
        None => lines.last().map(drop).context("a line"),
    }
}

async fn becomes(client: &Client, job: &JobId, status: JobStatus) -> Result<()> {
    wait_for(&format!("the job to be {status}"), LIMIT, async || {
        let view = client.job_get(job).await?;
        let done = view.migrations.iter().all(|migration| migration.outcome.is_final());
        Ok((view.status == status && done).then_some(()))
    })
    .await
}

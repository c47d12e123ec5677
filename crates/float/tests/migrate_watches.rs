//! Files that a job watches with inotify: each event arrives once, wherever the job goes.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::view::MigrateRequest;
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
/// Watches files of all kinds, makes one event of each at a time, and expects that one alone.
const SCRIPT: &str = r#"
import ctypes, errno, os, struct, time
libc = ctypes.CDLL(None, use_errno=True)
ATTRIB, CLOSED, CREATED, DELETED, EXCLUSIVE = 0x4, 0x10, 0x100, 0x200, 0x4000000
BASE = '/var/tmp/watched'
os.makedirs(f'{BASE}/directory')
inotify = libc.inotify_init1(os.O_NONBLOCK)
def watch(path, mask):
    number = libc.inotify_add_watch(inotify, os.fsencode(path), mask)
    assert number > 0, (path, os.strerror(ctypes.get_errno()))
    return number
def write(path):
    with open(path, 'w') as file: file.write('text')
    return path
def attrib(path): os.chmod(path, 0o600)
def look(path): open(path).close()
# Of the image: untouched, copied up before, and copied up while it is watched.
watched = [(watch('/etc/passwd', CLOSED), CLOSED, lambda: look('/etc/passwd'))]
attrib('/etc/group')
for path in ['/etc/group', '/etc/profile']:
    watched.append((watch(path, ATTRIB | EXCLUSIVE), ATTRIB, lambda path=path: attrib(path)))
# New: closed, open, with a second name, and with names that are not plain.
new = [write(f'{BASE}/{name}') for name in ['closed', 'open', 'first', ' a b\n', 'caf\udce9']]
opened = open(new[1], 'a')
os.link(new[2], f'{BASE}/second')
for path in new:
    watched.append((watch(path, ATTRIB), ATTRIB, lambda path=path: attrib(path)))
# Renamed while they are watched: a file, and the directory of another.
write(f'{BASE}/old')
renamed = open(f'{BASE}/old')
watched.append((watch(f'{BASE}/old', ATTRIB), ATTRIB, lambda: attrib(f'{BASE}/new')))
os.rename(f'{BASE}/old', f'{BASE}/new')
inside = open(write(f'{BASE}/directory/inside'))
watched.append((watch(f'{BASE}/directory/inside', ATTRIB), ATTRIB, lambda: attrib(f'{BASE}/moved/inside')))
os.rename(f'{BASE}/directory', f'{BASE}/moved')
# Deleted, and still open.
gone = open(write(f'{BASE}/gone'))
watched.append((watch(f'{BASE}/gone', ATTRIB), ATTRIB, lambda: os.fchmod(gone.fileno(), 0o600)))
os.unlink(f'{BASE}/gone')
# A directory, in which CRIU and the agent make names.
def come_and_go(): os.unlink(write(f'{BASE}/moved/passing'))
watched.append((watch(f'{BASE}/moved', CREATED | DELETED), CREATED | DELETED, come_and_go))
removed = open(write(f'{BASE}/moved/lost'))
os.link(f'{BASE}/moved/lost', f'{BASE}/kept')
os.unlink(f'{BASE}/moved/lost')
def read():
    found = []
    while True:
        try: events = os.read(inotify, 65536)
        except BlockingIOError: return found
        while events:
            number, mask, _, length = struct.unpack_from('iIII', events)
            found.append((number, mask))
            events = events[16 + length:]
def known():
    with open(f'/proc/self/fdinfo/{inotify}') as file:
        lines = [line.split() for line in file if line.startswith('inotify')]
    return sorted((line[1], line[4]) for line in lines)
def faults():
    extra = read()
    if extra: yield f'{extra} at rest'
    for number, mask, act in watched:
        act()
        expected = [(number, 1 << bit) for bit in range(12) if mask >> bit & 1]
        events = read()
        if events != expected: yield f'{events} instead of {expected}'
    if known() != begun: yield f'the watches are {known()} and were {begun}'
    if os.fstat(opened.fileno()).st_ino != os.stat(new[1]).st_ino: yield 'the open file is another one'
read()
begun = known()
number = 0
while True:
    number += 1
    print(number, 'faults', '; '.join(faults()) or 'none', flush=True)
    time.sleep(0.02)
"#;

#[test]
fn each_event_of_a_watched_file_arrives_once() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let command = [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec();
        let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, LIMIT).await?;
        no_fault(&client, &job).await?;
        for _ in 0..5 {
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            no_fault(&client, &job).await?;
        }
        let before = client.job_get(&job).await?.migrations.len();
        client.job_snapshot(&job).await?;
        over(&client, &job, before).await?;
        no_fault(&client, &job).await?;
        // Back from a destination that has failed.
        world.failpoint_set(&Phase::Restore.failpoint(), "error")?;
        let before = client.job_get(&job).await?.migrations.len();
        client.job_migrate(&job, &MigrateRequest::default()).await?;
        let failed = over(&client, &job, before).await;
        ensure!(failed.is_err(), "the failpoint is gone");
        no_fault(&client, &job).await?;
        client.job_suspend(&job).await?;
        wait_for("the job in the capsule store", LIMIT, async || {
            Ok((client.job_get(&job).await?.status == JobStatus::Suspended).then_some(()))
        })
        .await?;
        client.job_resume(&job).await?;
        executing(&client, &job, LIMIT).await?;
        no_fault(&client, &job).await?;
        let host = client.job_get(&job).await?.host_name;
        let ran = world.float(&["hosts", "drain", &host, "--within", "2m", "--wait"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        no_fault(&client, &job).await
    });
    outcome.unwrap();
}

/// Waits for a migration or snapshot, which has to succeed.
async fn over(client: &Client, job: &JobId, before: usize) -> Result<()> {
    let made = wait_for("the end of it", LIMIT, async || {
        let view = client.job_get(job).await?;
        let made = view.migrations.get(before).filter(|made| made.outcome.is_final()).cloned();
        Ok(made.filter(|_| view.status == JobStatus::Executing))
    })
    .await?;
    ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
    Ok(())
}

/// Waits for ten further lines of the job, and reads all of them.
async fn no_fault(client: &Client, job: &JobId) -> Result<()> {
    let lines =
        async || -> Result<Vec<String>> { Ok(client.job_log(job, 0).await?.text.lines().map(str::to_owned).collect()) };
    let before = lines().await?.len();
    let all = wait_for("lines of the job", LIMIT, async || {
        let view = client.job_get(job).await?;
        let lines = lines().await?;
        ensure!(!view.status.is_final(), "it is {}: {lines:?}", view.status);
        Ok((lines.len() >= before + 10).then_some(lines))
    })
    .await?;
    let faults: Vec<&String> = all.iter().filter(|line| !line.ends_with("faults none")).take(2).collect();
    ensure!(faults.is_empty(), "{faults:?}");
    Ok(())
}

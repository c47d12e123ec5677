//! Record locks of a job on a file that is mapped as well: others are refused them throughout.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::view::MigrateRequest;
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;

const OVER_WITHIN: Duration = Duration::from_secs(60);

/// Locks two parts of a file that it has mapped, and has other processes try for them all the time.
/// A lock of the open file description and one of `flock` are tried for as well. All of them are in
/// its root, in memory, and in a volume.
const PROGRAM: &str = r#"
import fcntl, mmap, os, struct, time
DIRECTORIES = ['/var/tmp', '/dev/shm', '/mnt/own']
F_OFD_SETLK = 37
record = lambda: struct.pack('hhlli', fcntl.F_WRLCK, 0, 0, 0, 0)
held = []
for directory in DIRECTORIES:
    path = f'{directory}/locked'
    with open(path, 'wb') as file: file.write(b'x' * 8192)
    file = open(path, 'r+b')
    other = open(path, 'r+b')
    mapped = mmap.mmap(file.fileno(), 8192)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 0, 4096)
    whole = open(f'{directory}/whole', 'w')
    fcntl.flock(whole, fcntl.LOCK_EX)
    description = open(f'{directory}/description', 'w')
    fcntl.fcntl(description, F_OFD_SETLK, record())
    held.append((file, other, mapped, whole, description))
def refused(attempt):
    try: attempt()
    except OSError: return True
    return False
def others():
    lost = []
    for directory in DIRECTORIES:
        again = open(f'{directory}/locked', 'r+b')
        tries = {
            'exclusive': lambda: fcntl.lockf(again, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 7),
            'shared': lambda: fcntl.lockf(again, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 100000),
            'flock': lambda: fcntl.flock(open(f'{directory}/whole', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB),
            'description': lambda: fcntl.fcntl(open(f'{directory}/description', 'w'), F_OFD_SETLK, record()),
        }
        lost += [f'{name} in {directory}' for name, attempt in tries.items() if not refused(attempt)]
        fcntl.lockf(again, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 50)
    return ', '.join(lost)
number = 0
while True:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, others().encode() or b'none')
        os._exit(0)
    os.close(writer)
    lost = os.read(reader, 1000).decode()
    os.close(reader)
    os.waitpid(child, 0)
    number += 1
    print(number, 'lost', lost, flush=True)
    for _, _, mapped, _, _ in held: mapped[number % 8192] = 120
    time.sleep(0.05)
"#;

#[test]
fn record_locks_on_a_mapped_file_migrate() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let request = Submission {
        name: Some("locks".parse().unwrap()),
        image: Some("dir:/".parse().unwrap()),
        data_volumes: vec!["[size=1]:/mnt/own".parse().unwrap()],
        command: ["python3", "-c", PROGRAM].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, OVER_WITHIN).await?;
        nothing_is_lost(&client, &job).await?;
        for _ in 0..2 {
            let before = client.job_get(&job).await?.migrations.len();
            client.job_migrate(&job, &MigrateRequest::default()).await?;
            wait_for("the migration", OVER_WITHIN, async || {
                let view = client.job_get(&job).await?;
                let made = view.migrations.get(before).filter(|made| made.outcome.is_final()).cloned();
                if let Some(made) = &made {
                    ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
                }
                Ok(made)
            })
            .await?;
            nothing_is_lost(&client, &job).await?;
        }
        client.job_suspend(&job).await?;
        becomes(&client, &job, JobStatus::Suspended).await?;
        client.job_resume(&job).await?;
        becomes(&client, &job, JobStatus::Executing).await?;
        nothing_is_lost(&client, &job).await
    });
    outcome.unwrap();
}

async fn becomes(client: &Client, job: &JobId, status: JobStatus) -> Result<()> {
    wait_for(&format!("the job to be {status}"), OVER_WITHIN, async || {
        Ok((client.job_get(job).await?.status == status).then_some(()))
    })
    .await
}

/// Waits for ten further lines of the job, and reads all of them.
async fn nothing_is_lost(client: &Client, job: &JobId) -> Result<()> {
    let lines =
        async || -> Result<Vec<String>> { Ok(client.job_log(job, 0).await?.text.lines().map(str::to_owned).collect()) };
    let before = lines().await?.len();
    let all = wait_for("lines of the job", OVER_WITHIN, async || {
        let lines = lines().await?;
        Ok((lines.len() >= before + 10).then_some(lines))
    })
    .await?;
    let lost: Vec<&String> = all.iter().filter(|line| !line.ends_with("lost none")).collect();
    ensure!(lost.is_empty(), "{lost:?}");
    Ok(())
}

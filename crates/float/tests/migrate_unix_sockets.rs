//! Unix sockets that are reached by other names than those that they were bound to.

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

/// Serves at sockets of each kind. Reaches them by all of their names, and compares owners and
/// modes of the names, all the time.
const PROGRAM: &str = r#"
import os, socket, threading, time
BASES = ['/var/tmp/sockets', '/dev/shm/sockets', '/mnt/own/sockets']
def serve(kind, path):
    server = socket.socket(socket.AF_UNIX, kind)
    server.bind(path)
    if kind == socket.SOCK_DGRAM:
        server.settimeout(2)
        return server
    server.listen(5)
    def answer():
        while True:
            connection, _ = server.accept()
            connection.send(connection.recv(100))
            connection.close()
    threading.Thread(target=answer, daemon=True).start()
    return server
names = {}
for BASE in BASES:
  os.makedirs(BASE)
  for kind, name in [(socket.SOCK_STREAM, 'stream'), (socket.SOCK_DGRAM, 'dgram'), (socket.SOCK_SEQPACKET, 'packet')]:
      # Its own name, and a second one beside it.
      server = serve(kind, f'{BASE}/{name}')
      os.link(f'{BASE}/{name}', f'{BASE}/{name}.beside')
      os.chmod(f'{BASE}/{name}', 0o620)
      os.chown(f'{BASE}/{name}', 1, 2)
      names[f'{BASE}/{name}'] = names[f'{BASE}/{name}.beside'] = (kind, server)
      # Renamed into place.
      server = serve(kind, f'{BASE}/{name}.new')
      os.rename(f'{BASE}/{name}.new', f'{BASE}/{name}.renamed')
      names[f'{BASE}/{name}.renamed'] = (kind, server)
      # In a directory that was renamed.
      os.makedirs(f'{BASE}/{name}.d.new')
      server = serve(kind, f'{BASE}/{name}.d.new/box')
      os.rename(f'{BASE}/{name}.d.new', f'{BASE}/{name}.d')
      names[f'{BASE}/{name}.d/box'] = (kind, server)
      # By a relative name, in a directory that was the current one.
      os.makedirs(f'{BASE}/{name}.r')
      os.chdir(f'{BASE}/{name}.r')
      server = serve(kind, 'box')
      os.chdir('/')
      names[f'{BASE}/{name}.r/box'] = (kind, server)
# Nobody listens there any more.
for BASE in BASES:
    left = socket.socket(socket.AF_UNIX)
    left.bind(f'{BASE}/left')
    left.close()
def looks():
    found = {}
    for BASE in BASES:
        for directory, below, files in os.walk(BASE):
            found[directory] = below.sort() or below
            for name in files:
                look = os.lstat(f'{directory}/{name}')
                found[f'{directory}/{name}'] = (look.st_mode, look.st_uid, look.st_gid, look.st_nlink)
    return found
begun = looks()
def faults():
    for path, (kind, server) in names.items():
        try:
            with socket.socket(socket.AF_UNIX, kind) as client:
                client.settimeout(2)
                client.connect(path)
                client.send(path.encode())
                answer = server.recv(100) if kind == socket.SOCK_DGRAM else client.recv(100)
                if answer != path.encode(): yield f'{path} answers {answer}'
        except OSError as error:
            yield f'{path}: {error}'
    for BASE in BASES:
        try:
            socket.socket(socket.AF_UNIX).connect(f'{BASE}/left')
            yield 'somebody listens'
        except ConnectionRefusedError: pass
        except OSError as error: yield f'{BASE}/left: {error}'
    now = looks()
    for path in begun.keys() | now.keys():
        if begun.get(path) != now.get(path): yield f'{path} was {begun.get(path)} and is {now.get(path)}'
number = 0
while True:
    number += 1
    print(number, 'faults', '; '.join(faults()) or 'none', flush=True)
    time.sleep(0.1)
"#;

#[test]
fn unix_sockets_keep_all_their_names() {
    let mut world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let request = Submission {
        name: Some("sockets".parse().unwrap()),
        image: Some("dir:/".parse().unwrap()),
        data_volumes: vec!["[size=1]:/mnt/own".parse().unwrap()],
        command: ["python3", "-c", PROGRAM].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, OVER_WITHIN).await?;
        no_fault(&client, &job).await?;
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
            no_fault(&client, &job).await?;
        }
        client.job_suspend(&job).await?;
        becomes(&client, &job, JobStatus::Suspended).await?;
        client.job_resume(&job).await?;
        becomes(&client, &job, JobStatus::Executing).await?;
        no_fault(&client, &job).await?;
        Ok(job)
    });
    let job = outcome.unwrap();
    // Its hosts stop, and restore it from their own disk.
    world.stop().unwrap();
    world.start_again().unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        becomes(&client, &job, JobStatus::Executing).await?;
        no_fault(&client, &job).await
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
async fn no_fault(client: &Client, job: &JobId) -> Result<()> {
    let lines =
        async || -> Result<Vec<String>> { Ok(client.job_log(job, 0).await?.text.lines().map(str::to_owned).collect()) };
    let before = lines().await?.len();
    let all = wait_for("lines of the job", OVER_WITHIN, async || {
        let lines = lines().await?;
        Ok((lines.len() >= before + 10).then_some(lines))
    })
    .await?;
    let faults: Vec<&String> = all.iter().filter(|line| !line.ends_with("faults none")).take(2).collect();
    ensure!(faults.is_empty(), "{faults:?}");
    Ok(())
}

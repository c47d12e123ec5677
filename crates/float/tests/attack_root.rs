//! An attack by the image `dir:/`: the root of the host, where its passwords, its users' files and
//! its services' data are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);

/// Prints what it can read of the host, in one line, again and again. It keeps a file open in each
/// directory of its own.
const PROBE: &str = r#"
import os, subprocess, time
kept = [open(f"{place}/own", "w") for place in ("/tmp", "/var/tmp", "/var/lib", "/run", "/root", "/home", "/etc")]
def seen():
    secrets = ["/etc/shadow-", "/etc/gshadow", "/etc/sudoers", "/etc/ssl/private", "/etc/mooring"]
    yield from (path for path in secrets if os.path.lexists(path))
    yield from (line.strip() for line in open("/etc/shadow") if line.split(":")[1] != "*")
    if os.path.isdir("/etc/ssh"):
        yield from (f"/etc/ssh/{name}" for name in os.listdir("/etc/ssh") if name.startswith("ssh_host"))
    for place in ("/root", "/home", "/tmp", "/var/tmp", "/run", "/var/lib", "/srv", "/mnt", "/media", "/boot"):
        if os.path.isdir(place):
            yield from (f"{place}/{name}" for name in os.listdir(place) if name not in ("own", "lock"))
    known = "bin dev etc home lib lib32 lib64 libx32 opt proc root run sbin sys tmp usr var .mooring".split()
    yield from (f"/{name}" for name in os.listdir("/") if name not in known)
while True:
    programs = subprocess.run(["/bin/sh", "-c", "id -un && date >/dev/null"], stdout=-1, text=True)
    print("seen:", " ".join(seen()) or "nothing", "as", programs.stdout.strip(), flush=True)
    time.sleep(0.2)
"#;

async fn submit(client: &Client) -> Result<JobId> {
    let request = Submission {
        image: Some("dir:/".parse()?),
        command: ["/usr/bin/python3", "-c", PROBE].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

/// Waits for a new line of the probe.
async fn probed(client: &Client, job: &JobId) -> Result<String> {
    let lines = async || Ok::<_, anyhow::Error>(client.job_log(job, 0).await?.text);
    let before = lines().await?.lines().count();
    wait_for("the job to look around", LIMIT, async || {
        let log = lines().await?;
        Ok(log.lines().nth(before + 1).map(ToOwned::to_owned))
    })
    .await
}

/// S1: the host's own root as an image has programs, and nothing that is private. So it is before
/// and after a migration, and out of the store.
#[test]
fn root_of_the_host_shows_programs_alone() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client).await?;
        executing(&client, &job, LIMIT).await?;
        let expected = "seen: nothing as root";
        let line = probed(&client, &job).await?;
        ensure!(line == expected, "{line}");
        let moved = move_once(&client, &job).await?;
        ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
        let line = probed(&client, &job).await?;
        ensure!(line == expected, "after a migration: {line}");
        let suspended = world.float(&["suspend", "-j", job.as_str(), "--wait"])?;
        ensure!(suspended.code == Some(0), "{suspended:?}");
        let resumed = world.float(&["resume", "-j", job.as_str(), "--wait"])?;
        ensure!(resumed.code == Some(0), "{resumed:?}");
        executing(&client, &job, LIMIT).await.context("resumed")?;
        let line = probed(&client, &job).await?;
        ensure!(line == expected, "out of the store: {line}");
        Ok(())
    });
    outcome.unwrap();
}

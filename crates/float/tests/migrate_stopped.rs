//! Jobs migrate with processes that are stopped, and with parents that wait in vfork.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_linux::process;
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// A process that counts, and its child, which counts as well. The last argument of each is its
/// name.
const COUNTING: &str = r#"
import subprocess, sys, time
name = sys.argv[-1]
if name == "first":
    subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1], "second"])
while True:
    print(name, flush=True)
    time.sleep(0.05)
"#;
/// A parent that waits in vfork nearly all the time. A child has its memory and sleeps: `clone`
/// made it with the flags VM, VFORK and SIGCHLD.
const VFORK: &str = r#"
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16) - 64)
while True:
    os.waitpid(libc.clone(libc.usleep, top, 0x4111, ctypes.c_void_p(700000)), 0)
    print("ended", flush=True)
    time.sleep(0.02)
"#;
/// A thread that waits in vfork for a child that never goes on, and another one that counts.
const ENDLESS: &str = r#"
import ctypes, threading, time
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16) - 64)
threading.Thread(target=lambda: libc.clone(libc.pause, top, 0x4111, None), daemon=True).start()
while True:
    print("counts", flush=True)
    time.sleep(0.05)
"#;

#[test]
fn stopped_processes_stay_stopped() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        // The second argument marks the processes of this test.
        let marked = format!("{COUNTING}# {}", world.files().display());
        for name in ["second", "first"] {
            let job = submit(&client, &[&marked, &marked, "first"]).await?;
            let other = if name == "first" { "second" } else { "first" };
            more(&client, &job, name).await?;
            more(&client, &job, other).await?;
            signal(&marked, name, Signal::SIGSTOP)?;
            stopped(&marked, name).await?;
            // What it has said is in the log.
            more(&client, &job, other).await?;
            let still = count(&client, &job, name).await?;
            for _ in 0..2 {
                let migration = move_once(&client, &job).await?;
                ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
                ensure!(migration.pause_seconds < 20.0, "{migration:?}");
                stopped(&marked, name).await?;
                more(&client, &job, other).await?;
            }
            let before = client.job_get(&job).await?.migrations.len();
            client.job_snapshot(&job).await?;
            wait_for("the snapshot", LIMIT, async || {
                let view = client.job_get(&job).await?;
                Ok((view.migrations.len() > before && view.status == JobStatus::Executing).then_some(()))
            })
            .await?;
            stopped(&marked, name).await?;
            client.job_suspend(&job).await?;
            wait_for("the job to be suspended", LIMIT, async || {
                Ok((client.job_get(&job).await?.status == JobStatus::Suspended).then_some(()))
            })
            .await?;
            client.job_resume(&job).await?;
            executing(&client, &job, LIMIT).await?;
            stopped(&marked, name).await?;
            more(&client, &job, other).await?;
            let view = client.job_get(&job).await?;
            ensure!(view.migrations.iter().all(|migration| migration.outcome == Outcome::Succeeded), "{view:?}");
            ensure!(count(&client, &job, name).await? == still, "{name} did not stay stopped");
            signal(&marked, name, Signal::SIGCONT)?;
            more(&client, &job, name).await?;
            client.job_cancel(&job).await?;
            wait_for("the job to end", LIMIT, async || Ok(find(&marked, name).is_empty().then_some(()))).await?;
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn vfork_is_waited_for() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, &[VFORK]).await?;
        for _ in 0..5 {
            more(&client, &job, "ended").await?;
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        }
        more(&client, &job, "ended").await?;
        client.job_cancel(&job).await?;

        let job = submit(&client, &[ENDLESS]).await?;
        more(&client, &job, "counts").await?;
        let migration = move_once(&client, &job).await?;
        let told = migration.outcome.to_string();
        ensure!(told.contains("(python3) waits in vfork for its child process "), "{told}");
        more(&client, &job, "counts").await
    });
    outcome.unwrap();
}

async fn submit(client: &Client, arguments: &[&str]) -> Result<JobId> {
    let mut command = vec![PYTHON.to_owned(), "-c".to_owned()];
    command.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
    Ok(client.job_submit(&request).await?.id)
}

/// Returns how often the job has said a line.
async fn count(client: &Client, job: &JobId, line: &str) -> Result<usize> {
    Ok(client.job_log(job, 0).await?.text.lines().filter(|said| *said == line).count())
}

/// Waits until the job has said a line again, twice: one may have been under way.
async fn more(client: &Client, job: &JobId, line: &str) -> Result<()> {
    let before = count(client, job, line).await?;
    wait_for(line, LIMIT, async || {
        let view = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        Ok((count(client, job, line).await? >= before + 2).then_some(()))
    })
    .await
}

/// The processes with this script among their arguments and this name as the last one.
fn find(script: &str, name: &str) -> Vec<i32> {
    let end = [script, "\0", name, "\0"].concat();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // The shell around the first one has the same arguments at its end.
    let is_it = |found: Vec<u8>| !found.starts_with(b"/bin/sh") && found.ends_with(end.as_bytes());
    pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(is_it)).collect()
}

fn signal(script: &str, name: &str, signal: Signal) -> Result<()> {
    let pids = find(script, name);
    let [pid] = pids[..] else { anyhow::bail!("{} processes of {name}", pids.len()) };
    kill(Pid::from_raw(pid), signal).context("send a signal")
}

/// Waits until there is one process of this name, and it is stopped.
async fn stopped(script: &str, name: &str) -> Result<()> {
    wait_for("the process to be stopped", LIMIT, async || {
        let states: Vec<Option<u8>> = find(script, name).into_iter().map(process::state).collect();
        Ok((states == [Some(b'T')]).then_some(()))
    })
    .await
}

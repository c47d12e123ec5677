//! A job migrates at any moment, also when a command in its terminal ends.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// The begin of a shell that has a terminal.
const SHELL: &str = r"
import fcntl, os, pty, signal, termios, time
master, terminal = pty.openpty()
if os.fork():
    os.wait()
os.setsid()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
";
/// A shell's work with its terminal when it runs one command after the other. The moments after the
/// end of a command are long here: before the shell notices, and before it takes the terminal back.
const SCRIPT: &str = r#"
number = 0
while True:
    command = os.fork()
    if command == 0:
        signal.pause()
    os.setpgid(command, command)
    os.tcsetpgrp(terminal, command)
    os.kill(command, signal.SIGKILL)
    time.sleep(0.05)
    os.waitpid(command, 0)
    time.sleep(0.1)
    os.tcsetpgrp(terminal, os.getpgrp())
    number += 1
    print(number, flush=True)
    time.sleep(0.01)
"#;

/// A terminal in whose foreground nobody is, for longer than a move waits for that to pass, and
/// then its shell.
const EMPTY: &str = r#"
command = os.fork()
if command == 0:
    signal.pause()
os.setpgid(command, command)
os.tcsetpgrp(terminal, command)
os.kill(command, signal.SIGKILL)
os.waitpid(command, 0)
print("empty", flush=True)
time.sleep(10)
os.tcsetpgrp(terminal, os.getpgrp())
while True:
    print("taken", flush=True)
    time.sleep(0.1)
"#;

#[test]
fn unfreezable_terminal_keeps_its_job() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, EMPTY).await?;
        said(&client, &job, "empty").await?;
        let migration = move_once(&client, &job).await?;
        ensure!(migration.outcome.to_string().contains("foreground of one of its terminals"), "{migration:?}");
        said(&client, &job, "taken").await?;
        let migration = move_once(&client, &job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        commands(&client, &job).await
    });
    outcome.unwrap();
}

async fn submit(client: &Client, script: &str) -> Result<JobId> {
    let command = vec![PYTHON.to_owned(), "-c".to_owned(), [SHELL, script].concat()];
    let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
    Ok(client.job_submit(&request).await?.id)
}

/// Waits for a line.
async fn said(client: &Client, job: &JobId, line: &str) -> Result<()> {
    wait_for(line, LIMIT, async || {
        let text = client.job_log(job, 0).await?.text;
        Ok(text.lines().any(|said| said == line).then_some(()))
    })
    .await
}

#[test]
fn a_terminal_moves_between_two_commands() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, SCRIPT).await?;
        commands(&client, &job).await?;
        for _ in 0..2 {
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            commands(&client, &job).await?;
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Waits for three more commands.
async fn commands(client: &Client, job: &JobId) -> Result<()> {
    let ended = async || anyhow::Ok(client.job_log(job, 0).await?.text.lines().count());
    let before = ended().await?;
    wait_for("commands to end", LIMIT, async || {
        let view = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        Ok((ended().await? >= before + 3).then_some(()))
    })
    .await
}

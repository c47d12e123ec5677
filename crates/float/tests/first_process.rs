//! The job's command is process 1 of its container. How it ends is known without a shell, also
//! after migrations, a suspend, and agents that were killed meanwhile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_linux::process_tree;
use mooring_testkit::job::{ended, executing};
use mooring_testkit::oci::{self, Layout};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::{JobStatus, OutputFile};
use mooring_types::migration::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(90);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";

/// An init that refuses to be anything but process 1, as that of s6-overlay does.
const INIT: &str = r#"#!/bin/sh
[ $$ = 1 ] || { echo "can only run as pid 1" >&2; exit 100; }
trap 'exit 3' USR1
trap 'echo stopped; exit 0' TERM
i=0
while :; do i=$((i+1)); echo $i; /bin/sleep 0.1; done
"#;

/// Leaves processes behind that nobody waits for, and counts them.
const ORPHANS: &str = r"
import os, sys, time
for _ in range(3):
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
    os.waitpid(child, 0)
while True:
    time.sleep(0.2)
    states = [open(f'/proc/{pid}/stat').read().split(')')[1].split()[0] for pid in os.listdir('/proc') if pid.isdigit()]
    print(states.count('Z'), flush=True)
";

/// Needs no library, and no other program.
const STATIC: &str = r#"
#include <unistd.h>
int main(void) { return write(1, "alone\n", 6) == 6 && getpid() == 1 ? 5 : 6; }
"#;

/// Writes an image whose entry point is [`INIT`].
fn write_image(files: &Path) -> Result<String> {
    let root = files.join("root");
    oci::install(&root, &["/bin/sh", "/bin/sleep"])?;
    // Where /bin is a link, programs are found by either name.
    if root.join("usr/bin").is_dir() && !root.join("bin").exists() {
        symlink("usr/bin", root.join("bin"))?;
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let mut layout = Layout::new(files.join("layout"))?;
    layout.layer(&root)?;
    layout.finish(&json!({ "Entrypoint": ["/init"] }))?;
    Ok(format!("oci:{}", files.join("layout").display()))
}

/// Builds a static program in a directory of its own.
fn write_static(files: &Path) -> Result<String> {
    let root = files.join("alone");
    fs::create_dir(&root)?;
    fs::write(files.join("alone.c"), STATIC)?;
    let mut cc = Command::new("cc");
    cc.arg("-static").arg("-o").arg(root.join("program")).arg(files.join("alone.c"));
    ensure!(cc.status()?.success(), "cc");
    Ok(format!("dir:{}", root.display()))
}

async fn submit(client: &Client, image: &str, name: &str, command: &[&str]) -> Result<JobId> {
    let request = Submission {
        name: Some(name.parse()?),
        image: Some(image.parse()?),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        env: [("PATH", "/none")].into(),
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

/// Checks the exit code of commands that end at once.
async fn codes(client: &Client, alone: &str) -> Result<()> {
    let shell = |script| ["/bin/sh", "-c", script];
    for (image, command, rc, output, error) in [
        ("dir:/", &shell("exit 7")[..], "7", "", ""),
        ("dir:/", &shell("echo $$")[..], "0", "1\n", ""),
        ("dir:/", &["nowhere"][..], "127", "", "nowhere: not found in PATH, which is /none\n"),
        ("dir:/", &["/etc/nowhere"][..], "127", "", "/etc/nowhere: not found\n"),
        ("dir:/", &["/etc/passwd"][..], "126", "", "/etc/passwd: Permission denied (os error 13)\n"),
        (alone, &["/program"][..], "5", "alone\n", ""),
        // Process 1 ends by a fault of its own.
        ("dir:/", &[PYTHON, "-c", "import ctypes; ctypes.string_at(0)"][..], "139", "", ""),
    ] {
        let job = submit(client, image, "short", command).await?;
        let view = ended(client, &job, LIMIT).await?;
        let wanted = if rc == "0" { JobStatus::Completed } else { JobStatus::FailToComplete };
        ensure!(view.status == wanted && view.rc == rc, "{command:?}: {view:?}");
        let text = async |file| Ok::<_, anyhow::Error>(client.job_log_file(&job, &file, 0).await?.text);
        ensure!(text(OutputFile::Stdout).await? == output && text(OutputFile::Stderr).await? == error, "{command:?}");
    }
    Ok(())
}

/// The first process of a job, by the kernel's id: the only job with this name in its command.
fn first_process(mark: &str) -> Option<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_marked = |pid: i32| {
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|word| word == mark) && process_tree::own_pid(pid) == Some(1)
    };
    pids.find(|pid| is_marked(*pid)).map(Pid::from_raw)
}

/// Returns the last number that a job has written, once there are more lines than before.
async fn counts_on(client: &Client, job: &JobId) -> Result<usize> {
    let numbers = async || -> Result<Vec<String>> {
        Ok(client.job_log_file(job, &OutputFile::Stdout, 0).await?.text.lines().map(str::to_owned).collect())
    };
    let before = numbers().await?.len();
    let lines = wait_for("more numbers", LIMIT, async || {
        let now = numbers().await?;
        Ok((now.len() > before + 3).then_some(now))
    });
    let lines = lines.await?;
    for (index, line) in lines.iter().enumerate() {
        ensure!(*line == (index + 1).to_string(), "line {index} is {line}");
    }
    Ok(lines.len())
}

async fn moved(client: &Client, job: &JobId) -> Result<()> {
    let migration = move_once(client, job).await?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    Ok(())
}

async fn status(client: &Client, job: &JobId, wanted: JobStatus) -> Result<()> {
    wait_for(&format!("the job to be {wanted}"), LIMIT, async || {
        Ok((client.job_get(job).await?.status == wanted).then_some(()))
    })
    .await
}

/// Kills all agents; `meanwhile` happens before others are there.
async fn kill_agents(world: &World, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let killed = world.daemons(&["server", "agent"]);
    for agent in &killed {
        agent.signal(Signal::SIGKILL)?;
    }
    meanwhile()?;
    wait_for("new agents", LIMIT, async || {
        let now = world.daemons(&["server", "agent"]);
        Ok((now.len() == killed.len() && killed.iter().all(|agent| !agent.runs())).then_some(()))
    })
    .await
}

/// An image with an init of its own executes, migrates, is suspended and resumed, and its exit code
/// is known after all of it.
async fn inits(world: &World, client: &Client, image: &str) -> Result<()> {
    let names = ["moved", "killed", "away", "stopped"].map(|name| format!("{name}-{:08x}", rand::random::<u32>()));
    let mut jobs = Vec::new();
    for name in &names {
        jobs.push(submit(client, image, name, &["/init", name]).await?);
    }
    let [travels, killed, away, stopped] = &jobs[..] else { anyhow::bail!("four jobs") };
    for job in &jobs {
        executing(client, job, LIMIT).await?;
        counts_on(client, job).await?;
    }
    moved(client, travels).await?;
    moved(client, killed).await?;
    client.job_suspend(travels).await?;
    status(client, travels, JobStatus::Suspended).await?;
    client.job_resume(travels).await?;
    executing(client, travels, LIMIT).await?;
    counts_on(client, travels).await?;
    moved(client, travels).await?;

    let send = |mark: &str, signal| {
        let pid = first_process(mark).with_context(|| format!("no first process of {mark}"))?;
        anyhow::Ok(kill(pid, signal)?)
    };
    kill_agents(world, || send(&names[2], Signal::SIGUSR1)).await?;
    counts_on(client, travels).await?;
    send(&names[0], Signal::SIGUSR1)?;
    send(&names[1], Signal::SIGKILL)?;
    for (job, rc) in [(travels, "3"), (killed, "137"), (away, "3")] {
        let view = ended(client, job, LIMIT).await?;
        ensure!(view.status == JobStatus::FailToComplete && view.rc == rc, "{rc}: {view:?}");
    }
    // Process 1 is asked to end first, and what it says then is kept.
    client.job_cancel(stopped).await?;
    let view = ended(client, stopped, LIMIT).await?;
    let text = client.job_log_file(stopped, &OutputFile::Stdout, 0).await?.text;
    ensure!(view.status == JobStatus::Cancelled && text.ends_with("stopped\n"), "{view:?}: {text}");
    Ok(())
}

/// Zombies that process 1 does not wait for stay, as in other containers, and migrate.
async fn orphans(client: &Client) -> Result<()> {
    let job = submit(client, "dir:/", "orphans", &[PYTHON, "-c", ORPHANS]).await?;
    executing(client, &job, LIMIT).await?;
    for _ in 0..2 {
        let before = client.job_log(&job, 0).await?.text.len();
        wait_for("three zombies", LIMIT, async || {
            Ok(client.job_log(&job, 0).await?.text[before..].contains("3\n").then_some(()))
        })
        .await?;
        moved(client, &job).await?;
    }
    let before = client.job_log(&job, 0).await?.text.len();
    wait_for("its output", LIMIT, async || Ok((client.job_log(&job, 0).await?.text.len() > before + 2).then_some(())))
        .await?;
    let text = client.job_log(&job, 0).await?.text;
    ensure!(text[before..].lines().all(|line| line == "3"), "{text}");
    client.job_cancel(&job).await?;
    Ok(())
}

#[test]
fn the_command_is_process_1_and_its_end_is_known() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let files = world.files();
    let (image, alone) = (write_image(&files).unwrap(), write_static(&files).unwrap());
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        codes(&client, &alone).await?;
        inits(&world, &client, &image).await?;
        orphans(&client).await
    });
    outcome.unwrap();
}

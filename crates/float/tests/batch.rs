//! Batch jobs: a script that runs without a terminal, what it writes and leaves, and what is kept
//! of it.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::JobView;
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::{JobStatus, OUTPUT_MAX, OutputFile};
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(120);
const LINES: usize = 60;

/// Writes on both streams for some seconds, one line each at a time.
const SCRIPT: &str = r#"#!/bin/bash
[ -t 0 ] || [ -t 1 ] || echo "no terminal"
echo "$FLOAT_USER $FLOAT_JOB_ID $FLOAT_ADDR $FLOAT_CA"
for ((i = 0; i < 60; i++)); do
  echo "out $i"
  echo "error $i" >&2
  sleep 0.1
done
echo "what came of it" >"$FLOAT_RESULTS/table.txt"
[ "$FLOAT_LOG_PATH/stdout.autosave" -ef /proc/self/fd/1 ] && echo "in its place"
exit 3
"#;

async fn submit(client: &Client, script: &str) -> Result<JobId> {
    let request = Submission { image: Some("dir:/".parse()?), script: Some(script.into()), ..Submission::default() };
    Ok(client.job_submit(&request).await?.id)
}

#[test]
fn script_output_and_exit_code_survive_a_migration() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, SCRIPT).await?;
        executing(&client, &job, LIMIT).await?;
        wait_for("some output", LIMIT, async || {
            Ok(client.job_log(&job, 0).await?.text.contains("error 5\n").then_some(()))
        })
        .await?;
        let migration = move_once(&client, &job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        ensure!(client.job_get(&job).await?.status == JobStatus::Executing, "it was moved in its middle");
        let view = ended(&client, &job, LIMIT).await?;
        ensure!(view.status == JobStatus::FailToComplete && view.rc == "3", "{view:?}");
        gone(&world, &job).await?;
        kept(&world, &client, &view).await
    });
    outcome.unwrap();
}

#[test]
fn output_is_followed_across_a_restart_of_opcenter() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&client, SCRIPT).await?;
        executing(&client, &job, LIMIT).await?;
        let printed = world.files().join("printed");
        let mut command = Command::new(env!("CARGO_BIN_EXE_float"));
        command
            .args(["-a", world.url(), "-u", "admin", "-p", &world.password()?])
            .args(["log", "tail", "--follow", "-n", "1000", "-j", job.as_str()])
            .env("HOME", world.directory())
            .stdin(Stdio::null())
            .stdout(File::create(&printed)?)
            .stderr(Stdio::piped());
        let follower = command.spawn()?;
        wait_for("some output", LIMIT, async || Ok(fs::read_to_string(&printed)?.contains("out 5\n").then_some(())))
            .await?;
        world.daemons(&["server", "opcenter"]).pop().context("OpCenter")?.signal(Signal::SIGKILL)?;
        world.opcenter_answers(LIMIT).await?;
        ended(&client, &job, LIMIT).await?;
        // The command ends with the job.
        let followed = follower.wait_with_output()?;
        ensure!(followed.status.success(), "{}: {}", followed.status, String::from_utf8_lossy(&followed.stderr));
        let (printed, whole) = (fs::read_to_string(&printed)?, client.job_log(&job, 0).await?.text);
        ensure!(whole.contains("out 59\n") && printed == whole, "it printed\n{printed}\nof\n{whole}");
        Ok(())
    });
    outcome.unwrap();
}

/// Waits until nothing of the job is on any host.
async fn gone(world: &World, job: &JobId) -> Result<()> {
    wait_for("the hosts to let go of the job", LIMIT, async || {
        let held = ["host-1", "host-2"].iter().any(|host| {
            let place = world.directory().join("hosts").join(host).join("jobs").join(job.as_str());
            let generations = fs::read_dir(place).into_iter().flatten().flatten();
            generations.into_iter().any(|entry| entry.path().is_dir())
        });
        Ok((!held).then_some(()))
    })
    .await
}

async fn kept(world: &World, client: &Client, view: &JobView) -> Result<()> {
    let job = &view.id;
    let both = |name: &str| (0..LINES).map(|i| format!("{name} {i}\n")).collect::<String>();
    let stdout = client.job_log_file(job, &OutputFile::Stdout, 0).await?.text;
    let (head, rest) = stdout.split_once("out 0\n").context("its first line")?;
    let mut told = head.lines();
    ensure!(told.next() == Some("no terminal"), "{head}");
    let known: Vec<&str> = told.next().unwrap_or_default().split(' ').collect();
    ensure!(known.len() == 4 && known[..2] == ["admin", job.as_str()], "{head}");
    ensure!(known[2].starts_with("https://") && known[3].starts_with("sha256:"), "{head}");
    ensure!(format!("out 0\n{rest}") == both("out") + "in its place\n", "{rest}");
    let stderr = client.job_log_file(job, &OutputFile::Stderr, 0).await?.text;
    ensure!(stderr == both("error"), "{stderr}");

    // Both together are the same lines, in the order of each.
    let together = client.job_log(job, 0).await?.text;
    let only =
        |name: &str| -> String { together.split_inclusive('\n').filter(|line| line.starts_with(name)).collect() };
    ensure!(only("out ") == both("out") && only("error ") == stderr, "{together}");
    ensure!(together.len() == stdout.len() + stderr.len(), "{together}");

    // As on the command line, in every way to write it.
    let float = |arguments: &[&str]| -> Result<String> {
        let ran = world.float(arguments)?;
        ensure!(ran.code == Some(0), "{arguments:?}: {ran:?}");
        Ok(ran.stdout)
    };
    ensure!(float(&["log", "-j", job.as_str(), "ls"])? == "stdout.autosave\nstderr.autosave\nresults/table.txt\n");
    ensure!(float(&["log", "-j", job.as_str(), "cat", "stdout.autosave"])? == stdout);
    ensure!(float(&["log", "cat", "stderr.autosave", "-j", job.as_str()])? == stderr);
    ensure!(float(&["log", "-j", job.as_str()])? == together);
    ensure!(together.ends_with(&float(&["log", "tail", "--follow", "output", "-j", job.as_str()])?));
    ensure!(float(&["log", "-j", job.as_str(), "tail", "-n", "1", "stdout.autosave"])? == "in its place\n");
    ensure!(float(&["log", "tail", "-n", "1", "stderr.autosave", "-j", job.as_str()])? == "error 59\n");
    ensure!(float(&["log", "cat", "results/table.txt", "-j", job.as_str()])? == "what came of it\n");
    let refused = world.float(&["log", "cat", "nothing", "-j", job.as_str()])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("`results/table.txt`"), "{refused:?}");
    ensure!(float(&["show", "-j", job.as_str()])?.contains("rc: \"3\""));
    Ok(())
}

#[test]
fn output_without_end_fills_neither_memory_nor_disk() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let script = "yes 0123456789abcdef | head -c 100000000; echo over >&2";
        let opcenter = world.daemons(&["server", "opcenter"]);
        let opcenter = opcenter.first().context("OpCenter")?.pid;
        let before = peak(opcenter)?;
        let job = submit(&client, script).await?;
        let view = ended(&client, &job, LIMIT).await?;
        ensure!(view.status == JobStatus::Completed && view.rc == "0", "{view:?}");
        let files = client.job_log_list(&job).await?;
        let stdout = files.first().context("a file")?;
        ensure!((OUTPUT_MAX..OUTPUT_MAX + 100).contains(&stdout.size), "{files:?}");
        let start = client.job_log_file(&job, &OutputFile::Stdout, 0).await?.text;
        ensure!(start.lines().take(100).all(|line| line == "0123456789abcdef"), "{start}");
        let end = client.job_log_file(&job, &OutputFile::Stdout, OUTPUT_MAX - 2).await?.text;
        ensure!(end.contains("[cut here: no more than 64 MiB are kept"), "{end}");
        ensure!(client.job_log_file(&job, &OutputFile::Stderr, 0).await?.text == "over\n");
        let grown = peak(opcenter)?.saturating_sub(before);
        ensure!(grown < 32 << 10, "OpCenter took {grown} kB more");
        Ok(())
    });
    outcome.unwrap();
}

/// The most memory that a process has ever had, in kB.
fn peak(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("its peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn a_script_without_a_first_line_is_read_by_a_shell() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job =
            submit(&client, "echo \"$0\"; open=$(readlink /proc/1/fd/1 /proc/1/fd/2); echo \"$open\" >&2").await?;
        let view = ended(&client, &job, LIMIT).await?;
        ensure!(view.status == JobStatus::Completed, "{view:?}");
        ensure!(client.job_log_file(&job, &OutputFile::Stdout, 0).await?.text == "/.mooring/script\n");
        let open = client.job_log_file(&job, &OutputFile::Stderr, 0).await?.text;
        // Two files of the container's own, which can be dumped.
        ensure!(open == "/.mooring/stdout.autosave\n/.mooring/stderr.autosave\n", "{open}");
        Ok(())
    });
    outcome.unwrap();
}

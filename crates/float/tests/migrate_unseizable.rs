//! A CRIU that can't seize a process is ended after 5 s, and the job goes on.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_linux::cgroup::{self, Version};
use mooring_linux::process;
use mooring_testkit::job::executing;
use mooring_testkit::tools::Tools;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::Plan;
use mooring_types::JobId;
use mooring_types::migration::{Outcome, Phase};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);
/// The longest pause on a busy machine. The bound is 5 s; nothing else would end the pause before
/// ten minutes have passed.
const PAUSE_MAX: f64 = 30.0;

/// A child is stopped by a signal after the agent has decided how CRIU seizes the job, and before
/// it freezes it. With version 1 of control groups, the kernel lets nobody seize such a process.
#[test]
fn a_process_that_can_not_be_seized_does_not_hold_up_its_job() {
    let tools = Tools::new().unwrap();
    let world = tools.world(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let seconds = rand::random_range(100_000_u32..1_000_000_000).to_string();
        let script = format!("sleep {seconds} & while :; do echo counts; sleep 0.05; done");
        let request = Submission {
            image: Some("dir:/".parse()?),
            command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
            ..Submission::default()
        };
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, LIMIT).await?;
        goes_on(&client, &job).await?;
        let pid = sleeper(&seconds)?;
        let is_stopped = |pid| process::state(pid) == Some(b'T');
        let stop = format!("kill -STOP {pid}; until grep -q '^State:.T' /proc/{pid}/status; do sleep 0.01; done");
        tools.before("checkpoint", &format!("{stop}; rm -f \"$first\""))?;

        let made = move_once(&client, &job).await?;
        if cgroup::version() == Version::V1 {
            let Outcome::Failed { phase: Phase::Freeze, reason, .. } = &made.outcome else {
                anyhow::bail!("CRIU was not ended: {made:?}")
            };
            ensure!(reason.contains("(sleep) could not be stopped for its checkpoint within 5 s"), "{reason}");
            ensure!((5.0..PAUSE_MAX).contains(&made.pause_seconds), "{made:?}");
            let view = client.job_get(&job).await?;
            ensure!(view.status_reason.ends_with(reason.as_str()), "{}", view.status_reason);
            goes_on(&client, &job).await?;
            ensure!(is_stopped(pid), "it was not left as it was");
            // Known to be stopped, it is no obstacle.
            let made = move_once(&client, &job).await?;
            ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
        } else {
            ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
        }
        goes_on(&client, &job).await?;
        let pid = sleeper(&seconds)?;
        ensure!(is_stopped(pid), "it is not stopped any more");
        kill(Pid::from_raw(pid), Signal::SIGCONT)?;
        wait_for("the process to go on", LIMIT, async || Ok((!is_stopped(pid)).then_some(()))).await
    });
    outcome.unwrap();
}

/// Waits until the job has counted on.
async fn goes_on(client: &Client, job: &JobId) -> Result<()> {
    let counted = async || anyhow::Ok(client.job_log(job, 0).await?.text.lines().count());
    let before = counted().await?;
    wait_for("the job to count on", LIMIT, async || Ok((counted().await? > before + 2).then_some(()))).await
}

/// The process that sleeps for so long, by the kernel's id.
fn sleeper(seconds: &str) -> Result<i32> {
    let wanted = format!("sleep\0{seconds}\0");
    let entries = fs::read_dir("/proc")?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == wanted.as_bytes());
    pids.find(is_it).with_context(|| format!("nobody sleeps for {seconds} s"))
}

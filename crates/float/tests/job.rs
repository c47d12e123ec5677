//! The environment of a job, and what is kept of its output.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(60);
/// This machine's address on the bridge of `float up`, outside the overlay.
const OUTSIDE: &str = "198.18.0.1";
/// By how much a clock may go on over a move. The hosts' own clocks are 100,000 s apart.
const STEP: f64 = 15.0;

async fn submit(client: &Client, script: &str, mem_gb: Option<f64>) -> Result<JobId> {
    let request = Submission {
        name: Some("small-machine".parse()?),
        image: Some("dir:/".parse()?),
        command: ["/bin/bash", "-c", script].map(str::to_owned).into(),
        mem_gb,
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

#[test]
fn clock_output_and_way_out_of_a_job_survive_moves() {
    // This machine is the gateways' host, which jobs don't reach otherwise.
    let arguments = vec!["--job-range".into(), OUTSIDE.into()];
    let world = World::start(Plan { arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let outside = TcpListener::bind((OUTSIDE, 0)).await?;
        let port = outside.local_addr()?.port();
        let script = format!(
            "hostname; cat /proc/1/comm; cat /etc/hosts; i=0; while :; do
                read up rest </proc/uptime; echo \"tick $i $up\"; i=$((i+1))
                (echo hello >/dev/tcp/{OUTSIDE}/{port}) 2>/dev/null; sleep 0.1
             done"
        );
        let job = submit(&client, &script, None).await?;
        let first = executing(&client, &job, LIMIT).await?;
        let mut hosts = Vec::new();
        for _ in 0..2 {
            let host = client.job_get(&job).await?.working_host;
            // What leaves the overlay comes from the host that carries the job now.
            wait_for("a call from the job's host", LIMIT, async || {
                let (_, from) = outside.accept().await?;
                Ok(host.starts_with(&format!("{} ", from.ip())).then_some(()))
            })
            .await?;
            hosts.push(host);
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
        }
        ensure!(hosts[0] != hosts[1], "{hosts:?}");
        let ticks = client.job_log(&job, 0).await?.text.lines().count();
        let log = wait_for("output after the moves", LIMIT, async || {
            let text = client.job_log(&job, 0).await?.text;
            Ok((text.lines().count() > ticks + 10).then_some(text))
        })
        .await?;
        ensure!(log.starts_with("small-machine\n"), "{log}");
        ensure!(log.contains(&format!("{} small-machine", first.address)), "{log}");
        let mut last = None;
        for (index, line) in log.lines().filter_map(|line| line.strip_prefix("tick ")).enumerate() {
            let (number, uptime) = line.split_once(' ').context("a tick")?;
            ensure!(number.parse::<usize>()? == index, "tick {index} is {line}");
            let uptime: f64 = uptime.parse()?;
            let goes_on = last.is_none_or(|last| uptime >= last && uptime < last + STEP);
            ensure!(goes_on, "the clock went from {last:?} to {uptime}");
            last = Some(uptime);
        }
        client.job_cancel(&job).await?;
        let cancelled = ended(&client, &job, LIMIT).await?;
        ensure!(cancelled.status == JobStatus::Cancelled, "{cancelled:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn exit_codes_output_and_limits_are_kept() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        for (script, memory, status, rc) in [
            ("echo well; echo done >&2", None, JobStatus::Completed, "0"),
            ("echo well; echo done >&2; exit 3", None, JobStatus::FailToComplete, "3"),
            // More than it may have, in the one process that keeps it.
            (
                "echo well; echo done; head -c 400m /dev/zero | tail >/dev/null; exit ${PIPESTATUS[1]}",
                Some(0.1),
                JobStatus::FailToComplete,
                "137",
            ),
        ] {
            let job = submit(&client, script, memory).await?;
            let view = ended(&client, &job, LIMIT).await?;
            ensure!(view.status == status && view.rc == rc, "{script}: {view:?}");
            let log = client.job_log(&job, 0).await?.text;
            ensure!(log.starts_with("well\ndone\n"), "{script}: {log}");
            ensure!(
                client
                    .job_events(&job)
                    .await?
                    .iter()
                    .any(|event| event.event.to_string().contains(&status.to_string()))
            );
        }
        Ok(())
    });
    outcome.unwrap();
}

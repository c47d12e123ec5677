//! Out of memory is told by an event and the reason of the status. The job may have ended by it, or
//! only one of its children.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::{Event, JobId};

const LIMIT: Duration = Duration::from_secs(60);
/// Uses more memory than the job has, once a second has passed.
const GREEDY: &str = "/opt/mooring/jupyter/bin/python3 -c 'import time; time.sleep(2); x = bytearray(600 << 20)'";

#[test]
fn kills_for_lack_of_memory_are_told() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let alone = submit(&client, "alone", &format!("exec {GREEDY}")).await?;
        let child = submit(&client, "child", &format!("{GREEDY}; while sleep 1; do :; done")).await?;
        let by_hand = submit(&client, "by-hand", "sh -c 'sleep 3; kill -9 $$'; exit $?").await?;

        let view = ended(&client, &alone, LIMIT).await?;
        ensure!(view.status == JobStatus::FailToComplete && view.rc == "137", "{view:?}");
        told(&client, &alone, &view.status_reason).await?;

        executing(&client, &child, LIMIT).await?;
        let view = wait_for("the kill of the child", LIMIT, async || {
            let view = client.job_get(&child).await?;
            Ok((!view.status_reason.is_empty()).then_some(view))
        })
        .await?;
        ensure!(view.status == JobStatus::Executing, "{view:?}");
        told(&client, &child, &view.status_reason).await?;
        let ran = world.float(&["log", "events", "-j", child.as_str()])?;
        ensure!(ran.stdout.contains("out of memory: the kernel ended process"), "{ran:?}");

        let view = ended(&client, &by_hand, LIMIT).await?;
        ensure!(view.rc == "137" && view.status_reason == "it ended with exit code 137", "{view:?}");
        Ok(())
    });
    outcome.unwrap();
}

async fn told(client: &Client, job: &JobId, reason: &str) -> Result<()> {
    let events = client.job_events(job).await?;
    let kills: Vec<&Event> =
        events.iter().map(|entry| &entry.event).filter(|event| matches!(event, Event::OutOfMemory { .. })).collect();
    let [event @ Event::OutOfMemory { pid, program, limit_gb, kills: 1, total: 1, .. }] = kills.as_slice() else {
        anyhow::bail!("{kills:?}")
    };
    let pid = pid.context("the process id in the job")?;
    ensure!(program == "python3" && *limit_gb == 0.3 && (1..100).contains(&pid), "{event:?}");
    let expected = format!("out of memory: the kernel ended process {pid} (python3) at the job's limit of 0.3 GB");
    ensure!(reason.starts_with(&expected) && reason.contains("`-m`") && reason.contains("evadeOOM"), "{reason}");
    Ok(())
}

async fn submit(client: &Client, name: &str, script: &str) -> Result<JobId> {
    let job = Submission {
        image: Some("dir:/".parse()?),
        name: Some(name.parse()?),
        mem_gb: Some(0.3),
        with_root: true,
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    Ok(client.job_submit(&job).await?.id)
}

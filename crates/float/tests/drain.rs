//! A host that is drained by hand: its jobs move, the one too many is suspended, nobody's
//! connection breaks; and OpCenter may die meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{HostStatus, JobView, MigrateRequest};
use mooring_testkit::job::executing;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn drained_host_is_left_by_all_its_jobs() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witnesses = gathered(&client, ["first", "second", "third"], &program).await?;
        let asking: Vec<Asking> = witnesses.iter().map(|witness| Asking::start(witness.session.address)).collect();
        for asking in &asking {
            asking.answered(20, WITHIN).await?;
        }
        // The other host has room for two of them: memory is what it lacks for a third.
        let room = client.host_list().await?.into_iter().find(|host| host.name == "host-2").context("host-2")?;
        let filler = room.cores.checked_sub(2).context("cores")?;
        let filler = if filler > 0 { Some(fill(&client, filler).await?) } else { None };

        let ran = world.float(&["hosts", "drain", "host-1", "--within", "2m", "--wait", "-F", "json"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        ensure!(ran.stdout.contains("\"drained\"") && ran.stderr.contains("Drain request"), "{ran:?}");
        let (moved, suspended) = left(&client, &witnesses, &asking).await?;
        ensure!((moved.len(), suspended.len()) == (2, 1), "{} moved, {} suspended", moved.len(), suspended.len());

        // What is wanted on a drained host waits.
        let back = MigrateRequest { host: "host-1".into(), ..MigrateRequest::default() };
        let refused = client.job_migrate(&moved[0].session.job, &back).await.err().context("it was taken")?;
        ensure!(refused.to_string().contains("is drained by admin"), "{refused}");
        // A job that the drain has suspended resumes once there is room, with its connection, also
        // when OpCenter was killed meanwhile.
        world.daemons(&["server", "opcenter"]).pop().context("OpCenter")?.signal(Signal::SIGKILL)?;
        world.opcenter_answers(WITHIN).await?;
        let ran = world.float(&["hosts", "undrain", "host-1", "-F", "json"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        let back = executing(&client, &suspended[0].session.job, WITHIN).await?;
        let resumed = back.migrations.last().context("a record")?;
        ensure!(
            resumed.kind == MigrationKind::Resume && resumed.reason == "host host-1 has room for it",
            "{resumed:?}"
        );
        for asking in asking {
            let seen = asking.answered(20, WITHIN).await?;
            ensure!(seen.broken == 0 && seen.fault.is_none(), "{seen:?}");
            drop(asking.finish().await);
        }
        drop(filler);
        Ok(())
    });
    outcome.unwrap();
}

/// Returns the jobs that have left `host-1` for `host-2`, and those that were suspended.
async fn left<'a>(
    client: &Client,
    witnesses: &'a [Witness],
    asking: &[Asking],
) -> Result<(Vec<&'a Witness>, Vec<&'a Witness>)> {
    let (mut moved, mut suspended) = (Vec::new(), Vec::new());
    for (witness, asking) in witnesses.iter().zip(asking) {
        let job = client.job_get(&witness.session.job).await?;
        ensure!(job.migrations.last().is_some_and(|last| last.outcome == Outcome::Succeeded), "{job:?}");
        let reason = &job.migrations.last().context("a record")?.reason;
        ensure!(reason.starts_with("host host-1 is drained by admin"), "{reason}");
        match job.status {
            JobStatus::Executing => {
                ensure!(job.host_name == "host-2", "{job:?}");
                asking.answered(20, WITHIN).await?;
                moved.push(witness);
            }
            JobStatus::Suspended => {
                ensure!(job.status_reason.contains("no other host has room"), "{}", job.status_reason);
                suspended.push(witness);
            }
            _ => anyhow::bail!("{job:?}"),
        }
    }
    Ok((moved, suspended))
}

#[test]
fn drain_goes_on_after_opcenter_was_killed() {
    let mut plan = Plan::new(env!("CARGO_BIN_EXE_float"));
    plan.arguments = vec!["--drain-at-once".into(), "2".into()];
    let world = World::start(plan).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witnesses = gathered(&client, ["anna", "bert", "carl"], &program).await?;
        let asking: Vec<Asking> = witnesses.iter().map(|witness| Asking::start(witness.session.address)).collect();
        // It dies when it takes note of the first job's arrival, while a second one is on its way
        // and a third waits.
        let opcenter = world.daemons(&["server", "opcenter"]).pop().context("OpCenter")?;
        world.failpoint_set("migration-commit", &format!("kill {}", opcenter.pid))?;
        let ran = world.float(&["hosts", "drain", "host-1", "-F", "json"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        wait_for("OpCenter to die", WITHIN, async || Ok(world.failpoints_left().is_empty().then_some(()))).await?;
        world.opcenter_answers(WITHIN).await?;
        wait_for("the host to be drained", WITHIN, async || {
            let Ok(hosts) = client.host_list().await else { return Ok(None) };
            Ok(hosts.iter().any(|host| host.name == "host-1" && host.status == HostStatus::Drained).then_some(()))
        })
        .await?;
        for (witness, asking) in witnesses.iter().zip(asking) {
            let job = executing(&client, &witness.session.job, WITHIN).await?;
            ensure!(job.host_name == "host-2", "{job:?}");
            let seen = asking.answered(20, WITHIN).await?;
            ensure!(seen.broken == 0 && seen.fault.is_none() && witness.processes() == 1, "{seen:?}");
            drop(asking.finish().await);
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Witnesses of these names on host-1, behind one gateway.
async fn gathered(client: &Client, names: [&str; 3], program: &Path) -> Result<Vec<Witness>> {
    let [first, rest @ ..] = names;
    let mut witnesses = vec![Witness::launch(client, first, program).await?];
    let gateway = witnesses[0].session.gateway.clone();
    for name in rest {
        witnesses.push(Witness::launch_behind(client, &gateway, name, program).await?);
    }
    for Witness { session, .. } in &witnesses {
        let id = &session.job;
        if client.job_get(id).await?.host_name != "host-1" {
            client.job_migrate(id, &MigrateRequest { host: "host-1".into(), ..MigrateRequest::default() }).await?;
            wait_for("the job on host-1", WITHIN, async || {
                let job = client.job_get(id).await?;
                let settled = job.migrations.iter().all(|known| known.outcome == Outcome::Succeeded);
                Ok((job.status == JobStatus::Executing && job.host_name == "host-1" && settled).then_some(()))
            })
            .await?;
        }
    }
    Ok(witnesses)
}

/// A job that takes `cpu` cores of host-2.
async fn fill(client: &Client, cpu: u32) -> Result<JobView> {
    let job = mooring_api::Submission {
        name: Some("filler".parse()?),
        image: Some("dir:/".parse()?),
        command: vec!["sleep".into(), "3600".into()],
        cpu: Some(cpu),
        mem_gb: Some(0.5),
        host: Some("host-2".parse()?),
        ..Default::default()
    };
    let job = client.job_submit(&job).await.context("submit the filler")?;
    let job = executing(client, &job.id, WITHIN).await?;
    ensure!(job.host_name == "host-2", "{job:?}");
    Ok(job)
}

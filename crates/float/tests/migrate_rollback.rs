//! Migrations whose restore fails at every host: the job goes on at its source as it was.

use std::fs::{self, TryLockError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_api::view::{HostView, JobView, MigrateRequest};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tools::Tools;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{Plan, World};
use mooring_types::host::HostRole;
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase};
use mooring_types::{Event, JobId};

/// Time limit of a migration.
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// Time limit of a cancel. On a quiet machine it takes a tenth of that.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);
/// A restore that never comes to an end, in the words of a shell.
const HANG: &str = "touch \"${first%/*}/hangs\"; exec sleep 9999";

#[test]
fn restores_that_fail_everywhere_lose_no_job() {
    let tools = Tools::new().unwrap();
    let world = tools.world(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = witness::program().and_then(|program| world.bring(&program)).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "witness", &program).await?;
        let asking = Asking::start(witness.session.address);
        let (job, pids) = (&witness.session.job, witness.pids());

        for broken in ["exit 1", "exit 1", HANG] {
            tools.before("restore", broken)?;
            let host = client.job_get(job).await?.host_name;
            let after = migrate(&client, job).await?;
            let failed = after.migrations.last().context("a migration")?;
            ensure!(matches!(failed.outcome, Outcome::Failed { .. }), "{failed:?}");
            ensure!(after.host_name == host && after.status == JobStatus::Executing, "{after:?}");
            ensure!(witness.pids() == pids, "{pids:?} became {:?}", witness.pids());
            asking.answered(20, OVER_WITHIN).await?;
        }
        ensure!(asking.seen().broken == 0, "a connection broke: {:?}", asking.seen());

        // The capsule of a job that can't be resumed is kept, and resumes once it can be.
        tools.before("restore", "exit 1")?;
        client.job_suspend(job).await?;
        becomes(&client, job, JobStatus::Suspended).await?;
        client.job_resume(job).await?;
        let over = |view: &JobView| view.migrations.last().is_some_and(|last| last.outcome.is_final());
        let failed = until(&client, job, |view| view.status == JobStatus::Suspended && over(view)).await?;
        ensure!(failed.migrations.last().is_some_and(|last| last.outcome != Outcome::Succeeded), "{failed:?}");
        tools.mend("restore")?;
        client.job_resume(job).await?;
        becomes(&client, job, JobStatus::Executing).await?;
        asking.answered(20, OVER_WITHIN).await?;
        let after = migrate(&client, job).await?;
        ensure!(after.migrations.last().is_some_and(|last| last.outcome == Outcome::Succeeded), "{after:?}");
        let seen = asking.finish().await;
        ensure!(seen.fault.is_none() && seen.broken == 0, "{seen:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn stuck_restore_is_ended_by_a_cancel() {
    let tools = Tools::new().unwrap();
    let world = tools.world(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = witness::program().and_then(|program| world.bring(&program)).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "witness", &program).await?;
        let job = &witness.session.job;
        tools.before("restore", HANG)?;
        client.job_migrate(job, &MigrateRequest::default()).await?;
        wait_for("the restore", OVER_WITHIN, async || Ok(tools.file("hangs").exists().then_some(()))).await?;
        let asked = Instant::now();
        client.job_cancel(job).await?;
        until(&client, job, |view| view.status == JobStatus::Cancelled).await?;
        ensure!(asked.elapsed() < CANCELLED_WITHIN, "the cancel took {:?}", asked.elapsed());
        wait_for("nothing of the job", OVER_WITHIN, async || Ok((witness.processes() == 0).then_some(()))).await?;
        let hosts = client.host_list().await?;
        let freed = |host: &HostView| host.role == HostRole::Gateways || (host.jobs == 0 && host.cores_used == 0);
        ensure!(hosts.iter().all(freed), "{hosts:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn restored_job_is_compared_with_what_it_was() {
    let tools = Tools::new().unwrap();
    let plan = Plan { may_differ: true, ..Plan::new(env!("CARGO_BIN_EXE_float")) };
    let world = tools.world(plan).unwrap();
    let program = witness::program().and_then(|program| world.bring(&program)).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "witness", &program).await?;
        let asking = Asking::start(witness.session.address);
        let job = &witness.session.job;

        // A job without its listener is not the job: its source goes on.
        let host = client.job_get(job).await?.host_name;
        let pids = witness.pids();
        let first = *pids.iter().max().context("a process")?;
        tools.after_restore(first, "nsenter -t $pid -n ss -K state listening >/dev/null")?;
        let after = migrate(&client, job).await?;
        let failed = after.migrations.last().context("a migration")?;
        let Outcome::Failed { phase: Phase::Verify, reason } = &failed.outcome else { bail!("{failed:?}") };
        ensure!(reason.contains("nobody is at TCP port"), "{reason}");
        ensure!(after.host_name == host && witness.pids() == pids, "{after:?}");
        asking.answered(20, OVER_WITHIN).await?;

        // A limit is no reason to give a migration up.
        tools.after_restore(first, "prlimit --pid $pid --core=4096:4096")?;
        let after = migrate(&client, job).await?;
        ensure!(after.migrations.last().is_some_and(|last| last.outcome == Outcome::Succeeded), "{after:?}");
        let events = client.job_events(job).await?;
        let told = events.iter().find(|event| matches!(event.event, Event::RestoredWithDifferences { .. }));
        let told = told.context("an event")?.event.to_string();
        ensure!(told.contains("the limit of core file size 4096 to 4096, before"), "{told}");
        asking.answered(20, OVER_WITHIN).await?;
        let seen = asking.finish().await;
        ensure!(seen.fault.is_none() && seen.broken == 0, "{seen:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// The frozen source keeps the lock while the destination would take it: no test of a job's own
/// files shows that.
#[test]
fn lock_on_a_shared_volume_migrates() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let shared = world.files().join("shared");
    fs::create_dir(&shared).unwrap();
    let lock = fs::File::create(shared.join("lock")).unwrap();
    let is_locked = || matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
    let request = Submission {
        name: Some("locker".parse().unwrap()),
        image: Some("dir:/".parse().unwrap()),
        command: ["sh", "-c", "exec 9>>/mnt/shared/lock && flock 9 && exec sleep 9999"].map(str::to_owned).to_vec(),
        data_volumes: vec![format!("{}:/mnt/shared", shared.display()).parse().unwrap()],
        ..Submission::default()
    };
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, OVER_WITHIN).await?;
        wait_for("the lock", OVER_WITHIN, async || {
            let locked = is_locked();
            if !locked {
                lock.unlock()?;
            }
            Ok(locked.then_some(()))
        })
        .await?;
        for _ in 0..2 {
            let after = migrate(&client, &job).await?;
            ensure!(after.migrations.last().is_some_and(|last| last.outcome == Outcome::Succeeded), "{after:?}");
            ensure!(is_locked(), "the lock was lost");
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Migrates the job and waits until its record says how that ended.
async fn migrate(client: &Client, job: &JobId) -> Result<JobView> {
    let before = client.job_get(job).await?.migrations.len();
    client.job_migrate(job, &MigrateRequest::default()).await?;
    until(client, job, |view| {
        view.migrations.len() > before && view.migrations.iter().all(|migration| migration.outcome.is_final())
    })
    .await
}

async fn becomes(client: &Client, job: &JobId, status: JobStatus) -> Result<()> {
    until(client, job, |view| view.status == status).await.map(drop)
}

async fn until(client: &Client, job: &JobId, condition: impl Fn(&JobView) -> bool) -> Result<JobView> {
    wait_for("the job's next state", OVER_WITHIN, async || {
        let view = client.job_get(job).await?;
        Ok(condition(&view).then_some(view))
    })
    .await
}

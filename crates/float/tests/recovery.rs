//! A host that is lost with a job on it, and comes back later.
//!
//! The job executes elsewhere from its newest capsule, under the same address; its clients are told
//! that their connections have ended. The host still executes the job as it was: when it comes back
//! it ends that copy before it is given anything to do.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mooring_api::Client;
use mooring_api::view::JobView;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(60);
/// Time limit of a recovery on a busy machine. An idle one takes some 12 s, 10 of them until the
/// host counts as unreachable.
const RECOVERED_WITHIN: Duration = Duration::from_secs(50);
/// A time without OpCenter, longer than the silence that makes a host unreachable.
const STALL: Duration = Duration::from_secs(13);

#[test]
fn lost_host_job_is_recovered_elsewhere() {
    // Of two hosts with the same room the first one would be taken, were it not that its VM policy
    // takes spot hosts first.
    let arguments = ["--purchase", "host-2=spot", "--purchase", "host-3=spot"].map(str::to_owned).to_vec();
    let world = World::start(Plan { virtual_hosts: 3, arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "castaway", &program).await?;
        let (id, address) = (witness.session.job.clone(), witness.session.address);
        let asking = Asking::start(address);
        asking.answered(20, WITHIN).await?;
        let before = snapshotted(&client, &id).await?;
        asking.answered(20, WITHIN).await?;
        drop(asking.finish().await);
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(RECOVERED_WITHIN))?;
        connection.write_all(b"?\n")?;
        ensure!(connection.read(&mut [0; 64])? > 0, "the job does not answer");

        world.cut_off(&before.host_name)?;
        let lost = Instant::now();
        let after = wait_for("the job on another host", WITHIN, async || {
            let job = client.job_get(&id).await?;
            Ok((job.status == JobStatus::Executing && job.host_name != before.host_name).then_some(job))
        })
        .await?;
        let took = lost.elapsed();
        ensure!(took < RECOVERED_WITHIN, "it took {took:?}: {:?}", after.migrations);
        ensure!(after.migrations.last().is_some_and(|made| made.kind == MigrationKind::Recover), "{after:?}");
        ensure!((before.host_name.as_str(), after.host_name.as_str()) == ("host-2", "host-3"), "{after:?}");
        ensure!(after.port_mappings == before.port_mappings && after.generation > before.generation, "{after:?}");
        // A connection of before has ended, and is not left to hang.
        let ended = connection.write_all(b"?\n").and_then(|()| read_to_end(&mut connection));
        match ended {
            Ok(0) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
            other => anyhow::bail!("the old connection: {other:?}"),
        }
        let asking = Asking::start(address);
        let seen = asking.answered(20, WITHIN).await?;
        ensure!(seen.fault.is_none() && seen.broken == 0, "{seen:?}");
        ensure!(witness.processes() == 2, "the stale copy executes: {}", witness.processes());

        world.join_again(&before.host_name)?;
        wait_for("the stale copy to end", WITHIN, async || Ok((witness.processes() == 1).then_some(()))).await?;
        let seen = asking.answered(20, WITHIN).await?;
        ensure!(seen.fault.is_none() && seen.broken == 0, "{seen:?}");
        let job = client.job_get(&id).await?;
        ensure!(job.host_name == after.host_name && job.generation == after.generation, "{job:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn opcenter_that_was_stopped_takes_no_host_for_lost() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "unmoved", &program).await?;
        let id = witness.session.job.clone();
        let asking = Asking::start(witness.session.address);
        let before = snapshotted(&client, &id).await?;
        let opcenter = world.daemons(&["server", "opcenter"]);
        ensure!(opcenter.len() == 1, "{opcenter:?}");
        opcenter[0].signal(Signal::SIGSTOP)?;
        tokio::time::sleep(STALL).await;
        opcenter[0].signal(Signal::SIGCONT)?;
        asking.answered(20, WITHIN).await?;
        // Longer than a lost host would be waited for from here on.
        tokio::time::sleep(STALL).await;
        let after = client.job_get(&id).await?;
        ensure!((&after.host_name, after.generation) == (&before.host_name, before.generation), "{after:?}");
        let events = client.job_events(&id).await?;
        ensure!(!events.iter().any(|event| event.event.to_string().contains("Unknown")), "{events:?}");
        let seen = asking.finish().await;
        ensure!(seen.fault.is_none() && seen.broken == 0, "{seen:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn host_that_is_back_in_time_keeps_its_job() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "sailor", &program).await?;
        let id = witness.session.job.clone();
        let before = snapshotted(&client, &id).await?;
        // What it does from here on is in no capsule.
        let asking = Asking::start(witness.session.address);
        asking.answered(50, WITHIN).await?;
        for _ in 0..10 {
            world.failpoint_set(&Phase::Restore.failpoint(), "error")?;
        }
        world.cut_off(&before.host_name)?;
        wait_for("a recovery to fail", WITHIN, async || {
            let job = client.job_get(&id).await?;
            Ok(job
                .migrations
                .iter()
                .any(|made| made.kind == MigrationKind::Recover && made.outcome.to_string().starts_with("failed: "))
                .then_some(()))
        })
        .await?;
        world.join_again(&before.host_name)?;
        let after = wait_for("the job on its own host", WITHIN, async || {
            let job = client.job_get(&id).await?;
            Ok((job.status == JobStatus::Executing).then_some(job))
        })
        .await?;
        ensure!(after.host_name == before.host_name && after.generation == before.generation, "{after:?}");
        let seen = asking.answered(50, WITHIN).await?;
        ensure!(seen.fault.is_none() && witness.processes() == 1, "{seen:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// Makes a snapshot of a job.
async fn snapshotted(client: &Client, id: &JobId) -> Result<JobView> {
    client.job_snapshot(id).await?;
    wait_for("the capsule", WITHIN, async || {
        let job = client.job_get(id).await?;
        let taken = job.migrations.last().is_some_and(|made| made.outcome == Outcome::Succeeded);
        Ok((taken && job.status == JobStatus::Executing).then_some(job))
    })
    .await
}

/// Reads past what was answered before.
fn read_to_end(connection: &mut TcpStream) -> std::io::Result<usize> {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).map(|_| 0)
}

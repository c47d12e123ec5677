//! Faults of a migration: in each phase an error, and the end by SIGKILL of each process that takes
//! part.
//!
//! After each fault the job executes in exactly one place with all of its memory. Its record has
//! the outcome, and no other host holds anything of it. The client's connection breaks only if the
//! gateway itself was killed. Each process has a world of its own, in which its faults happen one
//! after the other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{HostStatus, JobView, MigrateRequest};
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase};

/// Time limit until a fault is over. A daemon that died is started again after half a second.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// The process that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Nobody,
    OpCenter,
    Source,
    Destination,
    Gateway,
}

#[test]
fn an_error_in_any_phase_leaves_one_job() {
    every_phase(Victim::Nobody);
}

#[test]
fn opcenter_killed_in_any_phase_leaves_one_job() {
    every_phase(Victim::OpCenter);
}

#[test]
fn the_source_killed_in_any_phase_leaves_one_job() {
    every_phase(Victim::Source);
}

#[test]
fn the_destination_killed_in_any_phase_leaves_one_job() {
    every_phase(Victim::Destination);
}

#[test]
fn the_gateway_killed_in_any_phase_leaves_one_job() {
    every_phase(Victim::Gateway);
}

fn every_phase(victim: Victim) {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).expect("a world");
    let program = witness::program().and_then(|program| world.bring(&program)).expect("the witness");
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "witness", &program).await?;
        let asking = Asking::start(witness.session.address);
        for phase in Phase::ALL {
            fault(&world, &client, &witness, &asking, phase, victim)
                .await
                .with_context(|| format!("{phase}, {victim:?}"))?;
        }
        // The next migration is like any other.
        ready(&client).await?;
        let before = client.job_get(&witness.session.job).await?;
        client.job_migrate(&witness.session.job, &MigrateRequest::default()).await?;
        let after = settled(&world, &client, &witness, before.migrations.len() + 1).await?;
        ensure!(after.host_name != before.host_name, "the last move was not made");
        let seen = asking.finish().await;
        ensure!(seen.fault.is_none(), "{seen:?}");
        Ok(())
    });
    // While the world is still there, so that its logs stay.
    outcome.expect("one job is left");
}

async fn fault(
    world: &World,
    client: &Client,
    witness: &Witness,
    asking: &Asking,
    phase: Phase,
    victim: Victim,
) -> Result<()> {
    ready(client).await?;
    let before = client.job_get(&witness.session.job).await?;
    let destination = if before.host_name == "host-1" { "host-2" } else { "host-1" };
    let words: Option<[&str; 3]> = match victim {
        Victim::Nobody => None,
        Victim::OpCenter => Some(["float", "server", "opcenter"]),
        Victim::Source => Some(["server", "agent", &before.host_name]),
        Victim::Destination => Some(["server", "agent", destination]),
        Victim::Gateway => Some(["float", "server", "gateway"]),
    };
    let action = match words {
        None => "error".to_owned(),
        Some(words) => {
            let words = if words[0] == "float" { &words[1..] } else { &words[..] };
            let found = world.daemons(words);
            ensure!(found.len() == 1, "{} processes are {words:?}", found.len());
            format!("kill {}", found[0].pid)
        }
    };
    let (broken, pids) = (asking.seen().broken, witness.pids());
    world.failpoint_set(&phase.failpoint(), &action)?;
    let asked = client
        .job_migrate(&witness.session.job, &MigrateRequest { host: destination.into(), ..MigrateRequest::default() })
        .await;
    let fails_at_once = phase == Phase::Plan && matches!(victim, Victim::Nobody | Victim::OpCenter);
    // An OpCenter that is killed in the next phase may not have answered yet.
    let may_fail = phase == Phase::Prepare && victim == Victim::OpCenter;
    ensure!(asked.is_err() == fails_at_once || may_fail, "the request: {asked:?}");
    wait_for("the failpoint", OVER_WITHIN, async || Ok(world.failpoints_left().is_empty().then_some(()))).await?;
    let moves = before.migrations.len() + usize::from(!fails_at_once);
    let after = settled(world, client, witness, moves).await?;
    let seen = asking.answered(20, OVER_WITHIN).await?;
    let succeeded = moves > before.migrations.len()
        && after.migrations.last().is_some_and(|migration| migration.outcome == Outcome::Succeeded);
    let expected = if succeeded { destination } else { &before.host_name };
    ensure!(after.host_name == expected, "the job is on {} and its record says {after:?}", after.host_name);
    // An error until the destination has verified the job is the end of the move; one after that,
    // or a gateway that does not answer, is not.
    if victim == Victim::Nobody {
        let undone = !matches!(phase, Phase::Quiesce | Phase::Commit | Phase::Retire);
        ensure!(succeeded != undone, "{after:?}");
        let told =
            after.migrations.last().is_some_and(|migration| migration.outcome.to_string().contains(&phase.failpoint()));
        ensure!(succeeded || phase == Phase::Plan || told, "the record does not say why: {after:?}");
    }
    ensure!(victim == Victim::Gateway || seen.broken == broken, "the connection broke");
    ensure!(witness.processes() == 1, "{} processes execute the job", witness.processes());
    // A rollback is a thaw: it makes no processes.
    ensure!(succeeded == (witness.pids() != pids), "the job was {pids:?} and is {:?}", witness.pids());
    Ok(())
}

/// Waits until OpCenter has a report of every host, which takes a moment after its restart.
async fn ready(client: &Client) -> Result<()> {
    wait_for("all hosts to be ready", OVER_WITHIN, async || {
        let Ok(hosts) = client.host_list().await else { return Ok(None) };
        Ok(hosts.iter().all(|host| host.status == HostStatus::Ready).then_some(()))
    })
    .await
}

/// Waits until nothing is under way any more.
async fn settled(world: &World, client: &Client, witness: &Witness, moves: usize) -> Result<JobView> {
    let look = async || {
        // OpCenter may be away.
        let Ok(view) = client.job_get(&witness.session.job).await else { return Ok(None) };
        let over = view.status == JobStatus::Executing
            && view.migrations.len() == moves
            && view.migrations.iter().all(|migration| migration.outcome.is_final());
        let holders = holders(&world.directory(), &witness.session.job);
        Ok((over && holders == [view.host_name.clone()] && witness.processes() == 1).then_some(view))
    };
    let settled = wait_for("everything to be over", OVER_WITHIN, look).await;
    settled.with_context(|| {
        let holders = holders(&world.directory(), &witness.session.job);
        format!("held by {holders:?}, executed by {} processes", witness.processes())
    })
}

/// The hosts that hold files of a job.
fn holders(up: &Path, job: &JobId) -> Vec<String> {
    let hosts = std::fs::read_dir(up.join("hosts")).into_iter().flatten().flatten();
    let holds = |host: &Path| {
        let places = std::fs::read_dir(host.join("jobs").join(job.as_str())).into_iter().flatten().flatten();
        places.filter(|place| place.path().is_dir()).count() > 0
    };
    let mut names: Vec<String> =
        hosts.filter(|host| holds(&host.path())).map(|host| host.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

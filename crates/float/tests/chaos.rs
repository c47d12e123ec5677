//! Everything at random for a while, with nothing lost: see [`mooring_testkit::chaos`].
//!
//! `make chaos` runs for minutes with a seed that it prints. Here are a short run with a fixed
//! seed, and a failure that was found once.

use std::fs;
use std::str::FromStr;
use std::time::Duration;

use anyhow::ensure;
use mooring_testkit::chaos::{Chaos, Plan};
use mooring_testkit::job::executing;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{self, World};
use mooring_types::migration::Outcome;

/// The variables that `make chaos` sets.
const SEED: &str = "MOORING_CHAOS_SEED";
const MINUTES: &str = "MOORING_CHAOS_MINUTES";

#[test]
fn nothing_is_lost_whatever_happens() {
    let minutes = from_environment::<f64>(MINUTES);
    let short = Plan {
        float: env!("CARGO_BIN_EXE_float").into(),
        seed: from_environment(SEED).unwrap_or(174_893),
        duration: Duration::from_secs(20),
        hosts: 3,
        witnesses: 3,
        counters: 1,
        programs: 1,
        log_to_stderr: false,
    };
    let plan = match minutes {
        None => short,
        Some(minutes) => Plan {
            duration: Duration::from_secs_f64(minutes * 60.0),
            witnesses: 6,
            counters: 3,
            programs: 2,
            log_to_stderr: true,
            ..short
        },
    };
    let chaos = Chaos::start(plan).unwrap();
    match chaos.run() {
        Ok(summary) => println!("{summary}"),
        Err(error) => panic!("{error:#}"),
    }
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// OpCenter is started again and a host is lost while nobody can reach the capsule store: the job
/// waits for it.
#[test]
fn recovery_waits_for_the_capsule_store() {
    const WITHIN: Duration = Duration::from_secs(60);
    let store = tempfile::tempdir_in("/var/tmp").unwrap();
    let (capsules, aside) = (store.path().join("capsules"), store.path().join("aside"));
    let location = format!("dir:{}", capsules.display());
    let plan = world::Plan::new(env!("CARGO_BIN_EXE_float"));
    let world = World::start(world::Plan { arguments: vec!["--capsule-store".into(), location], ..plan }).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "patient", &program).await?;
        let id = witness.session.job.clone();
        client.job_snapshot(&id).await?;
        wait_for("the capsule", WITHIN, async || {
            let job = client.job_get(&id).await?;
            Ok(job.migrations.last().is_some_and(|made| made.outcome == Outcome::Succeeded).then_some(()))
        })
        .await?;
        let before = executing(&client, &id, WITHIN).await?;

        fs::rename(&capsules, &aside)?;
        fs::write(&capsules, "not the capsule store\n")?;
        for opcenter in world.daemons(&["server", "opcenter"]) {
            opcenter.signal(nix::sys::signal::Signal::SIGKILL)?;
        }
        world.opcenter_answers(WITHIN).await?;
        world.cut_off(&before.host_name)?;
        wait_for("recoveries to fail", WITHIN, async || {
            let job = client.job_get(&id).await?;
            ensure!(!job.status.is_final(), "the job is {}: {}", job.status, job.status_reason);
            let failed = job.migrations.iter().filter(|made| made.outcome.to_string().starts_with("failed: "));
            Ok((failed.count() >= 3).then_some(()))
        })
        .await?;

        fs::remove_file(&capsules)?;
        fs::rename(&aside, &capsules)?;
        let after = executing(&client, &id, WITHIN).await?;
        ensure!(after.host_name != before.host_name, "{after:?}");
        let asking = Asking::start(witness.session.address);
        let seen = asking.answered(20, WITHIN).await?;
        ensure!(seen.fault.is_none(), "{seen:?}");
        world.join_again(&before.host_name)?;
        wait_for("the stale copy to end", WITHIN, async || Ok((witness.processes() == 1).then_some(()))).await
    });
    outcome.unwrap();
}

//! Random requests, failures and delays: at no moment may two hosts execute the job.

use mooring_api::view::MigrateRequest;
use mooring_sim::Step;
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::lab::{Lab, seconds};

/// The steps of a migration between hosts, in order.
const STEPS: [Step; 5] = [Step::Prepare, Step::PreCopy, Step::Freeze, Step::Transfer, Step::Restore];

/// Hosts act in any order, steps fail, and OpCenter restarts. Two hosts may never execute the job,
/// and once everything is well it executes in one place.
#[tokio::test]
async fn random_interleavings_never_make_two_of_a_job() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut lab = Lab::start().await;
        let job = lab.job().await;
        for _ in 0..60 {
            act_at_random(&mut lab, &job, &mut random).await;
        }
        for step in STEPS.into_iter().chain([Step::Abort, Step::Rollback, Step::Retire]) {
            lab.cluster.hosts_mut().for_each(|host| host.release(step));
        }
        lab.settle().await;
        lab.advance(seconds(60)).await;
        if lab.view(&job).await.status == JobStatus::Suspended {
            lab.resume(&job).await;
        }
        let host = lab.expect(&job, JobStatus::Executing).await.host_name;
        lab.expect_on(&job, &host).await;
    }
}

async fn act_at_random(lab: &mut Lab, job: &JobId, random: &mut StdRng) {
    let host = *["host-1", "host-2", "host-3"].choose(random).unwrap();
    let step = *STEPS.choose(random).unwrap();
    // What the job's status does not allow is refused, which changes nothing.
    match random.random_range(0..100) {
        0..10 => drop(lab.admin.job_migrate(job, &MigrateRequest::default()).await),
        10..15 => drop(lab.admin.job_suspend(job).await),
        15..22 => drop(lab.admin.job_resume(job).await),
        22..25 => drop(lab.admin.job_snapshot(job).await),
        25..30 => lab.host(host).fail(step, "no luck"),
        30..35 => lab.host(host).hold(step),
        35..45 => lab.host(host).release(step),
        45..47 => lab.restart_opcenter().await,
        47..52 => lab.pass_time(seconds(random.random_range(1..5))).await,
        _ => drop(lab.cluster.round_of(|name| name == host || name == "gateways").await.unwrap()),
    }
}

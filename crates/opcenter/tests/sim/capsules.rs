//! Migrations into the capsule store and out of it: suspend, resume and snapshot.

use mooring_api::{ErrorCode, Submission};
use mooring_sim::{Machine, Step};
use mooring_types::job::JobStatus;

use crate::lab::{Lab, Plan, refused, seconds};

#[tokio::test]
async fn suspend_frees_the_host_and_resume_goes_on_elsewhere() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.suspend(&job).await;
    lab.expect(&job, JobStatus::Suspended).await;
    assert_eq!(lab.host("host-1").state(&job), None);
    lab.host("host-1").cut_off();
    lab.advance(seconds(12)).await;
    lab.resume(&job).await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    lab.expect_on(&job, &host).await;
    assert_ne!(host, "host-1");
}

#[tokio::test]
async fn failed_suspend_leaves_the_job_executing() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    for step in [Step::PreCopy, Step::Freeze, Step::Transfer] {
        lab.host("host-1").fail(step, "the store is full");
        lab.suspend(&job).await;
        lab.expect_on(&job, "host-1").await;
        lab.expect_outcome(&job, &format!("failed: {}: the store is full", step.phase())).await;
    }
}

#[tokio::test]
async fn failed_resume_leaves_the_job_suspended() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.suspend(&job).await;
    for step in [Step::Prepare, Step::Restore, Step::Verify] {
        lab.fail(step, "no luck");
        lab.resume(&job).await;
        lab.cluster.hosts_mut().for_each(|host| host.forgive(step));
        lab.expect(&job, JobStatus::Suspended).await;
        lab.expect_outcome(&job, &format!("failed: {}: no luck", step.phase())).await;
        assert!(lab.cluster.executing(&job).is_empty());
    }
}

#[tokio::test]
async fn snapshot_keeps_the_job_executing() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").hold(Step::Transfer);
    lab.snapshot(&job).await;
    lab.expect(&job, JobStatus::Capturing).await;
    assert_eq!(lab.cluster.executing(&job), ["host-1"]);
    lab.release(Step::Transfer).await;
    lab.expect_on(&job, "host-1").await;
    lab.expect_outcome(&job, "succeeded").await;
}

#[tokio::test]
async fn failed_snapshot_changes_nothing() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    for step in [Step::PreCopy, Step::Freeze, Step::Transfer] {
        lab.host("host-1").fail(step, "the store is full");
        lab.snapshot(&job).await;
        assert_eq!(lab.expect_on(&job, "host-1").await.generation, 1);
    }
}

#[tokio::test]
async fn opcenter_restart_while_suspending_and_resuming_goes_on() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    for (step, status) in [(Step::Freeze, JobStatus::Suspended), (Step::Restore, JobStatus::Executing)] {
        lab.hold(step);
        match status {
            JobStatus::Suspended => lab.suspend(&job).await,
            _ => lab.resume(&job).await,
        }
        lab.restart_opcenter().await;
        lab.release(step).await;
        lab.expect(&job, status).await;
    }
    assert_eq!(lab.cluster.executing(&job).len(), 1);
}

#[tokio::test]
async fn resume_waits_for_room() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan::default()).await;
    let job = lab.job().await;
    lab.suspend(&job).await;
    let other = lab.job_on("host-1", Submission { cpu: Some(4), ..Submission::default() }).await;
    lab.resume(&job).await;
    lab.expect(&job, JobStatus::Resuming).await;
    lab.cancel(&other).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn suspend_without_a_store_is_refused() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan { has_store: false, ..Plan::default() }).await;
    let job = lab.job().await;
    refused(lab.admin.job_suspend(&job).await, ErrorCode::WrongStatus, "capsule store");
    lab.expect_on(&job, "host-1").await;
}

//! Jobs of a lost host: recovered from their newest snapshot, or waiting for their host.

use mooring_api::ErrorCode::{NotFound, WrongStatus};
use mooring_api::Submission;
use mooring_api::view::HostRemoval;
use mooring_sim::{Machine, Step};
use mooring_types::JobId;
use mooring_types::job::JobStatus;

use crate::lab::{Lab, Plan, refused, seconds};

/// A job on `host-1` with a snapshot.
async fn with_snapshot(lab: &mut Lab) -> JobId {
    let job = lab.job().await;
    lab.snapshot(&job).await;
    lab.expect_on(&job, "host-1").await;
    job
}

#[tokio::test]
async fn job_with_a_snapshot_is_recovered_elsewhere() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    lab.lose_host("host-1").await;
    let view = lab.expect(&job, JobStatus::Executing).await;
    assert_ne!(view.host_name, "host-1");
    assert_eq!(view.migrations.last().unwrap().kind.to_string(), "recover");
}

#[tokio::test]
async fn job_without_a_snapshot_waits_for_its_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.lose_host("host-1").await;
    lab.advance(seconds(600)).await;
    lab.expect(&job, JobStatus::Unknown).await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn host_that_is_lost_for_ever_is_removed_with_what_it_has() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan::default()).await;
    let (kept, lost, cancelled) = (with_snapshot(&mut lab).await, lab.job().await, lab.job().await);
    let (name, removal) = ("host-1".parse().unwrap(), HostRemoval { lost: true });
    refused(lab.admin.host_remove(&name, removal).await, WrongStatus, "not lost: its agent reports");
    lab.lose_host("host-1").await;
    lab.admin.job_cancel(&cancelled).await.unwrap();
    lab.advance(seconds(60)).await;
    // Nobody can say that it has ended.
    lab.expect(&cancelled, JobStatus::Cancelling).await;
    refused(lab.admin.host_remove(&name, HostRemoval::default()).await, WrongStatus, "has jobs");
    lab.admin.host_remove(&name, removal).await.unwrap();
    lab.settle().await;
    lab.expect(&cancelled, JobStatus::Cancelled).await;
    let view = lab.expect(&lost, JobStatus::FailToComplete).await;
    assert!(view.status_reason.contains("host host-1 was removed as lost"), "{}", view.status_reason);
    // The job with a snapshot waits for a host, and the lost one is not let in again.
    lab.expect(&kept, JobStatus::Unknown).await;
    lab.host("host-1").reconnect();
    assert!(lab.host("host-1").report().await.is_err());
}

#[tokio::test]
async fn gateways_of_a_host_that_is_lost_for_ever_are_destroyed() {
    let mut lab = Lab::start().await;
    let gateway = lab.create_gateway("lab").await;
    let name = "gateways".parse().unwrap();
    lab.lose_host("gateways").await;
    refused(lab.admin.host_remove(&name, HostRemoval::default()).await, WrongStatus, "has gateways: ");
    lab.admin.host_remove(&name, HostRemoval { lost: true }).await.unwrap();
    refused(lab.admin.gateway_get(&gateway.into()).await, NotFound, "");
}

#[tokio::test]
async fn stale_copy_ends_when_its_host_is_back() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    lab.lose_host("host-1").await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    // It is frozen there, since its host has no lease.
    assert!(lab.host("host-1").state(&job).is_some() && !lab.host("host-1").executes(&job));
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect_on(&job, &host).await;
    assert_eq!(lab.host("host-1").state(&job), None);
}

#[tokio::test]
async fn owner_that_is_back_in_time_keeps_the_job() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    lab.hold(Step::Restore);
    lab.lose_host("host-1").await;
    lab.expect(&job, JobStatus::Resuming).await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
    lab.release(Step::Restore).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn lost_owner_goes_on_only_after_the_recovery_is_undone() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    lab.hold(Step::Restore);
    lab.hold(Step::Abort);
    lab.lose_host("host-1").await;
    lab.expect(&job, JobStatus::Resuming).await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    // The destination has not confirmed that it gives up.
    assert_eq!(lab.host("host-1").order(&job), None);
    assert!(!lab.host("host-1").executes(&job));
    lab.release(Step::Abort).await;
    lab.expect_on(&job, "host-1").await;
    assert!(lab.host("host-1").executes(&job));
}

#[tokio::test]
async fn job_that_nobody_can_recover_needs_no_lease() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.lose_host("host-1").await;
    assert!(lab.host("host-1").executes(&job));
}

#[tokio::test]
async fn recovery_waits_for_room() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan::default()).await;
    let job = with_snapshot(&mut lab).await;
    lab.lose_host("host-1").await;
    lab.advance(seconds(60)).await;
    assert!(!lab.view(&job).await.status.is_final());
    lab.cluster.join(Machine::named("host-2")).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.expect(&job, JobStatus::Executing).await.host_name, "host-2");
}

#[tokio::test]
async fn failed_recovery_is_repeated_with_growing_pauses() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    let mut counts = Vec::new();
    lab.host("host-1").cut_off();
    for _ in 0..3 {
        lab.fail(Step::Restore, "the store is away");
        lab.advance(seconds(15)).await;
        counts.push(lab.view(&job).await.migrations.len());
    }
    assert!(counts[0] >= 2 && counts[2] > counts[0], "{counts:?}");
    lab.cluster.hosts_mut().for_each(|host| host.forgive(Step::Restore));
    lab.advance(seconds(60)).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn recovered_job_has_another_epoch() {
    let mut lab = Lab::start().await;
    let gateway = lab.create_gateway("lab").await;
    let request = Submission {
        publish: vec!["80".parse().unwrap()],
        gateway: Some(gateway.to_string().parse().unwrap()),
        ..Submission::default()
    };
    let job = lab.job_on("host-1", request).await;
    lab.snapshot(&job).await;
    let before = lab.gateway(&gateway).connections(&job).next().unwrap().epoch;
    lab.lose_host("host-1").await;
    lab.expect(&job, JobStatus::Executing).await;
    assert_eq!(lab.gateway(&gateway).connections(&job).next().unwrap().epoch, before + 1);
}

#[tokio::test]
async fn opcenter_restart_is_no_loss_of_hosts() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    lab.restart_opcenter().await;
    lab.advance(seconds(30)).await;
    assert_eq!(lab.expect_on(&job, "host-1").await.generation, 1);
}

#[tokio::test]
async fn opcenter_restart_during_a_recovery_goes_on() {
    let mut lab = Lab::start().await;
    let job = with_snapshot(&mut lab).await;
    lab.hold(Step::Restore);
    lab.lose_host("host-1").await;
    lab.restart_opcenter().await;
    lab.settle().await;
    lab.release(Step::Restore).await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    assert_ne!(host, "host-1");
}

#[tokio::test]
async fn cancel_of_a_lost_job_waits_for_its_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.lose_host("host-1").await;
    lab.cancel(&job).await;
    lab.expect(&job, JobStatus::Cancelling).await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect(&job, JobStatus::Cancelled).await;
    assert!(lab.cluster.executing(&job).is_empty());
}

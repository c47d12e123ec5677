//! Migrations between hosts: each stage, each failure, and the rule that no two hosts may ever
//! execute the same job.
//!
//! The harness checks that rule after every order and every step of every host.

use std::collections::BTreeMap;

use mooring_api::view::{ConnectRequest, MigrateRequest};
use mooring_api::watch::{Connections, Flow, JobOrder, JobState, MigrateOutStage};
use mooring_api::{ErrorCode, Submission};
use mooring_sim::Step;
use mooring_types::job::JobStatus;
use mooring_types::migration::Phase;
use mooring_types::{Event, JobId};

use crate::lab::{Lab, refused, seconds};

/// The steps of a migration between hosts, in order.
const STEPS: [Step; 5] = [Step::Prepare, Step::PreCopy, Step::Freeze, Step::Transfer, Step::Restore];

fn kind(order: Option<&JobOrder>) -> &'static str {
    match order {
        None => "nothing",
        Some(JobOrder::Run { .. }) => "Run",
        Some(JobOrder::MigrateIn { .. }) => "MigrateIn",
        Some(JobOrder::MigrateOut { stage: MigrateOutStage::PreCopy, .. }) => "PreCopy",
        Some(JobOrder::MigrateOut { stage: MigrateOutStage::Freeze, .. }) => "Freeze",
        Some(JobOrder::Abort { .. }) => "Abort",
        Some(JobOrder::Rollback { .. }) => "Rollback",
        Some(JobOrder::Retire { .. }) => "Retire",
        Some(JobOrder::Stop) => "Stop",
    }
}

#[tokio::test]
async fn migrate_moves_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    let view = lab.expect_on(&job, "host-2").await;
    assert_eq!(view.generation, 2);
    lab.expect_outcome(&job, "succeeded").await;
    assert_eq!(lab.host("host-1").state(&job), None, "the source still has something of the job");
}

#[tokio::test]
async fn job_migrates_there_and_back() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    for host in ["host-2", "host-1", "host-3", "host-1"] {
        lab.migrate(&job, host).await;
        lab.settle().await;
        lab.expect_on(&job, host).await;
    }
}

#[tokio::test]
async fn events_have_the_phases_in_their_order() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    for host in ["host-1", "host-2"] {
        for step in STEPS {
            lab.host(host).take(step, 0.5);
        }
    }
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
    let events = lab.admin.job_events(&job).await.unwrap().into_iter();
    let phases: Vec<Phase> = events
        .filter_map(|event| match event.event {
            Event::PhaseEnded { phase, .. } => Some(phase),
            _ => None,
        })
        .collect();
    assert!(phases.contains(&Phase::Plan) && phases.contains(&Phase::Prepare), "{phases:?}");
    assert!(phases.is_sorted(), "{phases:?}");
}

#[tokio::test]
async fn each_stage_has_its_orders() {
    let mut lab = Lab::start().await;
    for (held, source, destination) in [
        (Step::Prepare, "Run", "MigrateIn"),
        (Step::PreCopy, "PreCopy", "MigrateIn"),
        (Step::Freeze, "Freeze", "MigrateIn"),
        (Step::Transfer, "Freeze", "MigrateIn"),
        (Step::Restore, "Freeze", "MigrateIn"),
        (Step::Retire, "Retire", "Run"),
    ] {
        let job = lab.job().await;
        lab.migrate_until(&job, held).await;
        let orders = ["host-1", "host-2"].map(|host| kind(lab.host(host).order(&job)));
        assert_eq!(orders, [source, destination], "before {held:?}");
        lab.release(held).await;
        lab.expect_on(&job, "host-2").await;
        lab.cancel(&job).await;
    }
}

#[tokio::test]
async fn job_is_floating_until_the_commit() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Restore).await;
    lab.expect(&job, JobStatus::Floating).await;
    lab.release(Step::Restore).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn failed_step_leaves_the_job_at_its_source() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    for step in [Step::Prepare, Step::PreCopy, Step::Freeze, Step::Transfer, Step::Restore, Step::Verify] {
        lab.fail(step, "no luck");
        lab.migrate(&job, "host-2").await;
        lab.settle().await;
        lab.cluster.hosts_mut().for_each(|host| host.forgive(step));
        lab.expect_on(&job, "host-1").await;
        lab.expect_outcome(&job, &format!("failed: {}: no luck", step.phase())).await;
        assert_eq!(lab.host("host-2").state(&job), None, "{step:?}: the destination still has something");
    }
}

#[tokio::test]
async fn failed_migration_can_be_repeated() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-2").fail(Step::Restore, "no luck");
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    assert_eq!(lab.expect_on(&job, "host-2").await.generation, 3);
}

#[tokio::test]
async fn failed_rollback_ends_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-2").fail(Step::Restore, "no luck");
    lab.host("host-1").fail(Step::Rollback, "the capsule is damaged");
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    let view = lab.expect(&job, JobStatus::FailToComplete).await;
    assert_eq!(view.status_reason, "the capsule is damaged");
}

#[tokio::test]
async fn rollback_waits_for_the_destination() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-2").fail(Step::Restore, "no luck");
    lab.host("host-2").hold(Step::Abort);
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    assert_ne!(kind(lab.host("host-1").order(&job)), "Rollback");
    assert!(lab.cluster.executing(&job).is_empty());
    lab.release(Step::Abort).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn unsealed_capsule_is_rolled_back_without_the_destination() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").fail(Step::Transfer, "no luck");
    lab.host("host-2").hold(Step::Abort);
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn source_lost_before_the_freeze_goes_on() {
    let mut lab = Lab::start().await;
    for step in [Step::Prepare, Step::PreCopy, Step::Freeze] {
        let job = lab.job().await;
        lab.migrate_until(&job, step).await;
        lab.lose_host("host-1").await;
        lab.advance(seconds(45)).await;
        if step != Step::Freeze {
            lab.expect(&job, JobStatus::Unknown).await;
        }
        lab.host("host-1").reconnect();
        lab.release(step).await;
        lab.advance(seconds(5)).await;
        let host = lab.expect(&job, JobStatus::Executing).await.host_name;
        lab.expect_on(&job, &host).await;
        lab.cancel(&job).await;
    }
}

#[tokio::test]
async fn source_lost_after_the_seal_is_retired_later() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Restore).await;
    lab.host("host-1").cut_off();
    lab.release(Step::Restore).await;
    lab.expect_on(&job, "host-2").await;
    lab.advance(seconds(80)).await;
    lab.expect_outcome(&job, "succeeded").await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
    assert_eq!(lab.host("host-1").state(&job), None);
}

#[tokio::test]
async fn frozen_source_that_is_lost_is_waited_for() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Transfer).await;
    lab.lose_host("host-1").await;
    lab.advance(seconds(300)).await;
    lab.expect(&job, JobStatus::Floating).await;
    assert!(lab.cluster.executing(&job).is_empty());
    lab.host("host-1").reconnect();
    lab.release(Step::Transfer).await;
    lab.expect_on(&job, "host-2").await;
}

#[tokio::test]
async fn frozen_source_that_stays_away_is_given_up() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Transfer).await;
    lab.lose_host("host-1").await;
    lab.advance(seconds(600)).await;
    lab.advance(seconds(35)).await;
    lab.expect(&job, JobStatus::Unknown).await;
    assert!(lab.cluster.executing(&job).is_empty());
    lab.host("host-1").reconnect();
    lab.release(Step::Transfer).await;
    lab.advance(seconds(5)).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn destination_lost_before_the_freeze_is_given_up() {
    let mut lab = Lab::start().await;
    for step in [Step::Prepare, Step::PreCopy] {
        let job = lab.job().await;
        lab.migrate_until(&job, step).await;
        lab.lose_host("host-2").await;
        lab.expect_on(&job, "host-1").await;
        lab.host("host-2").reconnect();
        lab.release(step).await;
        lab.expect_on(&job, "host-1").await;
        lab.cancel(&job).await;
    }
}

#[tokio::test]
async fn lost_destination_resets_connections() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Restore).await;
    lab.host("host-1").hold(Step::Rollback);
    lab.lose_host("host-2").await;
    lab.advance(seconds(580)).await;
    lab.expect(&job, JobStatus::Floating).await;
    assert!(lab.cluster.executing(&job).is_empty(), "the destination may have the job");
    lab.advance(seconds(60)).await;
    let reset =
        |order: Option<&JobOrder>| matches!(order, Some(JobOrder::Rollback { connections: Connections::Reset, .. }));
    assert!(reset(lab.host("host-1").order(&job)), "{:?}", lab.host("host-1").order(&job));
    lab.release(Step::Rollback).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn destination_that_has_restored_after_all_keeps_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Restore).await;
    lab.host("host-2").mute();
    lab.release(Step::Restore).await;
    assert!(lab.host("host-2").executes(&job));
    lab.advance(seconds(615)).await;
    assert!(!lab.host("host-1").executes(&job), "the source goes on while the destination executes the job");
    lab.host("host-2").reconnect();
    lab.settle().await;
    lab.advance(seconds(5)).await;
    lab.expect_on(&job, "host-2").await;
    lab.expect_outcome(&job, "succeeded").await;
}

#[tokio::test]
async fn cancel_ends_both_ends() {
    let mut lab = Lab::start().await;
    for step in STEPS {
        let job = lab.job().await;
        lab.migrate_until(&job, step).await;
        lab.cancel(&job).await;
        lab.release(step).await;
        lab.expect(&job, JobStatus::Cancelled).await;
        assert!(lab.cluster.executing(&job).is_empty(), "cancelled before {step:?}");
        let states = ["host-1", "host-2"].map(|host| lab.host(host).state(&job).cloned());
        assert_eq!(states, [None, None], "cancelled before {step:?}");
    }
}

#[tokio::test]
async fn opcenter_restart_in_each_stage_goes_on() {
    let mut lab = Lab::start().await;
    for step in STEPS.into_iter().chain([Step::Retire]) {
        let job = lab.job().await;
        lab.migrate_until(&job, step).await;
        lab.restart_opcenter().await;
        lab.settle().await;
        lab.release(step).await;
        lab.expect_on(&job, "host-2").await;
        lab.expect_outcome(&job, "succeeded").await;
        lab.cancel(&job).await;
    }
}

#[tokio::test]
async fn opcenter_restart_while_undoing_goes_on() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-2").fail(Step::Restore, "no luck");
    lab.host("host-1").hold(Step::Rollback);
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    lab.restart_opcenter().await;
    lab.release(Step::Rollback).await;
    lab.expect_on(&job, "host-1").await;
    lab.expect_outcome(&job, "failed: Restore: no luck").await;
}

#[tokio::test]
async fn stage_that_takes_too_long_is_given_up() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Prepare).await;
    lab.advance(seconds(605)).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn job_that_ends_during_its_migration_has_ended() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::PreCopy).await;
    lab.host("host-1").exit(&job, 0);
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::Completed).await;
    assert_eq!(lab.host("host-2").state(&job), None);
}

#[tokio::test]
async fn destination_that_reboots_after_the_commit_has_lost_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Retire).await;
    lab.host("host-2").reboot();
    lab.release(Step::Retire).await;
    lab.expect(&job, JobStatus::FailToComplete).await;
    assert!(lab.cluster.executing(&job).is_empty());
}

// Gateways

async fn behind_a_gateway(lab: &mut Lab) -> (JobId, mooring_types::GatewayId) {
    let gateway = lab.create_gateway("lab").await;
    let publish = vec!["8080".parse().unwrap()];
    let job = lab.job_on("host-1", Submission { publish, ..Submission::default() }).await;
    let request = ConnectRequest::new(job.clone());
    lab.admin.gateway_connect(&gateway.clone().into(), &request).await.unwrap();
    lab.settle().await;
    (job, gateway)
}

fn flow(lab: &mut Lab, gateway: &mooring_types::GatewayId, job: &JobId) -> Flow {
    lab.gateway(gateway).connections(job).next().unwrap().flow.clone()
}

#[tokio::test]
async fn gateway_holds_bytes_from_quiesce_to_commit() {
    let mut lab = Lab::start().await;
    let (job, gateway) = behind_a_gateway(&mut lab).await;
    assert_eq!(flow(&mut lab, &gateway, &job), Flow::Open);
    lab.migrate_until(&job, Step::PreCopy).await;
    assert_eq!(flow(&mut lab, &gateway, &job), Flow::Open);
    lab.host("host-2").hold(Step::Restore);
    lab.host("host-1").release(Step::PreCopy);
    lab.settle().await;
    assert!(matches!(flow(&mut lab, &gateway, &job), Flow::Held { quiesce: Some(_) }));
    lab.release(Step::Restore).await;
    assert_eq!(flow(&mut lab, &gateway, &job), Flow::Open);
}

#[tokio::test]
async fn freeze_waits_for_gateways() {
    let mut lab = Lab::start().await;
    let (job, gateway) = behind_a_gateway(&mut lab).await;
    lab.gateway(&gateway).refuse_to_quiesce();
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    assert_eq!(kind(lab.host("host-1").order(&job)), "PreCopy");
    lab.advance(seconds(3)).await;
    lab.expect_on(&job, "host-2").await;
}

#[tokio::test]
async fn unreachable_gateway_is_not_waited_for() {
    let mut lab = Lab::start().await;
    let (job, gateway) = behind_a_gateway(&mut lab).await;
    lab.gateway(&gateway).cut_off();
    lab.advance(seconds(12)).await;
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
}

#[tokio::test]
async fn routes_follow_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let carrier = |lab: &mut Lab| {
        let ids: BTreeMap<_, _> =
            lab.cluster.hosts().map(|(name, host)| (host.id().clone(), name.to_owned())).collect();
        let routes = lab.host("host-3").slice().unwrap().network.routes.clone();
        routes.iter().map(|route| ids[&route.host].clone()).collect::<Vec<_>>()
    };
    assert_eq!(carrier(&mut lab), ["host-1"]);
    lab.migrate_until(&job, Step::Freeze).await;
    assert_eq!(carrier(&mut lab), ["host-1"], "the job is not frozen yet");
    lab.hold(Step::Restore);
    lab.release(Step::Freeze).await;
    assert_eq!(carrier(&mut lab), ["host-2"]);
}

// Requests

#[tokio::test]
async fn migrate_to_another_size() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let request = MigrateRequest { host: "host-2".into(), cpu: Some(3), mem_gb: Some(5.0) };
    lab.admin.job_migrate(&job, &request).await.unwrap();
    lab.settle().await;
    let view = lab.expect_on(&job, "host-2").await;
    assert_eq!((view.cpu, view.mem_gb), (3, 5.0));
}

#[tokio::test]
async fn migrate_chooses_another_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.admin.job_migrate(&job, &MigrateRequest::default()).await.unwrap();
    lab.settle().await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    assert_ne!(host, "host-1");
}

#[tokio::test]
async fn impossible_migrations_are_refused() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let fixed = lab.job_on("host-2", Submission { disable_migrate: true, ..Submission::default() }).await;
    let ask = async |job: &JobId, host: &str, cpu| {
        let request = MigrateRequest { host: host.to_owned(), cpu, mem_gb: None };
        lab.admin.job_migrate(job, &request).await
    };
    refused(ask(&job, "host-1", None).await, ErrorCode::InvalidArgument, "host-1");
    refused(ask(&job, "nowhere", None).await, ErrorCode::NotFound, "nowhere");
    refused(ask(&job, "host-2", Some(64)).await, ErrorCode::ResourceExhausted, "host-2");
    refused(ask(&job, "gateways", None).await, ErrorCode::InvalidArgument, "gateways");
    refused(ask(&fixed, "host-1", None).await, ErrorCode::WrongStatus, "");
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn only_one_migration_at_a_time() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Prepare).await;
    let again = MigrateRequest { host: "host-3".into(), ..MigrateRequest::default() };
    refused(lab.admin.job_migrate(&job, &again).await, ErrorCode::WrongStatus, "Floating");
    refused(lab.admin.job_suspend(&job).await, ErrorCode::WrongStatus, "Floating");
}

#[tokio::test]
async fn frozen_job_is_told_to_execute_by_nobody() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.migrate_until(&job, Step::Transfer).await;
    assert!(matches!(lab.host("host-1").state(&job), Some(JobState::Frozen { .. })));
    let told = ["host-1", "host-2", "host-3"].map(|host| kind(lab.host(host).order(&job)));
    assert_eq!(told, ["Freeze", "MigrateIn", "nothing"]);
}

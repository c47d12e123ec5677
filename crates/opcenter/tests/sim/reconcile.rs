//! The life of a job, from its submission to its end.

use futures_util::StreamExt;
use mooring_api::Submission;
use mooring_api::view::{DrainRequest, ExternalRegisterRequest, ExternalUpdateRequest};
use mooring_sim::{Machine, Step};
use mooring_types::host::Resources;
use mooring_types::job::JobStatus;

use crate::lab::{Lab, Plan, seconds};

fn sized(cpu: u32) -> Submission {
    Submission { cpu: Some(cpu), mem_gb: Some(1.0), ..Submission::default() }
}

#[tokio::test]
async fn job_starts_and_completes() {
    let mut lab = Lab::start().await;
    let job = lab.submit(Submission::default()).await;
    lab.settle().await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    lab.expect_on(&job, &host).await;
    lab.host(&host).exit(&job, 0);
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    assert_eq!(lab.expect(&job, JobStatus::Completed).await.rc, "0");
    assert_eq!(lab.host(&host).order(&job), None, "a completed job is in no order");
}

#[tokio::test]
async fn statuses_follow_the_agent() {
    let mut lab = Lab::start().await;
    lab.host("host-1").hold(Step::Start);
    let job = lab.submit(Submission { host: Some("host-1".parse().unwrap()), ..Submission::default() }).await;
    lab.settle().await;
    lab.expect(&job, JobStatus::Starting).await;
    lab.release(Step::Start).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn nonzero_exit_code_fails_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").exit(&job, 3);
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    assert_eq!(lab.expect(&job, JobStatus::FailToComplete).await.rc, "3");
}

#[tokio::test]
async fn failed_start_is_told_with_its_reason() {
    let mut lab = Lab::start().await;
    lab.host("host-1").fail(Step::Start, "no such image");
    let job = lab.submit(Submission { host: Some("host-1".parse().unwrap()), ..Submission::default() }).await;
    lab.settle().await;
    assert_eq!(lab.expect(&job, JobStatus::FailToExecute).await.status_reason, "no such image");
}

#[tokio::test]
async fn rebooted_host_has_lost_its_jobs() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").reboot();
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::FailToComplete).await;
}

#[tokio::test]
async fn replaced_host_does_not_start_a_begun_job_again() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").lose_jobs();
    lab.settle().await;
    lab.expect(&job, JobStatus::FailToComplete).await;
    assert!(lab.cluster.executing(&job).is_empty(), "the job was started twice");
}

#[tokio::test]
async fn jobs_spread_over_hosts() {
    let mut lab = Lab::start().await;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        let job = lab.submit(sized(2)).await;
        lab.settle().await;
        hosts.push(lab.expect(&job, JobStatus::Executing).await.host_name);
    }
    hosts.sort();
    assert_eq!(hosts, ["host-1", "host-2", "host-3"]);
}

#[tokio::test]
async fn job_waits_for_room() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan::default()).await;
    let (first, second) = (lab.submit(sized(4)).await, lab.submit(sized(1)).await);
    lab.settle().await;
    lab.expect(&first, JobStatus::Executing).await;
    lab.expect(&second, JobStatus::Submitted).await;
    lab.cancel(&first).await;
    lab.expect_on(&second, "host-1").await;
}

#[tokio::test]
async fn job_waits_for_the_first_host() {
    let mut lab = Lab::with(Vec::new(), Plan::default()).await;
    let job = lab.submit(Submission::default()).await;
    lab.advance(seconds(60)).await;
    lab.expect(&job, JobStatus::Submitted).await;
    lab.cluster.join(Machine::named("late")).await.unwrap();
    lab.settle().await;
    lab.expect_on(&job, "late").await;
}

#[tokio::test]
async fn job_that_fits_no_host_ends_at_once() {
    let mut lab = Lab::start().await;
    let job = lab.submit(sized(5)).await;
    lab.settle().await;
    lab.expect(&job, JobStatus::NoAvailableHost).await;
}

#[tokio::test]
async fn waiting_job_gives_up_after_its_retries() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan::default()).await;
    lab.job_on("host-1", sized(4)).await;
    let vm_policy = Some("[retryLimit=2,retryInterval=30s]".parse().unwrap());
    let waiting = lab.submit(Submission { vm_policy, ..sized(1) }).await;
    lab.advance(seconds(55)).await;
    lab.expect(&waiting, JobStatus::Submitted).await;
    lab.advance(seconds(10)).await;
    lab.expect(&waiting, JobStatus::NoAvailableHost).await;
}

#[tokio::test]
async fn unreachable_host_makes_its_jobs_unknown() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.lose_host("host-1").await;
    lab.expect(&job, JobStatus::Unknown).await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn silence_below_the_limit_changes_nothing() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").cut_off();
    lab.advance(seconds(8)).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn cancel_waits_for_the_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").hold(Step::Stop);
    lab.cancel(&job).await;
    lab.expect(&job, JobStatus::Cancelling).await;
    lab.release(Step::Stop).await;
    lab.expect(&job, JobStatus::Cancelled).await;
    assert!(lab.cluster.executing(&job).is_empty());
}

#[tokio::test]
async fn cancel_waits_for_an_unreachable_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.lose_host("host-1").await;
    lab.cancel(&job).await;
    lab.advance(seconds(120)).await;
    lab.expect(&job, JobStatus::Cancelling).await;
    lab.host("host-1").reconnect();
    lab.settle().await;
    lab.expect(&job, JobStatus::Cancelled).await;
}

#[tokio::test]
async fn submitted_job_is_cancelled_at_once() {
    let mut lab = Lab::with(Vec::new(), Plan::default()).await;
    let job = lab.submit(Submission::default()).await;
    lab.cancel(&job).await;
    lab.expect(&job, JobStatus::Cancelled).await;
}

#[tokio::test]
async fn ended_job_gives_its_address_back() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let address = lab.view(&job).await.address;
    lab.cancel(&job).await;
    let next = lab.job().await;
    assert_eq!(lab.view(&next).await.address, address);
}

#[tokio::test]
async fn address_is_kept_while_a_host_may_hold_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let address = lab.view(&job).await.address;
    lab.host("host-1").hold(Step::Stop);
    lab.host("host-1").exit(&job, 0);
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::Completed).await;
    let next = lab.job_on("host-2", Submission::default()).await;
    assert_ne!(lab.view(&next).await.address, address);
}

#[tokio::test]
async fn opcenter_restart_keeps_jobs() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.restart_opcenter().await;
    lab.settle().await;
    let view = lab.expect_on(&job, "host-1").await;
    assert_eq!(view.generation, 1);
}

#[tokio::test]
async fn opcenter_restart_during_the_start_starts_once() {
    let mut lab = Lab::start().await;
    lab.host("host-1").hold(Step::Start);
    let job = lab.submit(Submission { host: Some("host-1".parse().unwrap()), ..Submission::default() }).await;
    lab.settle().await;
    lab.restart_opcenter().await;
    lab.release(Step::Start).await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn watch_pushes_each_change() {
    let mut lab = Lab::start().await;
    let mut watch = lab.host("host-1").watch().await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    let job = lab.submit(Submission { host: Some("host-1".parse().unwrap()), ..Submission::default() }).await;
    let next = watch.next().await.unwrap().unwrap();
    assert!(next.sequence > first.sequence);
    assert!(first.jobs.is_empty() && next.jobs.iter().any(|directive| directive.job == job));
}

#[tokio::test]
async fn problems_of_a_host_are_shown() {
    let mut lab = Lab::start().await;
    lab.host("host-1").complain(&["the disk is full"]);
    lab.cluster.report().await.unwrap();
    assert_eq!(lab.host_view("host-1").await.problems, ["the disk is full"]);
}

#[tokio::test]
async fn larger_host_is_preferred() {
    let large = Machine { size: Resources { cpu: 16, mem_gb: 64.0 }, ..Machine::named("large") };
    let mut lab = Lab::with(vec![Machine::named("host-1"), large], Plan::default()).await;
    let job = lab.submit(Submission::default()).await;
    lab.settle().await;
    lab.expect_on(&job, "large").await;
}

#[tokio::test]
async fn external_job_follows_its_declarations() {
    let mut lab = Lab::start().await;
    let request = ExternalRegisterRequest { endpoints: vec!["10.0.0.1:80".into()], ..Default::default() };
    let job = lab.admin.external_register(&request).await.unwrap().id;
    for (declared, status) in
        [("Floating", JobStatus::Floating), ("Executing", JobStatus::Executing), ("Completed", JobStatus::Completed)]
    {
        let update = ExternalUpdateRequest { status: declared.into(), ..Default::default() };
        lab.admin.external_update(&job, &update).await.unwrap();
        lab.advance(seconds(30)).await;
        lab.expect(&job, status).await;
    }
}

#[tokio::test]
async fn external_job_is_cancelled_without_a_host() {
    let mut lab = Lab::start().await;
    let request = ExternalRegisterRequest { endpoints: vec!["10.0.0.1:80".into()], ..Default::default() };
    let job = lab.admin.external_register(&request).await.unwrap().id;
    lab.cancel(&job).await;
    lab.expect(&job, JobStatus::Cancelled).await;
}

#[tokio::test]
async fn job_that_waits_for_room_tells_for_what_and_what_would_help() {
    let machines = [Resources { cpu: 1, mem_gb: 8.0 }, Resources { cpu: 4, mem_gb: 8.0 }];
    let machines = ["host-1", "host-2"].map(Machine::named).into_iter().zip(machines);
    let machines = machines.map(|(machine, size)| Machine { size, ..machine }).collect();
    let mut lab = Lab::with(machines, Plan::default()).await;
    lab.admin.host_drain(&"host-2".parse().unwrap(), &DrainRequest::default()).await.unwrap();
    let job = lab.submit(sized(4)).await;
    lab.settle().await;
    let told = lab.expect(&job, JobStatus::Submitted).await.status_reason;
    assert!(told.starts_with("waits for a host: no ready host has 4 cores and 1 GB free: host-1 has 1 core"), "{told}");
    for part in ["; `-c 1` fits now", "; `float hosts undrain host-2` would help; gives up at "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // The event has it once for each change.
    lab.advance(seconds(10)).await;
    let events = lab.events(&job).await;
    assert_eq!(events.iter().filter(|event| event.contains("waits for a host")).count(), 1, "{events:#?}");
    lab.admin.host_undrain(&"host-2".parse().unwrap()).await.unwrap();
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
    // A resume waits and tells in the same way, and its reason is not what it waited for.
    lab.suspend(&job).await;
    lab.admin.host_drain(&"host-2".parse().unwrap(), &DrainRequest::default()).await.unwrap();
    lab.resume(&job).await;
    let told = lab.expect(&job, JobStatus::Resuming).await.status_reason;
    assert!(told.starts_with("waits for a host: ") && told.contains("undrain host-2"), "{told}");
    lab.admin.host_undrain(&"host-2".parse().unwrap()).await.unwrap();
    lab.settle().await;
    let view = lab.expect_on(&job, "host-2").await;
    assert_eq!(view.migrations.last().map(|made| made.reason.as_str()), Some("a host has room for it"));
}

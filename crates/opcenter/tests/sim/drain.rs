//! Hosts that are drained by hand or reclaimed by their cloud.

use mooring_api::Submission;
use mooring_api::view::DrainRequest;
use mooring_api::watch::Notice;
use mooring_sim::{Machine, Step};
use mooring_types::job::JobStatus;
use mooring_types::{Clock, JobId};

use crate::lab::{Lab, Plan, refused, seconds};

async fn drain(lab: &mut Lab, host: &str) {
    lab.admin.host_drain(&host.parse().unwrap(), &DrainRequest::default()).await.unwrap();
    lab.settle().await;
}

async fn alone(at_once: usize) -> Lab {
    Lab::with(vec![Machine::named("host-1")], Plan { drain_at_once: at_once, ..Plan::default() }).await
}

fn count(statuses: &[JobStatus], wanted: JobStatus) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

async fn statuses(lab: &Lab, jobs: &[JobId]) -> Vec<JobStatus> {
    let mut statuses = Vec::new();
    for job in jobs {
        statuses.push(lab.view(job).await.status);
    }
    statuses
}

/// Drains a host with three jobs whose migrations are held, and counts those under way.
async fn migrations_at_once(at_once: usize) -> usize {
    let machines = ["host-1", "host-2", "host-3"].map(Machine::named);
    let mut lab = Lab::with(machines.into(), Plan { drain_at_once: at_once, ..Plan::default() }).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(lab.job().await);
    }
    lab.host("host-1").hold(Step::Freeze);
    drain(&mut lab, "host-1").await;
    let under_way = count(&statuses(&lab, &jobs).await, JobStatus::Floating);
    lab.release(Step::Freeze).await;
    assert_eq!(lab.host_view("host-1").await.jobs, 0);
    assert_eq!(count(&statuses(&lab, &jobs).await, JobStatus::Executing), 3);
    under_way
}

#[tokio::test]
async fn jobs_leave_one_by_one() {
    assert_eq!(migrations_at_once(1).await, 1);
}

#[tokio::test]
async fn jobs_leave_at_once() {
    assert_eq!(migrations_at_once(2).await, 2);
}

/// Drains a host with three jobs whose migrations are held, and counts those under way after some
/// time.
async fn leaving_after(request: DrainRequest, waited: u64) -> usize {
    let machines = ["host-1", "host-2", "host-3"].map(Machine::named);
    let mut lab = Lab::with(machines.into(), Plan::default()).await;
    let jobs = [lab.job().await, lab.job().await, lab.job().await];
    lab.host("host-1").hold(Step::Freeze);
    lab.admin.host_drain(&"host-1".parse().unwrap(), &request).await.unwrap();
    lab.settle().await;
    lab.advance(seconds(waited)).await;
    count(&statuses(&lab, &jobs).await, JobStatus::Floating)
}

#[tokio::test]
async fn stuck_job_holds_up_no_other() {
    assert_eq!(leaving_after(DrainRequest::default(), 30).await, 1);
    // Three times as long as 2 GB take at 100 MB/s.
    assert_eq!(leaving_after(DrainRequest::default(), 100).await, 2);
}

#[tokio::test]
async fn short_deadline_lets_more_jobs_leave_at_once() {
    let within = |within: &str| DrainRequest { within: within.into() };
    assert_eq!(leaving_after(within("10m"), 1).await, 1);
    assert_eq!(leaving_after(within("30s"), 1).await, 3);
}

#[tokio::test]
async fn drained_host_takes_no_jobs() {
    let mut lab = alone(1).await;
    drain(&mut lab, "host-1").await;
    let job = lab.submit(Submission::default()).await;
    lab.advance(seconds(30)).await;
    assert!(lab.cluster.executing(&job).is_empty());
}

#[tokio::test]
async fn undrained_host_takes_jobs_again() {
    let mut lab = alone(1).await;
    drain(&mut lab, "host-1").await;
    lab.admin.host_undrain(&"host-1".parse().unwrap()).await.unwrap();
    let job = lab.submit(Submission::default()).await;
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn job_without_another_host_is_suspended_until_one_has_room() {
    let mut lab = alone(1).await;
    let job = lab.job().await;
    drain(&mut lab, "host-1").await;
    lab.expect(&job, JobStatus::Suspended).await;
    lab.cluster.join(Machine::named("host-2")).await.unwrap();
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
}

#[tokio::test]
async fn undrain_resumes_what_the_drain_has_suspended() {
    let mut lab = alone(1).await;
    let job = lab.job().await;
    drain(&mut lab, "host-1").await;
    lab.expect(&job, JobStatus::Suspended).await;
    lab.admin.host_undrain(&"host-1".parse().unwrap()).await.unwrap();
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn user_suspend_outlasts_the_drain() {
    let mut lab = alone(1).await;
    let job = lab.job().await;
    drain(&mut lab, "host-1").await;
    lab.admin.job_suspend(&job).await.unwrap();
    lab.admin.host_undrain(&"host-1".parse().unwrap()).await.unwrap();
    lab.advance(seconds(30)).await;
    lab.expect(&job, JobStatus::Suspended).await;
}

#[tokio::test]
async fn job_with_nowhere_to_go_stays() {
    let plan = Plan { has_store: false, ..Plan::default() };
    let mut lab = Lab::with(vec![Machine::named("host-1")], plan).await;
    let job = lab.job().await;
    drain(&mut lab, "host-1").await;
    lab.advance(seconds(60)).await;
    lab.expect_on(&job, "host-1").await;
    lab.cluster.join(Machine::named("host-2")).await.unwrap();
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
}

#[tokio::test]
async fn fixed_job_is_suspended_instead_of_migrated() {
    let mut lab = Lab::start().await;
    let job = lab.job_on("host-1", Submission { disable_migrate: true, ..Submission::default() }).await;
    drain(&mut lab, "host-1").await;
    let view = lab.view(&job).await;
    assert_eq!(view.migrations[0].kind.to_string(), "suspend");
    assert!(!lab.host("host-1").executes(&job));
}

#[tokio::test]
async fn failed_migration_is_tried_on_another_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-2").fail(Step::Restore, "no luck");
    lab.host("host-3").fail(Step::Restore, "no luck");
    drain(&mut lab, "host-1").await;
    lab.expect_on(&job, "host-1").await;
    for _ in 0..4 {
        lab.advance(seconds(11)).await;
    }
    let view = lab.expect(&job, JobStatus::Executing).await;
    assert_ne!(view.host_name, "host-1");
    assert_ne!(view.migrations[0].to, view.migrations[1].to);
}

#[tokio::test]
async fn job_whose_migrations_fail_is_suspended() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    drain(&mut lab, "host-2").await;
    drain(&mut lab, "host-3").await;
    lab.host("host-1").fail(Step::Freeze, "no luck");
    lab.admin.host_undrain(&"host-2".parse().unwrap()).await.unwrap();
    drain(&mut lab, "host-1").await;
    for pause in [6, 11, 21] {
        lab.host("host-1").fail(Step::Freeze, "no luck");
        lab.advance(seconds(pause)).await;
    }
    lab.advance(seconds(20)).await;
    let kinds: Vec<String> = lab.view(&job).await.migrations.iter().map(|made| made.kind.to_string()).collect();
    assert_eq!(kinds[..4], ["migrate", "migrate", "migrate", "suspend"]);
}

/// Returns what a host's drain says of its jobs: name, whether it leaves, reason, tries, and the
/// seconds until the next attempt.
async fn standings(lab: &Lab, host: &str) -> Vec<(String, bool, String, u32, Option<i64>)> {
    let drain = lab.host_view(host).await.drain.expect("the host is drained");
    let now = lab.clock.now();
    let jobs = drain.jobs.into_iter();
    jobs.map(|job| {
        let next = job.next_attempt.map(|next| next.duration_since(now).as_secs());
        (job.job_name, job.leaves, job.reason, job.tries, next)
    })
    .collect()
}

fn named(name: &str) -> Submission {
    Submission { name: Some(name.parse().unwrap()), ..Submission::default() }
}

#[tokio::test]
async fn job_that_can_not_leave_goes_last_and_is_told() {
    let mut lab = Lab::start().await;
    let large = Submission { mem_gb: Some(4.0), ..named("traced") };
    let traced = lab.job_on("host-1", large).await;
    let others = [lab.job_on("host-1", named("one")).await, lab.job_on("host-1", named("two")).await];
    let reason = "process 12 (python3) is traced by strace (11): detach it";
    lab.host("host-1").fail(Step::PreCopy, reason);
    drain(&mut lab, "host-1").await;
    // The others have left before its second attempt.
    for other in &others {
        assert_ne!(lab.expect(other, JobStatus::Executing).await.host_name, "host-1");
    }
    let told = |tries, next| vec![("traced".to_owned(), false, reason.to_owned(), tries, Some(next))];
    assert_eq!(standings(&lab, "host-1").await, told(1, 5));
    let view = lab.view(&traced).await;
    assert_eq!(view.status_reason, format!("the migration failed in PreCopy: {reason}"));
    // A failed migration is one event.
    let events = lab.events(&traced).await;
    assert_eq!(events.iter().filter(|event| event.contains(reason)).count(), 1, "{events:#?}");
    // Each pause is longer, also for an OpCenter that starts again.
    lab.host("host-1").fail(Step::PreCopy, reason);
    lab.advance(seconds(5)).await;
    assert_eq!(standings(&lab, "host-1").await, told(2, 10));
    lab.restart_opcenter().await;
    lab.advance(seconds(1)).await;
    assert_eq!(standings(&lab, "host-1").await, told(2, 9));
    lab.host("host-1").fail(Step::PreCopy, reason);
    lab.advance(seconds(9)).await;
    assert_eq!(standings(&lab, "host-1").await, told(3, 20));
    // A new drain counts from one.
    lab.admin.host_undrain(&"host-1".parse().unwrap()).await.unwrap();
    lab.advance(seconds(1)).await;
    lab.host("host-1").fail(Step::PreCopy, reason);
    drain(&mut lab, "host-1").await;
    assert_eq!(standings(&lab, "host-1").await, told(1, 5));
}

#[tokio::test]
async fn failure_is_told_with_its_cause_whoever_reports_first() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    // The destination sees its connection end before the source has reported.
    lab.migrate_until(&job, Step::Freeze).await;
    lab.host("host-1").release(Step::Freeze);
    lab.host("host-1").fail(Step::Freeze, "it is traced");
    lab.host("host-2").fail(Step::Restore, "the other host closed the connection");
    lab.release(Step::Freeze).await;
    let events = lab.events(&job).await;
    let failures: Vec<&String> = events.iter().filter(|event| event.contains("failed in")).collect();
    assert!(
        failures.len() == 1 && failures[0].starts_with("migration failed in Freeze: it is traced ("),
        "{events:#?}"
    );
}

#[tokio::test]
async fn what_hinders_a_job_is_told_before_any_attempt() {
    let plan = Plan { has_store: false, ..Plan::default() };
    let mut lab = Lab::with(vec![Machine::named("host-1"), Machine::named("host-2")], plan).await;
    let fixed = lab.job_on("host-1", Submission { disable_migrate: true, ..named("fixed") }).await;
    let cores = lab.host_view("host-2").await.cores;
    let full = lab.job_on("host-2", Submission { cpu: Some(cores), ..named("full") }).await;
    let wide = lab.job_on("host-1", named("wide")).await;
    drain(&mut lab, "host-1").await;
    for job in [&fixed, &wide] {
        assert!(lab.view(job).await.migrations.is_empty());
    }
    let mut told = standings(&lab, "host-1").await;
    told.sort();
    let suspended = "and without a capsule store it can't be suspended";
    assert_eq!(told[0].2, format!("it may not be moved (`--disableMigrate`), {suspended}"));
    assert!(told[1].2.starts_with("no ready host has ") && told[1].2.ends_with(suspended), "{told:?}");
    assert!(told[1].2.contains("host-2 has 0 cores"), "{told:?}");
    assert!(told.iter().all(|(_, leaves, _, tries, next)| !leaves && *tries == 0 && next.is_none()), "{told:?}");
    // The same host as its cloud may reclaim it.
    lab.admin.host_undrain(&"host-1".parse().unwrap()).await.unwrap();
    lab.host("host-1").notify(Some(Notice::AtRisk));
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    let told = standings(&lab, "host-1").await;
    assert!(told.iter().all(|job| job.2.ends_with("it stays, as the host may not be reclaimed")), "{told:?}");
    // The jobs of others are not told.
    let user = lab.user("alice").await;
    let seen = user.host_list().await.unwrap().into_iter().find(|host| host.name == "host-1").unwrap();
    assert!(seen.jobs == 2 && seen.drain.is_some_and(|drain| drain.jobs.is_empty()));
    lab.cancel(&full).await;
    lab.expect_on(&wide, "host-2").await;
}

#[tokio::test]
async fn jobs_that_leave_are_told_as_well() {
    let mut lab = alone(1).await;
    let (one, two) = (lab.job_on("host-1", named("one")).await, lab.job_on("host-1", named("two")).await);
    lab.create_gateway("lab").await;
    lab.host("host-1").hold(Step::Transfer);
    lab.suspend(&one).await;
    drain(&mut lab, "host-1").await;
    let mut told = standings(&lab, "host-1").await;
    told.sort();
    assert!(told.iter().all(|(_, leaves, ..)| *leaves), "{told:?}");
    assert_eq!(told[0].2, "it is suspended into the capsule store (phase Freeze)", "{told:?}");
    assert_eq!(told[1].2, "no other host has room: it takes its turn to be suspended", "{told:?}");
    lab.release(Step::Transfer).await;
    lab.expect(&two, JobStatus::Suspended).await;
    // A gateway stays on its host, and is named.
    let host = lab.admin.gateway_list().await.unwrap()[0].host_name.clone();
    drain(&mut lab, &host).await;
    let gateways = lab.host_view(&host).await.drain.unwrap().gateways;
    assert!(gateways.iter().any(|gateway| gateway == "lab"), "{gateways:?}");
}

#[tokio::test]
async fn drain_survives_a_restart_of_opcenter() {
    let mut lab = Lab::start().await;
    let jobs = [lab.job().await, lab.job().await];
    lab.host("host-1").hold(Step::Freeze);
    drain(&mut lab, "host-1").await;
    lab.restart_opcenter().await;
    lab.release(Step::Freeze).await;
    lab.advance(seconds(15)).await;
    assert_eq!(lab.host_view("host-1").await.jobs, 0);
    assert_eq!(count(&statuses(&lab, &jobs).await, JobStatus::Executing), 2);
}

#[tokio::test]
async fn reclaimed_host_is_left() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let at = lab.clock.now() + seconds(120);
    lab.host("host-1").notify(Some(Notice::Reclaimed { at }));
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    assert_ne!(host, "host-1");
    let drain = lab.host_view("host-1").await.drain.expect("the host is drained");
    assert!(drain.deadline.is_some_and(|deadline| deadline < at));
}

#[tokio::test]
async fn reclaimed_host_without_time_suspends() {
    let mut lab = Lab::start().await;
    let request = Submission { mem_gb: Some(12.0), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    let at = lab.clock.now() + seconds(60);
    lab.host("host-1").notify(Some(Notice::Reclaimed { at }));
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    assert_eq!(lab.view(&job).await.migrations[0].kind.to_string(), "suspend");
}

#[tokio::test]
async fn withdrawn_notice_ends_the_drain() {
    let mut lab = alone(1).await;
    let at = lab.clock.now() + seconds(120);
    lab.host("host-1").notify(Some(Notice::Reclaimed { at }));
    lab.cluster.report().await.unwrap();
    lab.host("host-1").notify(Some(Notice::Stays));
    lab.cluster.report().await.unwrap();
    let job = lab.submit(Submission::default()).await;
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn host_at_risk_keeps_what_fits_nowhere_else() {
    let mut lab = alone(1).await;
    let job = lab.job().await;
    lab.host("host-1").notify(Some(Notice::AtRisk));
    lab.cluster.report().await.unwrap();
    lab.advance(seconds(30)).await;
    lab.expect_on(&job, "host-1").await;
    lab.cluster.join(Machine::named("host-2")).await.unwrap();
    lab.settle().await;
    lab.expect_on(&job, "host-2").await;
}

#[tokio::test]
async fn notice_is_not_undrained_by_hand() {
    let mut lab = Lab::start().await;
    lab.host("host-1").notify(Some(Notice::AtRisk));
    lab.cluster.report().await.unwrap();
    refused(lab.admin.host_undrain(&"host-1".parse().unwrap()).await, mooring_api::ErrorCode::WrongStatus, "host-1");
}

#[tokio::test]
async fn draining_takes_an_admin() {
    let lab = Lab::start().await;
    let user = lab.user("alice").await;
    let code = mooring_api::ErrorCode::PermissionDenied;
    refused(user.host_drain(&"host-1".parse().unwrap(), &DrainRequest::default()).await, code, "admin");
    refused(user.host_undrain(&"host-1".parse().unwrap()).await, code, "admin");
    let wrong = DrainRequest { within: "soon".into() };
    refused(
        lab.admin.host_drain(&"host-1".parse().unwrap(), &wrong).await,
        mooring_api::ErrorCode::InvalidArgument,
        "soon",
    );
    refused(lab.admin.host_undrain(&"nowhere".parse().unwrap()).await, mooring_api::ErrorCode::NotFound, "nowhere");
}

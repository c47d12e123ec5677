//! Policies of jobs: idle suspend, resume on connect, time limit, snapshots, size and VM policy.

use std::time::Duration;

use mooring_api::Submission;
use mooring_api::view::JobModifyRequest;
use mooring_api::watch::{Call, CallerObservation};
use mooring_sim::{Machine, Step};
use mooring_types::gateway::WakeOn;
use mooring_types::host::{Purchase, Resources};
use mooring_types::job::{Activity, InUse, JobStatus};
use mooring_types::usage::Usage;
use mooring_types::{Clock, GatewayId, JobId};

use crate::lab::{Lab, Plan, seconds};

const GB: u64 = 1_000_000_000;

/// The use of a job in the last 10 seconds.
fn usage(cpu_used: f64, mem_used: u64) -> Usage {
    Usage { seconds: 10.0, cpu_used, cpu: 1.0, mem_used, mem: 2 * GB, processes: 1, ..Usage::default() }
}

/// Lets time pass in which a job uses the same all the time.
async fn run(lab: &mut Lab, job: &JobId, time: u64, usage: Usage) {
    for _ in 0..time / 10 {
        let (host, now) = (lab.view(job).await.host_name, lab.clock.now());
        if !host.is_empty() {
            lab.host(&host).measure(job, now, usage);
        }
        lab.cluster.report().await.unwrap();
        lab.advance(seconds(10)).await;
    }
}

/// A job that is suspended after a minute without use, behind a gateway.
async fn idle_job(lab: &mut Lab) -> (JobId, GatewayId) {
    let gateway = lab.create_gateway("lab").await;
    let request = Submission {
        idle: Some(Duration::from_secs(60)),
        resume_on_connect: true,
        publish: vec!["8080".parse().unwrap()],
        gateway: Some(gateway.to_string().parse().unwrap()),
        ..Submission::default()
    };
    (lab.job_on("host-1", request).await, gateway)
}

#[tokio::test]
async fn idle_job_is_suspended() {
    let mut lab = Lab::start().await;
    let (job, _) = idle_job(&mut lab).await;
    run(&mut lab, &job, 50, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Executing).await;
    run(&mut lab, &job, 30, usage(0.0, GB)).await;
    let view = lab.expect(&job, JobStatus::Suspended).await;
    assert!(view.status_reason.contains("idle"), "{}", view.status_reason);
}

#[tokio::test]
async fn computing_job_is_not_idle() {
    let mut lab = Lab::start().await;
    let (job, _) = idle_job(&mut lab).await;
    run(&mut lab, &job, 120, usage(0.5, GB)).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn job_that_waits_for_an_answer_is_not_idle() {
    let mut lab = Lab::start().await;
    let (job, _) = idle_job(&mut lab).await;
    let request = JobModifyRequest { awake_limit: Some(Duration::from_secs(300)), ..JobModifyRequest::default() };
    lab.admin.job_modify(&job, &request).await.unwrap();
    let peer = "198.18.0.1:5555".parse().unwrap();
    lab.host("host-1").act(&job, Activity { uses: vec![InUse::Answer { peer }], outward: vec![peer] });
    run(&mut lab, &job, 200, usage(0.0, GB)).await;
    let view = lab.expect(&job, JobStatus::Executing).await;
    assert_eq!(view.in_use, ["in use: a connection to 198.18.0.1:5555 waits for an answer"]);
    assert_eq!((view.outward, view.awake_limit.as_str()), (vec![peer.to_string()], "5m0s"));
    // The limit counts on after a restart of OpCenter.
    lab.restart_opcenter().await;
    run(&mut lab, &job, 120, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Executing).await;
    run(&mut lab, &job, 80, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Suspended).await;
}

#[tokio::test]
async fn job_whose_connections_rest_is_suspended_in_its_time() {
    let mut lab = Lab::start().await;
    let (job, _) = idle_job(&mut lab).await;
    let outward = vec!["198.18.0.1:5555".parse().unwrap()];
    lab.host("host-1").act(&job, Activity { uses: Vec::new(), outward: outward.clone() });
    run(&mut lab, &job, 80, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Suspended).await;
    // The answer to a suspend by hand names what it cuts.
    lab.resume(&job).await;
    let host = lab.expect(&job, JobStatus::Executing).await.host_name;
    lab.host(&host).act(&job, Activity { uses: Vec::new(), outward });
    lab.cluster.report().await.unwrap();
    assert_eq!(lab.admin.job_suspend(&job).await.unwrap().outward, ["198.18.0.1:5555"]);
}

#[tokio::test]
async fn client_traffic_keeps_a_job_awake() {
    let mut lab = Lab::start().await;
    let (job, gateway) = idle_job(&mut lab).await;
    for _ in 0..12 {
        lab.gateway(&gateway).traffic(&job).bytes_in += 100_000;
        run(&mut lab, &job, 10, usage(0.0, GB)).await;
    }
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn unreachable_gateway_is_no_idleness() {
    let mut lab = Lab::start().await;
    let (job, gateway) = idle_job(&mut lab).await;
    lab.gateway(&gateway).cut_off();
    run(&mut lab, &job, 120, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn unmeasured_job_is_not_idle() {
    let mut lab = Lab::start().await;
    let (job, _) = idle_job(&mut lab).await;
    lab.advance(seconds(300)).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn idleness_outlasts_a_restart_of_opcenter() {
    let mut lab = Lab::start().await;
    let (job, _) = idle_job(&mut lab).await;
    run(&mut lab, &job, 40, usage(0.0, GB)).await;
    lab.restart_opcenter().await;
    run(&mut lab, &job, 40, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Suspended).await;
}

#[tokio::test]
async fn client_resumes_a_suspended_job() {
    let mut lab = Lab::start().await;
    let (job, gateway) = idle_job(&mut lab).await;
    lab.suspend(&job).await;
    lab.advance(seconds(60)).await;
    lab.expect(&job, JobStatus::Suspended).await;
    lab.gateway(&gateway).traffic(&job).calling = 1;
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn caller_is_named_and_idleness_is_told_to_gateways() {
    let mut lab = Lab::start().await;
    let (job, gateway) = idle_job(&mut lab).await;
    let told = |lab: &mut Lab| {
        let slice = lab.gateway(&gateway).slice().expect("a slice");
        let directive = slice.connections.first().expect("a connection");
        (directive.resumes, directive.wake_on, directive.idle_seconds, directive.is_idle)
    };
    run(&mut lab, &job, 80, usage(0.0, GB)).await;
    lab.expect(&job, JobStatus::Suspended).await;
    assert_eq!(told(&mut lab), (true, WakeOn::Request, Some(60), true));
    let address = [198, 51, 100, 7].into();
    let call = Call::Request { method: "GET".into(), path: "/api/jobs".into() };
    let traffic = lab.gateway(&gateway).traffic(&job);
    (traffic.calling, traffic.caller) = (1, Some(CallerObservation { address, call }));
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
    let events = lab.events(&job).await;
    assert!(events.iter().any(|event| event == "Resuming: woken by GET /api/jobs from 198.51.100.7"), "{events:?}");
    assert_eq!(told(&mut lab), (true, WakeOn::Request, Some(60), false));
    // A user suspends it: nobody has found it idle.
    lab.gateway(&gateway).traffic(&job).calling = 0;
    let request = JobModifyRequest { wake_on: Some(WakeOn::Page), ..JobModifyRequest::default() };
    lab.admin.job_modify(&job, &request).await.unwrap();
    lab.suspend(&job).await;
    assert_eq!(told(&mut lab), (true, WakeOn::Page, Some(60), false));
}

#[tokio::test]
async fn client_resumes_no_job_without_the_policy() {
    let mut lab = Lab::start().await;
    let (job, gateway) = idle_job(&mut lab).await;
    let request = JobModifyRequest { resume_on_connect: Some(false), ..JobModifyRequest::default() };
    lab.admin.job_modify(&job, &request).await.unwrap();
    lab.suspend(&job).await;
    lab.gateway(&gateway).traffic(&job).calling = 1;
    lab.advance(seconds(60)).await;
    lab.expect(&job, JobStatus::Suspended).await;
}

#[tokio::test]
async fn time_limit_ends_the_job() {
    let mut lab = Lab::start().await;
    let job =
        lab.job_on("host-1", Submission { time_limit: Some(Duration::from_secs(120)), ..Submission::default() }).await;
    lab.advance(seconds(115)).await;
    lab.expect(&job, JobStatus::Executing).await;
    lab.advance(seconds(10)).await;
    lab.expect(&job, JobStatus::Timedout).await;
    assert!(lab.cluster.executing(&job).is_empty());
}

#[tokio::test]
async fn suspended_time_does_not_count_for_the_time_limit() {
    let mut lab = Lab::start().await;
    let job =
        lab.job_on("host-1", Submission { time_limit: Some(Duration::from_secs(120)), ..Submission::default() }).await;
    lab.suspend(&job).await;
    lab.advance(seconds(300)).await;
    lab.resume(&job).await;
    lab.advance(seconds(60)).await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn snapshots_are_made_at_their_interval() {
    let mut lab = Lab::start().await;
    let request = Submission { snapshot_interval: Some(Duration::from_secs(60)), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    for expected in [0, 1, 2, 3] {
        let view = lab.expect_on(&job, "host-1").await;
        assert_eq!(view.migrations.len(), expected);
        lab.advance(seconds(60)).await;
    }
}

#[tokio::test]
async fn failed_snapshot_waits_for_the_next_interval() {
    let mut lab = Lab::start().await;
    let request = Submission { snapshot_interval: Some(Duration::from_secs(60)), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    lab.host("host-1").fail(Step::Transfer, "the store is full");
    lab.advance(seconds(60)).await;
    lab.advance(seconds(50)).await;
    assert_eq!(lab.expect_on(&job, "host-1").await.migrations.len(), 1);
    lab.advance(seconds(15)).await;
    lab.expect_outcome(&job, "succeeded").await;
}

#[tokio::test]
async fn busy_job_gets_more_cores() {
    let mut lab = Lab::start().await;
    let request = Submission {
        migrate_policy: Some("[cpu.upperBoundDuration=30s,mem.disable=true]".parse().unwrap()),
        cpu_max: Some(4),
        ..Submission::default()
    };
    let job = lab.job_on("host-1", request).await;
    run(&mut lab, &job, 50, usage(0.99, GB)).await;
    let view = lab.expect(&job, JobStatus::Executing).await;
    assert_eq!((view.cpu, view.host_name != "host-1"), (2, true), "{view:?}");
}

#[tokio::test]
async fn quiet_job_gets_fewer_cores() {
    let mut lab = Lab::start().await;
    let request = Submission {
        migrate_policy: Some(
            "[cpu.lowerBoundRatio=20,cpu.lowerBoundDuration=30s,cpu.lowerLimit=1,mem.disable=true]".parse().unwrap(),
        ),
        cpu: Some(2),
        ..Submission::default()
    };
    let job = lab.job_on("host-1", request).await;
    run(&mut lab, &job, 50, Usage { cpu: 2.0, ..usage(0.1, GB) }).await;
    assert_eq!(lab.expect(&job, JobStatus::Executing).await.cpu, 1);
}

#[tokio::test]
async fn lack_of_memory_is_evaded_at_once() {
    let mut lab = Lab::start().await;
    let request =
        Submission { migrate_policy: Some("[disable=true,evadeOOM=true]".parse().unwrap()), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    run(&mut lab, &job, 10, usage(0.1, 2 * GB)).await;
    assert!(lab.expect(&job, JobStatus::Executing).await.mem_gb > 2.0);
}

#[tokio::test]
async fn job_without_a_policy_keeps_its_size() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    run(&mut lab, &job, 120, usage(0.99, 2 * GB)).await;
    assert!(lab.expect_on(&job, "host-1").await.migrations.is_empty());
}

fn spot(name: &str) -> Machine {
    Machine { purchase: Purchase::Spot, ..Machine::named(name) }
}

async fn placed(machines: Vec<Machine>, vm_policy: &str) -> Option<String> {
    let mut lab = Lab::with(machines, Plan::default()).await;
    let job = lab
        .submit(Submission { vm_policy: Some(vm_policy.to_string().parse().unwrap()), ..Submission::default() })
        .await;
    lab.settle().await;
    let view = lab.view(&job).await;
    (view.status == JobStatus::Executing).then_some(view.host_name)
}

#[tokio::test]
async fn spot_first_prefers_spot_hosts() {
    let large = Machine { size: Resources { cpu: 64, mem_gb: 256.0 }, ..Machine::named("large") };
    assert_eq!(placed(vec![large, spot("spot")], "[spotFirst=true]").await.as_deref(), Some("spot"));
    assert_eq!(placed(vec![Machine::named("only")], "[spotFirst=true]").await.as_deref(), Some("only"));
}

#[tokio::test]
async fn on_demand_takes_no_spot_host() {
    let machines = || vec![Machine::named("stays"), spot("spot")];
    assert_eq!(placed(machines(), "[onDemand=true]").await.as_deref(), Some("stays"));
    assert_eq!(placed(vec![spot("spot")], "[onDemand=true]").await, None);
}

#[tokio::test]
async fn spot_only_takes_no_other_host() {
    assert_eq!(placed(vec![Machine::named("stays")], "[spotOnly=true]").await, None);
    assert_eq!(placed(vec![Machine::named("stays"), spot("spot")], "[spotOnly=true]").await.as_deref(), Some("spot"));
}

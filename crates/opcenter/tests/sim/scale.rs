//! The time that requests take with many jobs, measured in an optimised build on an idle machine:
//!
//! ```sh
//! cargo test --release -p mooring-opcenter --test sim scale -- --ignored --show-output
//! ```

use std::time::{Duration, Instant};

use mooring_api::view::{GatewayCreateRequest, JobPageRequest};
use mooring_sim::Machine;
use mooring_store::{ConnectionRow, JobRow, Store};
use mooring_types::gateway::{Access, Cookies, HoldLimits, Protocol, Widget};
use mooring_types::host::{HostRole, Resources};
use mooring_types::job::{Category, JobSpec, JobStatus};
use mooring_types::{ConnectionId, GatewayId, JobId, Port, SecurityGroupId, Timestamp};

use crate::lab::{Lab, Plan};
use crate::visit::Visit;

const ENDED: u64 = 99_000;
const LIVE: u64 = 1_000;
const GATEWAYS: u32 = 50;
/// The goal for each request.
pub(crate) const GOAL: Duration = Duration::from_millis(100);

/// Starts an OpCenter with 20 hosts and 50 gateways.
pub(crate) async fn large_lab() -> (Lab, Vec<GatewayId>) {
    let size = Resources { cpu: 96, mem_gb: 384.0 };
    let machine = |number| Machine { size, role: HostRole::Both, ..Machine::named(&format!("host-{number}")) };
    let lab = Lab::with((1..=20).map(machine).collect(), Plan::default()).await;
    let mut gateways = Vec::new();
    for number in 0..GATEWAYS {
        let port_range = format!("{}:{}", 10_000 + number * 100, 10_099 + number * 100);
        let request =
            GatewayCreateRequest { name: format!("gateway-{number}"), port_range, ..GatewayCreateRequest::default() };
        gateways.push(lab.admin.gateway_create(&request).await.unwrap().id);
    }
    (lab, gateways)
}

/// Adds jobs, the last ones suspended and all others ended.
async fn fill(store: &Store) {
    let start: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    let mut tx = store.begin().await.unwrap();
    for number in 0..ENDED + LIVE {
        let time = start + Duration::from_secs(number * 60);
        let image = if number % 3 == 0 { "ubuntu:24.04" } else { "quay.io/jupyter/base-notebook:latest" };
        let name = format!("train-{number}").parse().unwrap();
        let mut spec = JobSpec::minimal(name, image.parse().unwrap());
        spec.script = Some("echo of a script that is not short\n".repeat(40));
        let user = ["alice", "bob", "carol", "admin"][number as usize % 4];
        let mut job = JobRow::submitted(JobId::random(&mut rand::rng()), user, spec, time);
        job.policy.custom_tags = [("project".to_owned(), format!("course-{}", number % 50))].into();
        tx.job_insert(&job).await.unwrap();
        let end = if number % 5 == 0 { JobStatus::Cancelled } else { JobStatus::Completed };
        let last = if number < ENDED { end } else { JobStatus::Suspended };
        tx.job_status_declare(&job, JobStatus::Executing, "", time + Duration::from_secs(5)).await.unwrap();
        let job = tx.job_get(&job.id).await.unwrap().unwrap();
        tx.job_status_declare(&job, last, "", time + Duration::from_secs(600)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Prints the median time of a request, and says whether the goal is met.
pub(crate) async fn measure<T>(what: &str, request: impl AsyncFn() -> T) -> bool {
    let mut times = Vec::new();
    for _ in 0..11 {
        let start = Instant::now();
        request().await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("{what:60} {:8.1} ms (at most {:.1} ms)", millis(times[5]), millis(times[10]));
    times[5] <= GOAL
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, which takes an idle machine and minutes"]
async fn requests_are_answered_within_their_goal() {
    let (lab, _) = large_lab().await;
    // Once there are jobs in that name, nobody gets it.
    let alice = lab.user("alice").await;
    let start = Instant::now();
    fill(&lab.store().await).await;
    println!("{} jobs are inserted in {:?}", ENDED + LIVE, start.elapsed());
    let all = lab.admin.job_page(&JobPageRequest::default()).await.unwrap();
    assert_eq!(u64::from(all.total), ENDED + LIVE);
    let middle = {
        let filters = vec!["name=train-50000".into()];
        lab.admin.job_page(&JobPageRequest { filters, ..JobPageRequest::default() }).await.unwrap().jobs.remove(0).id
    };
    let mut all_met = true;
    for (what, client, filter, category, before) in [
        ("first page", &lab.admin, "", None, None),
        ("first page of a user", &alice, "", None, None),
        ("page in the middle", &lab.admin, "", None, Some(middle.clone())),
        ("category running", &lab.admin, "", Some(Category::Running), None),
        ("category failed, in the middle", &lab.admin, "", Some(Category::Failed), Some(middle)),
        ("user=alice", &lab.admin, "user=alice", None, None),
        ("name~9999", &lab.admin, "name~9999", None, None),
        ("name=nothing", &lab.admin, "name=nothing", None, None),
        ("tag:project=course-7", &lab.admin, "tag:project=course-7", None, None),
        ("tag:project~NOTHING", &lab.admin, "tag:project~NOTHING", None, None),
        ("image~jupyter and duration>5m", &lab.admin, "image~jupyter and duration>5m", None, None),
        (
            "host=host-1 or update<=1h or image~nothing",
            &lab.admin,
            "host=host-1 or update<=1h or image~nothing",
            None,
            None,
        ),
        ("name~9 and tag:project~7 of a user", &alice, "name~9 and tag:project~7", None, None),
    ] {
        let filters = if filter.is_empty() { Vec::new() } else { vec![filter.to_owned()] };
        let request = JobPageRequest { filters, category, before, ..JobPageRequest::default() };
        all_met &= measure(what, async || client.job_page(&request).await.unwrap()).await;
    }
    let job = all.jobs[0].id.clone();
    all_met &= measure("status", async || lab.admin.status_get().await.unwrap()).await;
    all_met &= measure("one job", async || lab.admin.job_get(&job).await.unwrap()).await;
    all_met &= measure("all gateways", async || lab.admin.gateway_list().await.unwrap()).await;
    all_met &= measure("all hosts", async || lab.admin.host_list().await.unwrap()).await;
    assert!(all_met, "a request takes longer than {GOAL:?}");
}

/// Adds suspended jobs, each connected to one of the gateways.
async fn connect(store: &Store, gateways: &[GatewayId], groups: &[SecurityGroupId]) {
    let mut tx = store.begin().await.unwrap();
    for number in 0..LIVE as usize {
        let name = format!("lab-{number}").parse().unwrap();
        let mut spec = JobSpec::minimal(name, "quay.io/jupyter/base-notebook:latest".parse().unwrap());
        spec.script = Some("echo of a script that is not short\n".repeat(40));
        let time: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
        let mut job = JobRow::submitted(JobId::random(&mut rand::rng()), "admin", spec, time);
        job.security_groups = groups.to_vec();
        tx.job_insert(&job).await.unwrap();
        tx.job_status_declare(&job, JobStatus::Suspended, "", time).await.unwrap();
        let port = |first: usize| Port::new(u16::try_from(first + number / gateways.len()).unwrap()).unwrap();
        let at = number % gateways.len();
        let connection = ConnectionRow {
            opened: true,
            id: ConnectionId::random(&mut rand::rng()),
            gateway: gateways[at].clone(),
            job: job.id,
            target_port: Port::new(8888).unwrap(),
            gateway_port: port(10_000 + at * 100),
            protocol: Protocol::Auto,
            hold_limits: HoldLimits::default(),
            wake_on: None,
            widget: Widget::Shown,
            cookies: Cookies::default(),
            access: Access::Open,
            shares: Vec::new(),
            link_hash: None,
        };
        tx.connection_insert(&connection).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, which takes an idle machine"]
async fn lists_are_answered_within_their_goal() {
    let (mut lab, gateways) = large_lab().await;
    let groups: Vec<SecurityGroupId> =
        lab.admin.security_group_list().await.unwrap().into_iter().map(|group| group.id).collect();
    connect(&lab.store().await, &gateways, &groups).await;
    // A pass of the reconciler reads what was written beside it.
    lab.advance(Duration::from_secs(31)).await;
    let visitor = Visit::begin(&lab.admin, "admin", &lab.admin_password()).await;
    let all = lab.admin.gateway_list().await.unwrap();
    assert_eq!(all.iter().map(|gateway| gateway.connections.len()).sum::<usize>() as u64, LIVE);
    let (first, one) = (gateways[0].clone().into(), format!("/gateways/{}", gateways[0]));
    let mut all_met = measure("all gateways", async || lab.admin.gateway_list().await.unwrap()).await;
    all_met &= measure("one gateway", async || lab.admin.gateway_get(&first).await.unwrap()).await;
    all_met &= measure("all hosts", async || lab.admin.host_list().await.unwrap()).await;
    all_met &= measure("all security groups", async || lab.admin.security_group_list().await.unwrap()).await;
    for page in ["/gateways", one.as_str(), "/hosts", "/security-groups", "/jobs", "/submit"] {
        all_met &= measure(page, async || visitor.get(page).await).await;
    }
    assert!(all_met, "a request takes longer than {GOAL:?}");
}

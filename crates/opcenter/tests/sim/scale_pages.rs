//! The cost of pages, measured in an optimised build on an idle machine:
//!
//! ```sh
//! cargo test --release -p mooring-opcenter --test sim scale_pages -- --ignored --show-output
//! ```

use std::time::{Duration, Instant};

use mooring_store::JobRow;
use mooring_types::job::{JobSpec, JobStatus};
use mooring_types::{JobId, Timestamp};

use crate::lab::Lab;
use crate::scale::{GOAL, large_lab, measure};
use crate::visit::Visit;

const JOBS: u64 = 1_000;
/// The open pages, and their goal in seconds of a core for each second.
const OPEN: usize = 200;
const OPEN_GOAL: f64 = 0.05;
/// The time for which the cost of open pages is measured.
const SPAN: Duration = Duration::from_secs(20);

/// Starts an OpCenter with 1,000 suspended jobs and 50 gateways, and signs its admin in.
async fn filled() -> (Lab, Visit, String) {
    let (lab, _) = large_lab().await;
    let start: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    let store = lab.store().await;
    let mut tx = store.begin().await.unwrap();
    let mut last = String::new();
    for number in 0..JOBS {
        let time = start + Duration::from_secs(number * 60);
        let spec = JobSpec::minimal(format!("train-{number}").parse().unwrap(), "ubuntu:24.04".parse().unwrap());
        let job = JobRow::submitted(JobId::random(&mut rand::rng()), "admin", spec, time);
        tx.job_insert(&job).await.unwrap();
        tx.job_status_declare(&job, JobStatus::Suspended, "", time + Duration::from_secs(600)).await.unwrap();
        last = job.id.to_string();
    }
    tx.commit().await.unwrap();
    let visit = Visit::begin(&lab.admin, "admin", &lab.admin_password()).await;
    (lab, visit, last)
}

/// Returns the processor time that this process has used.
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, which takes an idle machine"]
async fn page_is_answered_within_its_goal() {
    let (_lab, visit, job) = filled().await;
    let mut slow = Vec::new();
    let of_job = format!("/jobs/{job}");
    for path in ["/", "/jobs", &of_job, "/submit", "/templates", "/gateways", "/hosts", "/audit", "/users"] {
        let is_met = measure(path, async || {
            let page = visit.get(path).await;
            assert!(page.status.is_success(), "{path}: {}", page.status);
        });
        if !is_met.await {
            slow.push(path);
        }
    }
    assert!(slow.is_empty(), "longer than {GOAL:?}: {slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, which takes an idle machine"]
async fn open_pages_cost_next_to_nothing() {
    let (mut lab, visit, job) = filled().await;
    let mut cost = async || {
        let (start, before) = (Instant::now(), used());
        while start.elapsed() < SPAN {
            // Hosts and gateways report as they always do, and nothing changes.
            lab.cluster.report().await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        (used() - before).as_secs_f64() / start.elapsed().as_secs_f64()
    };
    let without = cost().await;
    let of_job = format!("/jobs/{job}");
    let mut open = Vec::new();
    for path in ["/", "/jobs", "/gateways", of_job.as_str()].into_iter().cycle().take(OPEN) {
        let mut changes = visit.live(path).await;
        changes.until("event: page").await;
        open.push(changes);
    }
    let with = cost().await;
    println!(
        "a core is busy for {:.1} % of the time with {OPEN} open pages, for {:.1} % without",
        with * 1e2,
        without * 1e2
    );
    assert!(with - without < OPEN_GOAL, "{OPEN} open pages cost {:.1} % of a core", (with - without) * 1e2);
}

//! The history of what jobs used.

use std::time::Duration;

use mooring_store::{JobRow, Store, Unused, UsageRow};
use mooring_types::host::Resources;
use mooring_types::job::{Image, JobSpec, JobStatus};
use mooring_types::usage::Usage;
use mooring_types::{Generation, JobId, Timestamp};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn job() -> JobRow {
    let spec = JobSpec::minimal("job".parse().expect("a name"), Image::Directory("/".into()));
    JobRow::submitted(JobId::random(&mut rand::rng()), "admin", spec, at(0))
}

fn sample(job: &JobRow, second: i64) -> UsageRow {
    let usage = Usage { seconds: 20.0, cpu_used: 0.5, mem_used: 7, disk: Some(9), ..Usage::default() };
    UsageRow { job: job.id.clone(), time: at(second), generation: Generation(3), status: JobStatus::Executing, usage }
}

async fn times(tx: &mut mooring_store::Tx, job: &JobRow) -> Vec<i64> {
    let rows = tx.usage_list(&job.id, at(0)).await.expect("the history");
    rows.iter().map(|row| row.time.as_second()).collect()
}

#[tokio::test]
async fn history_is_thinned_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("opcenter.db")).await.unwrap();
    let (lives, ended) = (job(), job());
    let mut tx = store.begin().await.unwrap();
    for job in [&lives, &ended] {
        tx.job_insert(job).await.unwrap();
        for second in (0..=600).step_by(20) {
            tx.usage_insert(&sample(job, second)).await.unwrap();
        }
    }
    // One that is reported again.
    tx.usage_insert(&UsageRow { status: JobStatus::Floating, ..sample(&lives, 600) }).await.unwrap();
    assert_eq!(tx.usage_list(&lives.id, at(600)).await.unwrap(), [sample(&lives, 600)]);

    tx.usage_thin(at(500), Duration::from_secs(100)).await.unwrap();
    let kept = [0, 100, 200, 300, 400, 500, 520, 540, 560, 580, 600];
    assert_eq!(times(&mut tx, &lives).await, kept);
    assert_eq!(tx.usage_thin(at(500), Duration::from_secs(100)).await.unwrap(), 0);

    tx.job_status_set(&ended, JobStatus::NoAvailableHost, "", at(700)).await.unwrap();
    tx.usage_forget(at(150), at(700)).await.unwrap();
    assert_eq!(times(&mut tx, &lives).await, kept[2..]);
    assert_eq!(times(&mut tx, &ended).await, kept[2..]);
    tx.usage_forget(at(150), at(701)).await.unwrap();
    assert_eq!(times(&mut tx, &ended).await, [0_i64; 0]);
}

#[tokio::test]
async fn idleness_and_submitted_size_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("opcenter.db");
    let job = job();
    let unused = |seconds| Unused { idle: Duration::from_secs(seconds), held: Duration::from_secs(2 * seconds) };
    {
        let store = Store::open(&path).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.job_insert(&job).await.unwrap();
        assert_eq!(tx.idleness_get(&job.id).await.unwrap(), Unused::default());
        assert_eq!(tx.job_get(&job.id).await.unwrap().unwrap().size_submitted, None);
        for seconds in [5, 90] {
            tx.idleness_set(&job.id, unused(seconds)).await.unwrap();
        }
        for mem_gb in [1.0, 2.0] {
            tx.job_resources_set(&job.id, Resources { cpu: 2, mem_gb }, at(1)).await.unwrap();
        }
        tx.commit().await.unwrap();
        store.close().await;
    }
    let mut tx = Store::open(&path).await.unwrap().begin().await.unwrap();
    assert_eq!(tx.idleness_get(&job.id).await.unwrap(), unused(90));
    let row = tx.job_get(&job.id).await.unwrap().unwrap();
    assert_eq!((row.size_asked_for(), row.spec.resources), (job.spec.resources, Resources { cpu: 2, mem_gb: 2.0 }));
}

//! Capsules and migrations that the database does not know, as after an older copy of it was put
//! back.

use std::time::Duration;

use mooring_api::watch::JobOrder;
use mooring_capsule::{CapsuleKey, CapsuleStore, Facts, Location};
use mooring_sim::Step;
use mooring_types::job::JobStatus;
use mooring_types::{CapsuleName, Clock, Event, Generation, JobId, Timestamp};
use tokio::io::AsyncWriteExt;

use crate::lab::Lab;

/// Returns the capsule store with the key of a job, as a host gets it that stores the job.
async fn store_of(lab: &mut Lab, job: &JobId) -> CapsuleStore {
    lab.host("host-1").hold(Step::Transfer);
    lab.snapshot(job).await;
    let access = lab.host("host-1").directive(job).unwrap().store.clone().unwrap();
    lab.release(Step::Transfer).await;
    let key: CapsuleKey = access.key.parse().unwrap();
    CapsuleStore::open(&access.location.parse::<Location>().unwrap(), key).unwrap()
}

async fn write(store: &CapsuleStore, job: &JobId, generation: u64, created: Timestamp) -> CapsuleName {
    let generation = Generation(generation);
    let name = CapsuleName::of_job(job, generation, 7);
    let mut writer = store.create(&name).await.unwrap();
    writer.write_all(b"the state of a job").await.unwrap();
    let facts = Facts { job: job.clone(), generation, created, base: None, about: serde_json::Value::Null };
    writer.finish(facts).await.unwrap();
    name
}

/// Waits until the store holds these capsules.
async fn until_stored(store: &CapsuleStore, expected: &[CapsuleName]) {
    let swept = async {
        while store.list().await.unwrap() != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swept).await.expect("the store is swept");
}

#[tokio::test]
async fn newer_capsule_of_a_suspended_job_is_adopted_and_resumed() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let store = store_of(&mut lab, &job).await;
    lab.suspend(&job).await;
    lab.expect(&job, JobStatus::Suspended).await;
    let now = lab.clock.now();
    let older = write(&store, &job, 1, now - Duration::from_secs(3600)).await;
    let newer = write(&store, &job, 9, now + Duration::from_secs(1)).await;
    assert_eq!(store.list().await.unwrap(), [older, newer.clone()]);
    lab.restart_opcenter().await;
    until_stored(&store, std::slice::from_ref(&newer)).await;
    let database = lab.store().await;
    let noted = async {
        while database.begin().await.unwrap().capsule_list().await.unwrap().last().map(|row| &row.name) != Some(&newer)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted).await.expect("the newer capsule is adopted");
    // The host has had generations that the database never knew.
    lab.resume(&job).await;
    lab.expect(&job, JobStatus::Executing).await;
    let row = lab.store().await.begin().await.unwrap().job_get(&job).await.unwrap().unwrap();
    assert!(row.generation > Generation(9), "{:?}", row.generation);
}

/// Moves a job after OpCenter's database was copied, and puts the copy back.
async fn with_older_database(lab: &mut Lab, job: &JobId, change: impl AsyncFnOnce(&mut Lab)) {
    let copy = lab.database_copied().await;
    change(lab).await;
    lab.settle().await;
    lab.expect(job, JobStatus::Executing).await;
    lab.restart_opcenter_with(&copy).await;
}

#[tokio::test]
async fn job_that_migrated_since_is_found_at_its_new_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.expect_on(&job, "host-1").await;
    with_older_database(&mut lab, &job, async |lab| lab.migrate(&job, "host-2").await).await;
    lab.advance(Duration::from_secs(30)).await;
    let now = lab.expect_on(&job, "host-2").await;
    assert_eq!(now.generation, 2);
    assert!(lab.host("host-2").executes(&job) && lab.host("host-1").state(&job).is_none());
    let events = lab.admin.job_events(&job).await.unwrap();
    assert!(events.iter().any(|view| matches!(view.event, Event::FoundAgain { .. })), "{events:?}");
    lab.migrate(&job, "host-3").await;
    lab.settle().await;
    assert_eq!(lab.expect_on(&job, "host-3").await.generation, 3);
}

#[tokio::test]
async fn job_that_was_suspended_then_is_found_executing() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.suspend(&job).await;
    lab.expect(&job, JobStatus::Suspended).await;
    with_older_database(&mut lab, &job, async |lab| lab.resume(&job).await).await;
    lab.advance(Duration::from_secs(30)).await;
    let now = lab.expect(&job, JobStatus::Executing).await;
    assert_eq!(lab.cluster.executing(&job), [now.host_name.as_str()]);
}

#[tokio::test]
async fn newer_generation_without_a_grant_is_stopped() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.expect_on(&job, "host-1").await;
    lab.host("host-2").claim(&job, Generation(7));
    lab.host("host-2").report().await.unwrap();
    lab.cluster.sync().await.unwrap();
    lab.host("host-2").fetch().await.unwrap();
    assert_eq!(lab.host("host-2").order(&job), Some(&JobOrder::Stop));
    assert_eq!(lab.view(&job).await.host_name, "host-1");
}

#[tokio::test]
async fn capsule_that_can_not_be_judged_is_kept_and_one_of_an_ended_job_goes() {
    let mut lab = Lab::start().await;
    let (job, ended) = (lab.job().await, lab.job().await);
    let store = store_of(&mut lab, &job).await;
    lab.suspend(&job).await;
    lab.cancel(&ended).await;
    let later = lab.clock.now() + Duration::from_secs(1);
    write(&store, &ended, 3, later).await;
    // Another key: nobody can tell what it holds.
    let unreadable = write(&store.with_key(CapsuleKey::random()), &job, 9, later).await;
    lab.restart_opcenter().await;
    until_stored(&store, std::slice::from_ref(&unreadable)).await;
    let rows = lab.store().await.begin().await.unwrap().capsule_list().await.unwrap();
    assert!(rows.iter().all(|row| row.name != unreadable), "{rows:?}");
}

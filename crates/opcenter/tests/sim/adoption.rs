//! Capsules that the database does not know, as after an older copy of it was put back.

use std::time::Duration;

use mooring_capsule::{CapsuleKey, CapsuleStore, Facts, Location};
use mooring_sim::Step;
use mooring_types::job::JobStatus;
use mooring_types::{CapsuleName, Clock, Generation, JobId, Timestamp};
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

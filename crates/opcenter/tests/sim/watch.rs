//! Watches of users: the views that OpCenter pushes.

use std::time::Duration;

use futures_util::StreamExt;
use mooring_api::ErrorCode::{NotFound, Unauthenticated};
use mooring_api::view::{DrainRequest, HostStatus, JobView, UserUpdateRequest};
use mooring_api::{ClientError, Submission, Watch};
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;

use crate::lab::{Lab, refused, seconds};

/// The real time after which a view that should be there counts as missing.
const VIEW_TIMEOUT: Duration = Duration::from_secs(20);

/// The next view, or how the watch ended.
async fn next<T>(watch: &mut Watch<T>) -> Option<Result<T, ClientError>> {
    tokio::time::timeout(VIEW_TIMEOUT, watch.next()).await.expect("a view")
}

/// Reads views until one is as it should be.
async fn until<T>(watch: &mut Watch<T>, is_so: impl Fn(&T) -> bool) -> T {
    loop {
        let view = next(watch).await.expect("the watch goes on").unwrap();
        if is_so(&view) {
            return view;
        }
    }
}

fn has_migrated(view: &JobView) -> bool {
    view.migrations.last().is_some_and(|migration| migration.outcome == Outcome::Succeeded)
}

#[tokio::test]
async fn job_watch_follows_a_migration() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let mut watch = lab.admin.job_watch(&job).await.unwrap();
    let first = next(&mut watch).await.unwrap().unwrap();
    assert_eq!((first.status, first.host_name.as_str()), (JobStatus::Executing, "host-1"));
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    let view = until(&mut watch, has_migrated).await;
    assert_eq!((view.status, view.host_name.as_str()), (JobStatus::Executing, "host-2"));
}

#[tokio::test]
async fn time_alone_is_no_change() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let mut watch = lab.admin.job_watch(&job).await.unwrap();
    let first = next(&mut watch).await.unwrap().unwrap();
    lab.advance(seconds(60)).await;
    lab.cancel(&job).await;
    let second = next(&mut watch).await.unwrap().unwrap();
    assert_eq!(first.status, JobStatus::Executing);
    assert!(second.status != JobStatus::Executing, "a view whose duration alone differs: {}", second.duration);
}

#[tokio::test]
async fn host_watch_shows_a_drain() {
    let mut lab = Lab::start().await;
    lab.job().await;
    let host = "host-1".parse().unwrap();
    let mut watch = lab.admin.host_watch(&host).await.unwrap();
    lab.admin.host_drain(&host, &DrainRequest::default()).await.unwrap();
    lab.settle().await;
    let view = until(&mut watch, |view| view.status == HostStatus::Drained).await;
    assert_eq!(view.jobs, 0);
}

#[tokio::test]
async fn gateway_watch_shows_a_new_connection() {
    let mut lab = Lab::start().await;
    let gateway = lab.create_gateway("lab").await;
    let mut watch = lab.admin.gateway_watch(&gateway.clone().into()).await.unwrap();
    assert!(next(&mut watch).await.unwrap().unwrap().connections.is_empty());
    let publish = vec!["8000".parse().unwrap()];
    lab.job_on("host-1", Submission { publish, gateway: Some(gateway.into()), ..Submission::default() }).await;
    let view = until(&mut watch, |view| !view.connections.is_empty()).await;
    assert_eq!(view.connections[0].target_port, 8000);
}

#[tokio::test]
async fn watch_ends_with_its_session() {
    let mut lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let mut watch = alice.host_watch(&"host-1".parse().unwrap()).await.unwrap();
    next(&mut watch).await.unwrap().unwrap();
    let change = UserUpdateRequest { password: "another password".into(), ..UserUpdateRequest::default() };
    lab.admin.user_update("alice", &change).await.unwrap();
    lab.settle().await;
    let end = loop {
        match next(&mut watch).await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    refused(end.expect("a reason"), Unauthenticated, "");
    assert!(next(&mut watch).await.is_none());
}

#[tokio::test]
async fn jobs_of_others_are_not_watched() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    refused(lab.user("alice").await.job_watch(&job).await.map(|_| ()), NotFound, job.as_str());
}

#[tokio::test]
async fn opcenter_stops_under_an_open_watch() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let mut watch = lab.admin.job_watch(&job).await.unwrap();
    next(&mut watch).await.unwrap().unwrap();
    lab.restart_opcenter().await;
    while let Some(Ok(_)) = next(&mut watch).await {}
    let mut again = lab.admin.job_watch(&job).await.unwrap();
    assert_eq!(next(&mut again).await.unwrap().unwrap().id, job);
}

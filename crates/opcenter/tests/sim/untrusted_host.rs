//! A host that lies: it learns nothing of jobs that it was not given, and changes nothing of them.

use mooring_api::Submission;
use mooring_api::submission::Environment;
use mooring_api::view::SecretSetRequest;
use mooring_api::watch::{JobDirective, JobOrder};
use mooring_sim::Step;
use mooring_types::job::OutputFile;
use mooring_types::usage::Usage;
use mooring_types::{Clock, Generation, JobId};

use crate::lab::Lab;

const SECRET: &str = "open-sesame";

/// Submits a job with a secret in its environment and in its arguments to `host-1`.
async fn job_with_secret(lab: &mut Lab) -> JobId {
    lab.admin.secret_set("token", &SecretSetRequest { value: SECRET.into() }).await.unwrap();
    let request = Submission {
        env: Environment::from([("TOKEN", "{secret:token}")]),
        command: vec!["sh".into(), "-c".into(), "echo private".into()],
        ..Submission::default()
    };
    lab.job_on("host-1", request).await
}

/// Lets a host report and returns its directive for a job.
async fn told(lab: &mut Lab, host: &str, job: &JobId) -> Option<JobDirective> {
    lab.host(host).report().await.unwrap();
    lab.cluster.sync().await.unwrap();
    lab.host(host).fetch().await.unwrap();
    lab.host(host).directive(job).cloned()
}

#[tokio::test]
async fn host_that_claims_a_job_learns_nothing_of_it() {
    let mut lab = Lab::start().await;
    let job = job_with_secret(&mut lab).await;
    let own = told(&mut lab, "host-1", &job).await.expect("the job is here");
    assert_eq!(own.spec.env["TOKEN"], SECRET);
    lab.host("host-2").claim(&job, Generation::FIRST);
    let directive = told(&mut lab, "host-2", &job).await.expect("an order to stop");
    assert_eq!(directive.order, JobOrder::Stop);
    let text = serde_json::to_string(&directive).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("private"), "{text}");
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn output_and_measurements_come_from_the_host_of_the_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    lab.host("host-1").write(&job, b"true").await.unwrap();
    let forged = lab.host("host-2").write_file(&job, &OutputFile::Stdout, 4, b" or forged").await;
    assert!(format!("{:#}", forged.unwrap_err()).contains("is not on host host-2"));
    let unknown = JobId::random(&mut rand::rng());
    lab.host("host-2").write_file(&unknown, &OutputFile::Stdout, 0, b"made up").await.unwrap_err();
    assert!(!lab.state_dir().join("logs").join(unknown.as_str()).exists());

    lab.host("host-2").claim(&job, Generation::FIRST);
    let (time, usage) = (lab.clock.now(), Usage { mem_used: 7 << 30, ..Usage::default() });
    lab.host("host-2").measure(&job, time, usage);
    lab.host("host-2").report().await.unwrap();
    let measured = lab.admin.job_metrics(&job, None).await.unwrap();
    assert!(measured.is_empty(), "{measured:?}");
    lab.settle().await;

    // The source of a migration sends what is left while the destination already executes the job.
    lab.migrate_until(&job, Step::Retire).await;
    lab.host("host-1").write_file(&job, &OutputFile::Stdout, 4, b", the end").await.unwrap();
    lab.release(Step::Retire).await;
    lab.host("host-2").write_file(&job, &OutputFile::Stdout, 13, b".").await.unwrap();
    lab.host("host-3").write_file(&job, &OutputFile::Stdout, 14, b"forged").await.unwrap_err();
    assert_eq!(lab.admin.job_log_file(&job, &OutputFile::Stdout, 0).await.unwrap().text, "true, the end.");
}

#[tokio::test]
async fn access_to_the_store_comes_with_the_order_and_opens_one_job() {
    let mut lab = Lab::start().await;
    let (first, second) = (lab.job().await, lab.job().await);
    let key = |directive: Option<JobDirective>| directive.and_then(|directive| directive.store).map(|store| store.key);
    assert_eq!(key(told(&mut lab, "host-1", &first).await), None, "an order that leads nowhere");
    lab.hold(Step::PreCopy);
    for job in [&first, &second] {
        lab.admin.job_suspend(job).await.unwrap();
    }
    lab.settle().await;
    let (one, other) = (key(told(&mut lab, "host-1", &first).await), key(told(&mut lab, "host-1", &second).await));
    assert!(one.is_some() && other.is_some() && one != other);
    assert!(told(&mut lab, "host-2", &first).await.is_none());
    lab.release(Step::PreCopy).await;
    lab.hold(Step::Restore);
    lab.resume(&first).await;
    let mut keys = Vec::new();
    for host in ["host-1", "host-2", "host-3"] {
        keys.extend(key(told(&mut lab, host, &first).await));
    }
    assert_eq!(keys, Vec::from_iter(one), "the same key, on one host");
}

//! Quotas of users and groups: nothing beyond them, and nothing that runs is stopped.

use mooring_api::ErrorCode::{InvalidArgument, PermissionDenied, ResourceExhausted};
use mooring_api::view::{
    AuditQuery, Change, GatewayCreateRequest, GatewayModifyRequest, GroupAddRequest, GroupUpdateRequest,
    MigrateRequest, QuotaChange, UserUpdateRequest,
};
use mooring_api::{Client, Submission};
use mooring_types::job::JobStatus;
use reqwest::StatusCode;

use crate::lab::{Lab, refused};
use crate::visit::Visit;

fn submission(cpu: u32) -> Submission {
    let image = Some("docker.io/library/alpine:3".parse().unwrap());
    Submission { image, cpu: Some(cpu), mem_gb: Some(1.0), ..Submission::default() }
}

fn gateway(name: &str) -> GatewayCreateRequest {
    let first: u16 = if name == "one" { 20_000 } else { 30_000 };
    let port_range = format!("{first}:{}", first + 9);
    GatewayCreateRequest { name: name.into(), port_range, ..GatewayCreateRequest::default() }
}

async fn limit(lab: &Lab, user: &str, quota: QuotaChange) {
    let request = UserUpdateRequest { quota, ..UserUpdateRequest::default() };
    lab.admin.user_update(user, &request).await.unwrap();
}

/// Adds a group with a quota.
async fn group(lab: &Lab, name: &str, users: &[&str], quota: QuotaChange) {
    let users = users.iter().map(ToString::to_string).collect();
    lab.admin.group_add(&GroupAddRequest { name: name.into(), users, ..GroupAddRequest::default() }).await.unwrap();
    if quota != QuotaChange::default() {
        let request = GroupUpdateRequest { quota, ..GroupUpdateRequest::default() };
        lab.admin.group_update(name, &request).await.unwrap();
    }
}

fn jobs(number: u32) -> QuotaChange {
    QuotaChange { jobs: Change::To(number), ..QuotaChange::default() }
}

fn cores(number: u32) -> QuotaChange {
    QuotaChange { cores: Change::To(number), ..QuotaChange::default() }
}

#[tokio::test]
async fn submission_beyond_a_quota_is_refused_with_what_is_used() {
    let lab = Lab::start().await;
    let ada = lab.user("ada").await;
    limit(&lab, "ada", QuotaChange { mem_gb: Change::To(2.5), ..jobs(2) }).await;
    let first = ada.job_submit(&submission(1)).await.unwrap().id;
    let large = Submission { mem_gb: Some(2.0), ..submission(1) };
    let text = "the quota of user `ada` would be exceeded: 1 of 2.5 GB of memory are used, and this takes 2 more";
    refused(ada.job_submit(&large).await, ResourceExhausted, text);
    ada.job_submit(&submission(1)).await.unwrap();
    refused(ada.job_submit(&submission(1)).await, ResourceExhausted, "2 of 2 jobs are used, and this takes 1 more");
    refused(ada.job_rerun(&first).await, ResourceExhausted, "2 of 2 jobs");
    // The owner's quota counts, for an admin as well. Others have none.
    refused(lab.admin.job_rerun(&first).await, ResourceExhausted, "user `ada`");
    lab.submit(Submission::default()).await;

    let view = ada.user_get("ada").await.unwrap();
    assert_eq!((view.quota.jobs, view.quota.mem_gb, view.quota.cores), (Some(2), Some(2.5), None));
    assert_eq!((view.used.jobs, view.used.cores, view.used.mem_gb), (2, 2, 2.0));
    limit(&lab, "ada", QuotaChange { jobs: Change::Clear, ..QuotaChange::default() }).await;
    refused(ada.job_submit(&submission(1)).await, ResourceExhausted, "2 of 2.5 GB");
    limit(&lab, "ada", QuotaChange { mem_gb: Change::Clear, ..QuotaChange::default() }).await;
    ada.job_submit(&submission(1)).await.unwrap();
}

#[tokio::test]
async fn two_submissions_at_once_do_not_both_pass() {
    let lab = Lab::start().await;
    let ada = lab.user("ada").await;
    limit(&lab, "ada", jobs(3)).await;
    let submit = async || ada.job_submit(&submission(1)).await.is_ok();
    let passed: [bool; 6] = tokio::join!(submit(), submit(), submit(), submit(), submit(), submit()).into();
    assert_eq!(passed.iter().filter(|passed| **passed).count(), 3, "{passed:?}");
    assert_eq!(ada.job_list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn members_of_a_group_share_its_quota() {
    let lab = Lab::start().await;
    let (ada, bob, eve) = (lab.user("ada").await, lab.user("bob").await, lab.user("eve").await);
    group(&lab, "lab", &["ada", "bob"], cores(3)).await;
    group(&lab, "wide", &["bob", "eve"], QuotaChange::default()).await;
    ada.job_submit(&submission(2)).await.unwrap();
    let text = "the quota of group `lab` would be exceeded: 2 of 3 cores are used, and this takes 2 more";
    refused(bob.job_submit(&submission(2)).await, ResourceExhausted, text);
    bob.job_submit(&submission(1)).await.unwrap();
    eve.job_submit(&submission(2)).await.unwrap();
    let view = bob.group_get("lab").await.unwrap();
    assert_eq!((view.quota.cores, view.used.cores, view.used.jobs), (Some(3), 3, 2));
    assert_eq!(lab.admin.group_list().await.unwrap()[1].used.jobs, 2);
    // Who leaves takes along what it has.
    let leave = UserUpdateRequest { remove_groups: vec!["lab".into()], ..UserUpdateRequest::default() };
    lab.admin.user_update("ada", &leave).await.unwrap();
    bob.job_submit(&submission(2)).await.unwrap();
}

#[tokio::test]
async fn gateways_count_with_their_size() {
    let mut lab = Lab::start().await;
    let ada = lab.user("ada").await;
    let change = QuotaChange { gateways: Change::To(1), cores: Change::To(2), ..QuotaChange::default() };
    limit(&lab, "ada", change).await;
    let one = ada.gateway_create(&gateway("one")).await.unwrap().id;
    lab.settle().await;
    refused(ada.gateway_create(&gateway("two")).await, ResourceExhausted, "1 of 1 gateway are used");
    let resized = |cpu| GatewayModifyRequest { cpu: Some(cpu), ..GatewayModifyRequest::default() };
    refused(ada.gateway_modify(&one.clone().into(), &resized(3)).await, ResourceExhausted, "1 of 2 cores");
    ada.job_submit(&submission(1)).await.unwrap();
    refused(ada.gateway_modify(&one.clone().into(), &resized(2)).await, ResourceExhausted, "2 of 2 cores");
    // Another change of it is no growth.
    let renamed = GatewayModifyRequest { name: "renamed".into(), ..GatewayModifyRequest::default() };
    ada.gateway_modify(&one.clone().into(), &renamed).await.unwrap();
    ada.gateway_destroy(&one.into()).await.unwrap();
    ada.gateway_create(&gateway("two")).await.unwrap();
}

#[tokio::test]
async fn suspended_job_has_no_cores_and_a_resume_is_checked() {
    let mut lab = Lab::start().await;
    let ada = lab.user("ada").await;
    let request = Submission { host: Some("host-1".parse().unwrap()), ..submission(2) };
    let job = ada.job_submit(&request).await.unwrap().id;
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
    limit(&lab, "ada", cores(3)).await;
    let to = |cpu| MigrateRequest { cpu: Some(cpu), ..MigrateRequest::default() };
    refused(ada.job_migrate(&job, &to(4)).await, ResourceExhausted, "2 of 3 cores are used, and this takes 2 more");
    ada.job_migrate(&job, &to(3)).await.unwrap();
    // The larger size counts from the beginning of the migration on.
    assert_eq!(ada.user_get("ada").await.unwrap().used.cores, 3);
    lab.settle().await;
    lab.suspend(&job).await;
    lab.expect(&job, JobStatus::Suspended).await;
    let used = ada.user_get("ada").await.unwrap().used;
    assert_eq!((used.jobs, used.cores, used.mem_gb), (1, 0, 0.0));
    let other = ada.job_submit(&submission(1)).await.unwrap().id;
    refused(ada.job_resume(&job).await, ResourceExhausted, "1 of 3 cores are used, and this takes 3 more");
    ada.job_cancel(&other).await.unwrap();
    lab.settle().await;
    ada.job_resume(&job).await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
    // A lower limit stops nothing, and smaller is possible.
    limit(&lab, "ada", QuotaChange { cores: Change::To(1), ..jobs(0) }).await;
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
    ada.job_migrate(&job, &to(2)).await.unwrap();
}

#[tokio::test]
async fn client_resumes_a_job_once_the_quota_has_room() {
    let mut lab = Lab::start().await;
    let ada = lab.user("ada").await;
    let edge = lab.create_gateway("lab").await;
    let request = Submission {
        host: Some("host-1".parse().unwrap()),
        resume_on_connect: true,
        publish: vec!["8080".parse().unwrap()],
        gateway: Some(edge.to_string().parse().unwrap()),
        ..submission(2)
    };
    let job = ada.job_submit(&request).await.unwrap().id;
    lab.settle().await;
    lab.suspend(&job).await;
    limit(&lab, "ada", cores(1)).await;
    lab.gateway(&edge).traffic(&job).calling = 1;
    lab.cluster.report().await.unwrap();
    lab.settle().await;
    let view = lab.expect(&job, JobStatus::Suspended).await;
    assert!(view.status_reason.contains("a client called, and the quota of user `ada`"), "{}", view.status_reason);
    let told = lab.events(&job).await.iter().filter(|event| event.contains("quota")).count();
    assert_eq!(told, 1);
    limit(&lab, "ada", cores(2)).await;
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
}

#[tokio::test]
async fn quotas_take_an_admin_and_a_number() {
    let lab = Lab::start().await;
    let ada = lab.user("ada").await;
    group(&lab, "lab", &["ada"], QuotaChange::default()).await;
    let own = UserUpdateRequest { quota: jobs(1000), ..UserUpdateRequest::default() };
    refused(ada.user_update("ada", &own).await, PermissionDenied, "quota takes the role `admin`");
    let of_group = GroupUpdateRequest { quota: jobs(1000), ..GroupUpdateRequest::default() };
    refused(ada.group_update("lab", &of_group).await, PermissionDenied, "admin");
    for mem_gb in [-1.0, 1e12] {
        let quota = QuotaChange { mem_gb: Change::To(mem_gb), ..QuotaChange::default() };
        let request = UserUpdateRequest { quota, ..UserUpdateRequest::default() };
        refused(lab.admin.user_update("ada", &request).await, InvalidArgument, "a limit of memory is 0 to 1000000 GB");
    }
    limit(&lab, "ada", jobs(5)).await;
    let query = AuditQuery { action: Some("user.update".into()), ..AuditQuery::default() };
    assert_eq!(lab.admin.audit_list(&query).await.unwrap().entries[0].detail, "quota of jobs 5");
}

#[tokio::test]
async fn quotas_are_set_and_shown_on_pages() {
    let lab = Lab::start().await;
    let ada: Client = lab.user("ada").await;
    group(&lab, "physics", &["ada"], QuotaChange::default()).await;
    let admin = Visit::begin(&lab.admin, "admin", &lab.admin_password()).await;
    let form = [("role", "user"), ("groups", "physics"), ("jobs", "3"), ("memory", "many")];
    let wrong = admin.post("/users/ada/update", &form).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!wrong.below("memory").is_empty(), "{wrong:?}");
    let form = [("role", "user"), ("groups", "physics"), ("jobs", "3"), ("memory", "0.5")];
    assert_eq!(admin.post("/users/ada/update", &form).await.status, StatusCode::NO_CONTENT);
    let form = [("users", "ada"), ("cores", "8")];
    assert_eq!(admin.post("/groups/physics/update", &form).await.status, StatusCode::NO_CONTENT);
    let quota = ada.user_get("ada").await.unwrap().quota;
    assert_eq!((quota.jobs, quota.mem_gb), (Some(3), Some(0.5)));
    let page = admin.get("/users").await.text;
    assert!(page.contains("0 of 3 jobs") && page.contains("0 of 8 cores"), "{page}");
    let visitor = Visit::begin(&lab.admin, "ada", "password of ada").await;
    assert!(visitor.get("/account").await.text.contains("0 of 3 jobs"));
    // A submission that is too large says so at its field.
    let large = [("image", "docker.io/library/alpine:3"), ("memGB", "1")];
    let answer = visitor.post("/submit", &large).await;
    assert!(answer.below("memGB").contains("the quota of user ada would be exceeded"), "{answer:?}");
    // An empty field clears a limit.
    let form = [("role", "user"), ("groups", "physics"), ("jobs", ""), ("memory", "0.5")];
    assert_eq!(admin.post("/users/ada/update", &form).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ada.user_get("ada").await.unwrap().quota.jobs, None);
}

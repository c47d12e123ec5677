//! A person who gets the name of a deleted user gets nothing of what that user had.

use mooring_api::ErrorCode::{AlreadyExists, NotFound, Unauthenticated};
use mooring_api::Submission;
use mooring_api::view::{
    ApiTokenRequest, AuditQuery, Change, GatewayCreateRequest, GroupAddRequest, QuotaChange, SecretSetRequest,
    SecurityGroupCreateRequest, TemplateCreateRequest, UserAddRequest, UserUpdateRequest,
};

use crate::lab::{Lab, refused};
use crate::visit::Visit;

fn submission() -> Submission {
    Submission { image: Some("docker.io/library/alpine:3".parse().unwrap()), ..Submission::default() }
}

fn again(name: &str) -> UserAddRequest {
    UserAddRequest { name: name.into(), password: format!("password of {name}"), ..UserAddRequest::default() }
}

#[tokio::test]
async fn name_in_which_things_are_kept_is_not_given_again() {
    let mut lab = Lab::start().await;
    let kept = "are kept in that name";

    let ada = lab.user("ada").await;
    let job = ada.job_submit(&submission()).await.unwrap().id;
    lab.settle().await;
    lab.admin.user_delete_with_jobs("ada").await.unwrap();
    lab.settle().await;
    refused(lab.admin.user_add(&again("ada")).await, AlreadyExists, kept);
    assert!(lab.admin.job_get(&job).await.unwrap().status.is_final());

    let bob = lab.user("bob").await;
    let gateway = GatewayCreateRequest { name: "edge".into(), ..GatewayCreateRequest::default() };
    bob.gateway_create(&gateway).await.unwrap();
    lab.admin.user_delete("bob").await.unwrap();
    refused(lab.admin.user_add(&again("bob")).await, AlreadyExists, kept);
    lab.admin.gateway_destroy(&"edge".parse().unwrap()).await.unwrap();
    lab.admin.user_add(&again("bob")).await.unwrap();

    let carol = lab.user("carol").await;
    let group = SecurityGroupCreateRequest { name: "campus".into(), ..SecurityGroupCreateRequest::default() };
    carol.security_group_create(&group).await.unwrap();
    lab.admin.user_delete("carol").await.unwrap();
    refused(lab.admin.user_add(&again("carol")).await, AlreadyExists, kept);
}

#[tokio::test]
async fn what_goes_with_a_user_does_not_come_back_with_its_name() {
    let lab = Lab::start().await;
    let ada = lab.user("ada").await;
    ada.secret_set("key", &SecretSetRequest { value: "sesame".into() }).await.unwrap();
    let template = TemplateCreateRequest {
        name: "private::work".into(),
        job: Some(submission()),
        ..TemplateCreateRequest::default()
    };
    ada.template_create(&template).await.unwrap();
    let token =
        ada.api_token_create(&ApiTokenRequest { name: "t".into(), ..ApiTokenRequest::default() }).await.unwrap();
    let token = mooring_api::Client::new(ada.address()).unwrap().with_token(token.token);
    let group = GroupAddRequest { name: "lab".into(), users: vec!["ada".into()], ..GroupAddRequest::default() };
    lab.admin.group_add(&group).await.unwrap();
    let quota = QuotaChange { jobs: Change::To(0), ..QuotaChange::default() };
    let request = UserUpdateRequest { quota, role: "admin".into(), ..UserUpdateRequest::default() };
    lab.admin.user_update("ada", &request).await.unwrap();
    let browser = Visit::begin(&lab.admin, "ada", "password of ada").await;
    let mut open = browser.live("/account").await;
    open.until("Password and sessions").await;
    lab.admin.user_delete("ada").await.unwrap();

    let other = lab.user("ada").await;
    // The person who was `ada` is out, in every way, and an open page ends.
    refused(ada.session_get().await, Unauthenticated, "");
    refused(token.session_get().await, Unauthenticated, "");
    open.until("event: ended").await;
    assert_eq!(browser.get("/account").await.location, "/login?next=%2Faccount");

    assert!(other.secret_list().await.unwrap().is_empty());
    refused(other.secret_get("key").await, NotFound, "key");
    assert!(other.template_list().await.unwrap().iter().all(|view| view.name != "private::work:1"));
    assert!(other.api_token_list().await.unwrap().is_empty());
    assert_eq!(other.session_list().await.unwrap().len(), 1);
    let view = other.user_get("ada").await.unwrap();
    assert_eq!((view.groups.len(), view.role.name(), view.quota.jobs), (0, "user", None));
    assert!(lab.admin.group_get("lab").await.unwrap().users.is_empty());
    // The audit keeps what the other one did.
    let query = AuditQuery { user: Some("ada".into()), action: Some("secret.set".into()), ..AuditQuery::default() };
    assert_eq!(lab.admin.audit_list(&query).await.unwrap().entries.len(), 1);
}

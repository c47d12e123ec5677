//! The role `viewer`: sees what a user sees, and changes nothing but its own account.

use mooring_api::Client;
use mooring_api::ErrorCode::{NotFound, PermissionDenied, Unauthenticated};
use mooring_api::Submission;
use mooring_api::view::{AuditQuery, GatewayCreateRequest, GroupAddRequest, SecretSetRequest, UserUpdateRequest};
use reqwest::StatusCode;

use crate::job_sign_in::session_of_job;
use crate::lab::{Lab, refused};
use crate::visit::Visit;

/// The reason of every refusal.
const REASON: &str = "a user with the role `viewer` looks, and changes nothing";

/// Adds a viewer that shares a group with `ada`, and returns both.
async fn viewer_and_mate(lab: &Lab) -> (Client, Client) {
    let (viewer, ada) = (lab.user("vera").await, lab.user("ada").await);
    let role = UserUpdateRequest { role: "viewer".into(), ..UserUpdateRequest::default() };
    lab.admin.user_update("vera", &role).await.unwrap();
    let users = vec!["vera".into(), "ada".into()];
    let group = GroupAddRequest { name: "lab".into(), users, ..GroupAddRequest::default() };
    lab.admin.group_add(&group).await.unwrap();
    (viewer, ada)
}

fn submission() -> Submission {
    Submission { image: Some("docker.io/library/alpine:3".parse().unwrap()), ..Submission::default() }
}

#[tokio::test]
async fn viewer_sees_its_groups_and_changes_nothing() {
    let mut lab = Lab::start().await;
    let (viewer, ada) = viewer_and_mate(&lab).await;
    lab.create_gateway("edge").await;
    let of_mate = ada.job_submit(&submission()).await.unwrap().id;
    let of_other = lab.submit(Submission::default()).await;
    lab.settle().await;

    assert_eq!(viewer.job_get(&of_mate).await.unwrap().id, of_mate);
    refused(viewer.job_get(&of_other).await, NotFound, of_other.as_str());
    assert!(viewer.gateway_list().await.unwrap().iter().any(|gateway| gateway.name == "edge"));
    assert!(viewer.secret_list().await.unwrap().is_empty());

    refused(viewer.job_submit(&submission()).await, PermissionDenied, REASON);
    refused(viewer.job_cancel(&of_mate).await, PermissionDenied, REASON);
    refused(viewer.job_rerun(&of_mate).await, PermissionDenied, REASON);
    refused(viewer.gateway_create(&GatewayCreateRequest::default()).await, PermissionDenied, REASON);
    let secret = SecretSetRequest { value: "x".into() };
    refused(viewer.secret_set("key", &secret).await, PermissionDenied, REASON);
    refused(viewer.secret_get("key").await, PermissionDenied, REASON);

    let query = AuditQuery { user: Some("vera".into()), ..AuditQuery::default() };
    let entries = lab.admin.audit_list(&query).await.unwrap().entries;
    let refusals = entries.iter().filter(|entry| entry.reason.ends_with(REASON)).count();
    assert_eq!(refusals, 6, "{entries:?}");
}

#[tokio::test]
async fn viewer_keeps_what_it_had_as_a_user_and_can_only_look_at_it() {
    let lab = Lab::start().await;
    let user = lab.user("ada").await;
    let publish = vec!["8080".parse().unwrap()];
    let job = user.job_submit(&Submission { publish, ..submission() }).await.unwrap().id;
    user.secret_set("key", &SecretSetRequest { value: "x".into() }).await.unwrap();
    let role = UserUpdateRequest { role: "viewer".into(), ..UserUpdateRequest::default() };
    lab.admin.user_update("ada", &role).await.unwrap();
    assert_eq!(user.job_get(&job).await.unwrap().id, job);
    assert_eq!(user.secret_list().await.unwrap().len(), 1);
    refused(user.secret_get("key").await, PermissionDenied, REASON);
    refused(user.job_cancel(&job).await, PermissionDenied, REASON);
    // A session from the job's page is no way around it.
    let (session, _) = session_of_job(&lab, "ada", "password of ada", &job).await;
    let of_job = Client::new(lab.admin.address()).unwrap().with_token(session.token);
    assert_eq!(of_job.job_get(&job).await.unwrap().id, job);
    refused(of_job.job_cancel(&job).await, PermissionDenied, REASON);
}

#[tokio::test]
async fn viewer_changes_its_password_and_ends_its_sessions() {
    let lab = Lab::start().await;
    let (viewer, _) = viewer_and_mate(&lab).await;
    let role = UserUpdateRequest { role: "admin".into(), ..UserUpdateRequest::default() };
    refused(viewer.user_update("vera", &role).await, PermissionDenied, "admin");
    let password = UserUpdateRequest {
        password: "another password".into(),
        current_password: "password of vera".into(),
        ..UserUpdateRequest::default()
    };
    refused(viewer.user_update("ada", &password).await, NotFound, "ada");
    let sessions = viewer.session_list().await.unwrap();
    viewer.user_update("vera", &password).await.unwrap();
    refused(viewer.session_get().await, Unauthenticated, "");
    assert_eq!(sessions.len(), 1);
    let again = Visit::begin(&lab.admin, "vera", "another password").await;
    assert_eq!(again.post("/logout", &[]).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn pages_say_why_nothing_is_offered() {
    let mut lab = Lab::start().await;
    let (_viewer, ada) = viewer_and_mate(&lab).await;
    let gateway = lab.create_gateway("edge").await;
    ada.job_submit(&submission()).await.unwrap();
    let visitor = Visit::begin(&lab.admin, "vera", "password of vera").await;
    let of_gateway = format!("/gateways/{gateway}");
    for path in
        ["/", "/jobs", "/templates", "/gateways", of_gateway.as_str(), "/security-groups", "/secrets", "/submit"]
    {
        let page = visitor.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        let told = "aria-disabled=\"true\" title=\"a user with the role `viewer` looks, and changes nothing";
        assert!(page.text.contains(told), "{path}: {}", page.text);
        assert!(!page.text.contains("<a href=\"/submit\""), "{path}: {}", page.text);
    }
    let refused = visitor.post("/secrets", &[("name", "key"), ("value", "x")]).await;
    assert!(refused.status.is_client_error() && refused.events.contains("viewer"), "{refused:?}");
    assert!(lab.admin.secret_list().await.unwrap().is_empty());
}

//! The pages of the administration: what they offer, and that they refuse what they do not offer.

use mooring_api::view::{HostStatus, UserAddRequest};
use mooring_types::Role;
use reqwest::StatusCode;

use crate::lab::Lab;
use crate::visit::Visit;

/// Signs an admin and a user in.
async fn visitors(lab: &Lab) -> (Visit, Visit) {
    let request = UserAddRequest {
        name: "ada".into(),
        password: "password of ada".into(),
        role: "admin".into(),
        ..UserAddRequest::default()
    };
    lab.admin.user_add(&request).await.unwrap();
    lab.user("bob").await;
    let ada = Visit::begin(&lab.admin, "ada", "password of ada").await;
    (ada, Visit::begin(&lab.admin, "bob", "password of bob").await)
}

#[tokio::test]
async fn pages_of_admins_are_refused_to_others() {
    let lab = Lab::start().await;
    let (ada, bob) = visitors(&lab).await;
    for path in [
        "/settings",
        "/audit",
        "/audit/export?format=csv",
        "/hosts/join",
        "/hosts/host-1/drain",
        "/hosts/host-1/rejoin",
        "/hosts/host-1/remove",
        "/users/new",
        "/users/ada/password",
        "/groups/new",
    ] {
        assert_eq!(ada.get(path).await.status, StatusCode::OK, "{path}");
        let answer = bob.get(path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {}", answer.text);
    }
    for (path, form) in [
        ("/hosts/host-1/drain", [("within", "")]),
        ("/hosts/host-1/undrain", [("", "")]),
        ("/hosts/host-1/rejoin", [("", "")]),
        ("/hosts/host-1/remove", [("", "")]),
        ("/hosts/join", [("ttl", "1h")]),
        ("/users/bob/update", [("role", "admin")]),
        ("/users/ada/delete", [("cancelJobs", "true")]),
        ("/groups", [("name", "law")]),
    ] {
        let answer = bob.post(path, &form).await;
        assert!(answer.status.is_client_error(), "{path}: {answer:?}");
        assert!(answer.text.contains("admin") || answer.events.contains("admin"), "{path}: {answer:?}");
    }
    for path in ["/hosts", "/hosts/host-1", "/users", "/account"] {
        assert_eq!(bob.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert!(lab.admin.user_get("bob").await.unwrap().role == Role::User);
    assert!(matches!(lab.host_view("host-1").await.status, HostStatus::Ready));
}

#[tokio::test]
async fn users_and_groups_are_changed_in_dialogues() {
    let lab = Lab::start().await;
    let (ada, bob) = visitors(&lab).await;
    let typed = [("name", "carol"), ("password", "long enough"), ("again", "different"), ("role", "user")];
    let wrong = ada.post("/users", &typed).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.text.contains("the two passwords differ") && wrong.text.contains("value=\"carol\""),
        "{}",
        wrong.text
    );
    let short = ada.post("/users", &[("name", "carol"), ("password", "short"), ("again", "short")]).await;
    assert!(short.text.contains("at least 8 characters"), "{}", short.text);
    let taken = ada.post("/users", &[("name", "bob"), ("password", "long enough"), ("again", "long enough")]).await;
    assert!(taken.text.contains("a user is named `bob` already"), "{}", taken.text);

    assert_eq!(ada.post("/groups", &[("name", "law"), ("users", "bob")]).await.status, StatusCode::NO_CONTENT);
    let added = [("name", "carol"), ("password", "long enough"), ("again", "long enough"), ("groups", "law")];
    assert_eq!(ada.post("/users", &added).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ada.post("/users/carol/update", &[("role", "admin")]).await.status, StatusCode::NO_CONTENT);
    let carol = lab.admin.user_get("carol").await.unwrap();
    assert_eq!((carol.role, carol.groups.len()), (Role::Admin, 0));
    let page = ada.get("/users").await.text;
    assert!(page.contains("carol") && page.contains("law") && page.contains("Open sessions"), "{page}");

    let password = [("password", "another one"), ("again", "another one")];
    assert_eq!(ada.post("/users/bob/password", &password).await.status, StatusCode::NO_CONTENT);
    assert_eq!(bob.get("/account").await.status, StatusCode::SEE_OTHER);
    assert_eq!(ada.post("/users/carol/delete", &[]).await.status, StatusCode::NO_CONTENT);
    assert!(lab.admin.user_get("carol").await.is_err());
}

#[tokio::test]
async fn own_password_takes_the_present_one_and_ends_the_sessions() {
    let lab = Lab::start().await;
    let (_, bob) = visitors(&lab).await;
    let form = |current| [("current", current), ("password", "a new password"), ("again", "a new password")];
    let wrong = bob.post("/account/password", &form("no")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.below("current").contains("the current password is missing or wrong"), "{}", wrong.text);
    let done = bob.post("/account/password", &form("password of bob")).await;
    assert!(done.events.contains("/login"), "{done:?}");
    assert_eq!(bob.get("/account").await.status, StatusCode::SEE_OTHER);
    Visit::begin(&lab.admin, "bob", "a new password").await;
}

#[tokio::test]
async fn host_is_drained_and_shown_live() {
    let mut lab = Lab::start().await;
    let (ada, _) = visitors(&lab).await;
    lab.job().await;
    let mut changes = ada.live("/hosts/host-1").await;
    changes.until("work").await;
    let wrong = ada.post("/hosts/host-1/drain", &[("within", "soon")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("value=\"soon\""), "{}", wrong.text);
    assert_eq!(ada.post("/hosts/host-1/drain", &[("within", "")]).await.status, StatusCode::NO_CONTENT);
    changes.until("draining").await;
    lab.settle().await;
    changes.until("no jobs left").await;
    assert_eq!(ada.post("/hosts/host-1/undrain", &[]).await.status, StatusCode::NO_CONTENT);
    changes.until("/hosts/host-1/drain\"").await;
}

#[tokio::test]
async fn session_is_ended_from_the_page() {
    let lab = Lab::start().await;
    let (_, bob) = visitors(&lab).await;
    let sessions = lab.admin.session_list().await.unwrap();
    let mine: Vec<_> = sessions.iter().filter(|session| session.user == "bob").collect();
    let page = bob.get("/account").await.text;
    assert_eq!((page.matches("this one").count(), page.matches("/end\"").count()), (1, 1), "{page}");
    let other = mine.iter().find(|session| page.contains(&format!("/sessions/{}/end", session.id))).unwrap();
    assert_eq!(bob.post(&format!("/sessions/{}/end", other.id), &[]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(lab.admin.session_list().await.unwrap().len(), sessions.len() - 1);
    let foreign = sessions.iter().find(|session| session.user == "ada").unwrap();
    assert_eq!(bob.post(&format!("/sessions/{}/end", foreign.id), &[]).await.status, StatusCode::NOT_FOUND);
}

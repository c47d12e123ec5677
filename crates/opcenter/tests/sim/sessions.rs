//! Sessions, settings and the pace of logins.

use mooring_api::ErrorCode::{InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unavailable};
use mooring_api::view::{AuditQuery, LinkRequest, LoginRequest};
use mooring_api::{Client, ClientError, Submission};

use reqwest::StatusCode;

use crate::job_sign_in::session_of_job;
use crate::lab::{Lab, refused, seconds};
use crate::visit::Visit;

fn anybody(lab: &Lab) -> Client {
    Client::new(lab.admin.address()).unwrap()
}

async fn login(lab: &Lab, name: &str, password: &str) -> Result<Client, ClientError> {
    let session = anybody(lab).login(&LoginRequest { username: name.into(), password: password.into() }).await?;
    Ok(anybody(lab).with_token(session.token))
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let lab = Lab::start().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    lab.clock.advance(seconds(1));
    let other = login(&lab, "alice", "password of alice").await.unwrap();
    let own = alice.session_list().await.unwrap();
    assert_eq!(
        own.iter().map(|session| (session.user.as_str(), session.present)).collect::<Vec<_>>(),
        [("alice", true), ("alice", false)]
    );
    assert!(own[0].address == "127.0.0.1" && own[0].client.starts_with("float/"), "{own:?}");
    assert_eq!(lab.admin.session_list().await.unwrap().len(), 4);

    refused(bob.session_end(&own[0].id).await, NotFound, own[0].id.as_str());
    alice.session_end(&own[1].id).await.unwrap();
    refused(other.session_get().await, Unauthenticated, "");
    let of_bob = bob.session_list().await.unwrap();
    lab.admin.session_end(&of_bob[0].id).await.unwrap();
    refused(bob.session_get().await, Unauthenticated, "");
    // A session that nobody uses is open no more.
    lab.clock.advance(seconds(3601));
    refused(alice.session_get().await, Unauthenticated, "");
}

#[tokio::test]
async fn links_take_a_whole_session_and_a_path() {
    let mut lab = Lab::start().await;
    let publish = vec!["8080".parse().unwrap()];
    let job = lab.job_on("host-1", Submission { publish, ..Submission::default() }).await;
    let (of_job, _) = session_of_job(&lab, "admin", &lab.admin_password(), &job).await;
    let of_job = anybody(&lab).with_token(of_job.token);
    refused(of_job.session_link(&LinkRequest::default()).await, PermissionDenied, "alone");
    refused(of_job.session_list().await, PermissionDenied, "alone");
    for page in ["https://evil.example", "//evil.example", "/\\evil.example", "jobs", "/a\nb"] {
        refused(lab.admin.session_link(&LinkRequest { page: page.into() }).await, InvalidArgument, "path");
    }
    let link = lab.admin.session_link(&LinkRequest { page: "/jobs?a=b".into() }).await.unwrap();
    assert!(
        link.path.starts_with("/login/link?code=") && link.path.ends_with("&next=%2Fjobs%3Fa%3Db"),
        "{}",
        link.path
    );
}

#[tokio::test]
async fn wrong_passwords_slow_their_address_down() {
    let lab = Lab::start().await;
    lab.user("alice").await;
    lab.user("bob").await;
    for _ in 0..5 {
        refused(login(&lab, "alice", "wrong").await, Unauthenticated, "wrong user name or password");
    }
    refused(login(&lab, "alice", "password of alice").await, Unavailable, "too many failed logins");
    login(&lab, "bob", "password of bob").await.unwrap();
    lab.clock.advance(seconds(1));
    login(&lab, "alice", "password of alice").await.unwrap();
    refused(login(&lab, "alice", "wrong").await, Unauthenticated, "");
}

#[tokio::test]
async fn settings_take_an_admin_and_hold_no_keys() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    refused(alice.settings_get().await, PermissionDenied, "admin");
    let view = lab.admin.settings_get().await.unwrap();
    let of = |name: &str| view.settings.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!((of("drainAtOnce").values.join(","), of("drainAtOnce").flag.as_str()), ("1".into(), "--drain-at-once"));
    assert!(of("capsuleStore").values[0].starts_with("dir:/"));
    let text = format!("{view:?}");
    let key = std::fs::read_to_string(lab.state_dir().join("secret-key")).unwrap();
    assert!(!text.contains(key.trim()) && !text.contains(&lab.join_token()));
}

#[tokio::test]
async fn link_signs_a_browser_in_once() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let link = async |page: &str| alice.session_link(&LinkRequest { page: page.into() }).await.unwrap().path;
    let mut browser = Visit::stranger(&lab.admin);
    let path = link("/secrets?a=b").await;
    let answer = browser.follow(&path).await;
    assert_eq!((answer.status, answer.location.as_str()), (StatusCode::SEE_OTHER, "/secrets?a=b"));
    assert_eq!(browser.get("/secrets").await.status, StatusCode::OK);
    let again = Visit::stranger(&lab.admin).get(&path).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    assert!(again.text.contains("the link has been used, or is too old"), "{}", again.text);

    // The browser's session ends when the one of the link's maker would.
    let sessions = alice.session_list().await.unwrap();
    assert_eq!((sessions.len(), sessions[0].expires_at), (2, sessions[1].expires_at));
    let late = link("").await;
    lab.clock.advance(seconds(61));
    assert_eq!(browser.follow(&late).await.status, StatusCode::UNAUTHORIZED);
    let orphaned = link("").await;
    alice.logout().await.unwrap();
    assert_eq!(browser.follow(&orphaned).await.status, StatusCode::UNAUTHORIZED);

    let query = AuditQuery { action: Some("session".into()), ..AuditQuery::default() };
    let text = format!("{:?}", lab.admin.audit_list(&query).await.unwrap());
    assert!(text.contains("session.loginByLink") && !text.contains("code="), "{text}");
}

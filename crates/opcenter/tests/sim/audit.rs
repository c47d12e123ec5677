//! The audit: complete, filtered, paged, exported, and without secrets.

use std::collections::BTreeSet;

use mooring_api::ErrorCode::{InvalidArgument, PermissionDenied};
use mooring_api::view::{AuditQuery, AuditView, GatewayCreateRequest, LoginRequest, SecretSetRequest, UserAddRequest};
use mooring_api::{Client, Submission, paths};
use mooring_types::audit::AuditOutcome;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::lab::{Lab, refused};
use crate::visit::Visit;

async fn entries(lab: &Lab, query: AuditQuery) -> Vec<AuditView> {
    lab.admin.audit_list(&query).await.unwrap().entries
}

fn of_action(action: &str) -> AuditQuery {
    AuditQuery { action: Some(action.into()), ..AuditQuery::default() }
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().user_agent("browser\t2").build().unwrap()
}

#[tokio::test]
async fn every_change_is_recorded() {
    let lab = Lab::start().await;
    let document = serde_json::to_value(mooring_opcenter::openapi()).unwrap();
    let http = browser();
    let mut changes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            if method.is_safe() {
                continue;
            }
            changes += 1;
            let before = entries(&lab, AuditQuery::default()).await[0].id;
            let url = format!("{}{}", lab.admin.address(), paths::fill(path, &["no-such-one"]));
            http.request(method.clone(), url).json(&json!({})).send().await.unwrap();
            let found = entries(&lab, AuditQuery { after: Some(before), ..AuditQuery::default() }).await;
            let [entry] = found.as_slice() else { panic!("{method} {path}: {found:?}") };
            assert!(entry.unproven && entry.user.is_empty() && entry.outcome == AuditOutcome::Refused, "{entry:?}");
            assert_eq!((entry.address.as_str(), entry.client.as_str()), ("127.0.0.1", r"browser\u{9}2"));
            if path.contains('{') {
                assert_eq!(entry.object, "no-such-one", "{method} {path}");
            }
            assert_ne!(entry.action, "other", "{method} {path}");
        }
    }
    assert!(changes > 30, "{changes}");
}

#[tokio::test]
async fn entry_tells_who_did_what_on_what() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let alice = lab.user("alice").await;
    let gateway = lab.create_gateway("lab").await;
    refused(alice.gateway_destroy(&"lab".parse().unwrap()).await, PermissionDenied, "admin");
    lab.cancel(&job).await;

    let cancelled = &entries(&lab, of_action("job.cancel")).await[0];
    assert_eq!(
        (cancelled.user.as_str(), cancelled.unproven, cancelled.outcome),
        ("admin", false, AuditOutcome::Succeeded)
    );
    assert_eq!((cancelled.object.as_str(), cancelled.object_name.as_str()), (job.as_str(), "work"));
    assert!(cancelled.client.starts_with("float/"), "{cancelled:?}");
    let submitted = &entries(&lab, of_action("job.submit")).await[0];
    assert_eq!(submitted.object, job.as_str());
    let destroyed = &entries(&lab, of_action("gateway.destroy")).await[0];
    assert_eq!((destroyed.user.as_str(), destroyed.outcome), ("alice", AuditOutcome::Refused));
    assert_eq!((destroyed.object.as_str(), destroyed.object_name.as_str()), (gateway.as_str(), "lab"));
    assert!(destroyed.reason.starts_with("Permission denied: "), "{destroyed:?}");
    let joined = entries(&lab, of_action("host.join")).await;
    let hosts: BTreeSet<_> = joined.iter().map(|entry| entry.user.as_str()).collect();
    assert!(hosts.contains("host host-1"), "{hosts:?}");
}

#[tokio::test]
async fn choices_and_pages_narrow_the_list() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    for name in ["one", "two", "three"] {
        let request = SecretSetRequest { value: "x".into() };
        alice.secret_set(name, &request).await.unwrap();
    }
    let of_alice = || AuditQuery { user: Some("alice".into()), action: Some("secret".into()), ..AuditQuery::default() };
    let names = |entries: Vec<AuditView>| entries.into_iter().map(|entry| entry.object).collect::<Vec<_>>();
    assert_eq!(names(entries(&lab, of_alice()).await), ["three", "two", "one"]);
    let object = AuditQuery { object: Some("two".into()), ..of_alice() };
    assert_eq!(names(entries(&lab, object).await), ["two"]);
    assert!(entries(&lab, AuditQuery { outcome: Some(AuditOutcome::Failed), ..of_alice() }).await.is_empty());
    let first = lab.admin.audit_list(&AuditQuery { limit: Some(2), ..of_alice() }).await.unwrap();
    assert_eq!(names(first.entries), ["three", "two"]);
    let last = lab.admin.audit_list(&AuditQuery { before: first.next, limit: Some(2), ..of_alice() }).await.unwrap();
    assert_eq!((names(last.entries), last.next), (vec!["one".to_owned()], None));

    refused(lab.admin.audit_list(&AuditQuery { limit: Some(1001), ..of_alice() }).await, InvalidArgument, "1000");
    refused(alice.audit_list(&AuditQuery::default()).await, PermissionDenied, "admin");
    refused(alice.audit_export(&AuditQuery::default(), "csv").await, PermissionDenied, "admin");
    assert_eq!(entries(&lab, of_action("audit.export")).await[0].outcome, AuditOutcome::Refused);
}

async fn exported(lab: &Lab, format: &str) -> String {
    let mut export = lab.admin.audit_export(&AuditQuery::default(), format).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = export.piece().await.unwrap() {
        text.extend(piece);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn secrets_are_nowhere() {
    let lab = Lab::start().await;
    let http = browser();
    let url = |path: &str| format!("{}{path}", lab.admin.address());
    let anybody = Client::new(lab.admin.address()).unwrap();
    lab.user("alice").await;
    let login = async |username: &str, password: &str| {
        let request = LoginRequest { username: username.into(), password: password.into() };
        anybody.login(&request).await.unwrap_err();
    };
    login("alice", "hidden-1").await;
    // A password in the field of the name.
    login("hidden-2", "").await;
    let request = UserAddRequest { name: "bob".into(), password: "hidden-3-long".into(), ..UserAddRequest::default() };
    lab.admin.user_add(&request).await.unwrap();
    lab.admin.secret_set("key", &SecretSetRequest { value: "hidden-4".into() }).await.unwrap();
    lab.admin.secret_get("key").await.unwrap();
    // Values of the wrong type, which errors quote.
    for body in [
        json!({"username": "alice", "password": ["hidden-5"]}),
        json!({"username": {"hidden-6": 1}}),
        json!("hidden-7"),
    ] {
        http.post(url(paths::LOGIN)).json(&body).send().await.unwrap();
    }
    http.post(url(&format!("{}?token=hidden-8", paths::JOBS))).bearer_auth("hidden-9").send().await.unwrap();
    http.get(url(paths::LOGIN)).basic_auth("alice", Some("hidden-10")).send().await.unwrap();

    let all = exported(&lab, "jsonl").await;
    assert!(!all.contains("hidden"), "{all}");
    let logins = entries(&lab, AuditQuery { outcome: Some(AuditOutcome::Refused), ..of_action("session.login") }).await;
    let users: Vec<_> = logins.iter().map(|entry| (entry.user.as_str(), entry.unproven)).collect();
    assert_eq!(users, [("alice", true), ("", true), ("", true), ("", true), ("", true), ("alice", true)]);
    assert!(logins[0].reason.contains("wrong user name or password"), "{:?}", logins[0]);
}

#[tokio::test]
async fn texts_of_users_make_no_lines() {
    let lab = Lab::start().await;
    let http = browser();
    let url = format!("{}/api/v1/jobs/a%0A1%2C2026-01-01T00%3A00%3A00Z%2Cadmin%0Db", lab.admin.address());
    http.delete(url).send().await.unwrap();
    let entry = &entries(&lab, of_action("job.cancel")).await[0];
    assert_eq!(entry.object, r"a\u{a}1,2026-01-01T00:00:00Z,admin\u{d}b");
    for (format, others) in [("csv", 1), ("jsonl", 0)] {
        let number = entries(&lab, AuditQuery { limit: Some(1000), ..AuditQuery::default() }).await.len();
        assert_eq!(exported(&lab, format).await.lines().count(), number + others, "{format}");
    }
    for line in exported(&lab, "jsonl").await.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[tokio::test]
async fn change_whose_client_hangs_up_is_recorded() {
    let lab = Lab::start().await;
    let token = {
        let anybody = Client::new(lab.admin.address()).unwrap();
        lab.user("alice").await;
        let request = LoginRequest { username: "alice".into(), password: "password of alice".into() };
        anybody.login(&request).await.unwrap().token
    };
    let address = lab.admin.address().trim_start_matches("http://").to_owned();
    let body = r#"{"value":"x"}"#;
    for number in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "PUT /api/v1/secrets/s{number} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        drop(stream);
    }
    // Every change is recorded: each secret has an entry that says so.
    let alice = Client::new(lab.admin.address()).unwrap().with_token(token);
    let of_secrets = AuditQuery { limit: Some(1000), ..of_action("secret.set") };
    let mut settled = None;
    loop {
        let secrets: BTreeSet<String> =
            alice.secret_list().await.unwrap().into_iter().map(|secret| secret.name).collect();
        let recorded: BTreeSet<String> =
            entries(&lab, of_secrets.clone()).await.into_iter().map(|entry| entry.object).collect();
        let state = (secrets, recorded);
        if !state.0.is_empty() && settled.as_ref() == Some(&state) && state.0.is_subset(&state.1) {
            break;
        }
        settled = Some(state);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn refused_submission_is_recorded_with_its_user() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let request = Submission { image: Some("dir:/".parse().unwrap()), ..Submission::default() };
    refused(alice.job_submit(&request).await, PermissionDenied, "dir:/");
    let request = GatewayCreateRequest { name: "two\nlines".into(), ..GatewayCreateRequest::default() };
    refused(alice.gateway_create(&request).await, InvalidArgument, "");
    let query =
        AuditQuery { user: Some("alice".into()), outcome: Some(AuditOutcome::Refused), ..AuditQuery::default() };
    let found: Vec<_> = entries(&lab, query).await.into_iter().map(|entry| (entry.action, entry.reason)).collect();
    assert_eq!(found[0], ("gateway.create".into(), "Invalid argument".into()));
    assert_eq!(found[1].0, "job.submit");
}

#[tokio::test]
async fn changes_through_pages_are_recorded() {
    let lab = Lab::start().await;
    lab.user("alice").await;
    let alice = Visit::begin(&lab.admin, "alice", "password of alice").await;
    alice.post("/secrets", &[("name", "token"), ("value", "hidden")]).await;
    alice.post("/secrets", &[("name", "no blanks"), ("value", "hidden")]).await;
    let stranger = Visit::stranger(&lab.admin);
    stranger.post("/secrets", &[("name", "token"), ("value", "hidden")]).await;
    stranger.post("/login", &[("username", "alice"), ("password", "hidden")]).await;
    let found: Vec<_> = entries(&lab, AuditQuery { limit: Some(4), ..AuditQuery::default() }).await;
    let told: Vec<_> = found.iter().map(|entry| (entry.action.as_str(), entry.user.as_str(), entry.outcome)).collect();
    assert_eq!(
        told,
        [
            ("session.login", "alice", AuditOutcome::Refused),
            ("secret.set", "", AuditOutcome::Refused),
            ("secret.set", "alice", AuditOutcome::Refused),
            ("secret.set", "alice", AuditOutcome::Succeeded),
        ]
    );
    assert_eq!(found[3].object, "token");
    assert!(!format!("{found:?}").contains("hidden"), "{found:?}");
}

#[tokio::test]
async fn several_jobs_at_once_are_several_entries() {
    let mut lab = Lab::start().await;
    let (running, ended) = (lab.job().await, lab.job().await);
    lab.cancel(&ended).await;
    let alice = UserAddRequest {
        name: "alice".into(),
        password: "password of alice".into(),
        role: "admin".into(),
        ..UserAddRequest::default()
    };
    lab.admin.user_add(&alice).await.unwrap();
    let alice = Visit::begin(&lab.admin, "alice", "password of alice").await;
    let form = [("action", "cancel"), ("job", running.as_str()), ("job", ended.as_str())];
    let answer = alice.post("/jobs/several", &form).await;
    let query = AuditQuery { user: Some("alice".into()), ..of_action("job.cancel") };
    let mut told: Vec<_> = entries(&lab, query)
        .await
        .into_iter()
        .map(|entry| (entry.object, entry.outcome == AuditOutcome::Succeeded))
        .collect();
    told.sort();
    let mut expected = vec![(running.to_string(), true), (ended.to_string(), false)];
    expected.sort();
    assert_eq!(told, expected, "{answer:?}");
}

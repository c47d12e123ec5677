//! API tokens: their scopes, their end, and what they never permit.

use mooring_api::ErrorCode::{AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unauthenticated};
use mooring_api::view::{
    ApiTokenAnswer, ApiTokenRequest, AuditQuery, GatewayCreateRequest, JoinTokenRequest, LinkRequest, SecretSetRequest,
    UserUpdateRequest,
};
use mooring_api::{Client, Submission};
use mooring_types::Reference;
use reqwest::StatusCode;

use crate::lab::{Lab, refused, seconds};
use crate::visit::Visit;

const DAY: u64 = 24 * 3600;

fn request(name: &str, scope: &str) -> ApiTokenRequest {
    ApiTokenRequest { name: name.into(), scope: scope.into(), ..ApiTokenRequest::default() }
}

/// Makes a token, and returns a client with it.
async fn token(user: &Client, name: &str, scope: &str) -> (Client, ApiTokenAnswer) {
    let made = user.api_token_create(&request(name, scope)).await.unwrap();
    (Client::new(user.address()).unwrap().with_token(made.token.clone()), made)
}

fn submission() -> Submission {
    Submission { image: Some("docker.io/library/alpine:3".parse().unwrap()), ..Submission::default() }
}

fn by_name(name: &str) -> Reference<mooring_types::ApiTokenId> {
    name.parse().unwrap()
}

#[tokio::test]
async fn scope_limits_a_token() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let job = alice.job_submit(&submission()).await.unwrap().id;
    alice.secret_set("key", &SecretSetRequest { value: "sesame".into() }).await.unwrap();

    let (read, made) = token(&alice, "dashboard", "").await;
    assert!(made.token.starts_with("mrg_") && made.token.len() == 4 + 64, "{made:?}");
    assert!(!format!("{made:?}").contains(&made.token));
    assert_eq!(read.session_get().await.unwrap().username, "alice");
    assert_eq!(read.job_get(&job).await.unwrap().id, job);
    refused(read.job_cancel(&job).await, PermissionDenied, "scope `read`");
    refused(read.secret_get("key").await, PermissionDenied, "scope `read`");

    let (jobs, _) = token(&alice, "nightly", "jobs").await;
    let other = jobs.job_submit(&submission()).await.unwrap().id;
    jobs.job_cancel(&other).await.unwrap();
    refused(jobs.secret_get("key").await, PermissionDenied, "scope `jobs`");
    let gateway = GatewayCreateRequest { name: "edge".into(), ..GatewayCreateRequest::default() };
    refused(jobs.gateway_create(&gateway).await, PermissionDenied, "scope `jobs`");

    let (all, _) = token(&alice, "robot", "all").await;
    assert_eq!(all.secret_get("key").await.unwrap().value, "sesame");
    all.gateway_create(&gateway).await.unwrap();

    // The audit tells by which token something was done.
    let query = AuditQuery { action: Some("job.submit".into()), ..AuditQuery::default() };
    let entry = &lab.admin.audit_list(&query).await.unwrap().entries[0];
    assert_eq!((entry.user.as_str(), entry.detail.as_str()), ("alice", "by API token nightly"));
    let text = format!("{:?}", lab.admin.audit_list(&AuditQuery::default()).await.unwrap());
    assert!(text.contains("token.create") && !text.contains("mrg_"), "{text}");
}

#[tokio::test]
async fn no_token_manages_accounts_or_credentials() {
    let lab = Lab::start().await;
    let (all, made) = token(&lab.admin, "robot", "all").await;
    let takes_session = "take a session";
    refused(all.api_token_create(&request("more", "read")).await, PermissionDenied, takes_session);
    refused(all.api_token_delete(&by_name("robot")).await, PermissionDenied, takes_session);
    refused(all.session_link(&LinkRequest::default()).await, PermissionDenied, takes_session);
    refused(all.logout().await, PermissionDenied, takes_session);
    let own = lab.admin.session_list().await.unwrap()[0].id.clone();
    refused(all.session_end(&own).await, PermissionDenied, takes_session);
    let role = UserUpdateRequest { role: "user".into(), ..UserUpdateRequest::default() };
    refused(all.user_update("admin", &role).await, PermissionDenied, takes_session);
    refused(all.user_delete("admin").await, PermissionDenied, takes_session);
    let join = JoinTokenRequest { opcenter: "http://a:1".into(), ..JoinTokenRequest::default() };
    refused(all.join_token_create(&join).await, PermissionDenied, takes_session);
    // What only looks is permitted, to an admin's token as well.
    assert_eq!(all.api_token_list().await.unwrap().len(), 1);
    assert!(!all.user_list().await.unwrap().is_empty());
    // It is no cookie.
    let mut browser = Visit::stranger(&lab.admin);
    browser.cookie = format!("mooring-session={}", made.token);
    assert_eq!(browser.get("/jobs").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn token_never_exceeds_the_role_of_its_user() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let (all, _) = token(&alice, "robot", "all").await;
    refused(all.settings_get().await, PermissionDenied, "admin");
    let role = |role: &str| UserUpdateRequest { role: role.into(), ..UserUpdateRequest::default() };
    lab.admin.user_update("alice", &role("admin")).await.unwrap();
    all.settings_get().await.unwrap();
    lab.admin.user_update("alice", &role("viewer")).await.unwrap();
    refused(all.job_submit(&submission()).await, PermissionDenied, "role `viewer`");
    assert!(all.job_list().await.unwrap().is_empty());
    // A viewer has tokens of its own: a dashboard's, for example.
    let (read, _) = token(&alice, "dashboard", "read").await;
    read.gateway_list().await.unwrap();
}

#[tokio::test]
async fn token_ends_with_its_time_its_deletion_and_its_user() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let short = ApiTokenRequest { ttl: "1h".into(), ..request("short", "read") };
    let made = alice.api_token_create(&short).await.unwrap();
    let expires = Client::new(alice.address()).unwrap().with_token(made.token);
    let (deleted, _) = token(&alice, "deleted", "read").await;
    let (kept, of_kept) = token(&alice, "kept", "read").await;
    for client in [&expires, &deleted, &kept] {
        client.session_get().await.unwrap();
    }
    assert!(alice.api_token_list().await.unwrap()[2].last_used.is_some());
    alice.api_token_delete(&by_name("deleted")).await.unwrap();
    refused(deleted.session_get().await, Unauthenticated, "");
    refused(alice.api_token_delete(&by_name("deleted")).await, NotFound, "no API token `deleted`");

    lab.clock.advance(seconds(3600));
    refused(expires.session_get().await, Unauthenticated, "the API token `short` was good until");
    lab.clock.advance(seconds(10 * DAY));
    kept.session_get().await.unwrap();
    assert_eq!(kept.api_token_list().await.unwrap().len(), 1);

    // The own password leaves tokens alone; one that an admin sets ends them.
    let password = |current: &str, new: &str| UserUpdateRequest {
        password: new.into(),
        current_password: current.into(),
        ..UserUpdateRequest::default()
    };
    let alice = lab.login("alice", "password of alice").await;
    alice.user_update("alice", &password("password of alice", "second password")).await.unwrap();
    kept.session_get().await.unwrap();
    lab.admin_again().await.user_update("alice", &password("", "third password")).await.unwrap();
    refused(kept.session_get().await, Unauthenticated, "");

    // An admin deletes a token of another by id alone; a deleted user has none.
    let alice = lab.login("alice", "third password").await;
    let (first, made) = token(&alice, "kept", "read").await;
    let admin = lab.admin_again().await;
    refused(admin.api_token_delete(&by_name("kept")).await, NotFound, "kept");
    refused(admin.api_token_delete(&of_kept.api_token.id.clone().into()).await, NotFound, "");
    admin.api_token_delete(&made.api_token.id.clone().into()).await.unwrap();
    refused(first.session_get().await, Unauthenticated, "");
    let (second, _) = token(&alice, "kept", "read").await;
    admin.user_delete("alice").await.unwrap();
    refused(second.session_get().await, Unauthenticated, "");
    assert!(admin.api_token_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn request_for_a_token_is_checked() {
    let lab = Lab::start().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    refused(alice.api_token_create(&request("", "read")).await, InvalidArgument, "name");
    refused(
        alice.api_token_create(&request("x", "write")).await,
        InvalidArgument,
        "a scope is `read`, `jobs` or `all`",
    );
    for ttl in ["0s", "366d", "soon"] {
        let request = ApiTokenRequest { ttl: ttl.into(), ..request("x", "read") };
        refused(alice.api_token_create(&request).await, InvalidArgument, "");
    }
    let longest = ApiTokenRequest { ttl: "365d".into(), ..request("x", "read") };
    let made = alice.api_token_create(&longest).await.unwrap().api_token;
    assert_eq!(made.expires_at, made.create_time + seconds(365 * DAY));
    refused(alice.api_token_create(&request("x", "all")).await, AlreadyExists, "named `x` already");
    // Names are each user's own.
    bob.api_token_create(&request("x", "read")).await.unwrap();
    assert_eq!((alice.api_token_list().await.unwrap().len(), lab.admin.api_token_list().await.unwrap().len()), (1, 2));
    refused(bob.api_token_delete(&made.id.into()).await, NotFound, "");
}

#[tokio::test]
async fn tokens_are_made_and_deleted_on_the_page_of_the_account() {
    let lab = Lab::start().await;
    lab.user("ada").await;
    let ada = Visit::begin(&lab.admin, "ada", "password of ada").await;
    let wrong = ada.post("/tokens", &[("name", "nightly"), ("scope", "jobs"), ("ttl", "9999d")]).await;
    assert!(wrong.below("ttl").contains("at most 365 days"), "{wrong:?}");
    let made = ada.post("/tokens", &[("name", "nightly"), ("scope", "jobs"), ("ttl", "30d")]).await;
    assert_eq!(made.status, StatusCode::OK);
    let (_, rest) = made.text.split_once("<code>mrg_").unwrap();
    let token = format!("mrg_{}", rest.split('<').next().unwrap());
    let client = Client::new(lab.admin.address()).unwrap().with_token(token.clone());
    client.job_submit(&submission()).await.unwrap();
    let page = ada.get("/account").await.text;
    assert!(page.contains("nightly") && !page.contains(&token), "{page}");
    let id = &client.api_token_list().await.unwrap()[0].id;
    assert_eq!(ada.post(&format!("/tokens/{id}/delete"), &[]).await.status, StatusCode::NO_CONTENT);
    refused(client.session_get().await, Unauthenticated, "");
}

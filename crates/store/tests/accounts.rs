//! Users, groups, secrets and templates in the real database.

use mooring_store::{
    ApiTokenRow, GroupRow, IdentityRow, MembershipBy, MembershipRow, SessionRow, Store, TemplateRow, Tx, UserRow,
};
use mooring_types::api_token::TokenScope;
use mooring_types::quota::Quota;
use mooring_types::{ApiTokenId, JobId, Name, Role, SessionId, Timestamp, UserId};
use serde_json::json;

fn now() -> Timestamp {
    "2026-01-02T03:04:05.678Z".parse().expect("a time")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn user(name: &str) -> UserRow {
    UserRow {
        id: UserId::random(&mut rand::rng()),
        name: name.into(),
        role: Role::User,
        password_hash: "hash".into(),
        create_time: now(),
        quota: Quota { jobs: Some(3), mem_gb: Some(0.5), ..Quota::default() },
    }
}

fn template(owner: Option<&UserRow>, tag: &str) -> TemplateRow {
    TemplateRow {
        owner: owner.map(|user| user.id.clone()),
        name: name("web"),
        tag: name(tag),
        description: String::new(),
        job: json!({"image": "dir:/"}),
        access_path: "/".into(),
        user_name: "alice".into(),
        create_time: now(),
    }
}

fn session(user: &UserRow) -> SessionRow {
    SessionRow {
        id: SessionId::random(&mut rand::rng()),
        user: user.clone(),
        token_hash: user.name.clone(),
        create_time: now(),
        last_used: now(),
        job: None,
        parent: None,
        address: "192.0.2.1".into(),
        client: "float".into(),
    }
}

fn api_token(user: &UserRow) -> ApiTokenRow {
    ApiTokenRow {
        id: ApiTokenId::random(&mut rand::rng()),
        token_hash: format!("token of {}", user.name),
        user: user.clone(),
        name: name("nightly"),
        scope: TokenScope::Jobs,
        create_time: now(),
        expires_at: now(),
        last_used: None,
    }
}

async fn world(directory: &std::path::Path) -> (Tx, UserRow, UserRow) {
    let mut tx =
        Store::open(&directory.join("opcenter.db")).await.expect("the store opens").begin().await.expect("a tx");
    let (alice, bob) = (user("alice"), user("bob"));
    tx.user_insert(&alice).await.expect("alice");
    tx.user_insert(&bob).await.expect("bob");
    (tx, alice, bob)
}

#[tokio::test]
async fn deleting_a_user_removes_its_own_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (mut tx, alice, bob) = world(directory.path()).await;
    let lab = GroupRow { name: name("lab"), description: String::new(), create_time: now(), quota: Quota::default() };
    tx.group_insert(&lab).await.unwrap();
    for user in [&alice, &bob] {
        tx.membership_insert(&lab.name, &user.id, MembershipBy::Provider).await.unwrap();
        tx.secret_put(&user.id, &name("key"), b"sealed", now()).await.unwrap();
        tx.template_insert(&template(Some(user), "1")).await.unwrap();
        tx.session_insert(&session(user)).await.unwrap();
        tx.api_token_insert(&api_token(user)).await.unwrap();
    }
    assert!(tx.api_token_insert(&api_token(&bob)).await.unwrap_err().is_taken());
    tx.template_insert(&template(None, "1")).await.unwrap();
    assert_eq!(tx.membership_mates(&alice.id).await.unwrap().len(), 2);

    tx.user_delete(&alice.id).await.unwrap();
    assert_eq!(tx.user_list().await.unwrap(), std::slice::from_ref(&bob));
    assert!(tx.session_get("alice").await.unwrap().is_none());
    assert!(tx.session_get("bob").await.unwrap().is_some());
    assert!(tx.api_token_get("token of alice").await.unwrap().is_none());
    assert_eq!(tx.api_token_get("token of bob").await.unwrap().unwrap().user, bob);
    assert_eq!(tx.api_token_list().await.unwrap().len(), 1);
    let left = MembershipRow {
        group: lab.name.clone(),
        user: bob.id.clone(),
        user_name: "bob".into(),
        by: MembershipBy::Provider,
    };
    assert_eq!(tx.membership_list().await.unwrap(), [left]);
    assert_eq!(tx.secret_list().await.unwrap().len(), 1);
    assert_eq!(tx.template_list(&alice.id).await.unwrap(), [template(None, "1")]);
    assert_eq!(tx.template_list(&bob.id).await.unwrap().len(), 2);

    tx.group_delete(&lab.name).await.unwrap();
    assert_eq!(tx.membership_list().await.unwrap(), []);
    assert!(tx.membership_mates(&bob.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn session_ends_with_those_that_it_has_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut tx, alice, bob) = world(directory.path()).await;
    let (own, others) = (session(&alice), session(&bob));
    let child = |token_hash: &str, parent: &SessionRow| SessionRow {
        id: SessionId::random(&mut rand::rng()),
        token_hash: token_hash.into(),
        job: Some(JobId::random(&mut rand::rng())),
        parent: Some(parent.id.clone()),
        ..parent.clone()
    };
    let (first, second, of_other) = (child("first", &own), child("second", &own), child("third", &others));
    for row in [&own, &others, &first, &second, &of_other] {
        tx.session_insert(row).await.unwrap();
    }
    assert_eq!(tx.session_get("first").await.unwrap().as_ref(), Some(&first));
    tx.session_end(&second.id).await.unwrap();
    assert!(tx.session_get("second").await.unwrap().is_none() && tx.session_get("alice").await.unwrap().is_some());
    tx.session_end(&own.id).await.unwrap();
    assert!(tx.session_get("alice").await.unwrap().is_none() && tx.session_get("first").await.unwrap().is_none());
    // One that was not used for too long leaves those that it has allowed.
    tx.session_delete(&others.token_hash).await.unwrap();
    assert_eq!(tx.session_get("third").await.unwrap(), Some(of_other));
}

#[tokio::test]
async fn secret_is_unique_per_user_and_name() {
    let directory = tempfile::tempdir().unwrap();
    let (mut tx, alice, bob) = world(directory.path()).await;
    for (user, sealed) in [(&alice, b"one"), (&bob, b"two"), (&alice, b"new")] {
        tx.secret_put(&user.id, &name("key"), sealed, now()).await.unwrap();
    }
    let all = tx.secret_list().await.unwrap();
    assert_eq!(all.len(), 2);
    let own = tx.secret_list_of_user(&alice.id).await.unwrap();
    assert_eq!((own[0].sealed.as_slice(), own[0].user_name.as_str(), own.len()), (b"new".as_slice(), "alice", 1));
    assert!(tx.secret_delete(&alice.id, &name("key")).await.unwrap());
    assert!(!tx.secret_delete(&alice.id, &name("key")).await.unwrap());
    assert_eq!(tx.secret_list_of_user(&bob.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn template_is_unique_per_owner_name_and_tag() {
    let directory = tempfile::tempdir().unwrap();
    let (mut tx, alice, bob) = world(directory.path()).await;
    for made in [template(None, "1"), template(None, "0"), template(Some(&alice), "1"), template(Some(&bob), "1")] {
        tx.template_insert(&made).await.unwrap();
    }
    for taken in [template(None, "1"), template(Some(&alice), "1")] {
        assert!(tx.template_insert(&taken).await.unwrap_err().is_taken());
    }
    // The newest is last; its tag does not matter.
    let all = [template(None, "1"), template(None, "0"), template(Some(&alice), "1")];
    assert_eq!(tx.template_list(&alice.id).await.unwrap(), all);
    tx.template_delete(&template(None, "1")).await.unwrap();
    assert_eq!(tx.template_list(&alice.id).await.unwrap(), all[1..]);
}

#[tokio::test]
async fn user_update_changes_password_and_role() {
    let directory = tempfile::tempdir().unwrap();
    let (mut tx, alice, bob) = world(directory.path()).await;
    let changed = UserRow { role: Role::Admin, password_hash: "other".into(), ..alice };
    tx.user_update(&changed).await.unwrap();
    assert_eq!(tx.user_get("alice").await.unwrap(), Some(changed));
    assert_eq!(tx.user_get("bob").await.unwrap(), Some(bob));
}

#[tokio::test]
async fn identity_is_of_one_user_and_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut tx, alice, bob) = world(directory.path()).await;
    let identity = |user: &UserRow, subject: &str| IdentityRow {
        issuer: "https://login.example.org".into(),
        subject: subject.into(),
        user: user.id.clone(),
        makes_admin: false,
    };
    let of_alice = IdentityRow { makes_admin: true, ..identity(&alice, "1") };
    tx.identity_insert(&of_alice).await.unwrap();
    // Neither has a user two identities, nor an identity two users.
    assert!(tx.identity_insert(&identity(&bob, "1")).await.unwrap_err().is_taken());
    assert!(tx.identity_insert(&identity(&alice, "2")).await.unwrap_err().is_taken());
    assert_eq!(tx.identity_user(&of_alice.issuer, "1").await.unwrap(), Some(alice.clone()));
    assert_eq!(tx.identity_user("https://login.example.com", "1").await.unwrap(), None);
    assert_eq!(tx.identity_list().await.unwrap(), [of_alice]);
    tx.identity_update(&identity(&alice, "1")).await.unwrap();
    assert_eq!(tx.identity_list().await.unwrap(), [identity(&alice, "1")]);
    tx.user_delete(&alice.id).await.unwrap();
    assert_eq!(tx.identity_list().await.unwrap(), []);
    tx.identity_insert(&identity(&bob, "1")).await.unwrap();
}

//! Sign-in at a real OpenID provider: users, names, roles, groups, and what becomes of them.

use std::collections::HashMap;

use mooring_api::ErrorCode::{NotFound, PermissionDenied, Unauthenticated, WrongStatus};
use mooring_api::view::{AuditQuery, GroupAddRequest, UserUpdateRequest, UserView};
use mooring_api::{Client, Submission};
use mooring_opcenter::OidcConfig;
use mooring_testkit::oidc::{CLIENT_ID, Claims, Provider};
use mooring_types::Role;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use crate::lab::{Lab, Plan, refused, seconds};
use crate::provider::{self, begin, parameter};
use crate::visit::{Answer, Visit};

/// An OpCenter whose users sign in at a real provider.
struct Harbour {
    provider: Provider,
    lab: Lab,
}

impl Harbour {
    async fn start(claims: Claims) -> Self {
        Self::with(claims, |_| {}).await
    }

    async fn with(claims: Claims, change: impl FnOnce(&mut OidcConfig)) -> Self {
        let mut provider = Provider::start(claims).await.unwrap();
        let mut oidc = provider::config(provider.issuer(), &provider.secret_file());
        oidc.client_id = CLIENT_ID.into();
        change(&mut oidc);
        // The provider's tokens have the time of this machine.
        let plan = Plan { oidc: Some(oidc), begin: provider::now(), ..Plan::default() };
        let lab = Lab::with(Vec::new(), plan).await;
        provider.redirect_to(&format!("{}/login/oidc/callback", lab.admin.address())).await.unwrap();
        Self { provider, lab }
    }

    /// Signs a person in, in a browser of its own.
    async fn sign_in(&self, login: &str) -> (Visit, Answer) {
        self.sign_in_at("/login/oidc", login).await
    }

    async fn sign_in_at(&self, path: &str, login: &str) -> (Visit, Answer) {
        let mut browser = Visit::stranger(&self.lab.admin);
        let begun = begin(&mut browser, path).await;
        let callback = Person::new().signs_in(&begun.location, login).await;
        let answer = browser.follow(&callback).await;
        (browser, answer)
    }

    /// Signs a person in and returns the user that it is.
    async fn user(&self, login: &str) -> (Visit, UserView) {
        let before = self.users().await;
        let (mut browser, answer) = self.sign_in(login).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        browser.read_csrf().await;
        let page = browser.get("/account").await.text;
        let named = |user: &&UserView| page.contains(&format!("Signed in as <strong>{}</strong>", user.name));
        let users = self.users().await;
        assert!(users.len() >= before.len());
        let user = users.iter().find(named).unwrap_or_else(|| panic!("{page}")).clone();
        (browser, user)
    }

    async fn users(&self) -> Vec<UserView> {
        self.lab.admin.user_list().await.unwrap()
    }
}

/// A person at the provider, with the cookies that it sets.
struct Person {
    http: reqwest::Client,
    cookies: HashMap<String, String>,
}

impl Person {
    fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, cookies: HashMap::new() }
    }

    /// Signs in at the address that OpCenter has sent the browser to. Returns path and query of the
    /// callback.
    async fn signs_in(&mut self, location: &str, login: &str) -> String {
        self.act(location, &[("login", login), ("act", "in")]).await
    }

    async fn act(&mut self, location: &str, form: &[(&str, &str)]) -> String {
        let (mut url, mut form) = (Url::parse(location).unwrap(), Some(form));
        let port = url.port();
        loop {
            let page = self.send(self.http.get(url.clone())).await;
            let next = match (page.status().is_redirection(), form.take()) {
                (true, kept) => {
                    form = kept;
                    page
                }
                (false, Some(form)) => self.send(self.http.post(url.clone()).form(form)).await,
                (false, None) => panic!("{url}: {}", page.text().await.unwrap()),
            };
            let to = next.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned());
            let Some(to) = to else { panic!("{url}: {}", next.text().await.unwrap()) };
            url = url.join(&to).unwrap();
            if url.port() != port {
                return format!("{}?{}", url.path(), url.query().unwrap_or_default());
            }
        }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let jar: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = request.header(COOKIE, jar.join("; ")).send().await.unwrap();
        for set in response.headers().get_all(SET_COOKIE) {
            let (name, value) = set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        response
    }
}

fn claims(name: &str, groups: &[&str]) -> Value {
    json!({ "preferred_username": name, "groups": groups })
}

fn group(name: &str) -> GroupAddRequest {
    GroupAddRequest { name: name.into(), ..GroupAddRequest::default() }
}

/// A client with the session of a browser.
fn client(harbour: &Harbour, browser: &Visit) -> Client {
    let token = browser.cookie.split("; ").find_map(|pair| pair.strip_prefix("mooring-session=")).unwrap();
    Client::new(harbour.lab.admin.address()).unwrap().with_token(token)
}

#[tokio::test]
async fn person_signs_in_and_comes_back_to_the_page() {
    for told in [Claims::InToken, Claims::AtUserinfo] {
        let mut harbour = Harbour::start(told).await;
        harbour.provider.person("7f3a", claims("ada", &[])).await.unwrap();
        let login = Visit::stranger(&harbour.lab.admin).get("/login?next=%2Fjobs%3Ftag%3Da").await.text;
        assert!(login.contains("href=\"/login/oidc?next=%2Fjobs%3Ftag%3Da\"") && login.contains("Harbour"), "{login}");
        let (browser, answer) = harbour.sign_in_at("/login/oidc?next=%2Fjobs%3Ftag%3Da", "7f3a").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert!(answer.text.contains("0;url=/jobs?tag=a"), "{}", answer.text);
        let ada = client(&harbour, &browser);
        let session = ada.session_get().await.unwrap();
        assert_eq!((session.username.as_str(), session.role.as_str()), ("ada", "user"), "{told:?}");
        let user = ada.user_get("ada").await.unwrap();
        assert_eq!((user.sign_in.as_str(), user.has_password()), (harbour.provider.issuer(), false));
        let open = ada.session_list().await.unwrap();
        assert_eq!((open.len(), open[0].address.as_str()), (1, "127.0.0.1"));
        // The same person, by the same subject, under another name.
        harbour.provider.person("7f3a", claims("lovelace", &[])).await.unwrap();
        let (_, again) = harbour.user("7f3a").await;
        assert_eq!((again.id, again.name), (user.id, "ada".into()));
        assert_eq!(harbour.users().await.len(), 2);

        let query = AuditQuery { action: Some("session.loginByProvider".into()), ..AuditQuery::default() };
        let entries = harbour.lab.admin.audit_list(&query).await.unwrap().entries;
        assert_eq!((entries.len(), entries[1].user.as_str()), (2, "ada"), "{entries:?}");
        assert!(entries[1].detail.contains("adds user ada") && !entries[0].detail.contains("adds"), "{entries:?}");
    }
}

#[tokio::test]
async fn page_to_come_back_to_is_opcenters_own() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    for next in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example"]
    {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
        let (_, answer) = harbour.sign_in_at(&format!("/login/oidc?{query}"), "1").await;
        assert!(
            answer.text.contains("content=\"0;url=/\"") && !answer.text.contains("evil"),
            "{next}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn code_is_good_once_and_for_its_browser() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    let mut browser = Visit::stranger(&harbour.lab.admin);
    let begun = begin(&mut browser, "/login/oidc").await;
    let callback = Person::new().signs_in(&begun.location, "1").await;
    let under_way = browser.cookie.clone();
    assert_eq!(browser.follow(&callback).await.status, StatusCode::OK);
    // The cookie is gone, and its copy is no use: the provider knows that the code was used.
    assert!(!browser.cookie.contains("sign-in"), "{}", browser.cookie);
    assert_eq!(browser.follow(&callback).await.status, StatusCode::UNAUTHORIZED);
    let mut copy = Visit::stranger(&harbour.lab.admin);
    copy.cookie = under_way;
    let answer = copy.follow(&callback).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text.contains("begun in another browser, or is over"), "{}", answer.text);
    // A code for one sign-in in the callback of another: its verifier does not fit.
    let mut other = Visit::stranger(&harbour.lab.admin);
    let victim = begin(&mut other, "/login/oidc").await;
    let begun = begin(&mut browser, "/login/oidc").await;
    let callback = Person::new().signs_in(&begun.location, "1").await;
    let code = parameter(&callback, "code");
    let answer = other.follow(&format!("/login/oidc/callback?code={code}&state={}", victim.state)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
}

#[tokio::test]
async fn name_of_another_is_not_taken_over() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.lab.user("ada").await;
    for (login, name) in [("1", "ada"), ("2", "ada"), ("3", "admin"), ("4", "Ada Lovelace"), ("5", "")] {
        harbour.provider.person(login, claims(name, &[])).await.unwrap();
    }
    let mut users = Vec::new();
    for login in ["1", "2", "3", "4", "5", "1"] {
        users.push(harbour.user(login).await.1);
    }
    let names: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.role)).collect();
    let expected = ["ada-2", "ada-3", "admin-2", "Ada-Lovelace", "5", "ada-2"].map(|name| (name, Role::User));
    assert_eq!(names, expected);
    // The name of a deleted user in whose name something is kept is not given either.
    let gone = harbour.lab.user("grace").await;
    let image = Some("docker.io/library/alpine:3".parse().unwrap());
    let job = gone.job_submit(&Submission { image, ..Submission::default() }).await.unwrap().id;
    gone.job_cancel(&job).await.unwrap();
    harbour.lab.settle().await;
    harbour.lab.admin.user_delete_with_jobs("grace").await.unwrap();
    harbour.provider.person("6", claims("grace", &[])).await.unwrap();
    let (browser, user) = harbour.user("6").await;
    assert_eq!(user.name, "grace-2");
    refused(client(&harbour, &browser).job_get(&job).await, NotFound, "no job");
}

#[tokio::test]
async fn groups_and_role_follow_the_provider() {
    let mut harbour = Harbour::start(Claims::AtUserinfo).await;
    let admin = harbour.lab.admin.clone();
    for name in ["physics", "law", "chess"] {
        admin.group_add(&group(name)).await.unwrap();
    }
    harbour.provider.person("1", claims("ada", &["physics", "/law", "captains", "unknown", "a b"])).await.unwrap();
    let (_, ada) = harbour.user("1").await;
    assert_eq!((ada.role, ada.groups), (Role::Admin, vec!["law".into(), "physics".into()]));
    // What an admin has given stays.
    let request = UserUpdateRequest { add_groups: vec!["chess".into()], ..UserUpdateRequest::default() };
    admin.user_update("ada", &request).await.unwrap();
    harbour.provider.person("1", claims("ada", &["law"])).await.unwrap();
    let (browser, ada) = harbour.user("1").await;
    assert_eq!((ada.role, ada.groups), (Role::User, vec!["chess".into(), "law".into()]));
    assert_eq!(browser.get("/settings").await.status, StatusCode::FORBIDDEN);
    let request = UserUpdateRequest { role: "viewer".into(), ..UserUpdateRequest::default() };
    admin.user_update("ada", &request).await.unwrap();
    harbour.provider.person("1", json!({"preferred_username": "ada", "groups": "chess"})).await.unwrap();
    let (_, ada) = harbour.user("1").await;
    assert_eq!((ada.role, ada.groups), (Role::Viewer, vec!["chess".into()]));
    // Groups of the provider are no groups here until an admin adds them.
    assert_eq!(admin.group_list().await.unwrap().len(), 3);

    let query = AuditQuery { action: Some("session.loginByProvider".into()), ..AuditQuery::default() };
    let text = format!("{:?}", admin.audit_list(&query).await.unwrap());
    for part in ["joins physics", "leaves physics", "role admin", "role user"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn last_admin_stays_one() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &["captains"])).await.unwrap();
    let (browser, _) = harbour.user("1").await;
    client(&harbour, &browser).user_delete("admin").await.unwrap();
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    let (browser, _) = harbour.sign_in("1").await;
    assert_eq!(client(&harbour, &browser).session_get().await.unwrap().role, "admin");
}

#[tokio::test]
async fn user_of_the_provider_has_no_password() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    let (browser, _) = harbour.user("1").await;
    let stranger = Client::new(harbour.lab.admin.address()).unwrap();
    // The last one is what is verified for unknown names.
    for password in ["", "ada", "1", "nobody"] {
        let credentials = mooring_api::view::LoginRequest { username: "ada".into(), password: password.into() };
        refused(stranger.login(&credentials).await, Unauthenticated, "wrong user name or password");
    }
    let request = UserUpdateRequest { password: "long enough".into(), ..UserUpdateRequest::default() };
    refused(harbour.lab.admin.user_update("ada", &request).await, WrongStatus, "signs in by Harbour");
    let own = client(&harbour, &browser);
    refused(own.user_update("ada", &request).await, WrongStatus, "signs in by Harbour");
    let account = browser.get("/account").await.text;
    assert!(account.contains(harbour.provider.issuer()) && !account.contains("Change Password"), "{account}");
}

#[tokio::test]
async fn deleted_user_is_out_and_comes_back_as_another() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    let (browser, first) = harbour.user("1").await;
    let own = client(&harbour, &browser);
    own.secret_set("key", &mooring_api::view::SecretSetRequest { value: "sesame".into() }).await.unwrap();
    harbour.lab.admin.user_delete("ada").await.unwrap();
    refused(own.session_get().await, Unauthenticated, "");
    let (browser, second) = harbour.user("1").await;
    assert_ne!(first.id, second.id);
    refused(client(&harbour, &browser).secret_get("key").await, NotFound, "");
    // Nor does it share what an admin alone may do.
    refused(client(&harbour, &browser).settings_get().await, PermissionDenied, "admin");
}

#[tokio::test]
async fn person_who_turns_back_is_not_signed_in() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    let mut browser = Visit::stranger(&harbour.lab.admin);
    let begun = begin(&mut browser, "/login/oidc").await;
    let callback = Person::new().act(&begun.location, &[("act", "deny")]).await;
    let answer = browser.follow(&callback).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text.contains("Harbour did not let you in"), "{}", answer.text);
    assert_eq!(harbour.users().await.len(), 1);
}

#[tokio::test]
async fn provider_may_restart_with_new_keys() {
    let mut harbour = Harbour::start(Claims::InToken).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    harbour.user("1").await;
    harbour.provider.stop().await.unwrap();
    let mut browser = Visit::stranger(&harbour.lab.admin);
    let begun = begin(&mut browser, "/login/oidc").await;
    let answer = browser.follow(&format!("/login/oidc/callback?code=c&state={}", begun.state)).await;
    assert!(answer.text.contains("Harbour can&#39;t be reached at present"), "{}", answer.text);
    harbour.provider.start_again().await.unwrap();
    harbour.lab.clock.advance(seconds(11));
    harbour.user("1").await;
}

#[tokio::test]
async fn wrong_secret_is_the_admins_to_mend() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "wrong").unwrap();
    let mut harbour = Harbour::with(Claims::InToken, |oidc| oidc.client_secret_file = secret.clone()).await;
    harbour.provider.person("1", claims("ada", &[])).await.unwrap();
    let (_, answer) = harbour.sign_in("1").await;
    assert!(answer.text.contains("Harbour and OpCenter don&#39;t understand each other"), "{}", answer.text);
    // The file is read again: no restart.
    std::fs::copy(harbour.provider.secret_file(), &secret).unwrap();
    harbour.user("1").await;
}

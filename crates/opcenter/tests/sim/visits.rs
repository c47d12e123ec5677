//! Connections that take a login: who is let in, and for how long.

use mooring_api::ErrorCode::{InvalidArgument, NotFound};
use mooring_api::view::{ConnectRequest, ConnectionView, GroupAddRequest, GroupUpdateRequest};
use mooring_api::watch::{VisitAnswer, VisitRequest};
use mooring_api::{ClientError, ErrorCode, Submission};
use mooring_types::gateway::{Access, Protocol};
use mooring_types::{ConnectionId, GatewayId};
use reqwest::StatusCode;

use crate::lab::{Lab, refused, seconds};
use crate::visit::Visit;

/// An OpCenter with a connected job of Alice's.
struct Scene {
    lab: Lab,
    gateway: GatewayId,
    connected: ConnectionView,
    connection: ConnectionId,
    origin: String,
}

impl Scene {
    async fn with(access: Access, shares: &[&str]) -> Self {
        let mut lab = Lab::start().await;
        let alice = lab.user("alice").await;
        for name in ["mate", "other", "shared"] {
            lab.user(name).await;
        }
        let users = vec!["alice".into(), "mate".into()];
        let group = GroupAddRequest { name: "lab".into(), users, ..GroupAddRequest::default() };
        lab.admin.group_add(&group).await.unwrap();
        let image = Some("docker.io/library/alpine:3".parse().unwrap());
        let publish = vec!["8080".parse().unwrap()];
        let job = alice.job_submit(&Submission { image, publish, ..Submission::default() }).await.unwrap().id;
        let gateway = lab.create_gateway("lab").await;
        let shares = shares.iter().map(|name| (*name).to_owned()).collect();
        let request = ConnectRequest { access, shares, ..ConnectRequest::new(job.clone()) };
        let connected = alice.gateway_connect(&gateway.clone().into(), &request).await.unwrap().remove(0);
        lab.settle().await;
        let rows = lab.store().await.begin().await.unwrap().connection_list_of_job(&job).await.unwrap();
        let begin = "http://".len();
        let end = connected.access_url[begin..].find('/').map_or(connected.access_url.len(), |at| begin + at);
        let origin = connected.access_url[..end].to_owned();
        Self { lab, gateway, connected, connection: rows[0].id.clone(), origin }
    }

    async fn visitor(&self, name: &str) -> Visit {
        Visit::begin(&self.lab.admin, name, &format!("password of {name}")).await
    }

    /// The answer of OpCenter's page: the code, or the refusal.
    async fn enter(&self, visit: &Visit) -> Result<String, StatusCode> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("connection", self.connection.as_str()).append_pair("origin", &self.origin);
        let query = query.append_pair("state", "s").append_pair("to", "/a?b").append_pair("arrived", "1").finish();
        let answer = visit.get(&format!("/enter?{query}")).await;
        let back = format!("{}/.mooring/enter?code=", self.origin);
        match answer.text.split_once(&back) {
            Some((_, rest)) if answer.status == StatusCode::OK => Ok(rest.split('&').next().unwrap().to_owned()),
            _ => Err(answer.status),
        }
    }

    fn request(&self, code: &str) -> VisitRequest {
        VisitRequest { connection: self.connection.clone(), code: code.to_owned(), origin: self.origin.clone() }
    }

    async fn begin(&mut self, request: &VisitRequest) -> Result<VisitAnswer, ClientError> {
        let gateway = self.gateway.clone();
        self.lab.gateway(&gateway).client().gateway_visit_begin(&gateway, request).await
    }

    /// Lets a user's browser in.
    async fn let_in(&mut self, visit: &Visit) {
        let code = self.enter(visit).await.unwrap();
        self.begin(&self.request(&code)).await.unwrap();
        self.lab.settle().await;
    }

    /// The number of tokens with which the gateway lets browsers in.
    fn visits(&mut self) -> usize {
        let gateway = self.gateway.clone();
        self.lab.gateway(&gateway).slice().unwrap().connections[0].visits.len()
    }
}

#[tokio::test]
async fn access_and_shares_say_who_enters() {
    for (access, shares, expected) in [
        (Access::Private, &["shared"][..], [true, true, false, false]),
        (Access::Group, &[], [true, false, true, false]),
    ] {
        let mut scene = Scene::with(access, shares).await;
        for (name, is_let_in) in ["alice", "shared", "mate", "other"].into_iter().zip(expected) {
            let visit = scene.visitor(name).await;
            let outcome = scene.enter(&visit).await;
            assert_eq!(outcome.is_ok(), is_let_in, "{access} {name}: {outcome:?}");
            assert!(is_let_in || outcome == Err(StatusCode::FORBIDDEN), "{outcome:?}");
        }
        let stranger = Visit::stranger(&scene.lab.admin);
        assert_eq!(scene.enter(&stranger).await, Err(StatusCode::SEE_OTHER));
        assert_eq!(scene.visits(), 0);
    }
}

#[tokio::test]
async fn code_is_good_once_at_its_gateway_and_origin() {
    let mut scene = Scene::with(Access::Private, &[]).await;
    let alice = scene.visitor("alice").await;
    let code = scene.enter(&alice).await.unwrap();
    let elsewhere = VisitRequest { origin: "http://198.51.100.9:1".into(), ..scene.request(&code) };
    refused(scene.begin(&elsewhere).await.map(drop), ErrorCode::PermissionDenied, "another place");
    refused(scene.begin(&scene.request(&code)).await.map(drop), ErrorCode::PermissionDenied, "used");
    let late = scene.enter(&alice).await.unwrap();
    scene.lab.clock.advance(seconds(61));
    refused(scene.begin(&scene.request(&late)).await.map(drop), ErrorCode::PermissionDenied, "too old");
    scene.let_in(&alice).await;
    assert_eq!(scene.visits(), 1);
    // Nobody but a gateway begins visits.
    let code = scene.enter(&alice).await.unwrap();
    let (gateway, request) = (scene.gateway.clone(), scene.request(&code));
    let outcome = scene.lab.admin.gateway_visit_begin(&gateway, &request).await.map(drop);
    refused(outcome, ErrorCode::Unauthenticated, "certificate");
}

#[tokio::test]
async fn visit_ends_with_session_and_right() {
    let mut scene = Scene::with(Access::Group, &[]).await;
    let (alice, mate) = (scene.visitor("alice").await, scene.visitor("mate").await);
    scene.let_in(&alice).await;
    scene.let_in(&mate).await;
    assert_eq!(scene.visits(), 2);
    assert_eq!(alice.post("/logout", &[]).await.status, StatusCode::NO_CONTENT);
    scene.lab.settle().await;
    assert_eq!(scene.visits(), 1);
    let change = GroupUpdateRequest { remove_users: vec!["mate".into()], ..GroupUpdateRequest::default() };
    scene.lab.admin.group_update("lab", &change).await.unwrap();
    scene.lab.settle().await;
    assert_eq!(scene.visits(), 0);
}

#[tokio::test]
async fn link_is_shown_once() {
    let mut scene = Scene::with(Access::Link, &[]).await;
    assert!(scene.connected.access_url.contains("/.mooring/enter?key="), "{:?}", scene.connected);
    assert_eq!(scene.visits(), 1);
    let listed = scene.lab.admin.gateway_get(&scene.gateway.clone().into()).await.unwrap();
    let key = scene.connected.access_url.split_once("key=").unwrap().1.split('&').next().unwrap();
    assert!(key.len() == 64 && !format!("{listed:?}").contains(key), "{listed:?}");
    let other = scene.visitor("other").await;
    assert_eq!(scene.enter(&other).await, Err(StatusCode::FORBIDDEN));
}

#[tokio::test]
async fn access_takes_http_and_users() {
    let mut lab = Lab::start().await;
    let publish = vec!["8080".parse().unwrap()];
    let job = lab.job_on("host-1", Submission { publish, ..Submission::default() }).await;
    let gateway = lab.create_gateway("lab").await.into();
    let connect = async |request: ConnectRequest| lab.admin.gateway_connect(&gateway, &request).await;
    let usual = ConnectRequest { access: Access::Private, ..ConnectRequest::new(job) };
    refused(connect(ConnectRequest { protocol: Protocol::Tcp, ..usual.clone() }).await, InvalidArgument, "browser");
    refused(connect(ConnectRequest { shares: vec!["nobody".into()], ..usual.clone() }).await, NotFound, "nobody");
    let open = ConnectRequest { access: Access::Open, shares: vec!["admin".into()], ..usual };
    refused(connect(open).await, InvalidArgument, "open");
}

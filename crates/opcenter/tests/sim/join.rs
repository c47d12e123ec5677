//! Joins of hosts, and who may take a host's name.

use std::sync::Arc;

use futures_util::StreamExt;
use mooring_api::ErrorCode::{
    AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, WrongStatus,
};
use mooring_api::view::{AuditQuery, HostRemoval, JoinTokenRequest};
use mooring_api::watch::{CertificateRequest, JoinRequest};
use mooring_sim::Machine;
use mooring_tls::Identity;
use mooring_types::HostId;

use crate::lab::{Lab, refused};

/// The join of `host-1` as its own agent sends it.
fn own(lab: &Lab) -> JoinRequest {
    Machine::named("host-1").join_request(&lab.join_token(), &Identity::generate().unwrap(), 1).unwrap()
}

#[tokio::test]
async fn known_name_takes_the_key_of_its_host() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let stranger = JoinRequest { host_key: "another key".into(), ..own(&lab) };
    refused(lab.admin.host_join(&stranger).await, AlreadyExists, "host-1");
    let keyless = JoinRequest { host_key: String::new(), ..own(&lab) };
    refused(lab.admin.host_join(&keyless).await, AlreadyExists, "host-1");
    // The host is undisturbed, and keeps its id when it joins again itself.
    lab.settle().await;
    lab.expect_on(&job, "host-1").await;
    let again = lab.admin.host_join(&own(&lab)).await.unwrap();
    assert_eq!(again.host, lab.host_view("host-1").await.id);
}

#[tokio::test]
async fn admin_lets_a_host_join_with_a_new_key() {
    let lab = Lab::start().await;
    let fresh = JoinRequest { host_key: "a new key".into(), ..own(&lab) };
    refused(lab.admin.host_join(&fresh).await, AlreadyExists, "host-1");
    let name = "host-1".parse().unwrap();
    refused(lab.user("alice").await.host_rejoin(&name).await, PermissionDenied, "admin");
    refused(lab.admin.host_rejoin(&"host-9".parse().unwrap()).await, NotFound, "host-9");
    let view = lab.admin.host_rejoin(&name).await.unwrap();
    assert_eq!(lab.admin.host_join(&fresh).await.unwrap().host, view.id);
    // Once: the name is the new key's now.
    refused(lab.admin.host_join(&own(&lab)).await, AlreadyExists, "host-1");
}

/// Makes a join token and takes it out of the commands.
async fn token(lab: &Lab, name: &str, ttl: &str) -> String {
    let request = JoinTokenRequest { name: name.into(), ttl: ttl.into(), opcenter: "http://10.0.0.5:8443".into() };
    let made = lab.admin.join_token_create(&request).await.unwrap();
    assert!(made.command.contains("--opcenter https://10.0.0.5:8443 --ca sha256:"), "{}", made.command);
    let (_, rest) = made.command.split_once("<<< ").unwrap();
    rest.split_once('\n').unwrap().0.to_owned()
}

/// The join of a machine that OpCenter does not know.
fn stranger(name: &str, token: &str) -> JoinRequest {
    JoinRequest {
        host_key: format!("key of {name}"),
        ..Machine::named(name).join_request(token, &Identity::generate().unwrap(), 9).unwrap()
    }
}

#[tokio::test]
async fn token_lets_one_host_join_once_and_in_time() {
    let lab = Lab::start().await;
    let good = token(&lab, "", "").await;
    let first = lab.admin.host_join(&stranger("alpha", &good)).await.unwrap();
    refused(lab.admin.host_join(&stranger("beta", &good)).await, Unauthenticated, "was used");
    // The host itself needs no token any more.
    assert_eq!(lab.admin.host_join(&stranger("alpha", "")).await.unwrap().host, first.host);

    let named = token(&lab, "gamma", "10m").await;
    refused(lab.admin.host_join(&stranger("beta", &named)).await, PermissionDenied, "gamma");
    refused(
        lab.admin.host_join(&JoinRequest { host_key: "x".into(), ..stranger("alpha", &named) }).await,
        PermissionDenied,
        "gamma",
    );
    lab.admin.host_join(&stranger("gamma", &named)).await.unwrap();

    let late = token(&lab, "", "10m").await;
    lab.clock.advance(std::time::Duration::from_secs(601));
    refused(lab.admin.host_join(&stranger("beta", &late)).await, Unauthenticated, "too old");
    let revoked = token(&lab, "beta", "1h").await;
    let listed = lab.admin.join_token_list().await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "beta"));
    lab.admin.join_token_delete(&listed[0].id).await.unwrap();
    refused(lab.admin.join_token_delete(&listed[0].id).await, NotFound, "no unused join token");
    refused(lab.admin.host_join(&stranger("beta", &revoked)).await, Unauthenticated, "unknown");

    let query = AuditQuery { action: Some("host".into()), ..AuditQuery::default() };
    let audit = format!("{:?}", lab.admin.audit_list(&query).await.unwrap());
    assert!(audit.contains("host.createJoinToken") && audit.contains("host.join") && !audit.contains(&good), "{audit}");
}

#[tokio::test]
async fn bad_requests_of_tokens_are_refused() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let ask = |name: &str, ttl: &str, opcenter: &str| JoinTokenRequest {
        name: name.into(),
        ttl: ttl.into(),
        opcenter: opcenter.into(),
    };
    refused(alice.join_token_create(&ask("", "", "http://10.0.0.5:8443")).await, PermissionDenied, "admin");
    refused(alice.join_token_list().await, PermissionDenied, "admin");
    refused(alice.host_remove(&"host-1".parse().unwrap(), HostRemoval::default()).await, PermissionDenied, "admin");
    for opcenter in ["10.0.0.5:8443", "http://", "http://a; rm -rf /", "http://$(id)", "http://a\nb"] {
        refused(lab.admin.join_token_create(&ask("", "", opcenter)).await, InvalidArgument, "URL");
    }
    for (name, ttl) in [("no name", "1h"), ("", "0s"), ("", "8d"), ("", "soon")] {
        refused(lab.admin.join_token_create(&ask(name, ttl, "http://10.0.0.5:8443")).await, InvalidArgument, "");
    }
}

#[tokio::test]
async fn removed_host_is_not_let_in_again() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let name = "host-1".parse().unwrap();
    refused(lab.admin.host_remove(&name, HostRemoval::default()).await, WrongStatus, "work");
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    let mut watch = lab.host("host-1").watch().await.unwrap();
    watch.next().await.unwrap().unwrap();
    lab.admin.host_remove(&name, HostRemoval::default()).await.unwrap();
    // Its stream ends, and it can neither report nor join with the key that it has.
    while let Some(Ok(_)) = watch.next().await {}
    assert!(lab.host("host-1").report().await.is_err());
    refused(
        lab.admin.host_join(&JoinRequest { join_token: String::new(), ..own(&lab) }).await,
        Unauthenticated,
        "token",
    );
    assert!(lab.admin.host_list().await.unwrap().iter().all(|host| host.name != "host-1"));
    let migrations = lab.expect_on(&job, "host-2").await.migrations;
    assert_eq!(migrations[0].from, "host-1", "what has ended still names it");
    // Another machine may have the name.
    lab.admin.host_join(&stranger("host-1", &token(&lab, "host-1", "").await)).await.unwrap();
}

#[tokio::test]
async fn wrong_join_token_is_refused() {
    let lab = Lab::start().await;
    let request = JoinRequest { join_token: "wrong".into(), ..stranger("host-9", "") };
    refused(lab.admin.host_join(&request).await, Unauthenticated, "join token");
}

/// A client of a daemon with this identity.
fn connected(lab: &Lab, identity: &Arc<Identity>) -> mooring_api::Client {
    lab.opcenter().client(Some(Arc::clone(identity))).unwrap()
}

/// A host that has joined, with a client that shows its certificate.
async fn joined(lab: &Lab, name: &str) -> (HostId, Arc<Identity>, mooring_api::Client) {
    let identity = Arc::new(Identity::generate().unwrap());
    let request = Machine::named(name).join_request(&lab.join_token(), &identity, 9).unwrap();
    let answer = lab.opcenter().client(None).unwrap().host_join(&request).await.unwrap();
    identity.set_certificate(&answer.certificate).unwrap();
    (answer.host, Arc::clone(&identity), connected(lab, &identity))
}

fn request_of(identity: &Identity) -> CertificateRequest {
    CertificateRequest { certificate_request: identity.request().unwrap() }
}

#[tokio::test]
async fn certificate_is_renewed_for_the_host_s_own_key() {
    let lab = Lab::start().await;
    let (host, identity, client) = joined(&lab, "alpha").await;
    let renewed = client.host_certificate(&host, &request_of(&identity)).await.unwrap();
    identity.set_certificate(&renewed.certificate).unwrap();
    assert!(connected(&lab, &identity).host_slices(&host).await.is_ok());
    let other = Identity::generate().unwrap();
    refused(client.host_certificate(&host, &request_of(&other)).await, PermissionDenied, "the key");
    let none = CertificateRequest { certificate_request: "no request".into() };
    refused(client.host_certificate(&host, &none).await, InvalidArgument, "request");
    // Without a certificate, and with that of another host.
    let (another, _, client_of_another) = joined(&lab, "beta").await;
    let stranger = connected(&lab, &Arc::new(other));
    refused(stranger.host_certificate(&host, &request_of(&identity)).await, Unauthenticated, "certificate");
    refused(client_of_another.host_certificate(&host, &request_of(&identity)).await, PermissionDenied, "another");
    assert!(client_of_another.host_slices(&host).await.is_err());
    assert!(client_of_another.host_slices(&another).await.is_ok());
}

#[tokio::test]
async fn gateway_has_its_certificate_by_its_own_host() {
    let mut lab = Lab::start().await;
    let gateway = lab.create_gateway("edge").await;
    lab.settle().await;
    let (host, _, client) = joined(&lab, "alpha").await;
    let identity = Arc::new(Identity::generate().unwrap());
    refused(client.gateway_certificate(&host, &gateway, &request_of(&identity)).await, PermissionDenied, "not on host");
    // A certificate of a host is none of a gateway.
    assert!(client.gateway_slices(&gateway).await.is_err());
    // A gateway that gets a new key: the connections of the earlier one end.
    let mut watch = lab.gateway(&gateway).watch().await.unwrap();
    watch.next().await.unwrap().unwrap();
    lab.host("gateways").certify(&gateway, &identity).await.unwrap();
    while let Some(Ok(_)) = watch.next().await {}
    assert!(lab.gateway(&gateway).report().await.is_err());
    assert!(connected(&lab, &identity).gateway_slices(&gateway).await.is_ok());
}

#[tokio::test]
async fn copy_of_a_host_s_key_is_not_a_second_host() {
    let lab = Lab::start().await;
    let (_, identity, _) = joined(&lab, "alpha").await;
    let copy = Machine::named("beta").join_request(&lab.join_token(), &identity, 10).unwrap();
    refused(lab.admin.host_join(&copy).await, AlreadyExists, "another host has the key");
}

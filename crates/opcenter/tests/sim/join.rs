//! Joins of hosts, and who may take a host's name.

use mooring_api::ErrorCode::{AlreadyExists, NotFound, PermissionDenied, Unauthenticated};
use mooring_api::watch::JoinRequest;
use mooring_sim::Machine;

use crate::lab::{Lab, refused};

/// The join of `host-1` as its own agent sends it.
fn own(lab: &Lab) -> JoinRequest {
    Machine::named("host-1").join_request(&lab.join_token(), 1).unwrap()
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
    let fresh = JoinRequest { host_key: "a new key".into(), certificate: "f".repeat(64), ..own(&lab) };
    refused(lab.admin.host_join(&fresh).await, AlreadyExists, "host-1");
    let name = "host-1".parse().unwrap();
    refused(lab.user("alice").await.host_rejoin(&name).await, PermissionDenied, "admin");
    refused(lab.admin.host_rejoin(&"host-9".parse().unwrap()).await, NotFound, "host-9");
    let view = lab.admin.host_rejoin(&name).await.unwrap();
    assert_eq!(lab.admin.host_join(&fresh).await.unwrap().host, view.id);
    // Once: the name is the new key's now.
    refused(lab.admin.host_join(&own(&lab)).await, AlreadyExists, "host-1");
}

#[tokio::test]
async fn wrong_join_token_is_refused() {
    let lab = Lab::start().await;
    let request = JoinRequest { join_token: "wrong".into(), ..own(&lab) };
    refused(lab.admin.host_join(&request).await, Unauthenticated, "join token");
}

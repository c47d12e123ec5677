//! Jobs that listen elsewhere than at their published ports: users and gateways are told.

use mooring_api::Submission;
use mooring_api::view::{ConnectionState, ConnectionView};
use mooring_sim::Step;
use mooring_types::job::Unserved;
use mooring_types::{GatewayId, JobId};

use crate::lab::Lab;

const PROBLEM: &str = "nothing listens on port 8080 for others; the job listens on 127.0.0.1:8080 and 0.0.0.0:9090: \
                       have it listen on 0.0.0.0:8080, or publish 9090";

/// A job whose port 8080 is published as 80, and its gateway.
async fn job(lab: &mut Lab) -> (GatewayId, JobId) {
    let gateway = lab.create_gateway("lab").await;
    let publish = vec!["80:8080".parse().unwrap()];
    let request = Submission { publish, gateway: Some(gateway.clone().into()), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    (gateway, job)
}

fn unserved() -> Option<Unserved> {
    let listeners = ["0.0.0.0:9090", "127.0.0.1:8080"].map(|listener| listener.parse().unwrap());
    Unserved::of(&["8080".parse().unwrap()], listeners)
}

/// Returns what the gateway is told.
fn told(lab: &mut Lab, gateway: &GatewayId, job: &JobId) -> String {
    lab.gateway(gateway).connections(job).next().expect("a connection").unserved.clone()
}

async fn connection(lab: &Lab, gateway: &GatewayId) -> ConnectionView {
    lab.admin.gateway_get(&gateway.clone().into()).await.unwrap().connections.remove(0)
}

#[tokio::test]
async fn unserved_port_is_told_until_it_is_served() {
    let mut lab = Lab::start().await;
    let (gateway, job) = job(&mut lab).await;
    assert_eq!(
        (told(&mut lab, &gateway, &job), connection(&lab, &gateway).await.state),
        (String::new(), ConnectionState::Open)
    );

    lab.host("host-1").leave_unserved(&job, unserved());
    lab.settle().await;
    assert_eq!(lab.view(&job).await.unserved_ports, [PROBLEM]);
    assert_eq!(connection(&lab, &gateway).await.state, ConnectionState::Unserved { problem: PROBLEM.into() });
    assert_eq!(told(&mut lab, &gateway, &job), PROBLEM);

    lab.host("host-1").leave_unserved(&job, None);
    lab.settle().await;
    assert!(lab.view(&job).await.unserved_ports.is_empty());
    assert_eq!(
        (told(&mut lab, &gateway, &job), connection(&lab, &gateway).await.state),
        (String::new(), ConnectionState::Open)
    );
}

#[tokio::test]
async fn held_job_is_waited_for() {
    let mut lab = Lab::start().await;
    let (gateway, job) = job(&mut lab).await;
    lab.host("host-1").leave_unserved(&job, unserved());
    lab.settle().await;
    lab.migrate_until(&job, Step::Freeze).await;
    assert_eq!(connection(&lab, &gateway).await.state, ConnectionState::Waiting);
    assert!(told(&mut lab, &gateway, &job).is_empty() && lab.view(&job).await.unserved_ports.is_empty());
    // The destination has not looked yet.
    lab.release(Step::Freeze).await;
    lab.expect_on(&job, "host-2").await;
    assert!(told(&mut lab, &gateway, &job).is_empty() && lab.view(&job).await.unserved_ports.is_empty());
}

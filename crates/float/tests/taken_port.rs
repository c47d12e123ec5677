//! A port of a gateway's range that another program holds: a job gets another one, and nobody is
//! sent to that program.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::view::{GatewayCreateRequest, JobView};
use mooring_api::{Client, Submission};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::{Clock, Event, JobId, SystemClock};

const LIMIT: Duration = Duration::from_secs(60);
/// The time in which gateways report several times.
const SEVERAL_LOOKS: Duration = Duration::from_secs(4);
/// The address of the gateway's host.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PORTS: [u16; 3] = [10_600, 10_601, 10_602];

fn holder(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((GATEWAY, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn was_asked(listener: &TcpListener) -> bool {
    !matches!(listener.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

async fn submit(client: &Client, ports: &[&str]) -> Result<JobId> {
    let request = Submission {
        image: Some("dir:/".parse()?),
        command: ["/usr/bin/python3", "-m", "http.server", "8080"].map(str::to_owned).to_vec(),
        publish: ports.iter().map(|port| port.parse()).collect::<Result<_, _>>()?,
        gateway: Some("taken".parse()?),
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

/// Waits until a job has an address, and checks that it never had the port of another program.
async fn address(client: &Client, job: &JobId, never: &[u16]) -> Result<JobView> {
    wait_for("an address of the job", LIMIT, async || {
        let view = client.job_get(job).await?;
        let shown = format!("{:?} {:?}", view.port_mappings, view.access_urls);
        ensure!(never.iter().all(|port| !shown.contains(&port.to_string())), "{shown}");
        Ok((!view.port_mappings.is_empty()).then_some(view))
    })
    .await
}

async fn told(client: &Client, job: &JobId, what: &str) -> Result<()> {
    wait_for(what, LIMIT, async || {
        let events = client.job_events(job).await?;
        let mut taken = events.iter().filter(|entry| matches!(entry.event, Event::PortTaken { .. }));
        Ok(taken.any(|entry| entry.event.to_string().contains(what)).then_some(()))
    })
    .await
}

#[test]
fn job_gets_another_port() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let [lowest, middle, highest] = PORTS;
        let (recorder, other) = (holder(lowest)?, holder(highest)?);
        let request = GatewayCreateRequest {
            name: "taken".into(),
            no_public_ip: true,
            port_range: format!("{lowest}:{highest}"),
            ..GatewayCreateRequest::default()
        };
        client.gateway_create(&request).await?;
        let first = submit(&client, &["8080"]).await?;
        let view = address(&client, &first, &[lowest]).await?;
        ensure!(view.port_mappings == [format!("8080 -> {GATEWAY}:{middle}")], "{:?}", view.port_mappings);
        told(&client, &first, &format!("port {lowest} of gateway taken is held by another program")).await?;

        // No port is free until the other program ends.
        let second = submit(&client, &["8081", "8080"]).await?;
        told(&client, &second, &format!("port {highest} of gateway taken is held by another program, and no port"))
            .await?;
        let view = client.job_get(&second).await?;
        ensure!(view.port_mappings.is_empty() && view.access_urls.is_empty(), "{view:?}");
        // Each of its two ports is told of once, however often OpCenter looks.
        let looked = client.job_get(&second).await?.last_update;
        wait_for("OpCenter to look again", LIMIT, async || {
            Ok((SystemClock.now() > looked + SEVERAL_LOOKS).then_some(()))
        })
        .await?;
        let events = client.job_events(&second).await?;
        let taken = events.iter().filter(|entry| matches!(entry.event, Event::PortTaken { .. })).count();
        ensure!(taken == 2, "{events:?}");
        drop(other);
        let view = address(&client, &second, &[lowest, middle]).await?;
        ensure!(view.access_urls == [format!("http://{GATEWAY}:{highest}/")], "{:?}", view.access_urls);
        ensure!(!was_asked(&recorder), "somebody was sent to the other program");
        Ok(())
    });
    outcome.unwrap();
}

//! Attacks by external jobs: a plain user declares endpoints that the gateway's host reaches, and
//! its users don't.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{ExternalRegisterRequest, GatewayCreateRequest};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::gateway::GatewayStatus;
use mooring_types::{GatewayId, Reference};

const LIMIT: Duration = Duration::from_secs(60);

async fn gateway(client: &Client) -> Result<Reference<GatewayId>> {
    let request = GatewayCreateRequest { name: "lab".into(), ..GatewayCreateRequest::default() };
    let gateway: Reference<GatewayId> = client.gateway_create(&request).await?.id.into();
    wait_for("the gateway", LIMIT, async || {
        Ok((client.gateway_get(&gateway).await?.status == GatewayStatus::Running).then_some(()))
    })
    .await?;
    Ok(gateway)
}

fn external(endpoint: &str, gateway: &Reference<GatewayId>) -> ExternalRegisterRequest {
    ExternalRegisterRequest {
        endpoints: vec![endpoint.to_owned()],
        gateway: Some(gateway.clone()),
        ..ExternalRegisterRequest::default()
    }
}

/// The status and the text of the answer to a client of an external job, if it can be registered.
async fn opened(client: &Client, gateway: &Reference<GatewayId>, endpoint: &str) -> Result<Option<(u16, String)>> {
    let Ok(job) = client.external_register(&external(endpoint, gateway)).await else { return Ok(None) };
    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
    let url = wait_for("the connection", LIMIT, async || {
        let connections = client.gateway_get(gateway).await?.connections;
        Ok(connections.into_iter().find(|one| one.job_id == job.id).map(|one| one.access_url))
    })
    .await?;
    wait_for("an answer", LIMIT, async || {
        let Ok(answer) = http.get(format!("{url}metrics")).send().await else { return Ok(None) };
        Ok(Some(Some((answer.status().as_u16(), answer.text().await?))))
    })
    .await
    .with_context(|| format!("{endpoint} at {url}"))
}

#[test]
fn endpoint_of_the_host_is_not_reached() {
    let world = World::start(Plan { virtual_hosts: 1, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).unwrap();
    let outcome = world.run_inside(async || {
        let admin = world.client().await?;
        let user = world.user(&admin, "mallory").await?;
        let gateway = gateway(&user).await?;
        let opcenter: u16 = world.url().rsplit(':').next().context("a port")?.trim_end_matches('/').parse()?;
        // OpCenter listens at the loopback and at the host's own address.
        for host in [
            "127.0.0.1",
            "[::ffff:127.0.0.1]",
            "localhost",
            "198.18.0.1",
            "[::ffff:198.18.0.1]",
            // Names, which the gateway resolves.
            "0x7f000001",
            "0xc6120001",
            "0x0",
            "0.0.0.0",
        ] {
            let answer = opened(&user, &gateway, &format!("{host}:{opcenter}")).await?;
            let is_refused = answer.as_ref().is_none_or(|(status, _)| *status == 503);
            ensure!(is_refused, "{host}: {answer:?}");
        }
        for endpoint in
            ["169.254.169.254:80", "[fe80::1]:80", "100.64.0.2:8888", "100.127.0.1:7443", "100.100.100.200:80"]
        {
            let refused = user.external_register(&external(endpoint, &gateway)).await;
            let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
            ensure!(message.contains("an external job can't be at"), "{endpoint}: `{message}`");
        }
        Ok(())
    });
    outcome.unwrap();
}

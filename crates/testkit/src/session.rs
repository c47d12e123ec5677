//! A job that executes, behind a gateway of its own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use mooring_api::view::{ConnectRequest, ConnectionState, ConnectionView, GatewayCreateRequest, GatewayView};
use mooring_api::{Client, Submission};
use mooring_types::gateway::{GatewayStatus, Protocol, Tls};
use mooring_types::{GatewayId, JobId};

use crate::job::executing;
use crate::wait::wait_for;

/// Time limit of a gateway, a job and their connection, each.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A job that executes, and how one reaches it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The job.
    pub job: JobId,
    /// The gateway.
    pub gateway: GatewayId,
    /// The gateway's address and port for the job's first port.
    pub address: SocketAddr,
    /// The URL for a browser.
    pub access_url: String,
}

impl Session {
    /// Creates a gateway of the job's name, submits the job to it, and waits until it executes and
    /// is connected.
    pub async fn launch(client: &Client, job: Submission) -> Result<Self> {
        let gateway = gateway_of(client, &job).await?;
        Self::launch_behind(client, &gateway, job).await
    }

    /// As [`Session::launch`], behind a gateway whose ports speak TLS.
    pub async fn launch_with_tls(client: &Client, job: Submission) -> Result<Self> {
        let gateway = make_gateway(client, &job, Tls::On).await?;
        Self::launch_behind(client, &gateway, job).await
    }

    /// As [`Session::launch`], with a gateway port for clients that speak `protocol`.
    pub async fn launch_speaking(client: &Client, job: Submission, protocol: Protocol) -> Result<Self> {
        let gateway = gateway_of(client, &job).await?;
        let job = client.job_submit(&job).await.with_context(|| format!("submit {:?}", job.name))?.id;
        executing(client, &job, READY_WITHIN).await?;
        let request = ConnectRequest { protocol, ..ConnectRequest::new(job.clone()) };
        client.gateway_connect(&gateway.clone().into(), &request).await.context("connect its port")?;
        Self::connected(client, gateway, job).await
    }

    /// Submits the job to a gateway that runs, and waits until it executes and is connected.
    pub async fn launch_behind(client: &Client, gateway: &GatewayId, mut job: Submission) -> Result<Self> {
        job.gateway = Some(gateway.clone().into());
        let job = client.job_submit(&job).await.with_context(|| format!("submit {:?}", job.name))?.id;
        executing(client, &job, READY_WITHIN).await?;
        Self::connected(client, gateway.clone(), job).await
    }

    /// Waits until the job's first port is connected.
    async fn connected(client: &Client, gateway: GatewayId, job: JobId) -> Result<Self> {
        let (address, access_url) = wait_for("the connection", READY_WITHIN, async || {
            let GatewayView { address, connections, .. } = client.gateway_get(&gateway.clone().into()).await?;
            let address: IpAddr = address.parse().with_context(|| format!("the gateway's address `{address}`"))?;
            let open =
                |connection: &ConnectionView| connection.job_id == job && connection.state == ConnectionState::Open;
            let open = connections.into_iter().find(open);
            Ok(open.map(|open| (SocketAddr::new(address, open.gateway_port), open.access_url)))
        })
        .await?;
        Ok(Self { job, gateway, address, access_url })
    }
}

/// Creates a gateway of the job's name and waits until it runs.
async fn gateway_of(client: &Client, job: &Submission) -> Result<GatewayId> {
    make_gateway(client, job, Tls::Off).await
}

async fn make_gateway(client: &Client, job: &Submission, tls: Tls) -> Result<GatewayId> {
    let request = GatewayCreateRequest {
        name: job.name.as_ref().context("a job with a name")?.to_string(),
        tls,
        ..GatewayCreateRequest::default()
    };
    let gateway = client.gateway_create(&request).await.context("create a gateway")?.id;
    wait_for("the gateway", READY_WITHIN, async || {
        let status = client.gateway_get(&gateway.clone().into()).await?.status;
        Ok((status == GatewayStatus::Running).then_some(()))
    })
    .await?;
    Ok(gateway)
}

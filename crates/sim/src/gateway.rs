//! A simulated gateway: its slice, its clients, and how it quiesces.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use mooring_api::client::Slices;
use mooring_api::watch::{
    CallerObservation, CertificateRequest, ClientObservation, ConnectionDirective, ConnectionObservation, Flow,
    GatewayPlacement, GatewayReport, GatewaySlice, Quiesced,
};
use mooring_api::{Client, ClientError};
use mooring_tls::Identity;
use mooring_types::{ConnectionId, GatewayId, JobId, MigrationId, Timestamp};

use crate::{OpCenter, SimAgent};

/// The clients of a connection, as a gateway counts them.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// The clients that are connected.
    pub clients: Vec<ClientObservation>,
    /// The number of waiting clients that want the job to be resumed.
    pub calling: u32,
    /// The first of them; `None` as a gateway of an earlier version reports.
    pub caller: Option<CallerObservation>,
    /// The number of held requests.
    pub held: u32,
    /// Bytes from clients to the job.
    pub bytes_in: u64,
    /// Bytes from the job to clients.
    pub bytes_out: u64,
}

/// A simulated gateway.
#[derive(Debug)]
pub struct SimGateway {
    id: GatewayId,
    client: Client,
    slice: Option<GatewaySlice>,
    traffic: BTreeMap<JobId, Traffic>,
    quiesced: Vec<MigrationId>,
    is_stubborn: bool,
    is_cut_off: bool,
}

impl SimGateway {
    /// Starts the gateway of a placement, as the agent of its host does.
    pub(crate) async fn start(opcenter: &OpCenter, host: &SimAgent, placement: &GatewayPlacement) -> Result<Self> {
        let identity = Arc::new(Identity::generate()?);
        host.certify(&placement.gateway, &identity).await?;
        Ok(Self {
            id: placement.gateway.clone(),
            client: opcenter.client(Some(identity))?,
            slice: None,
            traffic: BTreeMap::new(),
            quiesced: Vec::new(),
            is_stubborn: false,
            is_cut_off: false,
        })
    }

    /// Lets the gateway never quiesce.
    pub fn refuse_to_quiesce(&mut self) {
        self.is_stubborn = true;
    }

    /// Cuts the gateway off: it neither gets slices nor reports.
    pub fn cut_off(&mut self) {
        self.is_cut_off = true;
    }

    /// Returns whether the gateway is cut off.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The clients of a job's connections, for the test to change.
    pub fn traffic(&mut self, job: &JobId) -> &mut Traffic {
        self.traffic.entry(job.clone()).or_default()
    }

    /// Connects a client to a job.
    pub fn connect_client(&mut self, job: &JobId, address: &str, connected_at: Timestamp) -> Result<()> {
        let address = address.parse().with_context(|| format!("client address `{address}`"))?;
        self.traffic(job).clients.push(ClientObservation { address, connected_at, bytes_in: 0, bytes_out: 0 });
        Ok(())
    }

    /// The gateway's last slice.
    #[must_use]
    pub fn slice(&self) -> Option<&GatewaySlice> {
        self.slice.as_ref()
    }

    /// The directives for a job's connections in the last slice.
    pub fn connections(&self, job: &JobId) -> impl Iterator<Item = &ConnectionDirective> {
        let all = self.slice.iter().flat_map(|slice| &slice.connections);
        all.filter(move |directive| directive.job == *job)
    }

    /// A client with the gateway's certificate.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Opens another watch.
    pub async fn watch(&self) -> Result<Slices<GatewaySlice>> {
        self.client.gateway_slices(&self.id).await.context("watch as a gateway")
    }

    /// Asks for a certificate for the gateway's ports.
    pub async fn ask_for_port_certificate(&self, request: &str) -> Result<String, ClientError> {
        let request = CertificateRequest { certificate_request: request.to_owned() };
        Ok(self.client.gateway_port_certificate(&self.id, &request).await?.certificate)
    }

    /// Takes the current slice from a watch.
    pub(crate) async fn fetch(&mut self) -> Result<()> {
        let mut watch = self.watch().await?;
        let slice = watch.next().await.with_context(|| format!("the watch of {} has ended", self.id))?;
        self.slice = Some(slice.context("read a gateway's slice")?);
        Ok(())
    }

    /// Quiesces where the slice asks for it. Returns whether anything changed.
    pub(crate) fn obey(&mut self) -> bool {
        let before = self.quiesced.clone();
        let asked = |directive: &ConnectionDirective| match &directive.flow {
            Flow::Held { quiesce } => quiesce.clone(),
            Flow::Open => None,
        };
        let migrations = self.slice.iter().flat_map(|slice| slice.connections.iter().filter_map(asked));
        self.quiesced = migrations.filter(|_| !self.is_stubborn).collect();
        self.quiesced != before
    }

    /// Reports what the gateway observes.
    pub async fn report(&self) -> Result<()> {
        let observe = |directive: &ConnectionDirective| {
            let traffic = self.traffic.get(&directive.job).cloned().unwrap_or_default();
            let connection: ConnectionId = directive.connection.clone();
            let Traffic { clients, calling, caller, held, bytes_in, bytes_out } = traffic;
            ConnectionObservation {
                connection,
                problem: None,
                is_port_taken: false,
                clients,
                calling,
                caller,
                held,
                bytes_in,
                bytes_out,
            }
        };
        let quiesced =
            |migration: &MigrationId| Quiesced { migration: migration.clone(), unacknowledged: 0, seconds: 0.001 };
        let report = GatewayReport {
            incarnation: 1,
            replaces: None,
            finished: false,
            sequence: self.slice.as_ref().map_or(0, |slice| slice.sequence),
            quiesced: self.quiesced.iter().map(quiesced).collect(),
            connections: self.slice.iter().flat_map(|slice| slice.connections.iter().map(observe)).collect(),
        };
        let sent = self.client.gateway_report(&self.id, &report).await;
        sent.with_context(|| format!("report as gateway {}", self.id))
    }
}

//! Connections to a job, through its gate.

use std::hash::Hash;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::Target;
use mooring_types::external::EndpointRules;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use crate::clients::ClientRecord;
use crate::gate::Gate;
use crate::gated::GatedStream;
use crate::http::speech::Speech;
use crate::route::{Route, Routes};
use crate::wake::polls::{Noted, Polls};

/// Time limit for a job's port to accept: a server that was just started may not listen yet.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit of an attempt at one address: the kernel sends its SYN three times within it.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two attempts. No event tells that a port begins to listen.
pub(crate) const ATTEMPT_INTERVAL: Duration = Duration::from_millis(100);

/// The time for which a job that listens elsewhere is still waited for: its server may just start.
const UNSERVED_PATIENCE: Duration = Duration::from_secs(2);

/// All that a connection of one client to its job needs.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub routes: Routes,
    pub gate: Arc<Gate>,
    /// The client, for which bytes are counted.
    pub record: Arc<ClientRecord>,
    /// The versions of HTTP that the job speaks, as all clients of the port have found out.
    pub speech: Arc<Speech>,
    /// The requests that the clients of the port repeat.
    pub polls: Arc<Polls>,
}

/// A connection to the job.
#[derive(Debug)]
pub struct Connected {
    pub stream: GatedStream,
    /// The route's epoch when the connection was made.
    pub epoch: u64,
}

/// The end of a connection to the job that neither side has caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The epoch has changed, and the job is ready.
    JobReplaced,
    /// The job has ended.
    JobEnded,
}

impl Upstream {
    /// Connects as soon as the gate is open and the job listens.
    ///
    /// # Errors
    /// The job did not take the connection within [`CONNECT_TIMEOUT`] of an open gate, or has
    /// ended.
    pub async fn connect(&self) -> io::Result<Connected> {
        tokio::select! {
            biased;
            () = self.routes.job_ended() => Err(io::Error::new(io::ErrorKind::NotConnected, "the job has ended")),
            connected = self.connect_with_retries() => connected,
        }
    }

    async fn connect_with_retries(&self) -> io::Result<Connected> {
        let mut refused_since = None;
        loop {
            if !self.gate.is_open() {
                self.gate.opened().await;
                refused_since = None;
            }
            match self.connect_once().await {
                Ok(connected) => return Ok(connected),
                // Another attempt would be refused as well.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(error) if self.gate.is_open() => {
                    if *refused_since.get_or_insert_with(Instant::now) + CONNECT_TIMEOUT < Instant::now() {
                        return Err(error);
                    }
                    tokio::time::sleep(ATTEMPT_INTERVAL).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Takes note of a request, if the job has an idle time.
    pub(crate) fn note(&self, request: impl Hash) -> Option<Noted> {
        self.routes.now().idle.map(|idle| self.polls.note(request, idle))
    }

    /// Connects at once.
    ///
    /// # Errors
    /// The gate is closed, or the job does not take the connection.
    pub async fn connect_once(&self) -> io::Result<Connected> {
        let closed = || io::Error::new(io::ErrorKind::WouldBlock, "the job's gate is closed");
        let _connecting = self.gate.connecting().ok_or_else(closed)?;
        let route = self.routes.now();
        let stream = self.dial(&route).await?;
        Ok(Connected { stream, epoch: route.epoch })
    }

    /// Waits until the job has listened elsewhere than at its target for a while.
    pub async fn unserved(&self) {
        loop {
            self.routes.unserved().await;
            tokio::time::sleep(UNSERVED_PATIENCE).await;
            if !self.routes.now().unserved.is_empty() {
                return;
            }
        }
    }

    /// Waits until a connection that was made in `epoch` has to end.
    pub async fn end(&self, epoch: u64) -> ConnectionEnd {
        self.routes.epoch_passed(epoch).await;
        tokio::select! {
            biased;
            () = self.routes.job_ended() => ConnectionEnd::JobEnded,
            () = self.gate.opened() => ConnectionEnd::JobReplaced,
        }
    }

    /// Waits until the job is back or has ended.
    pub async fn job_settled(&self) {
        tokio::select! {
            () = self.routes.job_ended() => {}
            () = self.gate.opened() => {}
        }
    }

    /// Waits until the job is back or has ended; returns whether its epoch is not `epoch` any more.
    pub async fn job_replaced(&self, epoch: u64) -> bool {
        self.job_settled().await;
        let route = self.routes.now();
        route.ending.is_none() && route.epoch != epoch
    }

    async fn dial(&self, route: &Route) -> io::Result<GatedStream> {
        match &route.target {
            Target::Overlay(address) => self.dial_address(*address).await,
            Target::Endpoints(endpoints) => {
                let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the job has no endpoint"));
                for endpoint in endpoints {
                    let lookup = lookup_host((endpoint.host(), endpoint.port().get()));
                    match timeout(ATTEMPT_TIMEOUT, lookup).await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                        Err(error) => outcome = Err(error),
                        Ok(addresses) => {
                            for address in addresses {
                                // The address is checked that is connected to. A name may resolve
                                // to another one the next time.
                                outcome = match check(&route.gateway.endpoints, address) {
                                    Ok(()) => self.dial_address(address).await,
                                    Err(refused) => Err(refused),
                                };
                                if outcome.is_ok() {
                                    return outcome;
                                }
                            }
                        }
                    }
                }
                outcome
            }
        }
    }

    async fn dial_address(&self, address: SocketAddr) -> io::Result<GatedStream> {
        timeout(ATTEMPT_TIMEOUT, GatedStream::connect(address, &self.gate, &self.record)).await?
    }
}

/// Checks the address of an external job's endpoint.
fn check(rules: &EndpointRules, address: SocketAddr) -> io::Result<()> {
    rules.check(address.ip(), is_own).map_err(|forbidden| {
        let address = address.ip();
        tracing::warn!(
            "an endpoint of an external job has address {address}, {forbidden}; `--external-range {address}` of \
             OpCenter allows it"
        );
        io::Error::new(io::ErrorKind::PermissionDenied, forbidden)
    })
}

/// Returns whether this host has an address: a socket can be bound to its own addresses alone.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

//! Connecting to a job, through its gate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::Target;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use crate::clients::ClientRecord;
use crate::gate::Gate;
use crate::gated::GatedStream;
use crate::route::Routes;

/// How long a job's port may refuse connections before a client is let go: a server that was just started does not listen yet.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long an attempt may take at one address. The kernel sends its first packet three times by then.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// Nobody tells when a port begins to listen.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client's connection to its job needs.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where it leads.
    pub routes: Routes,
    /// The job's gate.
    pub gate: Arc<Gate>,
    /// Whose bytes are counted.
    pub record: Arc<ClientRecord>,
}

/// A connection to the job, and which of the job's lives it belongs to.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: GatedStream,
    /// The route's epoch when it was made.
    pub epoch: u64,
}

/// How a connection to the job comes to an end that neither side has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The job is another one, and ready.
    Another,
    /// The job has ended.
    Over,
}

impl Way {
    /// Connects as soon as the gate is open and the job listens.
    ///
    /// # Errors
    /// The gate has been open for [`CONNECT_LIMIT`], and the job did not take the connection; or the job has ended.
    pub async fn connect(&self) -> io::Result<Connected> {
        tokio::select! {
            biased;
            () = self.routes.over() => Err(io::Error::new(io::ErrorKind::NotConnected, "the job has ended")),
            connected = self.keep_trying() => connected,
        }
    }

    async fn keep_trying(&self) -> io::Result<Connected> {
        let mut refusing_since = None;
        loop {
            if !self.gate.is_open() {
                let _call = self.gate.call();
                self.gate.opened().await;
                refusing_since = None;
            }
            match self.attempt().await {
                Ok(connected) => return Ok(connected),
                Err(error) if self.gate.is_open() => {
                    if *refusing_since.get_or_insert_with(Instant::now) + CONNECT_LIMIT < Instant::now() {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Connects at this moment.
    ///
    /// # Errors
    /// The gate is closed, or the job does not take the connection.
    pub async fn attempt(&self) -> io::Result<Connected> {
        let closed = || io::Error::new(io::ErrorKind::WouldBlock, "the job is away");
        // The gate waits for an attempt that is under way.
        let _connecting = self.gate.connecting().ok_or_else(closed)?;
        let route = self.routes.now();
        let stream = self.dial(&route.target).await?;
        Ok(Connected { stream, epoch: route.epoch })
    }

    /// Resolves when a connection that was made in `epoch` has come to its end.
    pub async fn end(&self, epoch: u64) -> Fate {
        self.routes.pass(epoch).await;
        tokio::select! {
            biased;
            () = self.routes.over() => Fate::Over,
            () = self.gate.opened() => Fate::Another,
        }
    }

    /// Resolves when the job is back, or has ended.
    pub async fn back(&self) {
        tokio::select! {
            () = self.routes.over() => {}
            () = self.gate.opened() => {}
        }
    }

    /// What a side that broke means, once the job is back or has ended: whether the job is another one than in `epoch`.
    pub async fn is_another(&self, epoch: u64) -> bool {
        self.back().await;
        let route = self.routes.now();
        route.ending.is_none() && route.epoch != epoch
    }

    async fn dial(&self, target: &Target) -> io::Result<GatedStream> {
        match target {
            Target::Overlay(address) => self.dial_address(*address).await,
            Target::Endpoints(endpoints) => {
                let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the job has no endpoint"));
                for endpoint in endpoints {
                    let named = timeout(ATTEMPT_LIMIT, lookup_host((endpoint.host(), endpoint.port().get())));
                    match named.await.unwrap_or_else(|limit| Err(limit.into())) {
                        Err(error) => outcome = Err(error),
                        Ok(addresses) => {
                            for address in addresses {
                                outcome = self.dial_address(address).await;
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
        timeout(ATTEMPT_LIMIT, GatedStream::connect(address, &self.gate, &self.record)).await?
    }
}

//! The gateway: one address, with one port for each connected port of a job. The ports stay open
//! when the job migrates.
//!
//! ```text
//!  client ──► listener ──► session ──► tunnel or http ──► job's gate ──► job's address
//!                │                                         ▲
//!                ▼                                         │ open or closed; quiesced
//!             clients ──► report ──► OpCenter ──► watch ──► state
//! ```
//!
//! * [`state`] applies a [`GatewaySlice`](mooring_api::watch::GatewaySlice): it starts and stops
//!   listeners, and opens and closes gates. A connection that the slice does not change is not
//!   touched.
//! * [`gate`] holds the bytes for a job while the job floats. A closed gate sends no segment.
//! * [`route`] is what the clients of a port need to know, by the newest slice.
//! * A connection of a client is a [`client_socket`]: plain, or with [`tls`], which ends here.
//! * [`session`] finds out what a client speaks, with [`detect`], and serves it.
//! * [`http`] forwards requests, and holds them for the job; [`tunnel`] relays the bytes of any
//!   other client. Both connect through [`upstream`], with a [`gated`] stream over a `job_socket`.
//!   Between the two connections [`relay`] moves bytes, [`websocket`] follows frames, and `unsent`
//!   answers the pings of a WebSocket while its job is away.
//! * [`link`] keeps the watch and sends the reports; [`cache`] keeps the newest slice on disk.
//!   Serving depends on neither. A gateway that starts without OpCenter serves the cached slice.
//! * [`handover`] replaces the process under load: a successor takes over the listening sockets,
//!   and connections stay in their process until they end. A process has a role, [`process_role`].
//! * `entry` lets browsers in where a connection takes a login.
//! * [`widget`] is the panel that the gateway adds to pages, and what the panel calls.
//! * [`wake`] tells the clients that want a suspended job from those that are only there.
//! * [`browser`] keeps apart what browsers keep for an address: cookies, storage, service workers.
//! * [`budget`] bounds what clients use.
//! * [`memory`] returns memory to the kernel after a burst of clients.
//! * [`metrics`] and [`access`] count and log; [`admin`] answers Prometheus.
//!
//! The process needs no privilege. Its connection to a job is an ordinary kernel TCP connection,
//! and stays that across a migration: nothing is parsed, buffered or replayed for continuity. One
//! that the job has not accepted is the exception: `job_socket` makes it again.

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod browser;
pub mod budget;
pub mod cache;
pub mod client;
pub mod client_socket;
pub mod clients;
pub mod detect;
mod entry;
pub mod gate;
pub mod gated;
pub mod handover;
mod header_text;
pub mod http;
mod job_socket;
pub mod link;
mod listener;
pub mod memory;
pub mod metrics;
mod page;
pub mod process_role;
pub mod proxy_line;
mod read_ahead;
pub mod relay;
pub mod route;
pub mod session;
pub mod shared;
pub mod socket;
pub mod state;
pub mod tls;
pub mod tunnel;
mod unsent;
pub mod upstream;
pub mod wake;
pub mod websocket;
pub mod widget;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_api::{Client, ClientError};
use mooring_ops::Lifecycle;
use mooring_ops::log::chain;
use mooring_tls::{Identity, Trust};
use mooring_types::GatewayId;

use crate::handover::{HandoverError, Takeover};
use crate::metrics::Metrics;
use crate::process_role::ProcessRole;
use crate::shared::Shared;
use crate::state::Gateway;
use crate::widget::OpCenterLink;

/// The file with key and certificate, in the state directory.
const IDENTITY: &str = "identity.pem";
/// The interval between two looks at that file.
const IDENTITY_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of the last report.
const FINAL_REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The configuration of a gateway process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The URL of OpCenter.
    pub opcenter: String,
    pub gateway: GatewayId,
    /// The certificates by which the gateway believes OpCenter.
    pub trust: Trust,
    /// The directory of the cached slice, the hand-over socket, and the key and certificate that
    /// the agent of the host renews.
    pub state_dir: PathBuf,
    pub start: Start,
    /// The address of the admin endpoint; port 0 is any free port.
    pub admin: SocketAddr,
}

/// The source of a gateway process's listening sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No process serves: the process opens its own sockets.
    Alone,
    /// Another process of the gateway serves, and hands its sockets over.
    TakeOver,
}

/// A gateway that can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't make a client for OpCenter")]
    Client(#[from] ClientError),
    #[error("can't make a key")]
    Key(#[from] mooring_tls::Error),
    #[error("can't take over from the serving process")]
    HandOver(#[from] HandoverError),
    /// A task of the start panicked.
    #[error("the start was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Serves until the lifecycle stops, or until a successor serves and the last connection has ended.
///
/// # Errors
/// No client for OpCenter could be made, or the hand-over failed. An unreachable OpCenter is no
/// error.
pub async fn run(config: Config, lifecycle: Lifecycle) -> Result<(), Error> {
    let (path, identity) = (config.state_dir.join(IDENTITY), identity(&config.state_dir)?);
    let client = Client::for_daemon(&config.opcenter, config.trust.clone(), Some(Arc::clone(&identity)))?;
    let (gateway, predecessor) = open(&config, &client, &lifecycle).await?;
    if let Some(predecessor) = predecessor {
        tokio::task::spawn_blocking(move || handover::confirm_serving(&predecessor)).await??;
    }
    tokio::select! {
        () = async {
            certified(&identity).await;
            tokio::join!(
                link::watch(&client, &config.gateway, &gateway, &config.state_dir),
                link::report(&client, &config.gateway, &gateway),
                tls::own::keep_certified(&client, &config.gateway, &config.state_dir, gateway.tls()),
            );
        } => {}
        () = follow(&identity, &path) => {}
        () = gateway.retry_listeners() => {}
        () = memory::trim_after_bursts(&gateway) => {}
        () = serve_successors(&config, &gateway) => {}
        () = admin::serve(config.admin, &config.state_dir, &gateway) => {}
        () = gateway.role().done() => tracing::info!("the last connection has ended, stopping"),
        () = lifecycle.soft().cancelled() => {}
    }
    gateway.close();
    // Nothing waits for this report. An unreachable OpCenter notices the end by missing reports.
    let report = gateway.final_report();
    let send = client.gateway_report(&config.gateway, &report);
    if let Ok(Err(error)) = tokio::time::timeout(FINAL_REPORT_TIMEOUT, send).await {
        tracing::debug!(error = %chain(&error), "can't send the last report");
    }
    Ok(())
}

/// Returns the gateway's key and certificate. Without the agent's file, a key that OpCenter does
/// not know: the gateway serves what it has in its cache.
fn identity(state_dir: &Path) -> Result<Arc<Identity>, Error> {
    let loaded = Identity::load(&state_dir.join(IDENTITY)).or_else(|error| {
        tracing::warn!(error = %chain(&error), "starting without a certificate");
        Identity::generate()
    });
    Ok(Arc::new(loaded?))
}

/// Waits until there is a certificate. A connection shows the one that there was when it began.
async fn certified(identity: &Identity) {
    while identity.certificate().is_none() {
        tokio::time::sleep(IDENTITY_INTERVAL).await;
    }
}

/// Takes each new certificate that the agent writes, for ever.
async fn follow(identity: &Identity, path: &Path) {
    let changed_at = || std::fs::metadata(path).and_then(|found| found.modified()).ok();
    let mut known = changed_at();
    loop {
        tokio::time::sleep(IDENTITY_INTERVAL).await;
        let current = changed_at();
        if current == known {
            continue;
        }
        match identity.reload(path) {
            Ok(()) => known = current,
            Err(error) => tracing::warn!(error = %chain(&error), "can't read the new certificate"),
        }
    }
}

/// Opens a gateway that serves; with the connection to its predecessor, if it has one.
async fn open(config: &Config, client: &Client, lifecycle: &Lifecycle) -> Result<(Gateway, Option<UnixStream>), Error> {
    let state_dir = config.state_dir.clone();
    let (mut slice, sockets, predecessor) = match config.start {
        Start::Alone => (None, HashMap::new(), None),
        Start::TakeOver => {
            let takeover = tokio::task::spawn_blocking(move || handover::take_over(&state_dir)).await??;
            tracing::info!("took over {} ports", takeover.sockets.len());
            let Takeover { slice, sockets, predecessor } = takeover;
            (slice, sockets, Some(predecessor))
        }
    };
    if slice.is_none() {
        slice = cache::load(&config.state_dir).unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "starting without the cached slice");
            None
        });
    }
    let replaces = match config.start {
        Start::Alone => handover::last_serving(&config.state_dir).map(|last| last.incarnation),
        Start::TakeOver => None,
    };
    let shared = Shared {
        role: ProcessRole::new(rand::random(), replaces, sockets),
        metrics: Metrics::new(&config.gateway),
        opcenter: OpCenterLink::new(client.clone(), config.gateway.clone()),
        ..Shared::new(lifecycle.tasks().clone())
    };
    tls::own::load(&config.state_dir, &shared.tls);
    let gateway = Gateway::new(shared, lifecycle.soft());
    if let Some(slice) = slice.filter(|slice| slice.gateway == config.gateway) {
        gateway.apply(slice);
    }
    Ok((gateway, predecessor))
}

/// Answers successors until one has taken over, then waits for ever.
async fn serve_successors(config: &Config, gateway: &Gateway) {
    match handover::listen(&config.state_dir, gateway.role().incarnation) {
        Ok(listener) => handover::serve_successors(gateway, listener).await,
        Err(error) => tracing::error!(%error, "no successor can take over from this process"),
    }
    std::future::pending().await
}

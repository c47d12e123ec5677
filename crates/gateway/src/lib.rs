//! The gateway: one address, one port for each connected port of a job, kept open whatever happens to the job's host.
//!
//! ```text
//!  client ──► listener ──► detect ──► tunnel or http ──► gate of the job ──► the job's own address
//!                │                                          ▲
//!                ▼                                          │ open / held (and: tell when nothing is unacknowledged)
//!             clients ──► report ──► OpCenter ──► watch ──► state
//! ```
//!
//! * [`state`] makes a [`GatewaySlice`](mooring_api::watch::GatewaySlice) so: it starts and stops listeners by key, and opens and closes
//!   gates. A connection that the slice does not change is not touched.
//! * [`gate`] is where bytes wait while a job floats. Once it is closed, not one more segment leaves for the job.
//! * [`route`] is what the clients of a port need to know, as the newest slice says. [`detect`] tells what a client speaks.
//! * [`http`] forwards requests, and has them wait for the job; [`tunnel`] carries the bytes of any other client. Both reach the job by
//!   [`connect`], over a [`gated`] stream; [`relay`] moves bytes between the two sides, [`websocket`] finds where its frames end.
//! * [`link`] holds the watch and sends the reports; [`cache`] keeps the last good slice on disk. Serving depends on neither: a gateway
//!   that starts while OpCenter is away serves what it knew last.
//!
//! * [`handover`] replaces the process under load: a successor takes the listening sockets over, and the connections end in the process
//!   that they began in. [`seat`] is which of the two this process is.
//! * [`widget`] is what the gateway puts into the pages of jobs, and what that asks of it.
//! * [`fuzz`] says what must hold whatever a stranger sends.
//! * [`memory`] gives back what a burst of clients took.
//! * [`metrics`] and [`access`] are what is counted and logged of it, [`admin`] is where Prometheus asks.
//!
//! The process needs no privilege. Its connection to a job is an ordinary kernel TCP connection, before a move and after it: nothing
//! is parsed, buffered or replayed for continuity.

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod cache;
pub mod clients;
pub mod connect;
pub mod detect;
pub mod fuzz;
pub mod gate;
pub mod gated;
pub mod handover;
pub mod http;
pub mod link;
mod listener;
pub mod memory;
pub mod metrics;
pub mod relay;
pub mod route;
pub mod seat;
pub mod state;
pub mod tunnel;
pub mod websocket;
pub mod widget;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use mooring_api::{Client, ClientError};
use mooring_ops::Lifecycle;
use mooring_types::GatewayId;

use crate::handover::{HandoverError, Taken};
use crate::metrics::Metrics;
use crate::seat::Seat;
use crate::state::Gateway;
use crate::widget::Desk;

/// How long the last report may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a gateway process is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// OpCenter's address.
    pub opcenter: String,
    /// Which gateway this is.
    pub gateway: GatewayId,
    /// The token for its watch and its reports.
    pub token: String,
    /// Where the last good slice is kept.
    pub state_dir: PathBuf,
    /// Where it finds its ports.
    pub start: Start,
    /// Where it answers about itself; any free port when 0.
    pub admin: SocketAddr,
}

/// Where a gateway process finds its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nobody serves: it opens them.
    Alone,
    /// Another process of the gateway serves, and hands them over.
    TakeOver,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client for OpCenter could not be made.
    #[error("can't make a client for OpCenter")]
    Client(#[from] ClientError),
    /// The process that serves did not hand over.
    #[error("can't take over from the process that serves")]
    HandOver(#[from] HandoverError),
    /// A task of the start has panicked.
    #[error("the start was broken off")]
    Broken(#[from] tokio::task::JoinError),
}

/// Serves until the lifecycle is asked to stop, or until a successor serves and the last connection has ended.
///
/// # Errors
/// The client for OpCenter could not be made, or the process that serves did not hand over. That OpCenter is away is no error.
pub async fn run(config: Config, lifecycle: Lifecycle) -> Result<(), Error> {
    let client = Client::new(&config.opcenter)?.with_token(config.token.clone());
    let (gateway, predecessor) = open(&config, &client, &lifecycle).await?;
    if let Some(predecessor) = predecessor {
        tokio::task::spawn_blocking(move || Taken::serve(&predecessor)).await??;
    }
    tokio::select! {
        () = link::watch(&client, &config.gateway, &gateway, &config.state_dir) => {}
        () = link::report(&client, &config.gateway, &gateway) => {}
        () = gateway.retry_listeners() => {}
        () = memory::watch(&gateway) => {}
        () = attend(&config, &gateway) => {}
        () = admin::serve(config.admin, &config.state_dir, &gateway) => {}
        () = gateway.seat().done() => tracing::info!("the last connection has ended: this process has nothing left to do"),
        () = lifecycle.soft().cancelled() => {}
    }
    gateway.close();
    // Nobody waits for it then; where OpCenter is away it finds out by itself.
    let last = gateway.farewell();
    let farewell = client.gateway_report(config.gateway.as_str(), &last);
    if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, farewell).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the last report did not arrive");
    }
    Ok(())
}

/// A gateway that serves, and whom to tell so.
async fn open(config: &Config, client: &Client, lifecycle: &Lifecycle) -> Result<(Gateway, Option<UnixStream>), Error> {
    let state_dir = config.state_dir.clone();
    let (mut slice, sockets, predecessor) = match config.start {
        Start::Alone => (None, HashMap::new(), None),
        Start::TakeOver => {
            let taken = tokio::task::spawn_blocking(move || handover::take(&state_dir)).await??;
            tracing::info!("{} ports are handed over", taken.sockets.len());
            let (slice, sockets, predecessor) = taken.into_parts();
            (slice, sockets, Some(predecessor))
        }
    };
    if slice.is_none() {
        slice = cache::load(&config.state_dir).unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "starting without the cached slice");
            None
        });
    }
    let replaces = match config.start {
        Start::Alone => handover::last_serving(&config.state_dir).map(|last| last.incarnation),
        Start::TakeOver => None,
    };
    let seat = Seat::new(rand::random(), replaces, sockets);
    let gateway = Gateway::new(lifecycle.tasks().clone(), lifecycle.soft().clone())
        .seated(seat)
        .counted(Metrics::new(&config.gateway))
        .asking(Desk::new(client.clone()));
    if let Some(slice) = slice.filter(|slice| slice.gateway == config.gateway) {
        gateway.apply(slice);
    }
    Ok((gateway, predecessor))
}

/// Has the door open until a successor has taken over, and then waits for ever.
async fn attend(config: &Config, gateway: &Gateway) {
    match handover::open_door(&config.state_dir, gateway.seat().incarnation) {
        Ok(door) => handover::attend(gateway, door).await,
        Err(error) => tracing::error!(%error, "no successor can take over from this process"),
    }
    std::future::pending().await
}

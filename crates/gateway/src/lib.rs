//! The gateway: one address, one port for each connected port of a job, kept open whatever happens to the job's host.
//!
//! ```text
//!  client ──► listener ──► tunnel ──► gate of the job ──► the job's own address
//!                            │            ▲
//!                            ▼            │ open / held (and: tell when nothing is unacknowledged)
//!                         clients ──► report ──► OpCenter ──► watch ──► state
//! ```
//!
//! * [`state`] makes a [`GatewaySlice`](mooring_api::watch::GatewaySlice) so: it starts and stops listeners by key, and opens and closes
//!   gates. A connection that the slice does not change is not touched.
//! * [`gate`] is where bytes wait while a job floats. Once it is closed, not one more segment leaves for the job.
//! * [`tunnel`] carries the bytes of one client.
//! * [`link`] holds the watch and sends the reports; [`cache`] keeps the last good slice on disk. Serving depends on neither: a gateway
//!   that starts while OpCenter is away serves what it knew last.
//!
//! The process needs no privilege. Its connection to a job is an ordinary kernel TCP connection, before a move and after it: nothing
//! is parsed, buffered or replayed for continuity.

#![forbid(unsafe_code)]

pub mod cache;
pub mod clients;
pub mod gate;
pub mod link;
pub mod state;
pub mod tunnel;

use std::path::PathBuf;

use mooring_api::{Client, ClientError};
use mooring_ops::Lifecycle;
use mooring_types::GatewayId;

use crate::state::Gateway;

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
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client for OpCenter could not be made.
    #[error("can't make a client for OpCenter")]
    Client(#[from] ClientError),
}

/// Serves until the lifecycle is asked to stop.
///
/// # Errors
/// The client for OpCenter could not be made. That OpCenter is away is no error.
pub async fn run(config: Config, lifecycle: Lifecycle) -> Result<(), Error> {
    let client = Client::new(&config.opcenter)?.with_token(config.token);
    let gateway = Gateway::new(lifecycle.tasks().clone(), lifecycle.soft().clone());
    match cache::load(&config.state_dir) {
        Ok(Some(slice)) if slice.gateway == config.gateway => gateway.apply(slice),
        Ok(_) => {}
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "starting without the cached slice"),
    }
    tokio::select! {
        () = link::watch(&client, &config.gateway, &gateway, &config.state_dir) => {}
        () = link::report(&client, &config.gateway, &gateway) => {}
        () = gateway.retry_listeners() => {}
        () = lifecycle.soft().cancelled() => {}
    }
    gateway.close();
    Ok(())
}

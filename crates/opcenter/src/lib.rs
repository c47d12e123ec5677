//! OpCenter: the control plane.
//!
//! ```text
//!  users ──► api ──► usecase ──► database (desired state)
//!                                  │
//!  agents, gateways ──► report ──► observed state (memory)
//!                                  │
//!                              reconcile ──► slices ──► watch ──► agents, gateways
//! ```
//!
//! OpCenter calls nobody. `reconcile` is one task that wakes at each request and each report, reads all state, decides (placement, job
//! status, stage of each migration), commits, and publishes to every host and gateway its slice of desired state. After a restart all hosts
//! and gateways report again, and the next pass continues from the last commit.
//!
//! | wing | holds |
//! |---|---|
//! | `api` | HTTP handlers |
//! | `auth` | users, sessions and tokens of requests |
//! | `usecase` | what users, hosts and gateways can ask for; one transaction each |
//! | `reconcile` | the background tasks: decisions that follow from state and time |
//! | `decide` | the decisions themselves, as pure functions |
//! | `state` | the shared data: database, observed state, output of jobs, keys |
//! | `view` | what users and Prometheus read |
//!
//! This file opens everything.

#![forbid(unsafe_code)]

mod api;
mod auth;
mod config;
mod decide;
mod error;
mod reconcile;
mod state;
mod usecase;
mod view;

pub use api::openapi;
pub use config::Config;
pub use error::Error;

use std::fs;
use std::future::IntoFuture;
use std::path::Path;
use std::sync::Arc;

use mooring_api::watch::StoreAccess;
use mooring_capsule::SealKey;
use mooring_ops::{Lifecycle, file};
use mooring_store::Store;
use mooring_types::Clock;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::reconcile::{janitor, usage};
use crate::state::context::Context;
use crate::state::logs::Logs;
use crate::state::observed::Observed;
use crate::state::token::new_token;
use crate::state::vault::Vault;

/// The database's name in the state directory.
const DATABASE: &str = "opcenter.db";

/// Checks that a state directory can be used: it is new, or of this version or an older one.
///
/// # Errors
/// It can't be read or is of a newer version.
pub async fn check_state(state_dir: &Path) -> Result<(), Error> {
    let path = state_dir.join(DATABASE);
    if path.exists() {
        Store::open(&path).await?.close().await;
    }
    Ok(())
}

/// Serves at the configured addresses until the lifecycle is asked to stop.
///
/// # Errors
/// The state directory or a port can't be used, or the server fails.
pub async fn run(config: Config, clock: Arc<dyn Clock>, lifecycle: Lifecycle) -> Result<(), Error> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::System { attempt: format!("listen at {address}"), source })?;
        listeners.push(listener);
    }
    serve(listeners, config, clock, lifecycle).await
}

/// Serves at bound sockets until the lifecycle is asked to stop.
///
/// # Errors
/// The state directory can't be used, or the server fails.
pub async fn serve(
    listeners: Vec<TcpListener>,
    config: Config,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
) -> Result<(), Error> {
    let context = open(config, clock).await?;
    let stop = lifecycle.soft().clone();
    let reconciler = lifecycle.tasks().spawn("reconcile", reconcile::run(context.clone(), stop.clone()));
    let janitor = lifecycle.tasks().spawn("janitor", janitor::run(context.clone(), stop.clone()));
    let tidier = lifecycle.tasks().spawn("usage", usage::tidy(context.clone(), stop.clone()));
    let router = api::router(context.clone(), stop.clone());
    let servers = listeners.into_iter().map(|listener| {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "OpCenter serves at http://{address}");
        }
        axum::serve(listener, router.clone()).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future()
    });
    let served = futures_util::future::try_join_all(servers).await;
    lifecycle.stop();
    // A task that could not be awaited has panicked, and the lifecycle knows.
    let _ = (reconciler.await, janitor.await, tidier.await);
    context.store.close().await;
    served.map(drop).map_err(|source| Error::System { attempt: "serve".into(), source })
}

/// Opens the state directory, made at the first start with an admin and a join token.
async fn open(mut config: Config, clock: Arc<dyn Clock>) -> Result<Context, Error> {
    fs::create_dir_all(config.state_dir.join("logs")).map_err(|source| Error::System {
        attempt: format!("make state directory {}", config.state_dir.display()),
        source,
    })?;
    let store = Store::open(&config.state_dir.join(DATABASE)).await?;
    auth::ensure_admin(&store, &config.state_dir, clock.now()).await?;
    let path = config.state_dir.join("join-token");
    let join_token = file::secret(&path, || Ok(new_token())).map_err(|source| Error::secret_file(&path, source))?;
    if let Some(access) = &mut config.store {
        open_capsule_store(access, &config.state_dir)?;
    }
    Ok(Context {
        logs: Arc::new(Logs::new(&config.state_dir)),
        vault: Arc::new(Vault::open(&config.state_dir)?),
        login_throttle: Arc::default(),
        config: Arc::new(config),
        store,
        start_time: clock.now(),
        observed: Arc::new(Observed::new(clock.monotonic()).into()),
        clock,
        join_token: join_token.into(),
        published: watch::Sender::default(),
        moments: watch::Sender::default(),
        wake: Arc::default(),
    })
}

/// Checks that the capsule store can be opened, and adds its seal key to what hosts are given.
fn open_capsule_store(access: &mut StoreAccess, state_dir: &Path) -> Result<(), Error> {
    let seal = state_dir.join("seal-key");
    match janitor::open(access) {
        Ok(_) => {}
        // At the first start the configuration is wrong; later the store is unreachable and will come back.
        Err(error) if !seal.exists() => return Err(error.into()),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the capsule store is unreachable: it is tried again"
            );
        }
    }
    access.seal = SealKey::load_or_create(&seal)?.to_hex();
    Ok(())
}

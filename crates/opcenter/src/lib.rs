//! OpCenter: the control plane.
//!
//! ```text
//!  users ──► api ──► usecase ──► store (what is desired, what was decided)
//!                                  │
//!  agents, gateways ──► report ──► observed (memory)
//!                                  │
//!                              reconcile ──► slices ──► watch ──► agents, gateways
//! ```
//!
//! A control plane of states: OpCenter calls nobody. [`reconcile`] is one task that wakes whenever something was asked for or
//! observed, reads everything, decides (placement, the status of each job, the stage of each move), commits, and publishes to every host
//! and gateway the slice of desired state that follows. Slices are a pure function of what the store holds: see [`slices`]. After a
//! restart everyone reports again and the next pass goes on where the last decision was committed.

#![forbid(unsafe_code)]

mod advice;
mod api;
mod attempts;
mod auth;
mod center;
mod drain;
mod error;
mod farewell;
mod idle;
mod janitor;
mod logs;
mod metrics;
mod moves;
mod observed;
mod reconcile;
mod request;
mod slices;
mod snapshot;
mod status;
mod templates;
mod transit;
mod usage;
mod usecase;
mod vault;
mod views;

pub use api::openapi;
pub use error::Error;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use mooring_api::watch::{Backend, StoreAccess};
use mooring_ops::Lifecycle;
use mooring_store::Store;
use mooring_types::address::Overlay;

use crate::center::Center;

/// The database's name in the state directory.
const DATABASE: &str = "opcenter.db";

/// What an OpCenter is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its state is kept.
    pub state_dir: PathBuf,
    /// Where it listens; the first address is the one it is known by.
    pub listen: Vec<SocketAddr>,
    /// The overlay's addresses.
    pub overlay: Overlay,
    /// How hosts reach each other's jobs.
    pub backend: Backend,
    /// Where capsules are kept, if they are; its seal is kept in the state directory and not given.
    pub store: Option<StoreAccess>,
    /// JupyterLab's virtual environment, for the template.
    pub jupyter: PathBuf,
    /// The image that the template runs in, in place of that.
    pub jupyter_image: Option<String>,
    /// The directories of hosts that everybody's jobs may mount; an admin's may mount any.
    pub volume_paths: Vec<PathBuf>,
    /// How many jobs at once leave a host that is drained.
    pub drain_at_once: NonZeroUsize,
}

impl Config {
    /// Whether there is a place for capsules.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }
}

/// Whether a state directory can be used: it is new, or of this version or an older one.
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

/// Serves until the lifecycle is asked to stop.
///
/// # Errors
/// The state directory or a port can't be used, or the server fails.
pub async fn run(config: Config, lifecycle: Lifecycle) -> Result<(), Error> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| Error::System { attempt: format!("listen at {address}"), source })?;
        listeners.push(listener);
    }
    let center = Center::open(config).await?;
    let stop = lifecycle.soft().clone();
    let reconciler = lifecycle.tasks().spawn("reconcile", reconcile::run(center.clone(), stop.clone()));
    let janitor = lifecycle.tasks().spawn("janitor", janitor::run(center.clone(), stop.clone()));
    let tidier = lifecycle.tasks().spawn("usage", usage::tidy(center.clone(), stop.clone()));
    let router = api::router(center.clone(), stop.clone());
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
    center.store.close().await;
    served.map(drop).map_err(|source| Error::System { attempt: "serve".into(), source })
}

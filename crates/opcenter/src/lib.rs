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
//! OpCenter calls nobody. `reconcile` is one task that each request and each report wakes. It reads
//! all state, decides (placement, job status, stage of each migration), commits, and publishes the
//! slices of hosts and gateways. After a restart all hosts and gateways report again, and the next
//! pass continues from the last commit.
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
use mooring_ops::log::chain;

use std::fs;
use std::future::IntoFuture;
use std::io;
use std::os::unix::fs::PermissionsExt;
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
    make_state_dir(&config.state_dir).map_err(|source| Error::System {
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

/// Makes the state directory for its owner alone. An existing one that others could enter is closed
/// to them, with all that it holds.
fn make_state_dir(state_dir: &Path) -> io::Result<()> {
    let was_open = fs::metadata(state_dir).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    file::private_dir(state_dir)?;
    // Nobody else can reach these any more, so what belongs to another user need not stop OpCenter.
    if was_open && let Err(error) = file::private_tree(state_dir) {
        tracing::warn!(%error, "can't close all files in {} to other users", state_dir.display());
    }
    file::private_dir(&state_dir.join("logs"))
}

/// Checks that the capsule store can be opened, and adds its seal key to what hosts are given.
fn open_capsule_store(access: &mut StoreAccess, state_dir: &Path) -> Result<(), Error> {
    let seal = state_dir.join("seal-key");
    match janitor::open(access) {
        Ok(_) => {}
        // At the first start the configuration is wrong; later the store will come back.
        Err(error) if !seal.exists() => return Err(error.into()),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the capsule store is unreachable; trying again");
        }
    }
    access.seal = SealKey::load_or_create(&seal)?.to_hex();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::PathBuf;

    use mooring_types::address::Overlay;
    use mooring_types::{ManualClock, Timestamp};

    use super::*;

    fn config(state_dir: &Path) -> Config {
        Config {
            state_dir: state_dir.to_owned(),
            listen: Vec::new(),
            overlay: Overlay::new("100.64.0.0/10".parse().unwrap()).unwrap(),
            backend: Default::default(),
            store: None,
            jupyter: "/venv".into(),
            jupyter_image: None,
            volume_paths: Vec::new(),
            image_paths: Vec::new(),
            drain_at_once: NonZeroUsize::MIN,
        }
    }

    /// Returns every path from `root` down that others than its owner may use.
    fn open_to_others(root: &Path) -> Vec<PathBuf> {
        let mut open = Vec::new();
        let mut paths = vec![root.to_owned()];
        while let Some(path) = paths.pop() {
            let found = fs::metadata(&path).unwrap();
            if found.is_dir() {
                paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            if found.permissions().mode() & 0o077 != 0 {
                open.push(path);
            }
        }
        open
    }

    #[tokio::test]
    async fn state_directory_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let (new, old) = (directory.path().join("a/new"), directory.path().join("old"));
        let results = old.join("logs/job/results");
        fs::create_dir_all(&results).unwrap();
        for file in [results.join("x"), old.join("opcenter.db"), old.join("opcenter.db-wal")] {
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        for path in [&old, &results] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for state_dir in [new, old] {
            let context = open(config(&state_dir), clock.clone()).await.unwrap();
            let job = mooring_types::JobId::random(&mut rand::rng());
            context.logs.append(&job, &mooring_types::job::OutputFile::Stdout, 0, b"hello").unwrap();
            assert_eq!(open_to_others(&state_dir), Vec::<PathBuf>::new());
            assert!(state_dir.join("opcenter.db-wal").exists());
            context.store.close().await;
        }
    }
}

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
//! OpCenter calls nobody but the OpenID provider of its users and the ACME server of its
//! certificate, if there are such. `reconcile` is one task that each request and each report wakes.
//! It reads all state, decides (placement, job status, stage of each migration), commits, and
//! publishes the slices of hosts and gateways. After a restart all hosts and gateways report again,
//! and the next pass continues from the last commit.
//!
//! | wing | holds |
//! |---|---|
//! | `acme` | OpCenter's certificate from an ACME server |
//! | `api` | HTTP handlers |
//! | `audit` | the lasting record of requests that change something |
//! | `auth` | users, sessions and tokens of requests |
//! | `oidc` | sign-in by an OpenID provider |
//! | `usecase` | what users, hosts and gateways can ask for; one transaction each |
//! | `reconcile` | the background tasks: decisions that follow from state and time |
//! | `decide` | the decisions themselves, as pure functions |
//! | `state` | the shared data: database, observed state, output of jobs, keys |
//! | `view` | what users and Prometheus read |
//! | `web` | the pages for browsers |
//!
//! This file opens everything.

#![forbid(unsafe_code)]

mod acme;
mod api;
mod audit;
mod auth;
mod config;
mod decide;
mod error;
mod oidc;
mod reconcile;
mod server;
mod state;
mod tls;
mod usecase;
mod view;
mod web;

pub use api::openapi;
pub use config::{AcmeConfig, Config, OidcConfig};
pub use error::Error;
use mooring_ops::log::chain;
pub use web::{Access, WebRoute, web_routes};

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use mooring_api::watch::StoreAccess;
use mooring_capsule::CapsuleKey;
use mooring_ops::{Lifecycle, file};
use mooring_store::Store;
use mooring_tls::Authority;
use mooring_types::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::acme::Acme;
use crate::oidc::Oidc;
use crate::reconcile::{janitor, usage};
use crate::server::Server;
use crate::state::context::Context;
use crate::state::logs::Logs;
use crate::state::observed::Observed;
use crate::state::token::new_token;
use crate::state::vault::Vault;
use crate::usecase::key;

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
/// The state directory or a port can't be used.
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
/// The state directory can't be used.
pub async fn serve(
    listeners: Vec<TcpListener>,
    config: Config,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
) -> Result<(), Error> {
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let context = open(config, clock).await?;
    let stop = lifecycle.soft().clone();
    let certificate = Arc::new(tls::certificate(&context, &addresses)?);
    let keeper = lifecycle.tasks().spawn("certificate", tls::keep(Arc::clone(&certificate), stop.clone()));
    let acme = context.config.acme.clone().map(|acme| {
        let acme = Acme::new(acme, &context.config.state_dir);
        lifecycle.tasks().spawn("acme", acme.keep(Arc::clone(&certificate), stop.clone()))
    });
    let reconciler = lifecycle.tasks().spawn("reconcile", reconcile::run(context.clone(), stop.clone()));
    let janitor = lifecycle.tasks().spawn("janitor", janitor::run(context.clone(), stop.clone()));
    let tidier = lifecycle.tasks().spawn("usage", usage::tidy(context.clone(), stop.clone()));
    let scribe = lifecycle.tasks().spawn("audit", reconcile::audit::tidy(context.clone(), stop.clone()));
    let router = api::router(context.clone(), stop.clone(), lifecycle.tasks().clone());
    let tls = mooring_tls::server_config(&context.authority, certificate)?.into();
    let trusted = context.config.trusted_proxies.clone().into();
    let server = Server { router, tls, daemons: Arc::clone(&context.daemons), trusted };
    for address in addresses {
        tracing::info!(%address, "OpCenter serves at https://{address}");
    }
    tracing::info!("OpCenter's authority is {}", context.authority.fingerprint());
    let servers = listeners.into_iter().map(|listener| server::serve(listener, server.clone(), stop.clone()));
    futures_util::future::join_all(servers).await;
    lifecycle.stop();
    // A task that could not be awaited has panicked, and the lifecycle knows.
    let _ = (reconciler.await, janitor.await, tidier.await, scribe.await, keeper.await);
    if let Some(acme) = acme {
        let _ = acme.await;
    }
    context.store.close().await;
    Ok(())
}

/// Opens the state directory, made at the first start with an admin and a join token.
async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Context, Error> {
    make_state_dir(&config.state_dir).map_err(|source| Error::System {
        attempt: format!("make state directory {}", config.state_dir.display()),
        source,
    })?;
    let is_first_start = !config.state_dir.join(DATABASE).exists();
    let store = Store::open(&config.state_dir.join(DATABASE)).await?;
    auth::ensure_admin(&store, &config.state_dir, clock.now()).await?;
    let join_token = if config.shared_join_token { Some(shared_join_token(&config.state_dir)?.into()) } else { None };
    if let Some(access) = &config.store {
        check_capsule_store(access, is_first_start)?;
    }
    let oidc = config.oidc.clone().map(Oidc::new).transpose()?.map(Arc::new);
    let vault = open_vault(&store, &config.state_dir).await?;
    give_capsule_keys(&store, &vault, &config.state_dir).await?;
    let authority = Authority::open(&config.state_dir, SystemClock.now())?;
    Ok(Context {
        authority: Arc::new(authority),
        daemons: Arc::default(),
        logs: Arc::new(Logs::new(&config.state_dir)),
        vault: Arc::new(vault),
        login_pace: Arc::default(),
        login_links: Arc::default(),
        job_codes: Arc::default(),
        entry_codes: Arc::default(),
        login_requests: Arc::default(),
        oidc,
        config: Arc::new(config),
        store,
        start_time: clock.now(),
        observed: Arc::new(Observed::new(clock.monotonic()).into()),
        traffic: Arc::default(),
        clock,
        join_token,
        published: watch::Sender::default(),
        moments: watch::Sender::default(),
        requests: Arc::default(),
        requests_seen: Arc::default(),
        wake: Arc::default(),
    })
}

/// Returns the token with which every host may join, which the state directory keeps.
fn shared_join_token(state_dir: &Path) -> Result<String, Error> {
    let path = state_dir.join("join-token");
    file::secret(&path, || Ok(new_token())).map_err(|source| Error::secret_file(&path, source))
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

/// Checks that the capsule store can be opened.
fn check_capsule_store(access: &StoreAccess, is_first_start: bool) -> Result<(), Error> {
    match janitor::open(access) {
        Ok(_) => Ok(()),
        // At the first start the configuration is wrong; later the store will come back.
        Err(error) if is_first_start => Err(error.into()),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the capsule store is unreachable; trying again");
            Ok(())
        }
    }
}

/// Opens the vault, and records the id of its key.
async fn open_vault(store: &Store, state_dir: &Path) -> Result<Vault, Error> {
    let mut tx = store.begin().await?;
    let in_use = tx.setting_get(key::IN_USE).await?;
    let vault = Vault::open(state_dir, in_use.as_deref())?;
    if in_use.as_deref() != Some(vault.present().id()) {
        tx.setting_set(key::IN_USE, vault.present().id()).await?;
        tx.commit().await?;
    }
    Ok(vault)
}

/// Gives the jobs of an earlier version their capsule keys: the cluster's capsule key, with which
/// their capsules were made.
async fn give_capsule_keys(store: &Store, vault: &Vault, state_dir: &Path) -> Result<(), Error> {
    let seal_key = state_dir.join("seal-key");
    if !seal_key.exists() {
        return Ok(());
    }
    let key = CapsuleKey::load(&seal_key)?;
    let mut tx = store.begin().await?;
    for job in tx.job_list_live().await?.iter().filter(|job| job.capsule_key.is_none()) {
        tx.job_capsule_key_set(&job.id, &vault.seal_capsule_key(&job.id, &key)?).await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mooring_types::{ManualClock, Timestamp};

    use super::*;

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
            let context = open(Config::new(&state_dir), clock.clone()).await.unwrap();
            let job = mooring_types::JobId::random(&mut rand::rng());
            context.logs.append(&job, &mooring_types::job::OutputFile::Stdout, 0, b"hello").unwrap();
            assert_eq!(open_to_others(&state_dir), Vec::<PathBuf>::new());
            assert!(state_dir.join("opcenter.db-wal").exists());
            context.store.close().await;
        }
    }
}

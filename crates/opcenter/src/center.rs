//! What every part of OpCenter shares.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mooring_capsule::SealKey;
use mooring_store::Store;
use mooring_types::{Clock, GatewayId, HostId, SystemClock, Timestamp};
use tokio::sync::{Notify, watch};

use crate::attempts::Attempts;
use crate::logs::Logs;
use crate::observed::Observed;
use crate::reconcile::Followed;
use crate::vault::Vault;
use crate::{Config, Error, auth, janitor};

/// The slices in force: for each watcher the slice without its sequence, to be compared, and the line that it gets.
#[derive(Debug, Default, Clone)]
pub(crate) struct Published {
    pub(crate) sequence: u64,
    pub(crate) hosts: HashMap<HostId, (Bytes, Bytes)>,
    pub(crate) gateways: HashMap<GatewayId, (Bytes, Bytes)>,
}

/// What every part of OpCenter shares; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Center {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) join_token: Arc<str>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) attempts: Arc<Attempts>,
    /// Since when this process serves.
    pub(crate) start_time: Timestamp,
    observed: Arc<Mutex<Observed>>,
    /// What the reconciler remembers of the jobs whose policies it follows.
    pub(crate) followed: Arc<Mutex<Followed>>,
    wake: Arc<Notify>,
}

impl Center {
    /// Opens the state directory, made at the first start with an admin and a join token.
    pub(crate) async fn open(mut config: Config) -> Result<Self, Error> {
        fs::create_dir_all(config.state_dir.join("logs")).map_err(|source| Error::System {
            attempt: format!("make state directory {}", config.state_dir.display()),
            source,
        })?;
        let store = Store::open(&config.state_dir.join(crate::DATABASE)).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        auth::ensure_admin(&store, &config.state_dir, clock.now()).await?;
        let join_token = secret_file(&config.state_dir.join("join-token"), auth::new_token)?;
        if let Some(access) = &mut config.store {
            let seal = config.state_dir.join("seal-key");
            match janitor::open(access) {
                Ok(_) => {}
                // At the first start it is a mistake in how this was started; afterwards it is away, and will come back.
                Err(error) if !seal.exists() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the capsule store is away: it is tried again"
                    );
                }
            }
            access.seal = SealKey::load_or_create(&seal)?.to_hex();
        }
        Ok(Self {
            logs: Arc::new(Logs::new(&config.state_dir)),
            vault: Arc::new(Vault::open(&config.state_dir)?),
            attempts: Arc::default(),
            config: Arc::new(config),
            store,
            start_time: clock.now(),
            clock,
            join_token: join_token.into(),
            published: watch::Sender::default(),
            observed: Arc::default(),
            followed: Arc::default(),
            wake: Arc::default(),
        })
    }

    /// Has the reconciler look again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the reconciler should look again.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// What was observed.
    pub(crate) fn observed(&self) -> std::sync::MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret kept in a file that its owner alone can read, made if there is none.
pub(crate) fn secret_file(path: &Path, make: impl FnOnce() -> String) -> Result<String, Error> {
    let failed = |source| Error::System { attempt: format!("keep a secret in {}", path.display()), source };
    match fs::read_to_string(path) {
        Ok(secret) => Ok(secret.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = make();
            let new = path.with_extension("new");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
            file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&new, path).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

//! The data that every part of OpCenter shares. `lib.rs` opens it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mooring_store::Store;
use mooring_tls::Authority;
use mooring_types::{Clock, GatewayId, HostId, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::auth::daemon::DaemonConnections;
use crate::auth::job_code::{Codes, Entry, Permission};
use crate::auth::login_link::LoginLinks;
use crate::auth::login_pace::LoginPace;
use crate::auth::login_request::LoginRequests;
use crate::config::Config;
use crate::oidc::Oidc;
use crate::state::logs::Logs;
use crate::state::moment::Moment;
use crate::state::observed::Observed;
use crate::state::traffic::Traffic;
use crate::state::vault::Vault;

/// The slices in force.
#[derive(Debug, Default, Clone)]
pub(crate) struct Published {
    pub(crate) sequence: u64,
    pub(crate) hosts: HashMap<HostId, SliceLine>,
    pub(crate) gateways: HashMap<GatewayId, SliceLine>,
}

/// One watcher's slice as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceLine {
    /// The slice with sequence 0, to compare it with its successor.
    pub(crate) unnumbered: Bytes,
    /// The line that the watcher gets.
    pub(crate) numbered: Bytes,
}

/// The data that every part of OpCenter shares; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// The CA of daemons, and of OpCenter itself.
    pub(crate) authority: Arc<Authority>,
    /// The open connections of daemons.
    pub(crate) daemons: Arc<DaemonConnections>,
    /// The token with which every host may join, if there is one.
    pub(crate) join_token: Option<Arc<str>>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    /// The state that a pass of the reconciler ended with; users' watches follow it. It is sent
    /// when it looks different from the one before it, and every [`MOMENT_AGE_MAX`].
    ///
    /// [`MOMENT_AGE_MAX`]: crate::state::moment::MOMENT_AGE_MAX
    pub(crate) moments: watch::Sender<Option<Moment>>,
    /// The number of requests that have changed something.
    pub(crate) requests: Arc<AtomicU64>,
    /// The number of requests whose changes the last pass of the reconciler has read.
    pub(crate) requests_seen: Arc<AtomicU64>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) login_pace: Arc<LoginPace>,
    pub(crate) login_links: Arc<LoginLinks>,
    pub(crate) job_codes: Arc<Codes<Permission>>,
    pub(crate) entry_codes: Arc<Codes<Entry>>,
    pub(crate) login_requests: Arc<LoginRequests>,
    /// Sign-in by an OpenID provider, if there is one.
    pub(crate) oidc: Option<Arc<Oidc>>,
    /// The time at which this process began to serve.
    pub(crate) start_time: Timestamp,
    pub(crate) observed: Arc<Mutex<Observed>>,
    /// The recent traffic of gateways.
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) wake: Arc<Notify>,
}

impl Context {
    /// Wakes the reconciler after a request has changed the database. Every watcher is woken as
    /// well, even if the change concerns nothing that the reconciler reads, like a user's role.
    pub(crate) fn wake(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Wakes the reconciler after a report. Watchers are woken if it changes what they see.
    pub(crate) fn wake_for_report(&self) {
        self.wake.notify_one();
    }

    /// Returns the last moment, unless a request or the reconciler has changed something since.
    pub(crate) fn last_moment(&self) -> Option<Moment> {
        let moment = self.moments.borrow().clone();
        // Read after the moment: a request counts when it has committed.
        let is_current = self.requests.load(Ordering::SeqCst) == self.requests_seen.load(Ordering::SeqCst);
        moment.filter(|_| is_current)
    }

    /// Marks the last moment as older than the database, until a pass of the reconciler ends.
    pub(crate) fn outdate_moment(&self) {
        self.requests_seen.store(u64::MAX, Ordering::SeqCst);
    }

    /// Resolves when the reconciler was woken.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The observed state, as old as it is now.
    pub(crate) fn observed(&self) -> MutexGuard<'_, Observed> {
        let mut observed = self.observed.lock();
        observed.now = self.clock.monotonic();
        observed
    }

    /// Waits until `duration` has passed on the clock.
    pub(crate) async fn sleep(&self, duration: Duration) {
        let end = self.clock.monotonic() + duration;
        loop {
            let advanced = self.clock.advanced();
            let left = end.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = advanced => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

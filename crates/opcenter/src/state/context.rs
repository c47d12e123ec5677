//! The data that every part of OpCenter shares. `lib.rs` opens it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mooring_store::Store;
use mooring_types::{Clock, GatewayId, HostId, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::auth::login_throttle::LoginThrottle;
use crate::config::Config;
use crate::state::logs::Logs;
use crate::state::moment::Moment;
use crate::state::observed::Observed;
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
    pub(crate) join_token: Arc<str>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    /// The state that the last pass of the reconciler ended with; users' watches follow it.
    pub(crate) moments: watch::Sender<Option<Moment>>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) login_throttle: Arc<LoginThrottle>,
    /// The time at which this process began to serve.
    pub(crate) start_time: Timestamp,
    pub(crate) observed: Arc<Mutex<Observed>>,
    pub(crate) wake: Arc<Notify>,
}

impl Context {
    /// Wakes the reconciler.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
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

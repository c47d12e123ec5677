//! Simulated hosts and gateways. They speak the watch-and-report protocol of [`mooring_api::watch`]
//! with a real OpCenter and obey every order as an agent does, without containers and without root.
//!
//! ```text
//!   test ──► Cluster::settle ─┬─► sync      wait until OpCenter has published all that follows
//!                             ├─► fetch     each host and gateway takes its slice from its watch
//!                             ├─► check     no two hosts may execute the same job
//!                             ├─► obey      each takes one step towards its slice
//!                             └─► report    each reports what it observes now
//!                                 … until a round changes nothing
//! ```
//!
//! Nothing runs in the background: a test decides when a host acts, so a test is repeatable and
//! waits for nothing but OpCenter's answers. The state of a host lives in its [`SimAgent`]; what
//! flows between two hosts is the [`Wire`].
//!
//! | module | noun |
//! |---|---|
//! | [`agent`] | a simulated host |
//! | [`behaviour`] | the steps of a host that a test holds or lets fail |
//! | [`gateway`] | a simulated gateway |
//! | [`cluster`] | all hosts and gateways of an OpCenter, and the invariants over them |
//! | [`OpCenter`] | the address of OpCenter, and how daemons believe it |
//! | [`scenery`] | an OpCenter with much to look at |

#![forbid(unsafe_code)]

pub mod agent;
pub mod behaviour;
pub mod cluster;
pub mod gateway;
mod opcenter;
pub mod scenery;

pub use agent::{Machine, SimAgent};
pub use behaviour::Step;
pub use cluster::Cluster;
pub use gateway::SimGateway;
pub use opcenter::OpCenter;
use parking_lot::Mutex;
pub use scenery::{Plan, Scenery};

use std::collections::BTreeMap;
use std::sync::Arc;

use mooring_types::MigrationId;

/// The state of the transfer of a capsule from a source to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The source has sent the seal: the destination may restore the job.
    Sealed,
    /// The destination has restored the job, or never will.
    Closed,
}

/// The capsules between hosts. Clones are the same wire.
#[derive(Debug, Clone, Default)]
pub struct Wire(Arc<Mutex<BTreeMap<MigrationId, Delivery>>>);

impl Wire {
    /// Sends the seal of a capsule, unless the destination has closed the transfer.
    pub fn seal(&self, migration: &MigrationId) {
        let mut deliveries = self.0.lock();
        deliveries.entry(migration.clone()).or_insert(Delivery::Sealed);
    }

    /// Closes a transfer, and tells whether its seal had arrived.
    pub fn close(&self, migration: &MigrationId) -> bool {
        let mut deliveries = self.0.lock();
        deliveries.insert(migration.clone(), Delivery::Closed) == Some(Delivery::Sealed)
    }

    /// Returns the state of a transfer; `None` before the seal.
    #[must_use]
    pub fn delivery(&self, migration: &MigrationId) -> Option<Delivery> {
        self.0.lock().get(migration).copied()
    }
}

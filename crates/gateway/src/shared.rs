//! The parts of a gateway process that all of its listeners, clients and requests use.

use std::sync::Arc;

use mooring_ops::Tasks;
use tokio::sync::Notify;

use crate::budget::Budgets;
use crate::metrics::Metrics;
use crate::process_role::ProcessRole;
use crate::tls::PortTls;
use crate::widget::OpCenterLink;

/// The shared parts of a gateway process.
#[derive(Debug)]
pub struct Shared {
    /// The owner of all tasks.
    pub tasks: Tasks,
    pub role: ProcessRole,
    pub metrics: Metrics,
    pub budgets: Budgets,
    /// TLS on the ports.
    pub tls: PortTls,
    /// The widget's link to OpCenter.
    pub opcenter: OpCenterLink,
    /// Notified when the next report should not wait for the heartbeat.
    pub observed: Arc<Notify>,
}

impl Shared {
    /// The parts of a process that serves alone, is scraped by nobody and knows no OpCenter.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            role: ProcessRole::default(),
            metrics: Metrics::default(),
            budgets: Budgets::default(),
            tls: PortTls::default(),
            opcenter: OpCenterLink::default(),
            observed: Arc::default(),
        }
    }
}

//! Where the clients of a listener are led, as the newest slice says.
//!
//! One cell for each listener, written by every slice and read by its clients at the moment at which they need it: a change touches
//! neither the listener nor a client that it does not concern.

use std::future;
use std::net::IpAddr;
use std::sync::Arc;

use mooring_api::watch::{ConnectionDirective, FarewellDirective, Target};
use mooring_types::gateway::{HoldLimits, Protocol, Widget};
use mooring_types::job::JobStatus;
use mooring_types::security::{self, InboundRule};
use mooring_types::{Name, Port, Timestamp};
use tokio::sync::watch;

/// What a listener's clients need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The port that the listener has.
    pub port: Port,
    /// Where the job listens.
    pub target: Target,
    /// Which of its lives the job is in, as far as open connections are concerned.
    pub epoch: u64,
    /// How bytes are treated.
    pub protocol: Protocol,
    /// For how long new requests wait.
    pub hold_limits: HoldLimits,
    /// Whether its pages get the widget.
    pub widget: Widget,
    /// The job's name, for people.
    pub job_name: Name,
    /// The job's status, for people.
    pub job_status: JobStatus,
    /// Who may connect.
    pub rules: Arc<[InboundRule]>,
    /// How the job has ended, if it has: the port leads nowhere then, and says so.
    pub ending: Option<Ending>,
}

/// How a job has ended; its status says the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why; empty where there is nothing to say.
    pub reason: String,
    /// Its exit code, where it has one.
    pub exit_code: Option<i32>,
    /// When.
    pub time: Timestamp,
}

impl Route {
    /// What a directive says, and who may connect.
    #[must_use]
    pub fn new(directive: &ConnectionDirective, rules: Arc<[InboundRule]>) -> Self {
        Self {
            port: directive.gateway_port,
            target: directive.target.clone(),
            epoch: directive.epoch,
            protocol: directive.protocol,
            hold_limits: directive.hold_limits,
            widget: directive.widget,
            job_name: directive.job_name.clone(),
            job_status: directive.job_status,
            rules,
            ending: None,
        }
    }

    /// What is left of a connection whose job has ended, and who may connect.
    #[must_use]
    pub fn farewell(directive: &FarewellDirective, rules: Arc<[InboundRule]>) -> Self {
        Self {
            port: directive.gateway_port,
            target: Target::Endpoints(Vec::new()),
            epoch: 0,
            protocol: directive.protocol,
            hold_limits: HoldLimits::default(),
            widget: directive.widget,
            job_name: directive.job_name.clone(),
            job_status: directive.job_status,
            rules,
            ending: Some(Ending {
                reason: directive.status_reason.clone(),
                exit_code: directive.exit_code,
                time: directive.end_time,
            }),
        }
    }

    /// Whether a client may be here.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        security::allows(&self.rules, self.port, client)
    }
}

/// The cell as slices write it.
#[derive(Debug)]
pub struct RouteCell(watch::Sender<Arc<Route>>);

impl RouteCell {
    /// A cell that leads along `route`.
    #[must_use]
    pub fn new(route: Route) -> Self {
        Self(watch::Sender::new(Arc::new(route)))
    }

    /// Leads along another route; nobody is woken when it is the same.
    pub fn set(&self, route: Route) {
        self.0.send_if_modified(|current| {
            let changed = **current != route;
            if changed {
                *current = Arc::new(route);
            }
            changed
        });
    }

    /// Whether the job has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.borrow().ending.is_some()
    }

    /// The cell as clients read it.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes(self.0.subscribe())
    }
}

/// The cell as clients read it.
#[derive(Debug, Clone)]
pub struct Routes(watch::Receiver<Arc<Route>>);

impl Routes {
    /// The route at this moment.
    #[must_use]
    pub fn now(&self) -> Arc<Route> {
        self.0.borrow().clone()
    }

    /// Resolves when the route is another one than at the last call, or than when these were cloned.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            future::pending().await
        }
    }

    /// Resolves when a client may not be here any more.
    pub async fn refuse(&self, client: IpAddr) {
        self.become_true(|route| !route.allows(client)).await;
    }

    /// Resolves when the job is another one than in `epoch`, or has ended.
    pub async fn pass(&self, epoch: u64) {
        self.become_true(|route| route.epoch != epoch || route.ending.is_some()).await;
    }

    /// Resolves when the job has ended.
    pub async fn over(&self) {
        self.become_true(|route| route.ending.is_some()).await;
    }

    async fn become_true(&self, is_true: impl Fn(&Route) -> bool) {
        // Without its listener a client is stopped by other means.
        if self.0.clone().wait_for(|route| is_true(route)).await.is_err() {
            future::pending().await
        }
    }
}

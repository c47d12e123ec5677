//! The route of a listener: where its clients are led, by the newest slice.
//!
//! Each listener has one cell. Slices write it, and clients read it whenever they need the route.
//! A change therefore touches neither the listener nor a client that it does not concern.

use std::future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::{ConnectionDirective, FarewellDirective, GatewaySlice, Target};
use mooring_types::external::{EndpointRules, IpNet};
use mooring_types::external_url::ExternalUrl;
use mooring_types::gateway::{Access, Cookies, HoldLimits, Protocol, WakeOn, Widget};
use mooring_types::host_name::HostPattern;
use mooring_types::job::JobStatus;
use mooring_types::security::{self, InboundRule};
use mooring_types::{ConnectionId, Name, Port, Timestamp, forwarded};
use tokio::sync::watch;

use crate::browser::CookieNames;
use crate::http::origin::Front;

/// All that the clients of a listener need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub connection: ConnectionId,
    /// The port of the listener.
    pub port: Port,
    /// The address at which the job listens.
    pub target: Target,
    pub epoch: u64,
    pub protocol: Protocol,
    pub hold_limits: HoldLimits,
    /// The clients that wake the suspended job.
    pub wake_on: WakeOn,
    /// True if the suspended job is resumed for them.
    pub resumes: bool,
    /// The time without use after which the job is suspended.
    pub idle: Option<Duration>,
    /// True while the job is suspended for want of use.
    pub is_idle: bool,
    pub widget: Widget,
    /// The names of the connection's cookies.
    pub names: CookieNames,
    pub cookies: Cookies,
    pub access: Access,
    /// The SHA-256 of the tokens with which browsers are let in, sorted.
    pub visits: Vec<String>,
    pub job_name: Name,
    pub job_status: JobStatus,
    /// The sentence about a job that listens elsewhere; else empty.
    pub unserved: String,
    /// The URL by which browsers reach the port through a proxy.
    pub external: Option<ExternalUrl>,
    /// The rules of the whole gateway.
    pub gateway: Arc<GatewayRules>,
    /// The end of the job, if it has ended: the port then tells of it and leads nowhere.
    pub ending: Option<Ending>,
}

/// The rules of a gateway, for all of its ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayRules {
    /// The inbound rules of its security groups.
    pub inbound: Vec<InboundRule>,
    /// The addresses that endpoints of external jobs may have.
    pub endpoints: EndpointRules,
    /// The names by which browsers may reach it.
    pub host_names: Vec<HostPattern>,
    /// The proxies whose word about clients is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Words in the user agents of clients that only look whether a job answers.
    pub checkers: Vec<String>,
    /// The URL by which browsers reach OpCenter; empty where it is the gateway's own.
    pub opcenter: String,
}

impl GatewayRules {
    /// The rules of a slice.
    #[must_use]
    pub fn of(slice: &GatewaySlice) -> Self {
        Self {
            inbound: slice.rules.clone(),
            endpoints: slice.endpoints.clone(),
            host_names: slice.host_names.clone(),
            trusted_proxies: slice.trusted_proxies.clone(),
            checkers: slice.checkers.clone(),
            opcenter: slice.opcenter.clone(),
        }
    }
}

/// The end of a job. The route's `job_status` tells its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The reason; empty if there is none to tell.
    pub reason: String,
    pub exit_code: Option<i32>,
    pub time: Timestamp,
}

impl Route {
    /// The route of a directive.
    #[must_use]
    pub fn new(directive: &ConnectionDirective, gateway: Arc<GatewayRules>) -> Self {
        Self {
            connection: directive.connection.clone(),
            port: directive.gateway_port,
            target: directive.target.clone(),
            epoch: directive.epoch,
            protocol: directive.protocol,
            hold_limits: directive.hold_limits,
            wake_on: directive.wake_on,
            resumes: directive.resumes,
            idle: directive.idle_seconds.map(Duration::from_secs),
            is_idle: directive.is_idle,
            widget: directive.widget,
            names: CookieNames::of(&directive.connection),
            cookies: directive.cookies,
            access: directive.access,
            visits: directive.visits.clone(),
            job_name: directive.job_name.clone(),
            job_status: directive.job_status,
            unserved: directive.unserved.clone(),
            external: directive.external_url.clone(),
            gateway,
            ending: None,
        }
    }

    /// The route of a port whose job has ended.
    #[must_use]
    pub fn farewell(directive: &FarewellDirective, gateway: Arc<GatewayRules>) -> Self {
        Self {
            connection: directive.connection.clone(),
            port: directive.gateway_port,
            target: Target::Endpoints(Vec::new()),
            epoch: 0,
            protocol: directive.protocol,
            hold_limits: HoldLimits::default(),
            wake_on: WakeOn::default(),
            resumes: false,
            idle: None,
            is_idle: false,
            widget: directive.widget,
            names: CookieNames::of(&directive.connection),
            cookies: Cookies::default(),
            access: Access::Open,
            visits: Vec::new(),
            job_name: directive.job_name.clone(),
            job_status: directive.job_status,
            unserved: String::new(),
            external: None,
            gateway,
            ending: Some(Ending {
                reason: directive.status_reason.clone(),
                exit_code: directive.exit_code,
                time: directive.end_time,
            }),
        }
    }

    /// The names of the job's cookies on the wire; `None` if it shares its cookies.
    #[must_use]
    pub fn own_names(&self) -> Option<&CookieNames> {
        match self.cookies {
            Cookies::Own => Some(&self.names),
            Cookies::Shared => None,
        }
    }

    /// Returns whether a browser is let in by the hash of its token.
    #[must_use]
    pub fn lets_in(&self, visit: &str) -> bool {
        !self.access.is_guarded() || self.visits.binary_search_by(|known| known.as_str().cmp(visit)).is_ok()
    }

    /// The protocol of clients: nothing but HTTP has a login.
    #[must_use]
    pub fn client_protocol(&self) -> Protocol {
        if self.access.is_guarded() { Protocol::Http } else { self.protocol }
    }

    /// Returns whether the rules admit a client.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        security::allows(&self.gateway.inbound, self.port, client)
    }

    /// Returns whether a peer may connect. It may be a trusted proxy, whose clients are judged
    /// later.
    #[must_use]
    pub fn lets_connect(&self, peer: IpAddr) -> bool {
        self.is_proxy(peer) || self.allows(peer)
    }

    /// Returns whether a peer is a trusted proxy.
    #[must_use]
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        forwarded::is_trusted(peer, &self.gateway.trusted_proxies)
    }

    /// Returns whether PROXY lines are the job's matter: on a port for any bytes, unless the
    /// gateway reads those of its own proxies.
    #[must_use]
    pub fn passes_proxy_lines(&self) -> bool {
        self.client_protocol() == Protocol::Tcp && self.gateway.trusted_proxies.is_empty()
    }

    /// The port, as what stands before it sees it.
    pub(crate) fn front(&self) -> Front<'_> {
        Front { port: self.port.get(), trusted: &self.gateway.trusted_proxies, external: self.external.as_ref() }
    }

    /// The end of the job in a sentence for people, if the job has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<String> {
        let Ending { reason, exit_code, .. } = self.ending.as_ref()?;
        let name = &self.job_name;
        let end = match self.job_status {
            JobStatus::Completed => format!("{name} has completed"),
            JobStatus::Cancelled => format!("{name} was cancelled"),
            JobStatus::FailToComplete => format!("{name} has failed"),
            JobStatus::FailToExecute => format!("{name} could not be started"),
            JobStatus::CheckpointFailed => format!("{name} could not go on after a checkpoint"),
            JobStatus::Timedout => format!("{name} has run out of time"),
            JobStatus::NoAvailableHost => format!("{name} has found no host"),
            _ => format!("{name} has ended"),
        };
        Some(match (reason.trim_end_matches('.'), exit_code) {
            ("", None) => format!("{end}."),
            ("", Some(code)) => format!("{end} with exit code {code}."),
            // The reason of a failure names the exit code.
            (reason, _) => format!("{end}: {reason}."),
        })
    }
}

/// The cell of a listener's route, for slices to write.
#[derive(Debug)]
pub struct RouteCell(watch::Sender<Arc<Route>>);

impl RouteCell {
    #[must_use]
    pub fn new(route: Route) -> Self {
        Self(watch::Sender::new(Arc::new(route)))
    }

    /// Replaces the route. Nothing is woken if the route is the same.
    pub fn set(&self, route: Route) {
        self.0.send_if_modified(|current| {
            let changed = **current != route;
            if changed {
                *current = Arc::new(route);
            }
            changed
        });
    }

    /// Returns whether the job has ended.
    #[must_use]
    pub fn job_ended(&self) -> bool {
        self.0.borrow().ending.is_some()
    }

    /// The cell, for clients to read.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes(self.0.subscribe())
    }
}

/// The cell of a listener's route, for clients to read.
#[derive(Debug, Clone)]
pub struct Routes(watch::Receiver<Arc<Route>>);

impl Routes {
    /// The current route.
    #[must_use]
    pub fn now(&self) -> Arc<Route> {
        self.0.borrow().clone()
    }

    /// Waits until the route changes: since the last call, or since this value was cloned.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            future::pending().await
        }
    }

    /// Waits until no rule allows a client.
    pub async fn refuses(&self, client: IpAddr) {
        self.wait_for(|route| !route.allows(client)).await;
    }

    /// Waits until a peer may not be connected any more.
    pub async fn shuts_out(&self, peer: IpAddr) {
        self.wait_for(|route| !route.lets_connect(peer)).await;
    }

    /// Waits until the job's epoch is not `epoch` or the job has ended.
    pub async fn epoch_passed(&self, epoch: u64) {
        self.wait_for(|route| route.epoch != epoch || route.ending.is_some()).await;
    }

    /// Waits until the job listens elsewhere than at its target.
    pub async fn unserved(&self) {
        self.wait_for(|route| !route.unserved.is_empty()).await;
    }

    /// Waits until a browser is let in by the hash of its token.
    pub async fn lets_in(&self, visit: &str) {
        self.wait_for(|route| route.lets_in(visit)).await;
    }

    /// Waits until the job is suspended.
    pub async fn suspended(&self) {
        self.wait_for(|route| route.job_status == JobStatus::Suspended).await;
    }

    /// Waits until the job is not suspended.
    pub async fn not_suspended(&self) {
        self.wait_for(|route| route.job_status != JobStatus::Suspended).await;
    }

    /// Waits until the job has ended.
    pub async fn job_ended(&self) {
        self.wait_for(|route| route.ending.is_some()).await;
    }

    async fn wait_for(&self, is_met: impl Fn(&Route) -> bool) {
        // A cell without a writer belongs to a stopped listener, which ends its clients itself.
        if self.0.clone().wait_for(|route| is_met(route)).await.is_err() {
            future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::JobId;

    use super::*;

    fn route(job_status: JobStatus, status_reason: &str, exit_code: Option<i32>) -> Route {
        let directive = FarewellDirective {
            connection: ConnectionId::random(&mut rand::rng()),
            job: JobId::random(&mut rand::rng()),
            job_name: "lab".parse().expect("a name"),
            job_status,
            status_reason: status_reason.to_owned(),
            exit_code,
            end_time: Timestamp::UNIX_EPOCH,
            gateway_port: Port::MAX,
            protocol: Protocol::Auto,
            widget: Widget::Shown,
        };
        Route::farewell(&directive, Arc::default())
    }

    #[test]
    fn outcome_has_reason_or_exit_code() {
        for (status, reason, code, expected) in [
            (JobStatus::Completed, "", Some(0), "lab has completed with exit code 0."),
            (JobStatus::Cancelled, "", None, "lab was cancelled."),
            (
                JobStatus::FailToComplete,
                "it ended with exit code 3",
                Some(3),
                "lab has failed: it ended with exit code 3.",
            ),
            (JobStatus::Timedout, "it was late.", None, "lab has run out of time: it was late."),
        ] {
            assert_eq!(route(status, reason, code).outcome().as_deref(), Some(expected));
        }
    }

    #[test]
    fn each_final_status_has_an_outcome() {
        for status in JobStatus::ALL.into_iter().filter(|status| status.is_final()) {
            let outcome = route(status, "", None).outcome().expect("an ending");
            assert_ne!(outcome, "lab has ended.", "{status}");
        }
    }
}

//! The agent's side of joining, of the watch and of the reports. What runs does not depend on any of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mooring_api::watch::{AgentSlice, GatewayPlacement, HEARTBEAT, HostReport, JoinRequest};
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_ops::log::chain;
use mooring_types::host::HostFacts;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::facts;
use crate::host::{Host, Membership};
use crate::job::Jobs;
use crate::network::published::Wanted;
use crate::spot::Heard;
use crate::tools::Tools;

const RECONNECT: Duration = Duration::from_millis(500);
/// How often the machine is measured anew: a host that lost CRIU should say so before a job is sent to it.
const MEASURE: Duration = Duration::from_secs(30);
/// How long a report is held back for more to go with it; what a move waits for is never delayed by more.
const COALESCE: Duration = Duration::from_millis(1);
/// How long the first look at what the cloud says may take before it is joined without.
const HEARD_WITHIN: Duration = Duration::from_secs(4);

/// What goes between this host and OpCenter.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) host: Arc<Host>,
    pub(crate) jobs: Jobs,
    pub(crate) tools: Tools,
    pub(crate) gateways: watch::Sender<Vec<GatewayPlacement>>,
    pub(crate) published: watch::Sender<Option<Wanted>>,
    /// What of it could not be done.
    pub(crate) unpublished: watch::Receiver<Vec<String>>,
    pub(crate) facts: watch::Sender<HostFacts>,
    pub(crate) migration_port: u16,
    pub(crate) taken_in: watch::Sender<u64>,
    pub(crate) problems: Mutex<Vec<String>>,
    /// What the cloud says of this machine.
    pub(crate) heard: watch::Receiver<Heard>,
}

impl Link {
    /// Joins, and again whenever OpCenter does not know this host any more; takes in slice after slice.
    pub(crate) async fn watch(&self) {
        let mut reachable = true;
        loop {
            if let Err(error) = self.watch_once(&mut reachable).await {
                if error.code() == Some(ErrorCode::Unauthenticated) {
                    self.host.membership.send_replace(None);
                }
                if std::mem::take(&mut reachable) {
                    tracing::warn!(
                        error = %chain(&error),
                        "OpCenter is away: jobs go on as they are"
                    );
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn watch_once(&self, reachable: &mut bool) -> Result<(), ClientError> {
        let known = self.host.membership.borrow().clone();
        let membership = match known {
            Some(membership) => membership,
            None => self.join().await?,
        };
        let mut slices = membership.client.host_slices(&membership.id).await?;
        while let Some(slice) = slices.next().await {
            let slice = slice?;
            *reachable = true;
            self.apply(slice).await;
        }
        Ok(())
    }

    async fn join(&self) -> Result<Membership, ClientError> {
        let config = &self.host.config;
        // What is known by then is known before the first job comes. A cloud that does not answer is not waited for.
        let _ = timeout(HEARD_WITHIN, self.heard.clone().wait_for(|heard| heard.looked)).await;
        let client = Client::new(&config.opcenter)?;
        let answer = client
            .host_join(&JoinRequest {
                join_token: config.join_token.clone(),
                host_key: self.host.identity.join_key(),
                name: config.name.clone(),
                role: config.role,
                address: config.underlay,
                public_address: config.public_address,
                migration_port: self.migration_port,
                certificate: self.host.identity.fingerprint(),
                wireguard_key: self.host.network.lock().await.wireguard_public_key().to_owned(),
                facts: self.facts(),
                jobs: self.jobs.observe(),
            })
            .await?;
        tracing::info!(host = %answer.host, "joined as host {} ({})", config.name, answer.host);
        let membership = Membership { id: answer.host, client: client.with_token(answer.token) };
        self.host.membership.send_replace(Some(membership.clone()));
        Ok(membership)
    }

    /// Makes a slice so: the network first, since jobs need it.
    async fn apply(&self, slice: AgentSlice) {
        let outcome = self.host.network.lock().await.apply(&slice.host, &slice.network).await.map_err(Error::from);
        let problems = match outcome {
            Ok(()) => Vec::new(),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the overlay is not as it should be");
                vec![error.chain()]
            }
        };
        *self.problems.lock().await = problems;
        self.host.capsules.tell(slice.store.as_ref());
        self.jobs.apply(&slice.jobs);
        self.gateways.send_if_modified(|known| {
            let changed = *known != slice.gateways;
            if changed {
                known.clone_from(&slice.gateways);
            }
            // The first slice counts also when it is empty.
            changed || *self.taken_in.borrow() == 0
        });
        if let Some(own) = slice.network.peers.iter().find(|peer| peer.host == slice.host) {
            let wanted = Some(Wanted { overlay: own.overlay, ports: slice.published });
            self.published.send_if_modified(|known| {
                let changed = *known != wanted;
                *known = wanted;
                changed
            });
        }
        self.taken_in.send_replace(slice.sequence);
    }

    /// Reports what changes at once, and everything every heartbeat.
    pub(crate) async fn report(&self) {
        let mut membership = self.host.membership.subscribe();
        loop {
            let known = membership.borrow_and_update().clone();
            if let Some(known) = known {
                let report = HostReport {
                    sequence: *self.taken_in.borrow(),
                    facts: self.facts(),
                    jobs: self.jobs.observe(),
                    problems: self.all_problems().await,
                    notice: self.heard.borrow().notice,
                };
                // A report that does not arrive is made good by the next one.
                if let Err(error) = known.client.host_report(&known.id, &report).await {
                    tracing::debug!(error = %chain(&error), "the report did not arrive");
                    tokio::time::sleep(RECONNECT).await;
                }
            }
            tokio::select! {
                () = self.host.observed.notified() => tokio::time::sleep(COALESCE).await,
                () = tokio::time::sleep(HEARTBEAT) => {}
                _ = membership.changed() => {}
            }
        }
    }

    fn facts(&self) -> HostFacts {
        HostFacts { purchase: self.heard.borrow().purchase, ..self.facts.borrow().clone() }
    }

    async fn all_problems(&self) -> Vec<String> {
        let mut problems = self.problems.lock().await.clone();
        problems.extend(self.unpublished.borrow().iter().cloned());
        problems
    }

    /// Measures the machine now and then.
    pub(crate) async fn measure(&self) {
        loop {
            tokio::time::sleep(MEASURE).await;
            let now = facts::measure(&self.host.config, &self.tools).await;
            let changed = self.facts.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
            if changed {
                tracing::info!(facts = ?self.facts.borrow(), "this host has changed");
                self.host.observed.notify_one();
            }
        }
    }

    /// All of it, for as long as it is polled.
    pub(crate) async fn run(&self) -> Result<()> {
        tokio::join!(self.watch(), self.report(), self.measure());
        Ok(())
    }
}

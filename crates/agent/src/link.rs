//! The link to OpCenter: joining, the watch and the reports. Jobs and gateways run on without it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mooring_api::watch::{
    AgentSlice, CertificateRequest, GatewayPlacement, HEARTBEAT, HostReport, JoinRequest, Network, StorePlace,
};
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_ops::log::chain;
use mooring_types::host::{HostFacts, Readiness};
use mooring_types::{Clock, HostId, SystemClock};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::error::{Error, Result, join_refused};
use crate::facts;
use crate::host::{Host, Membership};
use crate::job::Jobs;
use crate::lease::{LEASE, SentReport};
use crate::network::published::Wanted;
use crate::spot::CloudFacts;
use crate::tools::Tools;

/// The pause before a broken watch or a failed report is tried again.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
/// The interval at which the machine is measured: a host that has lost CRIU should say so before a
/// job is sent to it.
const MEASURE_INTERVAL: Duration = Duration::from_secs(30);
/// The interval between two looks at the age of this host's certificate.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// The time that a report waits for more to go with it. A migration may wait for the report.
const REPORT_COALESCING: Duration = Duration::from_millis(1);
/// The time that a join waits for the cloud's first answer.
const CLOUD_TIMEOUT: Duration = Duration::from_secs(4);

/// The link between this host and OpCenter.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) host: Arc<Host>,
    pub(crate) jobs: Jobs,
    pub(crate) tools: Tools,
    pub(crate) gateways: watch::Sender<Vec<GatewayPlacement>>,
    pub(crate) published: watch::Sender<Option<Wanted>>,
    /// The network of the last slice, for the rules of what jobs reach.
    pub(crate) network: watch::Sender<Option<Network>>,
    /// The problems of published ports.
    pub(crate) unpublished: watch::Receiver<Vec<String>>,
    pub(crate) facts: watch::Sender<HostFacts>,
    pub(crate) migration_port: u16,
    /// The sequence number of the last slice that was applied; 0 before the first.
    pub(crate) applied: watch::Sender<u64>,
    /// The problems of the overlay network.
    pub(crate) problems: Mutex<Vec<String>>,
    pub(crate) cloud: watch::Receiver<CloudFacts>,
    /// The place of the capsule store of the last slice.
    pub(crate) store: watch::Sender<Option<StorePlace>>,
    pub(crate) store_problem: watch::Receiver<Option<String>>,
}

impl Link {
    /// Joins, watches, reports and measures until it is dropped.
    ///
    /// # Errors
    /// OpCenter refuses a host that has never joined. One that has joined before goes on with its
    /// jobs.
    pub(crate) async fn run(&self) -> Result<()> {
        tokio::select! {
            refused = self.watch() => Err(refused),
            ((), (), ()) = async { tokio::join!(self.report(), self.measure(), self.renew()) } => Ok(()),
        }
    }

    /// Applies slice after slice. Joins first, and again when OpCenter no longer knows this host.
    /// Returns the error of a host that can't join.
    async fn watch(&self) -> Error {
        let mut reachable = true;
        loop {
            if let Err(error) = self.watch_once(&mut reachable).await {
                let error = match error {
                    Error::JoinRefused(_) if !self.host.identity.has_joined() => return error,
                    error => error,
                };
                let is_unknown =
                    matches!(&error, Error::OpCenter(error) if error.code() == Some(ErrorCode::Unauthenticated));
                if is_unknown {
                    self.host.membership.send_replace(None);
                }
                if std::mem::take(&mut reachable) {
                    let what = match &error {
                        Error::JoinRefused(refusal) => join_refused(refusal),
                        _ => "OpCenter is unreachable",
                    };
                    tracing::warn!(error = %chain(&error), "{what}: jobs go on as they are");
                }
            }
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
    }

    async fn watch_once(&self, reachable: &mut bool) -> Result<()> {
        let joined = self.host.membership.borrow().clone();
        let membership = match joined {
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

    async fn join(&self) -> Result<Membership> {
        let config = &self.host.config;
        // The cloud's answer is here before the first job is. A cloud that does not answer is not
        // waited for.
        let _ = timeout(CLOUD_TIMEOUT, self.cloud.clone().wait_for(|cloud| cloud.asked)).await;
        let client = |identity| Client::for_daemon(&config.opcenter, config.trust.clone(), identity);
        // A certificate that this host may have is too old, or of another OpCenter.
        let answer = client(None)?
            .host_join(&JoinRequest {
                join_token: config.join_token.clone(),
                host_key: self.host.identity.join_key(),
                name: config.name.clone(),
                role: config.role,
                address: config.underlay,
                public_address: config.public_address,
                migration_port: self.migration_port,
                certificate_request: self.host.identity.request()?,
                wireguard_key: self.host.network.lock().await.wireguard_public_key().to_owned(),
                facts: self.facts(),
                jobs: self.jobs.observe(),
            })
            .await
            .map_err(|error| if is_refusal(&error) { Error::JoinRefused(Box::new(error)) } else { error.into() })?;
        tracing::info!(host = %answer.host, "joined as host {} ({})", config.name, answer.host);
        if self.facts.borrow().readiness == Readiness::Ready {
            tracing::info!(host = %answer.host, "host {} is ready", config.name);
        }
        self.host.identity.joined(&answer)?;
        let membership = Membership { id: answer.host, client: client(Some(self.host.identity.shown()))? };
        self.host.membership.send_replace(Some(membership.clone()));
        Ok(membership)
    }

    /// Renews this host's certificate in time.
    async fn renew(&self) {
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            let joined = self.host.membership.borrow().clone();
            let Some(joined) = joined.filter(|_| self.host.identity.is_due(SystemClock.now())) else { continue };
            match self.renew_once(&joined).await {
                Ok(()) => tracing::info!("this host's certificate is renewed"),
                Err(error) => tracing::warn!(error = %chain(&error), "this host's certificate can't be renewed yet"),
            }
        }
    }

    async fn renew_once(&self, joined: &Membership) -> Result<()> {
        let request = CertificateRequest { certificate_request: self.host.identity.request()? };
        let answer = joined.client.host_certificate(&joined.id, &request).await?;
        self.host.identity.renewed(&answer.certificate)
    }

    /// Applies a slice: the network first, since jobs need it.
    async fn apply(&self, slice: AgentSlice) {
        *self.problems.lock().await = self.apply_network(&slice.host, &slice.network).await;
        self.jobs.apply(&slice.jobs);
        self.gateways.send_if_modified(|current| {
            let changed = *current != slice.gateways;
            if changed {
                current.clone_from(&slice.gateways);
            }
            // The first slice counts also when it is empty.
            changed || *self.applied.borrow() == 0
        });
        self.network.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&slice.network);
            if changed {
                *current = Some(slice.network.clone());
            }
            changed
        });
        if let Some(own) = slice.network.peers.iter().find(|peer| peer.host == slice.host) {
            let desired = Some(Wanted { overlay: own.overlay, ports: slice.published });
            self.published.send_if_modified(|current| {
                let changed = *current != desired;
                *current = desired;
                changed
            });
        }
        self.store.send_if_modified(|current| {
            let changed = *current != slice.store;
            *current = slice.store;
            changed
        });
        self.applied.send_replace(slice.sequence);
        // Jobs that go on now follow the orders of this slice or of a later one.
        self.host.lease.repeated(slice.lapse);
    }

    /// Applies the overlay's configuration, and returns what went wrong.
    async fn apply_network(&self, host: &HostId, network: &Network) -> Vec<String> {
        let applied = self.host.network.lock().await.apply(host, network).await.map_err(Error::from);
        match applied {
            Ok(()) => Vec::new(),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the overlay network is not as it should be");
                vec![error.chain()]
            }
        }
    }

    /// Reports observations at once, and everything at every heartbeat.
    async fn report(&self) {
        let mut membership = self.host.membership.subscribe();
        loop {
            let joined = membership.borrow_and_update().clone();
            if let Some(joined) = joined {
                let sent = self.host.lease.report();
                let report = HostReport {
                    sequence: *self.applied.borrow(),
                    lapse: sent.lapse,
                    facts: self.facts(),
                    jobs: self.jobs.observe(),
                    problems: self.all_problems().await,
                    notice: self.cloud.borrow().notice,
                };
                // The next report says everything that a lost one did.
                match self.send(&joined, &report, sent).await {
                    Ok(has_lapsed) if has_lapsed => continue,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = %chain(&error), "a report did not reach OpCenter");
                        tokio::time::sleep(RECONNECT_DELAY).await;
                    }
                }
            }
            tokio::select! {
                () = self.host.observed.notified() => tokio::time::sleep(REPORT_COALESCING).await,
                () = tokio::time::sleep(HEARTBEAT) => {}
                _ = membership.changed() => {}
            }
        }
    }

    /// Sends a report. Returns whether the lease had lapsed before the answer came.
    async fn send(&self, joined: &Membership, report: &HostReport, sent: SentReport) -> Result<bool> {
        // An answer that comes later renews nothing.
        let answer = timeout(LEASE, joined.client.host_report(&joined.id, report)).await;
        answer.map_err(|_| Error::TimedOut("a report to OpCenter".to_owned()))??;
        self.host.lease.answered(sent)
    }

    fn facts(&self) -> HostFacts {
        HostFacts { purchase: self.cloud.borrow().purchase, ..self.facts.borrow().clone() }
    }

    async fn all_problems(&self) -> Vec<String> {
        let mut problems = self.problems.lock().await.clone();
        problems.extend(self.unpublished.borrow().iter().cloned());
        problems.extend(self.cloud.borrow().silence.clone());
        problems.extend(self.store_problem.borrow().clone());
        problems
    }

    /// Measures the machine at intervals.
    async fn measure(&self) {
        loop {
            tokio::time::sleep(MEASURE_INTERVAL).await;
            let measured = facts::measure(&self.host.config, &self.tools).await;
            let changed = self.facts.send_if_modified(|current| {
                let changed = *current != measured;
                *current = measured;
                changed
            });
            if changed {
                tracing::info!(facts = ?self.facts.borrow(), "the machine has changed");
                self.host.observed.notify_one();
            }
        }
    }
}

/// Says whether OpCenter has refused a join, and will again.
fn is_refusal(error: &ClientError) -> bool {
    let refusals = [ErrorCode::Unauthenticated, ErrorCode::PermissionDenied, ErrorCode::AlreadyExists];
    error.code().is_some_and(|code| refusals.contains(&code))
}

//! What hosts and gateways observed, as they reported it last. Kept in memory: after a restart they report again.

use std::collections::HashMap;
use std::time::Duration;

use mooring_api::watch::{GatewayReport, HostReport, JobObservation};
use mooring_types::{GatewayId, Generation, HostId, JobId, MigrationId};
use tokio::time::Instant;

/// After how long without a report a host or a gateway counts as unreachable.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// Everything that was observed.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    since: Instant,
    hosts: HashMap<HostId, (HostReport, Instant)>,
    gateways: HashMap<GatewayId, (GatewayReport, Instant)>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { since: Instant::now(), hosts: HashMap::new(), gateways: HashMap::new() }
    }
}

impl Observed {
    pub(crate) fn host_put(&mut self, host: HostId, report: HostReport) {
        self.hosts.insert(host, (report, Instant::now()));
    }

    pub(crate) fn gateway_put(&mut self, gateway: GatewayId, report: GatewayReport) {
        self.gateways.insert(gateway, (report, Instant::now()));
    }

    /// The host's last report, however old.
    pub(crate) fn host(&self, host: &HostId) -> Option<&HostReport> {
        self.hosts.get(host).map(|(report, _)| report)
    }

    /// The gateway's last report, however old.
    pub(crate) fn gateway(&self, gateway: &GatewayId) -> Option<&GatewayReport> {
        self.gateways.get(gateway).map(|(report, _)| report)
    }

    pub(crate) fn host_is_reachable(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|(_, at)| at.elapsed() < SILENCE)
    }

    /// Whether a host has had its time to report, and has not. Not the same as unreachable just after a start of OpCenter.
    pub(crate) fn host_is_silent(&self, host: &HostId) -> bool {
        self.hosts.get(host).map_or(self.since, |(_, at)| *at).elapsed() >= SILENCE
    }

    /// Every job that some host holds something of.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.hosts.values().flat_map(|(report, _)| report.jobs.iter().map(|seen| &seen.job))
    }

    pub(crate) fn gateway_is_reachable(&self, gateway: &GatewayId) -> bool {
        self.gateways.get(gateway).is_some_and(|(_, at)| at.elapsed() < SILENCE)
    }

    /// What a host said of a job in a generation.
    pub(crate) fn job(&self, host: &HostId, job: &JobId, generation: Generation) -> Option<&JobObservation> {
        self.host(host)?.jobs.iter().find(|seen| seen.job == *job && seen.generation == generation)
    }

    /// Everything that hosts hold of a job.
    pub(crate) fn holders<'a>(&'a self, job: &'a JobId) -> impl Iterator<Item = (&'a HostId, &'a JobObservation)> {
        self.hosts
            .iter()
            .flat_map(|(host, (report, _))| report.jobs.iter().map(move |seen| (host, seen)))
            .filter(move |(_, seen)| seen.job == *job)
    }

    /// How long a gateway took to go quiet for a move, if it has.
    pub(crate) fn quiesced(&self, gateway: &GatewayId, migration: &MigrationId) -> Option<f64> {
        self.gateway(gateway)?.quiesced.iter().find(|quiet| quiet.migration == *migration).map(|quiet| quiet.seconds)
    }
}

//! What hosts and gateways observed, as they reported it last. Kept in memory: after a restart they report again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mooring_api::watch::{GatewayReport, HostReport, JobObservation, JobState};
use mooring_types::{ConnectionId, GatewayId, Generation, HostId, JobId, MigrationId};

/// After how long without a report a host or a gateway counts as unreachable.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// Everything that was observed.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// The moment from which the age of reports is counted, on the monotonic clock.
    pub(crate) now: Duration,
    since: Duration,
    hosts: HashMap<HostId, (HostReport, Duration)>,
    gateways: HashMap<GatewayId, Processes>,
}

/// What the processes of one gateway said: while it is restarted there are several, each with clients of its own.
#[derive(Debug, Clone)]
struct Processes {
    /// By incarnation.
    reports: BTreeMap<u64, (GatewayReport, Duration)>,
    /// Those that have ended: a report of theirs that was overtaken by the last one says nothing any more.
    ended: BTreeMap<u64, Duration>,
    /// When any of them reported last.
    at: Duration,
}

impl Observed {
    /// Nothing observed since `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self { now, since: now, hosts: HashMap::new(), gateways: HashMap::new() }
    }

    fn age(&self, at: Duration) -> Duration {
        self.now.saturating_sub(at)
    }

    pub(crate) fn host_put(&mut self, host: HostId, report: HostReport) {
        self.hosts.insert(host, (report, self.now));
    }

    pub(crate) fn gateway_put(&mut self, gateway: GatewayId, report: GatewayReport) {
        let now = self.now;
        let fresh = || Processes { reports: BTreeMap::new(), ended: BTreeMap::new(), at: now };
        let processes = self.gateways.entry(gateway).or_insert_with(fresh);
        processes.at = now;
        processes.ended.retain(|_, at| now.saturating_sub(*at) < SILENCE);
        processes.ended.extend(report.replaces.map(|replaced| (replaced, now)));
        if report.finished {
            processes.ended.insert(report.incarnation, now);
        }
        processes.reports.insert(report.incarnation, (report, now));
        let ended = &processes.ended;
        processes.reports.retain(|known, (_, at)| now.saturating_sub(*at) < SILENCE && !ended.contains_key(known));
    }

    /// The host's last report, however old.
    pub(crate) fn host(&self, host: &HostId) -> Option<&HostReport> {
        self.hosts.get(host).map(|(report, _)| report)
    }

    /// The last report of each process of a gateway that is heard from.
    pub(crate) fn gateway(&self, gateway: &GatewayId) -> impl Iterator<Item = &GatewayReport> {
        let reports = self.gateways.get(gateway).into_iter().flat_map(|processes| processes.reports.values());
        reports.filter(|(_, at)| self.age(*at) < SILENCE).map(|(report, _)| report)
    }

    /// Whether a gateway was ever heard from.
    pub(crate) fn gateway_is_known(&self, gateway: &GatewayId) -> bool {
        self.gateways.contains_key(gateway)
    }

    pub(crate) fn host_is_reachable(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|(_, at)| self.age(*at) < SILENCE)
    }

    /// Whether a host has had its time to report, and has not. Not the same as unreachable just after a start of OpCenter.
    pub(crate) fn host_is_silent(&self, host: &HostId) -> bool {
        self.age(self.hosts.get(host).map_or(self.since, |(_, at)| *at)) >= SILENCE
    }

    /// How long until the next host will have been silent for too long, if none of those that are heard from reports again.
    pub(crate) fn next_silence(&self) -> Option<Duration> {
        let left = self.hosts.values().map(|(_, at)| SILENCE.saturating_sub(self.age(*at)));
        left.filter(|left| !left.is_zero()).min()
    }

    /// Every job that some host holds something of.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.hosts.values().flat_map(|(report, _)| report.jobs.iter().map(|seen| &seen.job))
    }

    pub(crate) fn gateway_is_reachable(&self, gateway: &GatewayId) -> bool {
        self.gateways.get(gateway).is_some_and(|processes| self.age(processes.at) < SILENCE)
    }

    /// What a host said of a job in a generation.
    pub(crate) fn job(&self, host: &HostId, job: &JobId, generation: Generation) -> Option<&JobObservation> {
        self.host(host)?.jobs.iter().find(|seen| seen.job == *job && seen.generation == generation)
    }

    /// Returns the generation that each host holds of each job; `None` where the host says that nothing is left.
    pub(crate) fn holdings(&self) -> HashMap<(HostId, JobId), Option<Generation>> {
        let mut holdings = HashMap::new();
        for (host, (report, _)) in &self.hosts {
            for seen in &report.jobs {
                let generation = (seen.state != JobState::Gone).then_some(seen.generation);
                holdings.entry((host.clone(), seen.job.clone())).or_insert(generation);
            }
        }
        holdings
    }

    /// Everything that hosts hold of a job.
    pub(crate) fn holders<'a>(&'a self, job: &'a JobId) -> impl Iterator<Item = (&'a HostId, &'a JobObservation)> {
        self.hosts
            .iter()
            .flat_map(|(host, (report, _))| report.jobs.iter().map(move |seen| (host, seen)))
            .filter(move |(_, seen)| seen.job == *job)
    }

    /// Whether somebody at a connection's gateway wants its job to be resumed.
    pub(crate) fn is_called_for(&self, gateway: &GatewayId, connection: &ConnectionId) -> bool {
        let mut seen = self.gateway(gateway).flat_map(|report| &report.connections);
        seen.any(|seen| seen.connection == *connection && seen.calling > 0)
    }

    /// All bytes that the clients of a connection have moved, in and out, as far as its gateway's processes know that are heard from.
    pub(crate) fn moved(&self, gateway: &GatewayId, connection: &ConnectionId) -> (u64, u64) {
        let seen = self.gateway(gateway).flat_map(|report| &report.connections);
        let of_connection = seen.filter(|seen| seen.connection == *connection);
        of_connection.fold((0, 0), |(bytes_in, bytes_out), seen| (bytes_in + seen.bytes_in, bytes_out + seen.bytes_out))
    }

    /// Whether every process of a gateway that is heard from has gone quiet for a move.
    pub(crate) fn gateway_is_quiet(&self, gateway: &GatewayId, migration: &MigrationId) -> bool {
        self.gateway(gateway).all(|report| report.quiesced.iter().any(|quiet| quiet.migration == *migration))
    }
}

#[cfg(test)]
mod tests {
    use mooring_api::watch::Quiesced;
    use mooring_types::host::{HostFacts, Readiness};

    use super::*;

    fn host_report() -> HostReport {
        let facts = HostFacts {
            cores: 1,
            mem_gb: 1.0,
            kernel: String::new(),
            criu: String::new(),
            runc: String::new(),
            readiness: Readiness::Ready,
            purchase: None,
            mounts: Vec::new(),
        };
        HostReport { sequence: 0, facts, jobs: Vec::new(), problems: Vec::new(), notice: None }
    }

    struct Seen {
        observed: Observed,
        gateway: GatewayId,
        migration: MigrationId,
    }

    impl Seen {
        fn new() -> Self {
            let mut rng = rand::rng();
            let (gateway, migration) = (GatewayId::random(&mut rng), MigrationId::random(&mut rng));
            Self { observed: Observed::new(Duration::ZERO), gateway, migration }
        }

        fn report(&self, incarnation: u64) -> GatewayReport {
            GatewayReport {
                incarnation,
                replaces: None,
                finished: false,
                sequence: 1,
                quiesced: Vec::new(),
                connections: Vec::new(),
            }
        }

        fn put(&mut self, report: GatewayReport) {
            self.observed.gateway_put(self.gateway.clone(), report);
        }

        fn quiet(&self, incarnation: u64) -> GatewayReport {
            let quiesced = vec![Quiesced { migration: self.migration.clone(), unacknowledged: 0, seconds: 0.1 }];
            GatewayReport { quiesced, ..self.report(incarnation) }
        }

        fn is_quiet(&self) -> bool {
            self.observed.gateway_is_quiet(&self.gateway, &self.migration)
        }

        fn living(&self) -> Vec<u64> {
            self.observed.gateway(&self.gateway).map(|report| report.incarnation).collect()
        }
    }

    #[test]
    fn a_move_waits_for_every_process_of_a_gateway() {
        let mut seen = Seen::new();
        seen.put(seen.report(1));
        seen.put(seen.quiet(2));
        assert!(!seen.is_quiet());
        seen.put(seen.quiet(1));
        assert!(seen.is_quiet());
    }

    #[test]
    fn a_process_that_is_finished_silent_or_replaced_is_not_waited_for() {
        let mut seen = Seen::new();
        seen.put(seen.report(1));
        seen.put(seen.quiet(2));
        seen.put(GatewayReport { finished: true, ..seen.report(1) });
        assert!(seen.is_quiet() && seen.living() == [2]);
        seen.put(seen.report(1));
        assert!(seen.is_quiet() && seen.living() == [2]);

        seen.put(seen.report(3));
        seen.observed.now += SILENCE / 2;
        seen.put(seen.quiet(2));
        assert!(!seen.is_quiet());
        seen.observed.now += SILENCE / 2;
        assert!(seen.is_quiet() && seen.living() == [2]);

        seen.put(seen.report(4));
        seen.put(GatewayReport { replaces: Some(4), ..seen.quiet(5) });
        assert!(seen.is_quiet() && seen.living() == [2, 5]);
    }

    #[test]
    fn the_next_silence_is_that_of_the_host_that_reported_first() {
        let mut observed = Observed::new(Duration::ZERO);
        assert_eq!(observed.next_silence(), None);
        let [first, second] = [(); 2].map(|()| HostId::random(&mut rand::rng()));
        observed.host_put(first.clone(), host_report());
        observed.now += SILENCE / 2;
        observed.host_put(second, host_report());
        assert_eq!(observed.next_silence(), Some(SILENCE / 2));
        observed.now += SILENCE / 2;
        assert!(observed.host_is_silent(&first));
        assert_eq!(observed.next_silence(), Some(SILENCE / 2));
    }

    #[test]
    fn a_gateway_whose_last_process_is_finished_was_heard_from_all_the_same() {
        let mut seen = Seen::new();
        assert!(!seen.observed.gateway_is_known(&seen.gateway));
        seen.put(GatewayReport { finished: true, ..seen.report(1) });
        assert!(seen.observed.gateway_is_known(&seen.gateway) && seen.living().is_empty());
        seen.observed.now += SILENCE;
        assert!(!seen.observed.gateway_is_reachable(&seen.gateway));
    }
}

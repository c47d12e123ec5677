//! Observed state: the last reports of hosts and gateways. It is kept in memory; after a restart
//! all report again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mooring_api::watch::{ConnectionObservation, GatewayReport, HostReport, JobObservation, JobState, Quiesced};
use mooring_store::{ConnectionRow, JobRow};
use mooring_types::job::{Activity, Unserved};
use mooring_types::{ConnectionId, GatewayId, Generation, HostId, JobId, MigrationId};

use crate::view::usage::{gb, rounded};

/// The silence after which a host or a gateway counts as unreachable.
pub(crate) const UNREACHABLE_AFTER: Duration = Duration::from_secs(10);

/// All observed state: plain data, as old as [`Observed::now`] says.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// The moment from which the age of reports is counted, on the monotonic clock.
    pub(crate) now: Duration,
    since: Duration,
    hosts: HashMap<HostId, (HostReport, Duration)>,
    gateways: HashMap<GatewayId, Processes>,
}

/// The reports of the processes of one gateway. During a restart there are several, each with its
/// own clients.
#[derive(Debug, Clone)]
struct Processes {
    /// By incarnation.
    reports: BTreeMap<u64, (GatewayReport, Duration)>,
    /// Processes that have ended. A late report of one of them is ignored.
    ended: BTreeMap<u64, Duration>,
    /// The time of the last report of any process.
    at: Duration,
}

impl Observed {
    /// Nothing observed since `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self { now, since: now, hosts: HashMap::new(), gateways: HashMap::new() }
    }

    /// Forgets a host that was removed.
    pub(crate) fn host_forget(&mut self, host: &HostId) {
        self.hosts.remove(host);
    }

    /// Leaves a time in which no report could be taken in out of everybody's silence.
    pub(crate) fn forgive(&mut self, stall: Duration) {
        let now = self.now;
        let hosts = self.hosts.values_mut().map(|(_, at)| at);
        let gateways = self
            .gateways
            .values_mut()
            .flat_map(|processes| processes.reports.values_mut().map(|(_, at)| at).chain([&mut processes.at]));
        for at in hosts.chain(gateways).chain([&mut self.since]) {
            *at = now.min(*at + stall);
        }
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
        processes.ended.retain(|_, at| now.saturating_sub(*at) < UNREACHABLE_AFTER);
        processes.ended.extend(report.replaces.map(|replaced| (replaced, now)));
        if report.finished {
            processes.ended.insert(report.incarnation, now);
        }
        processes.reports.insert(report.incarnation, (report, now));
        let ended = &processes.ended;
        processes.reports.retain(|incarnation, (_, at)| {
            now.saturating_sub(*at) < UNREACHABLE_AFTER && !ended.contains_key(incarnation)
        });
    }

    /// Returns the host's last report, however old.
    pub(crate) fn host(&self, host: &HostId) -> Option<&HostReport> {
        self.hosts.get(host).map(|(report, _)| report)
    }

    /// Returns the last report of each reachable process of a gateway.
    pub(crate) fn gateway(&self, gateway: &GatewayId) -> impl Iterator<Item = &GatewayReport> {
        let reports = self.gateways.get(gateway).into_iter().flat_map(|processes| processes.reports.values());
        reports.filter(|(_, at)| self.age(*at) < UNREACHABLE_AFTER).map(|(report, _)| report)
    }

    /// Returns what the processes of a gateway report of a connection.
    pub(crate) fn connection<'a>(
        &'a self,
        connection: &'a ConnectionRow,
    ) -> impl Iterator<Item = &'a ConnectionObservation> {
        let reports = self.gateway(&connection.gateway);
        reports.flat_map(|report| report.connections.iter().find(|report| report.connection == connection.id))
    }

    /// Returns whether a gateway has ever reported.
    pub(crate) fn gateway_is_known(&self, gateway: &GatewayId) -> bool {
        self.gateways.contains_key(gateway)
    }

    pub(crate) fn host_is_reachable(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|(_, at)| self.age(*at) < UNREACHABLE_AFTER)
    }

    /// Returns whether a host has had its time to report and has not. Just after a start of
    /// OpCenter a host may be neither reachable nor silent.
    pub(crate) fn host_is_silent(&self, host: &HostId) -> bool {
        self.age(self.hosts.get(host).map_or(self.since, |(_, at)| *at)) >= UNREACHABLE_AFTER
    }

    /// Returns the time until the next reachable host becomes unreachable.
    pub(crate) fn next_silence(&self) -> Option<Duration> {
        let left = self.hosts.values().map(|(_, at)| UNREACHABLE_AFTER.saturating_sub(self.age(*at)));
        left.filter(|left| !left.is_zero()).min()
    }

    /// Returns every job of which some host holds something.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.hosts.values().flat_map(|(report, _)| report.jobs.iter().map(|observation| &observation.job))
    }

    pub(crate) fn gateway_is_reachable(&self, gateway: &GatewayId) -> bool {
        self.gateways.get(gateway).is_some_and(|processes| self.age(processes.at) < UNREACHABLE_AFTER)
    }

    /// Returns a host's report on a job in a generation.
    pub(crate) fn job(&self, host: &HostId, job: &JobId, generation: Generation) -> Option<&JobObservation> {
        self.host(host)?.jobs.iter().find(|observation| observation.job == *job && observation.generation == generation)
    }

    /// Returns the published ports that a job does not serve on its host.
    pub(crate) fn unserved(&self, job: &JobRow) -> Option<&Unserved> {
        self.job(job.host.as_ref()?, &job.id, job.generation)?.unserved.as_ref()
    }

    /// Returns what a job does on its own, as its host sees it.
    pub(crate) fn activity(&self, job: &JobRow) -> Option<&Activity> {
        let host = job.host.as_ref().filter(|host| self.host_is_reachable(host))?;
        self.job(host, &job.id, job.generation)?.activity.as_ref()
    }

    /// Returns the generation that each host holds of each job; `None` if the host reports that
    /// nothing is left.
    pub(crate) fn holdings(&self) -> HashMap<(HostId, JobId), Option<Generation>> {
        let mut holdings = HashMap::new();
        for (host, (report, _)) in &self.hosts {
            for observation in &report.jobs {
                let generation = (observation.state != JobState::Gone).then_some(observation.generation);
                holdings.entry((host.clone(), observation.job.clone())).or_insert(generation);
            }
        }
        holdings
    }

    /// Returns the last lapse of the lease of each host that has reported.
    pub(crate) fn lapses(&self) -> HashMap<HostId, u64> {
        self.hosts.iter().map(|(host, (report, _))| (host.clone(), report.lapse)).collect()
    }

    /// Returns all reports on jobs with their hosts.
    pub(crate) fn observations(&self) -> impl Iterator<Item = (&HostId, &JobObservation)> {
        self.hosts.iter().flat_map(|(host, (report, _))| report.jobs.iter().map(move |observation| (host, observation)))
    }

    /// Returns all reports on a job with their hosts.
    pub(crate) fn holders<'a>(&'a self, job: &'a JobId) -> impl Iterator<Item = (&'a HostId, &'a JobObservation)> {
        self.observations().filter(move |(_, observation)| observation.job == *job)
    }

    /// Returns who waits at a connection for its job to be resumed.
    pub(crate) fn caller(&self, gateway: &GatewayId, connection: &ConnectionId) -> Option<String> {
        let observations = self.gateway(gateway).flat_map(|report| &report.connections);
        let mut calling = observations.filter(|seen| seen.connection == *connection && seen.calling > 0);
        // A gateway of an earlier version tells no more than that there is one.
        calling.next().map(|seen| seen.caller.as_ref().map_or_else(|| "a client".to_owned(), ToString::to_string))
    }

    /// Returns the bytes that the clients of a connection have sent and received, as the reachable
    /// processes of its gateway count them.
    pub(crate) fn moved(&self, gateway: &GatewayId, connection: &ConnectionId) -> (u64, u64) {
        let observations = self.gateway(gateway).flat_map(|report| &report.connections);
        let of_connection = observations.filter(|observation| observation.connection == *connection);
        of_connection.fold((0, 0), |(bytes_in, bytes_out), observation| {
            (bytes_in + observation.bytes_in, bytes_out + observation.bytes_out)
        })
    }

    /// Returns whether users see the same in this state as in another one. The time of a report,
    /// the slice and the lapse that it names and the time of a measurement are not seen.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        let same_host = |(id, (report, _)): (&HostId, &(HostReport, Duration))| {
            self.host_is_reachable(id) == other.host_is_reachable(id)
                && other.host(id).is_some_and(|other| looks_alike(report, other))
        };
        let same_gateway = |id: &GatewayId| {
            self.gateway_is_reachable(id) == other.gateway_is_reachable(id)
                && self.gateway(id).map(shown).eq(other.gateway(id).map(shown))
        };
        self.hosts.len() == other.hosts.len()
            && self.gateways.len() == other.gateways.len()
            && self.hosts.iter().all(same_host)
            && self.gateways.keys().all(|id| other.gateway_is_known(id) && same_gateway(id))
    }

    /// Returns whether every reachable process of a gateway has quiesced for a migration.
    pub(crate) fn gateway_is_quiet(&self, gateway: &GatewayId, migration: &MigrationId) -> bool {
        self.gateway(gateway).all(|report| report.quiesced.iter().any(|quiet| quiet.migration == *migration))
    }
}

fn looks_alike(one: &HostReport, other: &HostReport) -> bool {
    let HostReport { sequence: _, lapse: _, facts, jobs, problems, notice } = one;
    *facts == other.facts
        && *problems == other.problems
        && *notice == other.notice
        && jobs.len() == other.jobs.len()
        && jobs.iter().zip(&other.jobs).all(|(one, other)| looks_alike_of_job(one, other))
}

fn looks_alike_of_job(one: &JobObservation, other: &JobObservation) -> bool {
    // A measurement is compared as it is shown: an idle job is measured again and again.
    let measured = |observation: &JobObservation| {
        observation.usage.map(|sample| (gb(sample.usage.mem_used), rounded(sample.usage.cpu_used)))
    };
    let JobObservation {
        job,
        generation,
        grant: _,
        state,
        phases,
        bytes_moved,
        progress,
        image_digest,
        usage: _,
        unserved,
        activity,
        out_of_memory,
        is_short_of_disk,
        findings,
        differences,
        unaccepted,
    } = one;
    measured(one) == measured(other)
        && *job == other.job
        && *generation == other.generation
        && *state == other.state
        && *phases == other.phases
        && *bytes_moved == other.bytes_moved
        && *progress == other.progress
        && *image_digest == other.image_digest
        && *unserved == other.unserved
        && *activity == other.activity
        && *out_of_memory == other.out_of_memory
        && *is_short_of_disk == other.is_short_of_disk
        && *findings == other.findings
        && *differences == other.differences
        && *unaccepted == other.unaccepted
}

/// The part of a gateway's report that users see.
fn shown(report: &GatewayReport) -> (u64, &[Quiesced], &[ConnectionObservation]) {
    (report.incarnation, &report.quiesced, &report.connections)
}

#[cfg(test)]
mod tests {

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
            lacks: Vec::new(),
        };
        HostReport { sequence: 0, lapse: 0, facts, jobs: Vec::new(), problems: Vec::new(), notice: None }
    }

    struct Fixture {
        observed: Observed,
        gateway: GatewayId,
        migration: MigrationId,
    }

    impl Fixture {
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
    fn quiesce_waits_for_every_gateway_process() {
        let mut fixture = Fixture::new();
        fixture.put(fixture.report(1));
        fixture.put(fixture.quiet(2));
        assert!(!fixture.is_quiet());
        fixture.put(fixture.quiet(1));
        assert!(fixture.is_quiet());
    }

    #[test]
    fn finished_silent_or_replaced_process_is_ignored() {
        let mut fixture = Fixture::new();
        fixture.put(fixture.report(1));
        fixture.put(fixture.quiet(2));
        fixture.put(GatewayReport { finished: true, ..fixture.report(1) });
        assert!(fixture.is_quiet() && fixture.living() == [2]);
        fixture.put(fixture.report(1));
        assert!(fixture.is_quiet() && fixture.living() == [2]);

        fixture.put(fixture.report(3));
        fixture.observed.now += UNREACHABLE_AFTER / 2;
        fixture.put(fixture.quiet(2));
        assert!(!fixture.is_quiet());
        fixture.observed.now += UNREACHABLE_AFTER / 2;
        assert!(fixture.is_quiet() && fixture.living() == [2]);

        fixture.put(fixture.report(4));
        fixture.put(GatewayReport { replaces: Some(4), ..fixture.quiet(5) });
        assert!(fixture.is_quiet() && fixture.living() == [2, 5]);
    }

    #[test]
    fn next_silence_is_of_the_oldest_report() {
        let mut observed = Observed::new(Duration::ZERO);
        assert_eq!(observed.next_silence(), None);
        let [first, second] = [(); 2].map(|()| HostId::random(&mut rand::rng()));
        observed.host_put(first.clone(), host_report());
        observed.now += UNREACHABLE_AFTER / 2;
        observed.host_put(second, host_report());
        assert_eq!(observed.next_silence(), Some(UNREACHABLE_AFTER / 2));
        observed.now += UNREACHABLE_AFTER / 2;
        assert!(observed.host_is_silent(&first));
        assert_eq!(observed.next_silence(), Some(UNREACHABLE_AFTER / 2));
    }

    #[test]
    fn gateway_without_processes_stays_known() {
        let mut fixture = Fixture::new();
        assert!(!fixture.observed.gateway_is_known(&fixture.gateway));
        fixture.put(GatewayReport { finished: true, ..fixture.report(1) });
        assert!(fixture.observed.gateway_is_known(&fixture.gateway) && fixture.living().is_empty());
        fixture.observed.now += UNREACHABLE_AFTER;
        assert!(!fixture.observed.gateway_is_reachable(&fixture.gateway));
    }

    #[test]
    fn repeated_report_looks_the_same() {
        let mut fixture = Fixture::new();
        let host = HostId::random(&mut rand::rng());
        fixture.observed.host_put(host.clone(), host_report());
        fixture.put(fixture.report(1));
        let before = fixture.observed.clone();
        let same = |fixture: &Fixture| fixture.observed.looks_like(&before) && before.looks_like(&fixture.observed);

        fixture.observed.now += UNREACHABLE_AFTER / 2;
        fixture.observed.host_put(host.clone(), HostReport { sequence: 7, ..host_report() });
        fixture.put(GatewayReport { sequence: 7, ..fixture.report(1) });
        assert!(same(&fixture));

        fixture.observed.host_put(host.clone(), HostReport { problems: vec!["no room".into()], ..host_report() });
        assert!(!same(&fixture));
        fixture.observed.host_put(host.clone(), host_report());
        assert!(same(&fixture));

        fixture.put(fixture.quiet(1));
        assert!(!same(&fixture));
        fixture.put(fixture.report(1));
        fixture.observed.now += UNREACHABLE_AFTER;
        assert!(!same(&fixture), "both are unreachable now");
    }
}

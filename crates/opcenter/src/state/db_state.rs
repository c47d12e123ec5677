//! All desired state, read from the database in one transaction.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mooring_store::{
    CapsuleRow, ConnectionRow, ExternalRow, FarewellRow, GatewayCertificateRow, GatewayRow, HostRow, JobRow,
    MembershipRow, MigrationRow, SecretRow, SecurityGroupRow, Stage, StoreError, Tx, VisitRow,
};
use mooring_types::gateway::Exposure;
use mooring_types::host::{Readiness, Resources};
use mooring_types::migration::MigrationKind;
use mooring_types::placement::Candidate;
use mooring_types::policy::DumpMode;
use mooring_types::security::InboundRule;
use mooring_types::{CapsuleName, GatewayId, HostId, JobId, Name, SecurityGroupId};

use crate::state::departures::Departures;
use crate::state::observed::Observed;

/// The desired state from which decisions and slices are made.
#[derive(Debug, Clone)]
pub(crate) struct DbState {
    pub(crate) hosts: Vec<HostRow>,
    /// The names of removed hosts: what has ended may name them.
    pub(crate) removed_hosts: BTreeMap<HostId, Name>,
    pub(crate) jobs: BTreeMap<JobId, JobRow>,
    /// Migrations under way, by job.
    pub(crate) migrations: BTreeMap<JobId, MigrationRow>,
    /// The endpoints of external jobs.
    pub(crate) externals: BTreeMap<JobId, ExternalRow>,
    pub(crate) gateways: Vec<GatewayRow>,
    /// The certificates that users have given gateways, their keys sealed.
    pub(crate) certificates: Vec<GatewayCertificateRow>,
    pub(crate) connections: Vec<ConnectionRow>,
    /// The browsers that connections let in.
    pub(crate) visits: Vec<VisitRow>,
    pub(crate) memberships: Vec<MembershipRow>,
    /// The farewells of ended jobs; their ports are free.
    pub(crate) farewells: Vec<FarewellRow>,
    pub(crate) security_groups: Vec<SecurityGroupRow>,
    /// The first gateway of each job.
    pub(crate) first_gateways: BTreeMap<JobId, GatewayId>,
    /// The capsules in the store, oldest first.
    pub(crate) capsules: Vec<CapsuleRow>,
    /// Sealed, as the database holds them.
    pub(crate) secrets: Vec<SecretRow>,
    /// The attempts of jobs to leave drained hosts.
    pub(crate) departures: Departures,
}

impl DbState {
    /// Reads all jobs that have not ended, and ended jobs of which some host still holds something.
    pub(crate) async fn read(tx: &mut Tx, observed: &Observed) -> Result<Self, StoreError> {
        let mut jobs: BTreeMap<JobId, JobRow> =
            tx.job_list_live().await?.into_iter().map(|job| (job.id.clone(), job)).collect();
        for id in observed.jobs() {
            if !jobs.contains_key(id)
                && let Some(job) = tx.job_get(id).await?
            {
                jobs.insert(id.clone(), job);
            }
        }
        let hosts = tx.host_list().await?;
        Ok(Self {
            departures: Departures::read(tx, &hosts, &jobs).await?,
            hosts,
            removed_hosts: removed_hosts(tx).await?,
            jobs,
            migrations: tx.migration_list_under_way().await?.into_iter().map(|row| (row.job.clone(), row)).collect(),
            externals: tx.external_list().await?.into_iter().map(|row| (row.job.clone(), row)).collect(),
            gateways: tx.gateway_list().await?,
            certificates: tx.gateway_certificate_list().await?,
            connections: tx.connection_list().await?,
            visits: tx.visit_list().await?,
            memberships: tx.membership_list().await?,
            farewells: tx.farewell_list().await?,
            security_groups: tx.security_group_list().await?,
            first_gateways: tx.connection_list_first().await?.into_iter().collect(),
            capsules: tx.capsule_list().await?,
            secrets: tx.secret_list().await?,
        })
    }

    /// Reads the part that concerns one job: its migration under way, its connections, and the
    /// hosts, gateways and groups that it may name. Everything else is left empty.
    pub(crate) async fn read_for_job(tx: &mut Tx, job: &JobRow) -> Result<Self, StoreError> {
        let migration = tx.migration_list_of_job(&job.id).await?.into_iter().find(|row| row.stage != Stage::Ended);
        Ok(Self {
            hosts: tx.host_list().await?,
            removed_hosts: removed_hosts(tx).await?,
            jobs: [(job.id.clone(), job.clone())].into(),
            migrations: migration.map(|row| (job.id.clone(), row)).into_iter().collect(),
            externals: tx.external_get(&job.id).await?.map(|row| (job.id.clone(), row)).into_iter().collect(),
            gateways: tx.gateway_list().await?,
            certificates: Vec::new(),
            connections: tx.connection_list_of_job(&job.id).await?,
            visits: Vec::new(),
            memberships: Vec::new(),
            farewells: Vec::new(),
            security_groups: tx.security_group_list().await?,
            first_gateways: BTreeMap::new(),
            capsules: Vec::new(),
            secrets: Vec::new(),
            departures: Departures::default(),
        })
    }

    /// Returns whether this state is the same as another one, but for the times at which hosts were
    /// last seen.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        let Self {
            hosts,
            removed_hosts,
            jobs,
            migrations,
            externals,
            gateways,
            certificates,
            connections,
            visits,
            memberships,
            farewells,
            security_groups,
            first_gateways,
            capsules,
            secrets,
            departures,
        } = self;
        let unseen = |host: &HostRow| HostRow { last_seen: None, ..host.clone() };
        hosts.iter().map(unseen).eq(other.hosts.iter().map(unseen))
            && *removed_hosts == other.removed_hosts
            && *jobs == other.jobs
            && *migrations == other.migrations
            && *externals == other.externals
            && *gateways == other.gateways
            && *certificates == other.certificates
            && *connections == other.connections
            && *visits == other.visits
            && *memberships == other.memberships
            && *farewells == other.farewells
            && *security_groups == other.security_groups
            && *first_gateways == other.first_gateways
            && *capsules == other.capsules
            && *secrets == other.secrets
            && *departures == other.departures
    }

    pub(crate) fn host(&self, id: &HostId) -> Option<&HostRow> {
        self.hosts.iter().find(|host| host.id == *id)
    }

    pub(crate) fn host_name(&self, id: &HostId) -> String {
        let name = self.host(id).map(|host| &host.name).or_else(|| self.removed_hosts.get(id));
        name.map_or_else(String::new, Name::to_string)
    }

    /// Returns the name of an end of a migration.
    pub(crate) fn end_name(&self, end: Option<&HostId>) -> String {
        end.map_or_else(|| "the capsule store".to_owned(), |host| self.host_name(host))
    }

    /// Returns the base for the next snapshot of a job.
    pub(crate) fn base_for(&self, job: &JobId) -> Option<CapsuleName> {
        base(self.jobs.get(job)?.policy.dump_mode, self.capsule(job)?)
    }

    /// Returns the newest capsule of a job.
    pub(crate) fn capsule(&self, job: &JobId) -> Option<&CapsuleRow> {
        self.capsules.iter().rfind(|capsule| capsule.job == *job)
    }

    /// Returns the address at which a gateway listens, or would listen on that host.
    pub(crate) fn gateway_address(&self, host: &HostId, exposure: Exposure) -> Option<IpAddr> {
        let joined = &self.host(host)?.joined;
        Some(match exposure {
            Exposure::Public => joined.public_address,
            Exposure::Private => joined.address.into(),
        })
    }

    /// Returns the rules of these groups, each once.
    pub(crate) fn rules(&self, groups: &[SecurityGroupId]) -> Vec<InboundRule> {
        let named = groups.iter().filter_map(|id| self.security_groups.iter().find(|group| group.id == *id));
        let mut rules: Vec<InboundRule> = named.flat_map(|group| group.spec.rules.iter().copied()).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Returns the resources that the jobs and gateways of a host take. A migration counts at both
    /// ends.
    pub(crate) fn used(&self, host: &HostId) -> Resources {
        let owned = self
            .jobs
            .values()
            .filter(|job| !job.status.is_final() && job.host.as_ref() == Some(host))
            .map(|job| job.spec.resources);
        let arriving = self.migrations.values().filter(|row| row.to.as_ref() == Some(host)).filter_map(|row| {
            let job = self.jobs.get(&row.job)?;
            (job.host.as_ref() != Some(host)).then_some(row.resources.unwrap_or(job.spec.resources))
        });
        let gateways =
            self.gateways.iter().filter(|gateway| gateway.host == *host).map(|gateway| gateway.spec.resources);
        owned.chain(arriving).chain(gateways).sum()
    }

    /// Returns whether no job is on a host, migrates to it or away from it.
    pub(crate) fn is_empty(&self, host: &HostId) -> bool {
        let here = |end: &Option<HostId>| end.as_ref() == Some(host);
        let carries = self.jobs.values().any(|job| !job.status.is_final() && here(&job.host));
        !carries && !self.migrations.values().any(|row| here(&row.from) || here(&row.to))
    }

    /// Returns the hosts that run jobs, as candidates for placement.
    pub(crate) fn job_candidates(&self, observed: &Observed) -> Vec<Candidate> {
        self.candidates(observed, |host| host.joined.role.takes_jobs(), true)
    }

    /// Returns the hosts that run gateways, as candidates for placement. They need no CRIU.
    pub(crate) fn gateway_candidates(&self, observed: &Observed) -> Vec<Candidate> {
        self.candidates(observed, |host| host.joined.role.takes_gateways(), false)
    }

    fn candidates(&self, observed: &Observed, takes: fn(&HostRow) -> bool, has_to_be_ready: bool) -> Vec<Candidate> {
        let candidate = |host: &HostRow| Candidate {
            id: host.id.clone(),
            name: host.name.to_string(),
            capacity: capacity(host),
            used: self.used(&host.id),
            purchase: host.joined.facts.purchase(),
            mounts: host.joined.facts.mounts.clone(),
            refusal: match (&host.joined.facts.readiness, host.drain()) {
                _ if !observed.host_is_reachable(&host.id) => Some("it is unreachable".into()),
                (_, Some(drain)) => Some(drain.reason.clone()),
                (Readiness::NotReady { reason }, None) if has_to_be_ready => Some(reason.clone()),
                (Readiness::NotReady { .. } | Readiness::Ready, None) => None,
            },
        };
        self.hosts.iter().filter(|host| takes(host)).map(candidate).collect()
    }
}

/// Returns the resources of a host.
pub(crate) fn capacity(host: &HostRow) -> Resources {
    Resources { cpu: host.joined.facts.cores, mem_gb: host.joined.facts.mem_gb }
}

/// Returns the base for a snapshot after `newest`: snapshots share one base. The capsule of a
/// suspend is no base.
fn base(mode: DumpMode, newest: &CapsuleRow) -> Option<CapsuleName> {
    let builds = mode == DumpMode::Incremental && newest.kind == MigrationKind::Snapshot;
    builds.then(|| newest.base.clone().unwrap_or_else(|| newest.name.clone()))
}

async fn removed_hosts(tx: &mut Tx) -> Result<BTreeMap<HostId, Name>, StoreError> {
    Ok(tx.host_list_removed().await?.into_iter().map(|host| (host.id, host.name)).collect())
}

#[cfg(test)]
mod tests {
    use mooring_types::{Generation, Timestamp};

    use super::*;

    #[test]
    fn snapshots_share_the_first_as_base() {
        let job = JobId::random(&mut rand::rng());
        let name = |number| CapsuleName::of_job(&job, Generation(number), 1);
        let first = CapsuleRow {
            name: name(1),
            job: job.clone(),
            kind: MigrationKind::Snapshot,
            create_time: Timestamp::UNIX_EPOCH,
            bytes: 2,
            stored_bytes: 1,
            base: None,
        };
        let second = CapsuleRow { name: name(2), base: base(DumpMode::Incremental, &first), ..first.clone() };
        assert_eq!(second.base, Some(name(1)));
        assert_eq!(base(DumpMode::Incremental, &second), Some(name(1)));
        assert_eq!(base(DumpMode::Full, &second), None);
        assert_eq!(base(DumpMode::Incremental, &CapsuleRow { kind: MigrationKind::Suspend, ..first }), None);
    }
}

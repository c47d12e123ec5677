//! Makes the slices of hosts and gateways: a pure function of desired state. Observed are only the
//! generations that hosts hold, the lapses of their leases and the connections that restored jobs
//! lack. The values of secrets
//! come in as well.
//!
//! A host gets no more than its orders need. The spec is without values where nothing is executed,
//! since a host that merely says that it holds a job is told to stop it. The access to the capsule
//! store comes with an order that leads there, and opens the capsules of that job alone.
//!
//! | stage of a migration | destination | source | routes lead to | bytes |
//! |---|---|---|---|---|
//! | Preparing | `MigrateIn` | `Run` | source | flow |
//! | PreCopying | `MigrateIn` | `MigrateOut` PreCopy | source | flow |
//! | Quiescing | `MigrateIn` | `MigrateOut` PreCopy | source | held, quiesce |
//! | Freezing | `MigrateIn` | `MigrateOut` Freeze | source | held |
//! | Restoring | `MigrateIn` | `MigrateOut` Freeze | destination | held |
//! | Retiring | `Run` | `Retire` | destination | flow |
//! | Aborting | `Abort`, which a restored job outlives | nothing new | source | held if they were |
//! | RollingBack | `Abort` | `Rollback` | source | held if they were |
//!
//! Where one end is the capsule store, only the host's end gets orders:
//!
//! | kind, stage | host | routes lead to | bytes |
//! |---|---|---|---|
//! | suspend, snapshot: PreCopying to Freezing | as a source | it | as above |
//! | snapshot: Restoring (the capsule is being stored) | `MigrateOut` Freeze | it | flow |
//! | suspend: Retiring | `Retire` | none | held |
//! | resume, recover: Preparing, Restoring | `MigrateIn` | it | held |
//! | recover, the lost host | nothing | | |
//!
//! At no stage may two hosts execute a job. Only the owner gets `Run` and `Rollback`, and a
//! destination restores only what the source has frozen.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};

use mooring_api::watch::{
    AfterCheckpoint, AgentSlice, Backend, ConnectionDirective, Connections, Destination, Flow, GatewayPlacement,
    GatewaySlice, GivenCertificate, JobDirective, JobOrder, JobRoute, MigrateOutStage, Network, Origin, Peer,
    PublishedPort, StoreAccess, Target, TlsDirective, Unaccepted,
};
use mooring_store::{ConnectionRow, GatewayCertificateRow, GatewayRow, HostRow, JobRow, MigrationRow, Stage};
use mooring_types::external::IpNet;
use mooring_types::external_url::ExternalUrl;
use mooring_types::gateway::{Tls, WakeOn};
use mooring_types::host_name::HostPattern;
use mooring_types::job::{Image, JobSpec, JobStatus, Publish};
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use mooring_types::policy::Egress;
use mooring_types::{Generation, HostId, JobId, Name, Port, secret};

use super::{access, farewell, port_names};
use crate::config::Config;
use crate::state::db_state::DbState;
use crate::state::job_token;
use crate::state::observed::Observed;
use crate::state::vault::Vault;

/// The variable in which a job has its token.
const JOB_TOKEN: &str = "FLOAT_TOKEN";

/// The data that slices follow from.
pub(crate) struct Inputs<'a> {
    pub(crate) config: &'a Config,
    pub(crate) state: &'a DbState,
    pub(crate) holdings: &'a Holdings,
    /// The last lapse of each host's lease.
    pub(crate) lapses: &'a HashMap<HostId, u64>,
    pub(crate) secrets: &'a Secrets,
    pub(crate) vault: &'a Vault,
}

/// The generation that each host holds of each job; `None` if the host reports that nothing is
/// left.
pub(crate) type Holdings = HashMap<(HostId, JobId), Option<Generation>>;

/// The values of secrets by user and name.
#[derive(Default)]
pub(crate) struct Secrets(pub(crate) HashMap<(String, Name), String>);

/// Returns the slice of a host, without its sequence.
pub(crate) fn for_host(inputs: &Inputs<'_>, host: &HostRow) -> AgentSlice {
    let Inputs { config, state, .. } = inputs;
    AgentSlice {
        sequence: 0,
        lapse: inputs.lapses.get(&host.id).copied().unwrap_or_default(),
        host: host.id.clone(),
        network: network(config, state),
        jobs: state.jobs.values().filter_map(|job| directive(inputs, job, &host.id)).collect(),
        gateways: state
            .gateways
            .iter()
            .filter(|gateway| gateway.host == host.id)
            .map(|gateway| GatewayPlacement {
                gateway: gateway.id.clone(),
                resources: gateway.spec.resources,
                restart: gateway.restart,
            })
            .collect(),
        published: published(state, &host.id),
        store: config.store.as_ref().map(StoreAccess::place),
    }
}

/// Returns the slice of a gateway, without its sequence.
pub(crate) fn for_gateway(inputs: &Inputs<'_>, observed: &Observed, gateway: &GatewayRow) -> Option<GatewaySlice> {
    let Inputs { config, state, .. } = *inputs;
    let connections = state.connections.iter().filter(|connection| connection.gateway == gateway.id);
    Some(GatewaySlice {
        sequence: 0,
        gateway: gateway.id.clone(),
        name: gateway.spec.name.clone(),
        bind: state.gateway_address(&gateway.host, gateway.spec.exposure)?,
        port_range: gateway.spec.port_range,
        rules: state.rules(&gateway.spec.security_groups),
        endpoints: config.endpoint_rules(),
        host_names: config.gateway_hosts.iter().cloned().chain(external_host(gateway)).collect(),
        trusted_proxies: trusted_proxies(config, gateway),
        checkers: config.checkers.clone(),
        tls: tls(inputs, gateway),
        opcenter: config.external_url.clone().unwrap_or_default(),
        connections: connections.filter_map(|connection| connect(state, observed, gateway, connection)).collect(),
        farewells: farewell::of_gateway(&state.farewells, gateway),
    })
}

/// Returns the proxies that a gateway believes: those of the whole installation and its own.
fn trusted_proxies(config: &Config, gateway: &GatewayRow) -> Vec<IpNet> {
    let mut all = config.trusted_proxies.clone();
    all.extend(gateway.spec.trusted_proxies.iter().filter(|range| !config.trusted_proxies.contains(range)));
    all
}

/// Returns the name of a gateway's external URL, which its requests may name.
fn external_host(gateway: &GatewayRow) -> Option<HostPattern> {
    gateway.spec.external_url.as_ref()?.host_pattern()
}

/// Returns the external URL of a connection's port.
pub(crate) fn external_url(state: &DbState, gateway: &GatewayRow, port: Port) -> Option<ExternalUrl> {
    let of_gateway = state.connections.iter().filter(|connection| connection.gateway == gateway.id);
    gateway.spec.external_url_of(port, of_gateway.map(|connection| connection.gateway_port))
}

/// Returns the TLS of a gateway's ports. A certificate whose key can't be opened is left out.
fn tls(inputs: &Inputs<'_>, gateway: &GatewayRow) -> Option<TlsDirective> {
    if gateway.spec.tls == Tls::Off {
        return None;
    }
    let given = |row: &GatewayCertificateRow| match inputs.vault.unseal_port_key(
        &row.gateway,
        &row.name,
        &row.sealed_key,
    ) {
        Ok(key) => Some(GivenCertificate { certificate: row.certificate.clone(), key }),
        Err(error) => {
            tracing::error!(gateway = %gateway.id, %error, "the key of the certificate for {} can't be opened", row.name);
            None
        }
    };
    let certificates = inputs.state.certificates.iter().filter(|row| row.gateway == gateway.id).filter_map(given);
    let names = port_names::of(inputs.config, inputs.state, gateway)?;
    Some(TlsDirective { names, certificates: certificates.collect() })
}

fn network(config: &Config, state: &DbState) -> Network {
    let peer = |host: &HostRow| Peer {
        host: host.id.clone(),
        underlay: host.joined.address,
        overlay: host.overlay,
        wireguard_key: host.joined.wireguard_key.clone(),
    };
    let route = |job: &JobRow| Some(JobRoute { address: job.address?, host: carrier(state, job)?.clone() });
    Network {
        overlay: config.overlay,
        backend: config.backend,
        peers: state.hosts.iter().map(peer).collect(),
        routes: state.jobs.values().filter_map(route).collect(),
        egress: state.jobs.values().filter_map(|job| egress(config, state, job)).collect(),
        neighbours: neighbours(state),
    }
}

/// Returns the addresses of each user's jobs, which reach each other.
fn neighbours(state: &DbState) -> Vec<Vec<Ipv4Addr>> {
    let mut of_users: BTreeMap<&str, Vec<Ipv4Addr>> = BTreeMap::new();
    for job in state.jobs.values() {
        if let Some(address) = job.address {
            of_users.entry(&job.user_name).or_default().push(address);
        }
    }
    let mut neighbours: Vec<Vec<Ipv4Addr>> = of_users.into_values().filter(|jobs| jobs.len() > 1).collect();
    neighbours.iter_mut().for_each(|jobs| jobs.sort_unstable());
    neighbours
}

/// Returns the host through which a job's own connections leave, if the policy fixes one: that of
/// the job's first gateway. WireGuard can't route that way, since it identifies a peer by its
/// source addresses.
fn egress(config: &Config, state: &DbState, job: &JobRow) -> Option<JobRoute> {
    if job.policy.egress != Egress::Gateway || job.status.is_final() || config.backend == Backend::Wireguard {
        return None;
    }
    let first = state.first_gateways.get(&job.id)?;
    let gateway = state.gateways.iter().find(|gateway| gateway.id == *first)?;
    Some(JobRoute { address: job.address?, host: gateway.host.clone() })
}

/// Returns the published ports of the jobs whose routes lead to a host. Of two jobs with the same
/// port, the older one comes first.
fn published(state: &DbState, host: &HostId) -> Vec<PublishedPort> {
    let carried = |job: &&JobRow| !job.status.is_final() && carrier(state, job) == Some(host);
    let mut jobs: Vec<&JobRow> = state.jobs.values().filter(carried).collect();
    jobs.sort_by(|a, b| (a.submit_time, &a.id).cmp(&(b.submit_time, &b.id)));
    let ports = |job: &JobRow| {
        let (address, rules) = (job.address?, state.rules(&job.security_groups));
        let port = |publish: &Publish| PublishedPort {
            job: job.id.clone(),
            address,
            host_port: publish.host,
            container_port: publish.container,
            rules: rules.clone(),
        };
        Some(job.spec.publish.iter().map(port).collect::<Vec<_>>())
    };
    jobs.into_iter().filter_map(ports).flatten().collect()
}

/// Returns the host to which a job's address leads.
fn carrier<'a>(state: &'a DbState, job: &'a JobRow) -> Option<&'a HostId> {
    match state.migrations.get(&job.id) {
        Some(row) => match (row.kind, row.stage) {
            (MigrationKind::Migrate, Stage::Restoring | Stage::Retiring)
            | (MigrationKind::Resume | MigrationKind::Recover, _) => row.to.as_ref(),
            (MigrationKind::Suspend, Stage::Retiring) => None,
            (MigrationKind::Migrate | MigrationKind::Suspend | MigrationKind::Snapshot, _) => row.from.as_ref(),
        },
        None => job.host.as_ref(),
    }
}

fn directive(inputs: &Inputs<'_>, job: &JobRow, host: &HostId) -> Option<JobDirective> {
    let state = inputs.state;
    let (generation, order) = order(state, inputs.holdings, job, host)?;
    // An ended job that has returned its address is held by no host that still needs it.
    let address = job.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let mut spec = if order.executes() { executed_spec(inputs, job) } else { bare_spec(job) };
    // A destination reserves the size that the job will have there.
    let arriving = state.migrations.get(&job.id).filter(|row| row.to.as_ref() == Some(host));
    if let Some(resources) = arriving.and_then(|row| row.resources) {
        spec.resources = resources;
    }
    let store = if order.uses_store() { store_access(inputs, job) } else { None };
    let recoverable = state.capsule(&job.id).is_some();
    let is_owner = job.host.as_ref() == Some(host) && job.generation == generation && order.executes();
    let grant = if is_owner { inputs.vault.grant(host, &job.id, generation) } else { String::new() };
    Some(JobDirective { job: job.id.clone(), generation, address, spec, order, store, recoverable, grant })
}

/// Returns the spec for a host that executes nothing of the job: what others may know of it.
fn bare_spec(job: &JobRow) -> JobSpec {
    JobSpec { resources: job.spec.resources, ..JobSpec::minimal(job.spec.name.clone(), Image::Directory("/".into())) }
}

/// Returns the access to the capsule store for the capsules of a job.
fn store_access(inputs: &Inputs<'_>, job: &JobRow) -> Option<StoreAccess> {
    let (store, sealed) = (inputs.config.store.as_ref()?, job.capsule_key.as_ref()?);
    match inputs.vault.unseal_capsule_key(&job.id, sealed) {
        Ok(key) => Some(store.with_key(key.to_hex())),
        Err(error) => {
            tracing::error!(job = %job.id, %error, "the capsules of job {} can't be used: their key can't be opened", job.id);
            None
        }
    }
}

/// Returns the spec for a host that executes the job, with the job's token.
fn executed_spec(inputs: &Inputs<'_>, job: &JobRow) -> JobSpec {
    let mut spec = spec(inputs.secrets, job);
    match job_token::token(inputs.vault, job) {
        Ok(token) => spec.env.extend(token.map(|token| (JOB_TOKEN.into(), token))),
        Err(error) => tracing::error!(job = %job.id, %error, "job {} gets no token: its key can't be opened", job.id),
    }
    spec
}

/// Returns the spec for a host. The image is pinned to the digest that the first host found.
/// References to secrets are resolved here and nowhere else; a variable whose secret is gone is
/// left out.
fn spec(secrets: &Secrets, job: &JobRow) -> JobSpec {
    let mut spec = job.spec.clone();
    let value_of = |name: &Name| secrets.0.get(&(job.user_name.clone(), name.clone())).cloned();
    let resolve = |(key, value): (String, String)| Some((key, secret::resolve(&value, value_of)?));
    spec.env = spec.env.into_iter().filter_map(&resolve).collect();
    for volume in &mut spec.volumes {
        volume.options = std::mem::take(&mut volume.options).into_iter().filter_map(&resolve).collect();
    }
    if let Some(digest) = &job.image_digest {
        spec.image = spec.image.pinned(digest);
    }
    for variable in ["FLOAT_USER", "FLOAT_USER_ID"] {
        // Commands take a user's name as its id.
        spec.env.insert(variable.into(), job.user_name.clone());
    }
    spec
}

fn order(state: &DbState, holdings: &Holdings, job: &JobRow, host: &HostId) -> Option<(Generation, JobOrder)> {
    if job.status == JobStatus::Cancelling || job.status.is_final() {
        return order_to_stop(state, holdings, job, host);
    }
    match state.migrations.get(&job.id) {
        Some(row) if row.to.as_ref() == Some(host) => order_at_destination(state, row),
        Some(row) if row.from.as_ref() == Some(host) => order_at_source(state, job, row),
        // A lost host may come back with the job before the recovery ends, and keep it. Until the
        // recovery is undone, the destination may execute the job.
        Some(row) if row.kind == MigrationKind::Recover && job.host.as_ref() == Some(host) => None,
        None if job.host.as_ref() == Some(host) => {
            Some((job.generation, JobOrder::Run { begun: job.exec_time.is_some() }))
        }
        // A host without a part in the job holds a remnant of an older generation.
        _ => held(holdings, job, host).map(|generation| (generation, JobOrder::Stop)),
    }
}

/// Returns the generation that a host holds of a job.
fn held(holdings: &Holdings, job: &JobRow, host: &HostId) -> Option<Generation> {
    *holdings.get(&(host.clone(), job.id.clone()))?
}

/// Orders a host to stop a job that is cancelled or ended. Every host that may hold the job has to
/// confirm that nothing is left; see [`stoppers`].
fn order_to_stop(state: &DbState, holdings: &Holdings, job: &JobRow, host: &HostId) -> Option<(Generation, JobOrder)> {
    let concerned = stoppers(state, job).into_iter().find(|(stopper, _)| stopper == host);
    match (held(holdings, job, host), concerned) {
        (Some(generation), _) => Some((generation, JobOrder::Stop)),
        (None, Some((_, generation))) if !job.status.is_final() => Some((generation, JobOrder::Stop)),
        (None, _) => None,
    }
}

/// Returns the hosts that may hold a job, each with the generation. A host that was removed tells
/// nothing any more, and is not waited for.
pub(crate) fn stoppers(state: &DbState, job: &JobRow) -> Vec<(HostId, Generation)> {
    let moving = state.migrations.get(&job.id);
    let ends = |row: &MigrationRow| {
        let from = row.from.clone().map(|host| (host, row.from_generation));
        from.into_iter().chain(row.to.clone().map(|host| (host, row.generation))).collect()
    };
    let mut stoppers: Vec<(HostId, Generation)> = moving.map(ends).unwrap_or_default();
    if let Some(owner) = &job.host
        && !stoppers.iter().any(|(host, _)| host == owner)
    {
        stoppers.push((owner.clone(), job.generation));
    }
    stoppers.retain(|(host, _)| !state.removed_hosts.contains_key(host));
    stoppers
}

fn order_at_destination(state: &DbState, row: &MigrationRow) -> Option<(Generation, JobOrder)> {
    let migration = row.id.clone();
    let order = match row.stage {
        Stage::Preparing | Stage::PreCopying | Stage::Quiescing | Stage::Freezing | Stage::Restoring => {
            JobOrder::MigrateIn { migration, from: origin(state, row)? }
        }
        Stage::Retiring => JobOrder::Run { begun: true },
        Stage::Aborting | Stage::RollingBack => JobOrder::Abort { migration },
        Stage::Ended => return None,
    };
    Some((row.generation, order))
}

fn origin(state: &DbState, row: &MigrationRow) -> Option<Origin> {
    Some(match &row.from {
        Some(from) => {
            // A host that has joined with an earlier version has no key until it joins again.
            let key = state.host(from)?.public_key.parse().ok()?;
            Origin::Host { host: from.clone(), key, token: row.token.clone() }
        }
        None => Origin::Store {
            capsule: row.capsule.clone()?,
            connections: if row.kind == MigrationKind::Recover { Connections::Reset } else { Connections::Kept },
        },
    })
}

fn destination(state: &DbState, row: &MigrationRow) -> Option<Destination> {
    Some(match &row.to {
        Some(to) => {
            let HostRow { id, public_key, joined, .. } = state.host(to)?;
            Destination::Host {
                host: id.clone(),
                address: SocketAddr::from((joined.address, joined.migration_port)),
                key: public_key.parse().ok()?,
                token: row.token.clone(),
            }
        }
        None => Destination::Store {
            capsule: row.capsule.clone()?,
            then: if row.kind == MigrationKind::Snapshot { AfterCheckpoint::GoOn } else { AfterCheckpoint::StayFrozen },
            base: if row.kind == MigrationKind::Snapshot { state.base_for(&row.job) } else { None },
        },
    })
}

fn order_at_source(state: &DbState, job: &JobRow, row: &MigrationRow) -> Option<(Generation, JobOrder)> {
    let migration = row.id.clone();
    let move_out =
        |stage| Some(JobOrder::MigrateOut { migration: row.id.clone(), stage, to: destination(state, row)? });
    match row.stage {
        Stage::Preparing => Some((job.generation, JobOrder::Run { begun: true })),
        Stage::PreCopying | Stage::Quiescing => Some((job.generation, move_out(MigrateOutStage::PreCopy)?)),
        Stage::Freezing | Stage::Restoring => Some((job.generation, move_out(MigrateOutStage::Freeze)?)),
        Stage::Retiring => Some((row.from_generation, JobOrder::Retire { migration })),
        Stage::Aborting | Stage::Ended => None,
        Stage::RollingBack => {
            let connections = if row.destination_lost { Connections::Reset } else { Connections::Kept };
            Some((job.generation, JobOrder::Rollback { migration, connections }))
        }
    }
}

fn connect(
    state: &DbState,
    observed: &Observed,
    gateway: &GatewayRow,
    connection: &ConnectionRow,
) -> Option<ConnectionDirective> {
    let job = state.jobs.get(&connection.job)?;
    Some(ConnectionDirective {
        connection: connection.id.clone(),
        job: job.id.clone(),
        job_name: job.spec.name.clone(),
        job_status: job.status,
        gateway_port: connection.gateway_port,
        target: target(state, job, connection.target_port)?,
        epoch: state.externals.get(&job.id).map_or(job.epoch, |row| row.epoch),
        protocol: connection.protocol,
        hold_limits: connection.hold_limits,
        wake_on: wake_on(job, connection),
        resumes: job.policy.resume_on_connect,
        idle_seconds: job.policy.idle.map(|idle| idle.after.as_secs()),
        is_idle: job.is_idle,
        widget: connection.widget,
        cookies: connection.cookies,
        access: connection.access,
        visits: access::visits(state, connection, &job.user_name),
        unserved: unserved(state, observed, job, connection.target_port).unwrap_or_default(),
        external_url: external_url(state, gateway, connection.gateway_port),
        flow: flow(state, job),
        unaccepted: unaccepted(observed, job),
    })
}

/// Returns the clients of a connection that wake its job.
pub(crate) fn wake_on(job: &JobRow, connection: &ConnectionRow) -> WakeOn {
    connection.wake_on.unwrap_or(job.policy.wake_on)
}

/// Returns the connections that a job lacks since it was restored on its host.
fn unaccepted(observed: &Observed, job: &JobRow) -> Option<Unaccepted> {
    observed.job(job.host.as_ref()?, &job.id, job.generation)?.unaccepted.clone()
}

/// Returns the sentence about a published port of a job which executes and listens elsewhere.
pub(crate) fn unserved(state: &DbState, observed: &Observed, job: &JobRow, published: Port) -> Option<String> {
    let unserved = observed.unserved(job).filter(|_| flow(state, job) == Flow::Open)?;
    unserved.text(container_port(job, published)?)
}

/// Returns the address to which a published port of a job leads.
fn target(state: &DbState, job: &JobRow, published: Port) -> Option<Target> {
    if let Some(row) = state.externals.get(&job.id) {
        let endpoints = row.endpoints.iter().filter(|external| external.target == published);
        return Some(Target::Endpoints(endpoints.map(|external| external.endpoint.clone()).collect()));
    }
    Some(Target::Overlay(SocketAddr::from((job.address?, container_port(job, published)?.get()))))
}

/// Returns the container port behind a published port.
fn container_port(job: &JobRow, published: Port) -> Option<Port> {
    job.spec.publish.iter().find(|publish| publish.host == published).map(|publish| publish.container)
}

pub(crate) fn flow(state: &DbState, job: &JobRow) -> Flow {
    let Some(row) = state.migrations.get(&job.id) else {
        return if job.status == JobStatus::Executing { Flow::Open } else { Flow::Held { quiesce: None } };
    };
    match (row.stage, &row.outcome) {
        (Stage::Restoring, _) if row.kind == MigrationKind::Snapshot => Flow::Open,
        (Stage::Retiring, _) if row.kind == MigrationKind::Suspend => Flow::Held { quiesce: None },
        _ if row.kind.is_out_of_store() => Flow::Held { quiesce: None },
        (Stage::Preparing | Stage::PreCopying | Stage::Retiring | Stage::Ended, _) => Flow::Open,
        (Stage::Quiescing | Stage::Freezing | Stage::Restoring, _) => Flow::Held { quiesce: Some(row.id.clone()) },
        (Stage::Aborting | Stage::RollingBack, Outcome::RollingBack { phase, .. }) if *phase < Phase::Quiesce => {
            Flow::Open
        }
        (Stage::Aborting | Stage::RollingBack, _) => Flow::Held { quiesce: None },
    }
}

#[cfg(test)]
mod tests {
    use mooring_store::SecurityGroupRow;
    use mooring_types::security::SecurityGroupSpec;
    use mooring_types::{JobId, SecurityGroupId, Timestamp};

    use super::*;
    use crate::state::departures::Departures;

    fn time(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn group(name: &str, rules: &[&str]) -> SecurityGroupRow {
        let rules: Vec<_> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        SecurityGroupRow {
            id: SecurityGroupId::random(&mut rand::rng()),
            spec: SecurityGroupSpec::new(name.parse().unwrap(), "").unwrap().changed(&[], &rules).unwrap(),
            user_name: "admin".into(),
            create_time: time("00:00:00"),
        }
    }

    fn job(host: &HostId, submitted: &str, publish: &[&str], groups: &[&SecurityGroupRow]) -> JobRow {
        let spec = JobSpec {
            publish: publish.iter().map(|publish| publish.parse().unwrap()).collect(),
            ..JobSpec::minimal("job".parse().unwrap(), Image::Directory("/".into()))
        };
        JobRow {
            status: JobStatus::Executing,
            address: Some([100, 64, 0, 2].into()),
            generation: Generation::FIRST,
            host: Some(host.clone()),
            security_groups: groups.iter().map(|group| group.id.clone()).collect(),
            ..JobRow::submitted(JobId::random(&mut rand::rng()), "admin", spec, time(submitted))
        }
    }

    fn snapshot(jobs: &[&JobRow], security_groups: Vec<SecurityGroupRow>) -> DbState {
        DbState {
            hosts: Vec::new(),
            removed_hosts: [].into(),
            jobs: jobs.iter().map(|job| (job.id.clone(), (*job).clone())).collect(),
            migrations: [].into(),
            externals: [].into(),
            gateways: Vec::new(),
            connections: Vec::new(),
            visits: Vec::new(),
            memberships: Vec::new(),
            farewells: Vec::new(),
            security_groups,
            certificates: Vec::new(),
            secrets: Vec::new(),
            departures: Departures::default(),
            first_gateways: [].into(),
            capsules: Vec::new(),
        }
    }

    #[test]
    fn secrets_resolve_for_their_owner_alone() {
        let mut job = job(&HostId::random(&mut rand::rng()), "00:00:00", &[], &[]);
        let env = [("K", "a-{secret:token}"), ("OTHER", "{secret:gone}"), ("PLAIN", "p")];
        job.spec.env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        job.spec.volumes = vec!["[accessKey=k,secret={secret:token}]s3://bucket:/data".parse().unwrap()];
        let env = |secrets: &Secrets| {
            let spec = spec(secrets, &job);
            assert!(!format!("{spec:?}").contains("sesame"));
            ["K", "OTHER", "PLAIN"].map(|key| spec.env.get(key).cloned())
        };
        assert_eq!(env(&Secrets::default()), [None, None, Some("p".into())]);
        let of = |owner: &str, value: &str| ((owner.to_owned(), "token".parse().unwrap()), value.to_owned());
        assert_eq!(env(&Secrets([of("bob", "bobs")].into())), [None, None, Some("p".into())]);
        let secrets = Secrets([of("bob", "bobs"), of("admin", "open-sesame")].into());
        assert_eq!(env(&secrets), [Some("a-open-sesame".into()), None, Some("p".into())]);
        assert_eq!(spec(&secrets, &job).volumes[0].options["secret"], "open-sesame");
    }

    #[test]
    fn host_publishes_its_jobs_oldest_first() {
        let (here, there) = (HostId::random(&mut rand::rng()), HostId::random(&mut rand::rng()));
        let (web, ssh) = (group("web", &["tcp:80:10.0.0.0/8", "tcp:22:::/0"]), group("ssh", &["tcp:22:::/0"]));
        let old = job(&here, "00:00:01", &["8080:80", "2222:22"], &[&web, &ssh]);
        let young = job(&here, "00:00:02", &["8080"], &[]);
        let elsewhere = job(&there, "00:00:01", &["8081"], &[&web]);
        let ended = JobRow { status: JobStatus::Completed, ..job(&here, "00:00:01", &["8082"], &[&web]) };
        let state = snapshot(&[&young, &old, &elsewhere, &ended], vec![web, ssh]);
        let ports = published(&state, &here);
        let seen: Vec<(u16, u16)> =
            ports.iter().map(|port| (port.host_port.get(), port.container_port.get())).collect();
        assert_eq!(seen, [(8080, 80), (2222, 22), (8080, 8080)]);
        let rules = |index: usize| ports[index].rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        // Each rule once, whichever groups have it; no rule without a group.
        assert_eq!(rules(0), ["tcp:22:::/0", "tcp:80:10.0.0.0/8"]);
        assert_eq!((rules(1), rules(2).len()), (rules(0), 0));
    }
}

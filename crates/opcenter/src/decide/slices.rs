//! The slices: what each host and gateway should know, as a pure function of what was decided.
//!
//! | stage of a move | destination | source | routes lead to | bytes |
//! |---|---|---|---|---|
//! | Preparing | `MigrateIn` | `Run` | source | flow |
//! | PreCopying | `MigrateIn` | `MigrateOut` PreCopy | source | flow |
//! | Quiescing | `MigrateIn` | `MigrateOut` PreCopy | source | held, quiesce |
//! | Freezing | `MigrateIn` | `MigrateOut` Freeze | source | held |
//! | Restoring | `MigrateIn` | `MigrateOut` Freeze | destination | held |
//! | Retiring | `Run` | `Retire` | destination | flow |
//! | Aborting | `Abort`, which a job that was restored outlives | nothing new | source | held if they were |
//! | RollingBack | `Abort` | `Rollback` | source | held if they were |
//!
//! Where one end of a move is the capsule store, its column has nobody in it:
//!
//! | kind, stage | host | routes lead to | bytes |
//! |---|---|---|---|
//! | suspend, capture: PreCopying to Freezing | as a source | it | as for a move |
//! | capture: Restoring (the capsule is being stored) | `MigrateOut` Freeze | it | flow |
//! | suspend: Retiring | `Retire` | nobody | held |
//! | resume, recover: Preparing, Restoring | `MigrateIn` | it | held |
//!
//! At no stage may two hosts execute a job: `Run` and `Rollback` are given to its owner alone, and a `MigrateIn` that restores follows a
//! `MigrateOut` that has frozen.

use std::net::SocketAddr;

use mooring_api::watch::{
    AfterCheckpoint, AgentSlice, Backend, ConnectionDirective, Connections, Destination, Flow, GatewayPlacement,
    GatewaySlice, JobDirective, JobOrder, JobRoute, JobState, MigrateOutStage, Network, Origin, Peer, PublishedPort,
    Target,
};
use mooring_store::{ConnectionRow, GatewayRow, HostRow, JobRow, MigrationRow, Stage};
use mooring_types::job::{JobSpec, JobStatus, Publish};
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use mooring_types::policy::Egress;
use mooring_types::{Generation, HostId, Name, Port, secret};

use super::farewell;
use crate::Config;
use crate::state::db_state::DbState;
use crate::state::observed::Observed;
use crate::state::vault::Vault;

/// The slice of a host; the sequence is filled in when it is published.
pub(crate) fn for_host(
    config: &Config,
    vault: &Vault,
    all: &DbState,
    observed: &Observed,
    host: &HostRow,
) -> AgentSlice {
    AgentSlice {
        sequence: 0,
        host: host.id.clone(),
        network: network(config, all),
        jobs: all.jobs.values().filter_map(|job| directive(vault, all, observed, job, &host.id)).collect(),
        gateways: all
            .gateways
            .iter()
            .filter(|gateway| gateway.host == host.id)
            .map(|gateway| GatewayPlacement {
                gateway: gateway.id.clone(),
                token: gateway.token.clone(),
                resources: gateway.spec.resources,
                restart: gateway.restart,
            })
            .collect(),
        published: published(all, &host.id),
        store: config.store.clone(),
    }
}

/// The slice of a gateway; the sequence is filled in when it is published.
pub(crate) fn for_gateway(all: &DbState, gateway: &GatewayRow) -> Option<GatewaySlice> {
    let connections = all.connections.iter().filter(|connection| connection.gateway == gateway.id);
    Some(GatewaySlice {
        sequence: 0,
        gateway: gateway.id.clone(),
        name: gateway.spec.name.clone(),
        bind: all.gateway_address(&gateway.host, gateway.spec.exposure)?,
        port_range: gateway.spec.port_range,
        rules: all.rules(&gateway.spec.security_groups),
        connections: connections.filter_map(|connection| connect(all, connection)).collect(),
        farewells: farewell::of_gateway(&all.farewells, gateway),
    })
}

fn network(config: &Config, all: &DbState) -> Network {
    let peer = |host: &HostRow| Peer {
        host: host.id.clone(),
        underlay: host.joined.address,
        overlay: host.overlay,
        wireguard_key: host.joined.wireguard_key.clone(),
    };
    let route = |job: &JobRow| Some(JobRoute { address: job.address?, host: carrier(all, job)?.clone() });
    Network {
        overlay: config.overlay,
        backend: config.backend,
        peers: all.hosts.iter().map(peer).collect(),
        routes: all.jobs.values().filter_map(route).collect(),
        egress: all.jobs.values().filter_map(|job| egress(config, all, job)).collect(),
    }
}

/// The host through which a job's own connections leave, where it is to be one for the job's life: that of the gateway that it was
/// connected to first. WireGuard has no way for it: a peer there is told by the addresses that it may send from.
fn egress(config: &Config, all: &DbState, job: &JobRow) -> Option<JobRoute> {
    if job.policy.egress != Egress::Gateway || job.status.is_final() || config.backend == Backend::Wireguard {
        return None;
    }
    let first = all.first_gateways.get(&job.id)?;
    let gateway = all.gateways.iter().find(|gateway| gateway.id == *first)?;
    Some(JobRoute { address: job.address?, host: gateway.host.clone() })
}

/// The ports of the jobs to which this host's routes lead; of two that want the same port, the older job comes first.
fn published(all: &DbState, host: &HostId) -> Vec<PublishedPort> {
    let carried = |job: &&JobRow| !job.status.is_final() && carrier(all, job) == Some(host);
    let mut jobs: Vec<&JobRow> = all.jobs.values().filter(carried).collect();
    jobs.sort_by(|a, b| (a.submit_time, &a.id).cmp(&(b.submit_time, &b.id)));
    let ports = |job: &JobRow| {
        let (address, rules) = (job.address?, all.rules(&job.security_groups));
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

/// The host to which a job's address leads.
fn carrier<'a>(all: &'a DbState, job: &'a JobRow) -> Option<&'a HostId> {
    match all.migrations.get(&job.id) {
        Some(row) => match (row.kind, row.stage) {
            (MigrationKind::Migrate, Stage::Restoring | Stage::Retiring)
            | (MigrationKind::Resume | MigrationKind::Recover, _) => row.to.as_ref(),
            (MigrationKind::Suspend, Stage::Retiring) => None,
            (MigrationKind::Migrate | MigrationKind::Suspend | MigrationKind::Snapshot, _) => row.from.as_ref(),
        },
        None => job.host.as_ref(),
    }
}

fn directive(vault: &Vault, all: &DbState, observed: &Observed, job: &JobRow, host: &HostId) -> Option<JobDirective> {
    let (generation, order) = order(all, observed, job, host)?;
    // An ended job that has given its address back is held by nobody who would still need it.
    let address = job.address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
    let mut spec = spec(vault, all, job);
    // A destination makes room for the size that the job has there.
    let arriving = all.migrations.get(&job.id).filter(|row| row.to.as_ref() == Some(host));
    if let Some(resources) = arriving.and_then(|row| row.resources) {
        spec.resources = resources;
    }
    Some(JobDirective { job: job.id.clone(), generation, address, spec, order })
}

/// What a host is told to run: the image that the first host found under its name, whatever the name means by now.
/// References to secrets are replaced here and nowhere else; a variable of a secret that was removed is left out.
fn spec(vault: &Vault, all: &DbState, job: &JobRow) -> JobSpec {
    let mut spec = job.spec.clone();
    let stands_for = |name: &Name| {
        let secret = all.secrets.iter().find(|secret| secret.name == *name && secret.user_name == job.user_name)?;
        vault.unseal(&secret.user, &secret.name, &secret.sealed).ok()
    };
    let resolve = |(key, value): (String, String)| Some((key, secret::resolve(&value, stands_for)?));
    spec.env = spec.env.into_iter().filter_map(&resolve).collect();
    for volume in &mut spec.volumes {
        volume.options = std::mem::take(&mut volume.options).into_iter().filter_map(&resolve).collect();
    }
    if !job.image_digest.is_empty() {
        spec.image = spec.image.pinned(&job.image_digest);
    }
    spec.env.insert("FLOAT_USER".into(), job.user_name.clone());
    spec
}

fn order(all: &DbState, observed: &Observed, job: &JobRow, host: &HostId) -> Option<(Generation, JobOrder)> {
    if job.status == JobStatus::Cancelling || job.status.is_final() {
        return order_to_stop(all, observed, job, host);
    }
    match all.migrations.get(&job.id) {
        Some(row) if row.to.as_ref() == Some(host) => order_at_destination(all, row),
        Some(row) if row.from.as_ref() == Some(host) => order_at_source(all, job, row),
        // It was lost, and may come back with the job before the job has been recovered elsewhere: then it goes on there.
        Some(row) if row.kind == MigrationKind::Recover && job.host.as_ref() == Some(host) => {
            Some((job.generation, JobOrder::Run { begun: true }))
        }
        None if job.host.as_ref() == Some(host) => {
            Some((job.generation, JobOrder::Run { begun: job.exec_time.is_some() }))
        }
        // What a host holds of a job that it has no part in is a left-over of an older generation.
        _ => held(observed, job, host).map(|generation| (generation, JobOrder::Stop)),
    }
}

/// The generation that a host holds of a job, unless that is gone already.
fn held(observed: &Observed, job: &JobRow, host: &HostId) -> Option<Generation> {
    let (_, seen) = observed.holders(&job.id).find(|(holder, _)| *holder == host)?;
    (seen.state != JobState::Gone).then_some(seen.generation)
}

/// While a job is cancelled, everyone who may hold it has to confirm that nothing is left; see [`stoppers`].
fn order_to_stop(all: &DbState, observed: &Observed, job: &JobRow, host: &HostId) -> Option<(Generation, JobOrder)> {
    let concerned = stoppers(all, job).into_iter().find(|(stopper, _)| stopper == host);
    match (held(observed, job, host), concerned) {
        (Some(generation), _) => Some((generation, JobOrder::Stop)),
        (None, Some((_, generation))) if !job.status.is_final() => Some((generation, JobOrder::Stop)),
        (None, _) => None,
    }
}

/// The hosts that may hold a job, each with the generation.
pub(crate) fn stoppers(all: &DbState, job: &JobRow) -> Vec<(HostId, Generation)> {
    let moving = all.migrations.get(&job.id);
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
    stoppers
}

fn order_at_destination(all: &DbState, row: &MigrationRow) -> Option<(Generation, JobOrder)> {
    let migration = row.id.clone();
    let order = match row.stage {
        Stage::Preparing | Stage::PreCopying | Stage::Quiescing | Stage::Freezing | Stage::Restoring => {
            JobOrder::MigrateIn { migration, from: origin(all, row)? }
        }
        Stage::Retiring => JobOrder::Run { begun: true },
        Stage::Aborting | Stage::RollingBack => JobOrder::Abort { migration },
        Stage::Ended => return None,
    };
    Some((row.generation, order))
}

fn origin(all: &DbState, row: &MigrationRow) -> Option<Origin> {
    Some(match &row.from {
        Some(from) => {
            Origin::Host { certificate: all.host(from)?.joined.certificate.clone(), token: row.token.clone() }
        }
        None => Origin::Store {
            capsule: row.capsule.clone()?,
            connections: if row.kind == MigrationKind::Recover { Connections::Reset } else { Connections::Kept },
        },
    })
}

fn destination(all: &DbState, row: &MigrationRow) -> Option<Destination> {
    Some(match &row.to {
        Some(to) => {
            let to = &all.host(to)?.joined;
            Destination::Host {
                address: SocketAddr::from((to.address, to.migration_port)),
                certificate: to.certificate.clone(),
                token: row.token.clone(),
            }
        }
        None => Destination::Store {
            capsule: row.capsule.clone()?,
            then: if row.kind == MigrationKind::Snapshot { AfterCheckpoint::GoOn } else { AfterCheckpoint::StayFrozen },
            base: if row.kind == MigrationKind::Snapshot { all.base_for(&row.job) } else { None },
        },
    })
}

fn order_at_source(all: &DbState, job: &JobRow, row: &MigrationRow) -> Option<(Generation, JobOrder)> {
    let migration = row.id.clone();
    let move_out = |stage| Some(JobOrder::MigrateOut { migration: row.id.clone(), stage, to: destination(all, row)? });
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

fn connect(all: &DbState, connection: &ConnectionRow) -> Option<ConnectionDirective> {
    let job = all.jobs.get(&connection.job)?;
    Some(ConnectionDirective {
        connection: connection.id.clone(),
        job: job.id.clone(),
        job_name: job.spec.name.clone(),
        job_status: job.status,
        gateway_port: connection.gateway_port,
        target: target(all, job, connection.target_port)?,
        epoch: all.externals.get(&job.id).map_or(job.epoch, |row| row.epoch),
        protocol: connection.protocol,
        hold_limits: connection.hold_limits,
        widget: connection.widget,
        flow: flow(all, job),
    })
}

/// Where a published port of a job leads.
fn target(all: &DbState, job: &JobRow, published: Port) -> Option<Target> {
    if let Some(row) = all.externals.get(&job.id) {
        let meant = row.endpoints.iter().filter(|external| external.target == published);
        return Some(Target::Endpoints(meant.map(|external| external.endpoint.clone()).collect()));
    }
    Some(Target::Overlay(SocketAddr::from((job.address?, container_port(job, published)?.get()))))
}

/// The port inside the container that a published port leads to.
fn container_port(job: &JobRow, published: Port) -> Option<Port> {
    job.spec.publish.iter().find(|publish| publish.host == published).map(|publish| publish.container)
}

pub(crate) fn flow(all: &DbState, job: &JobRow) -> Flow {
    let Some(row) = all.migrations.get(&job.id) else {
        return if job.status == JobStatus::Executing { Flow::Open } else { Flow::Held { quiesce: None } };
    };
    match (row.stage, &row.outcome) {
        (Stage::Restoring, _) if row.kind == MigrationKind::Snapshot => Flow::Open,
        (Stage::Retiring, _) if row.kind == MigrationKind::Suspend => Flow::Held { quiesce: None },
        _ if row.kind.is_out_of_store() => Flow::Held { quiesce: None },
        (Stage::Preparing | Stage::PreCopying | Stage::Retiring | Stage::Ended, _) => Flow::Open,
        (Stage::Quiescing | Stage::Freezing | Stage::Restoring, _) => Flow::Held { quiesce: Some(row.id.clone()) },
        (Stage::Aborting | Stage::RollingBack, Outcome::Undoing { phase, .. }) if *phase < Phase::Quiesce => Flow::Open,
        (Stage::Aborting | Stage::RollingBack, _) => Flow::Held { quiesce: None },
    }
}

#[cfg(test)]
mod tests {
    use mooring_store::{SecretRow, SecurityGroupRow};
    use mooring_types::host::Resources;
    use mooring_types::job::{Image, JobSpec};
    use mooring_types::security::SecurityGroupSpec;
    use mooring_types::{JobId, SecurityGroupId, Timestamp, UserId};

    use super::*;

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
            name: "job".parse().unwrap(),
            image: Image::Directory("/".into()),
            command: Vec::new(),
            env: [].into(),
            working_dir: "/".into(),
            resources: Resources { cpu: 1, mem_gb: 1.0 },
            publish: publish.iter().map(|publish| publish.parse().unwrap()).collect(),
            access_path: "/".into(),
            script: None,
            with_root: false,
            volumes: Vec::new(),
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
            jobs: jobs.iter().map(|job| (job.id.clone(), (*job).clone())).collect(),
            migrations: [].into(),
            externals: [].into(),
            gateways: Vec::new(),
            connections: Vec::new(),
            farewells: Vec::new(),
            security_groups,
            secrets: Vec::new(),
            first_gateways: [].into(),
            capsules: Vec::new(),
        }
    }

    #[test]
    fn a_reference_is_replaced_by_the_secret_of_the_job_s_owner_and_left_out_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path()).unwrap();
        let secret = |owner: &str, value: &str| {
            let (user, name): (UserId, Name) = (UserId::random(&mut rand::rng()), "token".parse().unwrap());
            let sealed = vault.seal(&user, &name, value).unwrap();
            SecretRow {
                user,
                user_name: owner.into(),
                name,
                sealed,
                create_time: time("00:00:00"),
                update_time: time("00:00:00"),
            }
        };
        let mut job = job(&HostId::random(&mut rand::rng()), "00:00:00", &[], &[]);
        let env = [("K", "a-{secret:token}"), ("OTHER", "{secret:gone}"), ("PLAIN", "p")];
        job.spec.env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        job.spec.volumes = vec!["[accessKey=k,secret={secret:token}]s3://bucket:/data".parse().unwrap()];
        let mut all = snapshot(&[&job], Vec::new());
        let seen = |all: &DbState| {
            let spec = spec(&vault, all, &job);
            assert!(!format!("{spec:?}").contains("sesame"));
            ["K", "OTHER", "PLAIN"].map(|key| spec.env.get(key).cloned())
        };
        assert_eq!(seen(&all), [None, None, Some("p".into())]);
        all.secrets = vec![secret("bob", "bobs"), secret("admin", "open-sesame")];
        assert_eq!(seen(&all), [Some("a-open-sesame".into()), None, Some("p".into())]);
        assert_eq!(spec(&vault, &all, &job).volumes[0].options["secret"], "open-sesame");
        // One that was sealed with another key is as good as none.
        all.secrets[1].sealed = vec![1; 40];
        assert_eq!(seen(&all)[0], None);
    }

    #[test]
    fn a_host_publishes_what_it_carries_the_oldest_job_first() {
        let (here, there) = (HostId::random(&mut rand::rng()), HostId::random(&mut rand::rng()));
        let (web, ssh) = (group("web", &["tcp:80:10.0.0.0/8", "tcp:22:::/0"]), group("ssh", &["tcp:22:::/0"]));
        let old = job(&here, "00:00:01", &["8080:80", "2222:22"], &[&web, &ssh]);
        let young = job(&here, "00:00:02", &["8080"], &[]);
        let elsewhere = job(&there, "00:00:01", &["8081"], &[&web]);
        let ended = JobRow { status: JobStatus::Completed, ..job(&here, "00:00:01", &["8082"], &[&web]) };
        let all = snapshot(&[&young, &old, &elsewhere, &ended], vec![web, ssh]);
        let ports = published(&all, &here);
        let seen: Vec<(u16, u16)> =
            ports.iter().map(|port| (port.host_port.get(), port.container_port.get())).collect();
        assert_eq!(seen, [(8080, 80), (2222, 22), (8080, 8080)]);
        let rules = |index: usize| ports[index].rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        // Each once, whichever groups have it; nobody where no group is.
        assert_eq!(rules(0), ["tcp:22:::/0", "tcp:80:10.0.0.0/8"]);
        assert_eq!((rules(1), rules(2).len()), (rules(0), 0));
    }
}

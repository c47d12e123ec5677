//! The slices: what each host and gateway should know, as a pure function of what was decided.
//!
//! | stage of a move | destination | source | routes lead to | bytes |
//! |---|---|---|---|---|
//! | Preparing | `MoveIn` | `Run` | source | flow |
//! | PreCopying | `MoveIn` | `MoveOut` PreCopy | source | flow |
//! | Quiescing | `MoveIn` | `MoveOut` PreCopy | source | held, quiesce |
//! | Freezing | `MoveIn` | `MoveOut` Freeze | source | held |
//! | Restoring | `MoveIn` | `MoveOut` Freeze | destination | held |
//! | Retiring | `Run` | `Retire` | destination | flow |
//! | Aborting | `Abort`, which a job that was restored outlives | nothing new | source | held if they were |
//! | RollingBack | `Abort` | `Rollback` | source | held if they were |
//!
//! At no stage may two hosts execute a job: `Run` and `Rollback` are given to its owner alone, and a `MoveIn` that restores follows a
//! `MoveOut` that has frozen.

use std::net::SocketAddr;

use mooring_api::watch::{
    AgentSlice, ConnectionDirective, Flow, GatewayPlacement, GatewaySlice, JobDirective, JobOrder, JobRoute, JobState,
    MoveOutStage, Network, Peer, PublishedPort, Target,
};
use mooring_store::{ConnectionRow, GatewayRow, HostRow, JobRow, MigrationRow, Stage};
use mooring_types::job::{JobStatus, Publish};
use mooring_types::migration::{Outcome, Phase};
use mooring_types::{Generation, HostId, Port};

use crate::Config;
use crate::observed::Observed;
use crate::snapshot::Snapshot;

/// The slice of a host; the sequence is filled in when it is published.
pub(crate) fn for_host(config: &Config, all: &Snapshot, observed: &Observed, host: &HostRow) -> AgentSlice {
    AgentSlice {
        sequence: 0,
        host: host.id.clone(),
        network: network(config, all),
        jobs: all.jobs.values().filter_map(|job| directive(all, observed, job, &host.id)).collect(),
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
    }
}

/// The slice of a gateway; the sequence is filled in when it is published.
pub(crate) fn for_gateway(all: &Snapshot, gateway: &GatewayRow) -> Option<GatewaySlice> {
    let connections = all.connections.iter().filter(|connection| connection.gateway == gateway.id);
    Some(GatewaySlice {
        sequence: 0,
        gateway: gateway.id.clone(),
        name: gateway.spec.name.clone(),
        bind: all.gateway_address(&gateway.host, gateway.spec.exposure)?,
        port_range: gateway.spec.port_range,
        rules: all.rules(&gateway.spec.security_groups),
        connections: connections.filter_map(|connection| connect(all, connection)).collect(),
    })
}

fn network(config: &Config, all: &Snapshot) -> Network {
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
    }
}

/// The ports of the jobs to which this host's routes lead; of two that want the same port, the older job comes first.
fn published(all: &Snapshot, host: &HostId) -> Vec<PublishedPort> {
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
fn carrier<'a>(all: &'a Snapshot, job: &'a JobRow) -> Option<&'a HostId> {
    match all.moves.get(&job.id) {
        Some(row) if matches!(row.stage, Stage::Restoring | Stage::Retiring) => Some(&row.to),
        Some(row) => Some(&row.from),
        None => job.host.as_ref(),
    }
}

fn directive(all: &Snapshot, observed: &Observed, job: &JobRow, host: &HostId) -> Option<JobDirective> {
    let (generation, order) = order(all, observed, job, host)?;
    // An ended job that has given its address back is held by nobody who would still need it.
    let address = job.address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
    Some(JobDirective { job: job.id.clone(), generation, address, spec: job.spec.clone(), order })
}

fn order(all: &Snapshot, observed: &Observed, job: &JobRow, host: &HostId) -> Option<(Generation, JobOrder)> {
    if job.status == JobStatus::Cancelling || job.status.is_final() {
        return order_to_stop(all, observed, job, host);
    }
    match all.moves.get(&job.id) {
        Some(row) if *host == row.to => order_at_destination(all, row),
        Some(row) if *host == row.from => order_at_source(all, job, row),
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
fn order_to_stop(all: &Snapshot, observed: &Observed, job: &JobRow, host: &HostId) -> Option<(Generation, JobOrder)> {
    let concerned = stoppers(all, job).into_iter().find(|(stopper, _)| stopper == host);
    match (held(observed, job, host), concerned) {
        (Some(generation), _) => Some((generation, JobOrder::Stop)),
        (None, Some((_, generation))) if !job.status.is_final() => Some((generation, JobOrder::Stop)),
        (None, _) => None,
    }
}

/// The hosts that may hold a job, each with the generation.
pub(crate) fn stoppers(all: &Snapshot, job: &JobRow) -> Vec<(HostId, Generation)> {
    let moving = all.moves.get(&job.id);
    let mut stoppers: Vec<(HostId, Generation)> = moving
        .map(|row| vec![(row.from.clone(), row.from_generation), (row.to.clone(), row.generation)])
        .unwrap_or_default();
    if let Some(owner) = &job.host
        && !stoppers.iter().any(|(host, _)| host == owner)
    {
        stoppers.push((owner.clone(), job.generation));
    }
    stoppers
}

fn order_at_destination(all: &Snapshot, row: &MigrationRow) -> Option<(Generation, JobOrder)> {
    let migration = row.id.clone();
    let order = match row.stage {
        Stage::Preparing | Stage::PreCopying | Stage::Quiescing | Stage::Freezing | Stage::Restoring => {
            let from = all.host(&row.from)?.joined.certificate.clone();
            JobOrder::MoveIn { migration, from, token: row.token.clone() }
        }
        Stage::Retiring => JobOrder::Run { begun: true },
        Stage::Aborting | Stage::RollingBack => JobOrder::Abort { migration },
        Stage::Ended => return None,
    };
    Some((row.generation, order))
}

fn order_at_source(all: &Snapshot, job: &JobRow, row: &MigrationRow) -> Option<(Generation, JobOrder)> {
    let migration = row.id.clone();
    let move_out = |stage| {
        let to = &all.host(&row.to)?.joined;
        Some(JobOrder::MoveOut {
            migration: row.id.clone(),
            stage,
            to: SocketAddr::from((to.address, to.move_port)),
            certificate: to.certificate.clone(),
            token: row.token.clone(),
        })
    };
    match row.stage {
        Stage::Preparing => Some((job.generation, JobOrder::Run { begun: true })),
        Stage::PreCopying | Stage::Quiescing => Some((job.generation, move_out(MoveOutStage::PreCopy)?)),
        Stage::Freezing | Stage::Restoring => Some((job.generation, move_out(MoveOutStage::Freeze)?)),
        Stage::Retiring => Some((row.from_generation, JobOrder::Retire { migration })),
        Stage::Aborting | Stage::Ended => None,
        Stage::RollingBack => Some((job.generation, JobOrder::Rollback { migration })),
    }
}

fn connect(all: &Snapshot, connection: &ConnectionRow) -> Option<ConnectionDirective> {
    let job = all.jobs.get(&connection.job)?;
    Some(ConnectionDirective {
        connection: connection.id.clone(),
        job: job.id.clone(),
        job_name: job.spec.name.clone(),
        job_status: job.status,
        gateway_port: connection.gateway_port,
        target: target(all, job, connection.target_port)?,
        epoch: all.externals.get(&job.id).map_or(0, |row| row.epoch),
        protocol: connection.protocol,
        patience: connection.patience,
        flow: flow(all, job),
    })
}

/// Where a published port of a job leads.
fn target(all: &Snapshot, job: &JobRow, published: Port) -> Option<Target> {
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

pub(crate) fn flow(all: &Snapshot, job: &JobRow) -> Flow {
    let Some(row) = all.moves.get(&job.id) else {
        return if job.status == JobStatus::Executing { Flow::Open } else { Flow::Held { quiesce: None } };
    };
    match (row.stage, &row.outcome) {
        (Stage::Preparing | Stage::PreCopying | Stage::Retiring | Stage::Ended, _) => Flow::Open,
        (Stage::Quiescing | Stage::Freezing | Stage::Restoring, _) => Flow::Held { quiesce: Some(row.id.clone()) },
        (Stage::Aborting | Stage::RollingBack, Outcome::Undoing { phase, .. }) if *phase < Phase::Quiesce => Flow::Open,
        (Stage::Aborting | Stage::RollingBack, _) => Flow::Held { quiesce: None },
    }
}

#[cfg(test)]
mod tests {
    use mooring_store::SecurityGroupRow;
    use mooring_types::host::Resources;
    use mooring_types::job::{Image, JobSpec};
    use mooring_types::security::SecurityGroupSpec;
    use mooring_types::{JobId, SecurityGroupId, Timestamp};

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
        JobRow {
            id: JobId::random(&mut rand::rng()),
            user_name: "admin".into(),
            spec: JobSpec {
                name: "job".parse().unwrap(),
                image: Image::Directory("/".into()),
                command: Vec::new(),
                env: [].into(),
                working_dir: "/".into(),
                resources: Resources { cpu: 1, mem_gb: 1.0 },
                publish: publish.iter().map(|publish| publish.parse().unwrap()).collect(),
                access_path: "/".into(),
            },
            status: JobStatus::Executing,
            status_reason: String::new(),
            address: Some([100, 64, 0, 2].into()),
            generation: Generation::FIRST,
            host: Some(host.clone()),
            host_wanted: String::new(),
            security_groups: groups.iter().map(|group| group.id.clone()).collect(),
            exit_code: None,
            submit_time: time(submitted),
            exec_time: None,
            end_time: None,
            last_update: time(submitted),
        }
    }

    fn snapshot(jobs: &[&JobRow], security_groups: Vec<SecurityGroupRow>) -> Snapshot {
        Snapshot {
            hosts: Vec::new(),
            jobs: jobs.iter().map(|job| (job.id.clone(), (*job).clone())).collect(),
            moves: [].into(),
            externals: [].into(),
            gateways: Vec::new(),
            connections: Vec::new(),
            security_groups,
        }
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

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
    MoveOutStage, Network, Peer, Target,
};
use mooring_store::{ConnectionRow, GatewayRow, HostRow, JobRow, MigrationRow, Stage};
use mooring_types::gateway::Patience;
use mooring_types::job::JobStatus;
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
                restart: 0,
            })
            .collect(),
        published: Vec::new(),
    }
}

/// The slice of a gateway; the sequence is filled in when it is published.
pub(crate) fn for_gateway(all: &Snapshot, gateway: &GatewayRow) -> Option<GatewaySlice> {
    let host = all.host(&gateway.host)?;
    let connections = all.connections.iter().filter(|connection| connection.gateway == gateway.id);
    Some(GatewaySlice {
        sequence: 0,
        gateway: gateway.id.clone(),
        name: gateway.spec.name.clone(),
        bind: host.joined.public_address,
        port_range: gateway.spec.port_range,
        rules: ["tcp:*:0.0.0.0/0", "tcp:*:::/0"].iter().filter_map(|rule| rule.parse().ok()).collect(),
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
        target: Target::Overlay(SocketAddr::from((job.address?, container_port(job, connection.target_port)?.get()))),
        epoch: 0,
        protocol: connection.protocol,
        patience: Patience::default(),
        flow: flow(all, job),
    })
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

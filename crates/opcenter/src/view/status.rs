//! The numbers of hosts, gateways and jobs, by status.

use mooring_api::view::{GatewayCounts, HostCounts, HostStatus, HostView, StatusView};
use mooring_types::gateway::GatewayStatus;

use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::{Views, job_list};

/// Counts hosts, gateways and the jobs that the user may see.
pub(crate) async fn look(context: &Context, user: &User) -> ApiResult<StatusView> {
    let mut tx = context.store.begin_read().await?;
    let jobs = job_list::totals(&mut tx, user).await?;
    let views = Views::latest(context, &mut tx).await?;
    Ok(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        start_time: context.start_time,
        hosts: hosts(&views.hosts(user)),
        gateways: gateways(views.gateways(user).into_iter().map(|gateway| gateway.status)),
        jobs,
    })
}

fn hosts(all: &[HostView]) -> HostCounts {
    all.iter().fold(HostCounts::default(), |mut counts, host| {
        counts.total += 1;
        match host.status {
            HostStatus::Ready => counts.ready += 1,
            HostStatus::Draining | HostStatus::Drained => counts.draining += 1,
            HostStatus::NotReady { .. } => counts.not_ready += 1,
            HostStatus::Unreachable => counts.unreachable += 1,
        }
        counts
    })
}

fn gateways(all: impl Iterator<Item = GatewayStatus>) -> GatewayCounts {
    all.fold(GatewayCounts::default(), |mut counts, status| {
        counts.total += 1;
        match status {
            GatewayStatus::Running => counts.running += 1,
            GatewayStatus::Starting => counts.starting += 1,
            GatewayStatus::Unreachable => counts.unreachable += 1,
        }
        counts
    })
}

//! The numbers of hosts, gateways and jobs, by status.

use mooring_api::view::{GatewayCounts, HostCounts, HostStatus, HostView, JobCounts, StatusView};
use mooring_store::JobRow;
use mooring_types::gateway::GatewayStatus;
use mooring_types::job::Category;

use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::Views;

/// Counts hosts, gateways and the jobs that the user may see.
pub(crate) async fn look(context: &Context, user: &User) -> ApiResult<StatusView> {
    let mut tx = context.store.begin().await?;
    let mut jobs = tx.job_list().await?;
    jobs.retain(|job| user.may_see(&job.user_name));
    let views = Views::read(context, &mut tx).await?;
    Ok(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        start_time: context.start_time,
        hosts: hosts(&views.hosts()),
        gateways: gateways(views.gateways(user).into_iter().map(|gateway| gateway.status)),
        jobs: count_jobs(&jobs),
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

fn count_jobs(all: &[JobRow]) -> JobCounts {
    all.iter().fold(JobCounts::default(), |mut counts, job| {
        counts.total += 1;
        match job.status.category() {
            Category::Pending => counts.pending += 1,
            Category::Running => counts.running += 1,
            Category::Success => counts.success += 1,
            Category::Failed => counts.failed += 1,
        }
        counts
    })
}

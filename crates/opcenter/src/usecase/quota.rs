//! Quotas: their changes, and the refusal of more than they allow.

use mooring_api::ErrorCode;
use mooring_api::view::{HoldingView, QuotaChange, QuotaView};
use mooring_store::Tx;
use mooring_types::quota::{Holding, Limited, Quota};

use crate::audit;
use crate::decide::quota::{OverQuota, Owner};
use crate::error::{ApiError, ApiResult, At};
use crate::state::quotas;

/// The most that a limit may be.
const LIMIT_MAX: u32 = 1_000_000;

/// Checks that a user may have `more`, in the transaction that gives it.
pub(super) async fn admit(tx: &mut Tx, user: &str, more: Holding) -> ApiResult<()> {
    quotas::read(tx).await?.admit(user, more).map_err(|over| refusal(&over))
}

fn refusal(over: &OverQuota) -> ApiError {
    let shows = match &over.of {
        Owner::User(name) => format!("`float user info {name}` shows the quota"),
        Owner::Group(name) => format!("`float group info {name}` shows the quota"),
    };
    let first = match over.exceeded.what {
        Limited::Jobs => "wait for a job to end or cancel one",
        Limited::Cores | Limited::Memory => "ask for less, or suspend or cancel a job",
        Limited::Gateways => "destroy a gateway that is not needed",
    };
    let refusal = ApiError::new(ErrorCode::ResourceExhausted, over.to_string())
        .hint(format!("{first}, or ask an admin for more; {shows}"));
    match over.exceeded.what {
        Limited::Cores => refusal.at("cpu"),
        Limited::Memory => refusal.at("memGB"),
        Limited::Jobs | Limited::Gateways => refusal,
    }
}

/// Returns a quota with the requested changes, and tells the audit.
pub(super) fn changed(before: Quota, change: &QuotaChange) -> ApiResult<Quota> {
    let count = |limit: Option<u32>, key: &str| match limit {
        Some(limit) if limit > LIMIT_MAX => {
            Err(ApiError::invalid(format!("a limit is at most {LIMIT_MAX}")).at(&format!("quota.{key}")))
        }
        limit => Ok(limit),
    };
    let mem_gb = change.mem_gb.after(before.mem_gb);
    if mem_gb.is_some_and(|limit| !(0.0..=f64::from(LIMIT_MAX)).contains(&limit)) {
        return Err(ApiError::invalid(format!("a limit of memory is 0 to {LIMIT_MAX} GB")).at("quota.memGb"));
    }
    let quota = Quota {
        jobs: count(change.jobs.after(before.jobs), "jobs")?,
        cores: count(change.cores.after(before.cores), "cores")?,
        mem_gb,
        gateways: count(change.gateways.after(before.gateways), "gateways")?,
    };
    for (what, before, after) in [
        ("jobs", before.jobs.map(f64::from), quota.jobs.map(f64::from)),
        ("cores", before.cores.map(f64::from), quota.cores.map(f64::from)),
        ("memory", before.mem_gb, quota.mem_gb),
        ("gateways", before.gateways.map(f64::from), quota.gateways.map(f64::from)),
    ] {
        if before != after {
            audit::detail(format!("quota of {what} {}", after.map_or_else(|| "none".to_owned(), |it| it.to_string())));
        }
    }
    Ok(quota)
}

pub(super) fn view(quota: Quota) -> QuotaView {
    let Quota { jobs, cores, mem_gb, gateways } = quota;
    QuotaView { jobs, cores, mem_gb, gateways }
}

pub(super) fn holding_view(holding: Holding) -> HoldingView {
    let Holding { jobs, cores, mem_gb, gateways } = holding;
    HoldingView { jobs, cores, mem_gb, gateways }
}

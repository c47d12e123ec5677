//! Migrations that users request: migrate, suspend, resume, snapshot.

use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_api::view::MigrateRequest;
use mooring_ops::failpoint;
use mooring_store::{JobRow, Stage, Tx};
use mooring_types::host::{Purchase, Resources};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Phase};
use mooring_types::placement::{Asked, Candidate, NoHost, choose, choose_named};
use mooring_types::quota::Holding;
use mooring_types::{Clock, HostId, JobId};

use super::resources::{no_room, resources};
use super::{allowed, find_job, quota};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::begin_migration::{self, Plan};
use crate::state::context::Context;
use crate::state::db_state::DbState;

/// The longest wait of a request for the last migration to retire; clients wait longer.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// Begins to migrate a job to another host.
pub(crate) async fn migrate(context: &Context, user: &User, id: &str, request: MigrateRequest) -> ApiResult<JobId> {
    let start_time = context.clock.now();
    let mut tx = begin_when_settled(context, user, id).await?;
    let job = find_job(&mut tx, user, id).await?;
    allowed::migrate(&job)?;
    let (state, from) = at_home(context, &mut tx, &job).await?;
    let size = new_size(&job, &request)?;
    if let Some(size) = size {
        quota::admit(&mut tx, &job.user_name, Holding::growth(job.spec.resources, size)).await?;
    }
    let asked = Asked { resources: size.unwrap_or(job.spec.resources), ..job.asked() };
    let candidates = state.job_candidates(&context.observed());
    let chosen = match request.host.as_str() {
        "" => choose(&candidates, asked, Some(&from)),
        name if state.hosts.iter().any(|host| host.name.as_str() == name && !host.joined.role.takes_jobs()) => {
            Err(NoHost::TakesNoJobs(name.to_owned()))
        }
        name => choose_named(&candidates, name, asked, Some(&from)),
    }
    .map_err(|error| no_room(error, job.spec.resources, asked.resources))?;
    failpoint::check(&Phase::Plan.failpoint())
        .await
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    let plan = Plan {
        kind: MigrationKind::Migrate,
        from: Some(from),
        to: Some(chosen.id.clone()),
        capsule: None,
        resources: size,
        reason: format!("requested by {}", user.name),
        start_time,
    };
    begin_migration::begin(&mut tx, &job, plan, context.clock.now()).await?;
    tx.commit().await?;
    context.wake();
    Ok(job.id)
}

/// A host, as the destination of a job's migration.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) purchase: Purchase,
    /// The free resources of the host.
    pub(crate) free: Resources,
    /// The reason why the job can't migrate there with its present size, if there is one.
    pub(crate) refusal: Option<String>,
}

/// Lists the hosts to which a job could migrate, and names the one that OpCenter would choose.
pub(crate) async fn destinations(
    context: &Context,
    user: &User,
    id: &str,
) -> ApiResult<(Vec<Destination>, Result<String, NoHost>)> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    allowed::migrate(&job)?;
    let observed = context.observed().clone();
    let candidates = DbState::read(&mut tx, &observed).await?.job_candidates(&observed);
    let chosen = choose(&candidates, job.asked(), job.host.as_ref()).map(|host| host.name.clone());
    let others = candidates.iter().filter(|host| Some(&host.id) != job.host.as_ref());
    let destination = |host: &Candidate| Destination {
        name: host.name.clone(),
        purchase: host.purchase,
        free: Resources {
            cpu: host.capacity.cpu.saturating_sub(host.used.cpu),
            mem_gb: (host.capacity.mem_gb - host.used.mem_gb).max(0.0),
        },
        refusal: host.admits(job.asked()).err().map(|refusal| refusal.to_string()),
    };
    Ok((others.map(destination).collect(), chosen))
}

fn new_size(job: &JobRow, request: &MigrateRequest) -> ApiResult<Option<Resources>> {
    if request.cpu.is_none() && request.mem_gb.is_none() {
        return Ok(None);
    }
    let now = job.spec.resources;
    resources(request.cpu.unwrap_or(now.cpu), request.mem_gb.unwrap_or(now.mem_gb)).map(Some)
}

/// Begins to suspend a job. A job that waits for a host stays suspended instead.
pub(crate) async fn suspend(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    if allowed::stays_suspended(&job) {
        tx.job_await_user(&job.id, &format!("requested by {}", user.name), context.clock.now()).await?;
        tx.commit().await?;
        context.wake();
        return Ok(job.id);
    }
    drop(tx);
    into_store(context, user, id, allowed::suspend, MigrationKind::Suspend).await
}

/// Begins a snapshot of an executing job.
pub(crate) async fn snapshot(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    into_store(context, user, id, allowed::snapshot, MigrationKind::Snapshot).await
}

async fn into_store(
    context: &Context,
    user: &User,
    id: &str,
    check: fn(&Context, &JobRow) -> ApiResult<()>,
    kind: MigrationKind,
) -> ApiResult<JobId> {
    let start_time = context.clock.now();
    let mut tx = begin_when_settled(context, user, id).await?;
    let job = find_job(&mut tx, user, id).await?;
    check(context, &job)?;
    let (_, from) = at_home(context, &mut tx, &job).await?;
    let reason = format!("requested by {}", user.name);
    let plan = Plan { kind, from: Some(from), to: None, capsule: None, resources: None, reason, start_time };
    begin_migration::begin(&mut tx, &job, plan, context.clock.now()).await?;
    tx.commit().await?;
    context.wake();
    Ok(job.id)
}

/// Begins to resume a suspended job; the reconciler finds a host.
pub(crate) async fn resume(context: &Context, user: &User, id: &str) -> ApiResult<JobId> {
    let mut tx = context.store.begin().await?;
    let job = find_job(&mut tx, user, id).await?;
    allowed::resume(&job)?;
    // A job that is resumed without being asked counts already.
    if !job.awaits_host {
        quota::admit(&mut tx, &job.user_name, Holding::size(job.spec.resources)).await?;
    }
    let now = context.clock.now();
    tx.job_status_set(&job, JobStatus::Resuming, &format!("requested by {}", user.name), now).await?;
    tx.commit().await?;
    context.wake();
    Ok(job.id)
}

/// Begins a transaction once the last migration has retired, or after [`SETTLE_LIMIT`]. The job
/// executes by then, so a user who sees that may request the next migration.
async fn begin_when_settled(context: &Context, user: &User, id: &str) -> ApiResult<Tx> {
    let mut published = context.published.subscribe();
    let limit = context.clock.monotonic() + SETTLE_LIMIT;
    loop {
        let mut tx = context.store.begin().await?;
        let job = find_job(&mut tx, user, id).await?;
        let leaves = tx.migration_list_of_job(&job.id).await?.last().is_some_and(|row| row.stage == Stage::Retiring);
        if !leaves {
            return Ok(tx);
        }
        drop(tx);
        // The end of a migration changes the slices of its hosts.
        let is_over = tokio::select! {
            changed = published.changed() => changed.is_err(),
            () = context.sleep(limit.saturating_sub(context.clock.monotonic())) => true,
        };
        if is_over {
            return Ok(context.store.begin().await?);
        }
    }
}

/// Returns the host of a job that can migrate from there, with all state.
async fn at_home(context: &Context, tx: &mut Tx, job: &JobRow) -> ApiResult<(DbState, HostId)> {
    let observed = context.observed().clone();
    let state = DbState::read(tx, &observed).await?;
    if state.migrations.contains_key(&job.id) {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the last migration of the job has not retired yet")
            .hint("try again in a moment"));
    }
    let Some(from) = job.host.clone() else {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job has no host"));
    };
    Ok((state, from))
}

//! The actions that the record of a job allows now, apart from who asks.
//!
//! The use-cases refuse by these functions. The web interface asks them which actions to disable,
//! and why.

use mooring_api::ErrorCode;
use mooring_store::JobRow;
use mooring_types::job::{Action, Image, JobStatus};

use super::permissions;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// Checks that a job may begin to migrate.
pub(crate) fn migrate(job: &JobRow) -> ApiResult<()> {
    job.status.allows(Action::Migrate)?;
    permissions::may_migrate(job)?;
    refuse_external(job)
}

/// Checks that a job may be suspended. A job that waits for a host stays suspended instead.
pub(crate) fn suspend(context: &Context, job: &JobRow) -> ApiResult<()> {
    if stays_suspended(job) { Ok(()) } else { into_store(context, job, Action::Suspend) }
}

/// Returns whether a suspend of the job means that it no longer waits for a host.
pub(crate) fn stays_suspended(job: &JobRow) -> bool {
    job.status == JobStatus::Suspended && job.awaits_host
}

/// Checks that a snapshot of a job may be made.
pub(crate) fn snapshot(context: &Context, job: &JobRow) -> ApiResult<()> {
    into_store(context, job, Action::Snapshot)
}

fn into_store(context: &Context, job: &JobRow, action: Action) -> ApiResult<()> {
    job.status.allows(action)?;
    refuse_external(job)?;
    if context.config.store.is_none() {
        return Err(ApiError::new(ErrorCode::WrongStatus, "OpCenter has no capsule store")
            .hint("start it with `--capsule-store dir:/path` or `s3://bucket/prefix`"));
    }
    Ok(())
}

/// Checks that a job may be resumed.
pub(crate) fn resume(job: &JobRow) -> ApiResult<()> {
    Ok(job.status.allows(Action::Resume)?)
}

/// Checks that a job may be cancelled.
pub(crate) fn cancel(job: &JobRow) -> ApiResult<()> {
    Ok(job.status.allows(Action::Cancel)?)
}

/// Checks that a job may be connected to a gateway.
pub(crate) fn connect(job: &JobRow) -> ApiResult<()> {
    Ok(job.status.allows(Action::Connect)?)
}

/// Checks that a job may be modified.
pub(crate) fn modify(job: &JobRow) -> ApiResult<()> {
    if job.status.is_final() {
        return Err(ApiError::new(ErrorCode::WrongStatus, format!("a job that is {} can't be modified", job.status))
            .hint("the job has ended; submit it again"));
    }
    Ok(())
}

/// Checks that a job may be submitted again.
pub(crate) fn rerun(job: &JobRow) -> ApiResult<()> {
    permissions::may_rerun(job)
}

fn refuse_external(job: &JobRow) -> ApiResult<()> {
    if job.spec.image == Image::External {
        return Err(ApiError::new(ErrorCode::WrongStatus, "the job runs under another scheduler")
            .hint("migrate or suspend it there, then declare that with `float job update`"));
    }
    Ok(())
}

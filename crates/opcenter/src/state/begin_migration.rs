//! The beginning of a migration.
//!
//! A user, a policy or the reconciler describes a migration as a [`Plan`]; [`begin`] makes its row,
//! and the reconciler drives it from there.

use mooring_store::{JobRow, MigrationRow, StoreError, Tx};
use mooring_types::capsule::CapsuleName;
use mooring_types::host::Resources;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::{Event, Generation, HostId, MigrationId, Timestamp};

use crate::decide::migration;
use crate::state::token::new_token;

/// A migration to begin.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) kind: MigrationKind,
    pub(crate) from: Option<HostId>,
    pub(crate) to: Option<HostId>,
    /// The capsule to read; [`begin`] names a capsule to write.
    pub(crate) capsule: Option<CapsuleName>,
    /// The job's size afterwards, if it changes.
    pub(crate) resources: Option<Resources>,
    /// The reason, like `requested by admin`.
    pub(crate) reason: String,
    /// The time of the request.
    pub(crate) start_time: Timestamp,
}

/// Records a migration with its status and event.
///
/// Fails if the job's status does not allow it or a migration of the job is under way.
pub(crate) async fn begin(tx: &mut Tx, job: &JobRow, plan: Plan, now: Timestamp) -> Result<MigrationRow, StoreError> {
    let generation = next_generation(tx, job).await?;
    let new_capsule = plan.kind.is_into_store().then(|| CapsuleName::of_job(&job.id, generation, 1));
    let row = MigrationRow {
        id: MigrationId::random(&mut rand::rng()),
        job: job.id.clone(),
        kind: plan.kind,
        generation,
        from_generation: job.generation,
        from: plan.from,
        to: plan.to,
        capsule: plan.capsule.or(new_capsule),
        destination_lost: false,
        resources: plan.resources,
        token: new_token(),
        reason: plan.reason,
        start_time: plan.start_time,
        stage: migration::first_stage(plan.kind),
        stage_time: now,
        freeze_time: None,
        outcome: Outcome::Running,
        phases: Vec::new(),
        pause_seconds: 0.0,
        bytes_moved: 0,
    };
    tx.migration_insert(&row).await?;
    let status = status_under_way(row.kind);
    if job.status != status {
        tx.job_status_set(job, status, &row.reason, now).await?;
    }
    let event =
        Event::MigrationStarted { migration: row.id.clone(), migration_kind: row.kind, reason: row.reason.clone() };
    tx.event_append(&job.id, &event, now).await?;
    tracing::info!(job = %job.id, migration = %row.id, kind = %row.kind, "job {}: {event}", job.id);
    Ok(row)
}

/// Returns the status of a job during a migration.
pub(crate) fn status_under_way(kind: MigrationKind) -> JobStatus {
    match kind {
        MigrationKind::Migrate => JobStatus::Floating,
        MigrationKind::Suspend => JobStatus::Suspending,
        MigrationKind::Snapshot => JobStatus::Capturing,
        MigrationKind::Resume | MigrationKind::Recover => JobStatus::Resuming,
    }
}

/// Returns a generation that no migration of the job ever had, so that a remnant of an old one
/// can't pass for the new one.
async fn next_generation(tx: &mut Tx, job: &JobRow) -> Result<Generation, StoreError> {
    let tried = tx.migration_list_of_job(&job.id).await?.into_iter().map(|row| row.generation);
    Ok(tried.chain([job.generation]).max().unwrap_or(job.generation).next())
}

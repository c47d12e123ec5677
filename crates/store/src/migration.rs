//! Migrations of jobs.

use std::fmt;
use std::str::FromStr;

use mooring_types::capsule::CapsuleName;
use mooring_types::host::Resources;
use mooring_types::migration::{MigrationKind, Outcome, PhaseTime};
use mooring_types::{Generation, HostId, JobId, MigrationId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use crate::{Result, Tx, json, parsed, parsed_option, to_json, unsigned};

/// The stage of a migration, as the reconciler decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The destination prepares.
    Preparing,
    /// The source pre-copies.
    PreCopying,
    /// Gateways quiesce.
    Quiescing,
    /// The source checkpoints.
    Freezing,
    /// Routes lead to the destination, which receives and restores.
    Restoring,
    /// The destination owns the job; the source retires.
    Retiring,
    /// The destination has to give up.
    Aborting,
    /// The source has to execute the job again.
    RollingBack,
    Ended,
}

const STAGES: [(Stage, &str); 9] = [
    (Stage::Preparing, "preparing"),
    (Stage::PreCopying, "precopying"),
    (Stage::Quiescing, "quiescing"),
    (Stage::Freezing, "freezing"),
    (Stage::Restoring, "restoring"),
    (Stage::Retiring, "retiring"),
    (Stage::Aborting, "aborting"),
    (Stage::RollingBack, "rollingback"),
    (Stage::Ended, "ended"),
];

/// A text that is not a stage.
#[derive(Debug, thiserror::Error)]
#[error("unknown stage `{0}`")]
pub struct UnknownStage(String);

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, text) = STAGES.iter().find(|(stage, _)| stage == self).ok_or(fmt::Error)?;
        f.write_str(text)
    }
}

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> std::result::Result<Self, UnknownStage> {
        let found = STAGES.iter().find(|(_, known)| *known == text);
        found.map(|(stage, _)| *stage).ok_or_else(|| UnknownStage(text.to_owned()))
    }
}

/// A migration.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationRow {
    pub id: MigrationId,
    pub job: JobId,
    pub kind: MigrationKind,
    /// The generation of the destination.
    pub generation: Generation,
    /// The generation of the source.
    pub from_generation: Generation,
    /// The source; `None` for the capsule store.
    pub from: Option<HostId>,
    /// The destination; `None` for the capsule store.
    pub to: Option<HostId>,
    /// The capsule that is written or read.
    pub capsule: Option<CapsuleName>,
    /// True when it was given up without a report of the destination that nothing is left.
    pub destination_lost: bool,
    /// The job's size afterwards, if it changes.
    pub resources: Option<Resources>,
    /// The secret by which the destination recognizes the source.
    pub token: String,
    /// The reason of the migration.
    pub reason: String,
    pub start_time: Timestamp,
    pub stage: Stage,
    /// The time at which the stage began.
    pub stage_time: Timestamp,
    /// The time at which the source was told to freeze.
    pub freeze_time: Option<Timestamp>,
    pub outcome: Outcome,
    /// The durations of its phases.
    pub phases: Vec<PhaseTime>,
    /// The time for which the job was frozen.
    pub pause_seconds: f64,
    /// The bytes sent.
    pub bytes_moved: u64,
}

impl Tx {
    /// Adds a migration. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if one of
    /// the job is under way.
    pub async fn migration_insert(&mut self, migration: &MigrationRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO migration
                (id, job_id, kind, generation, from_generation, from_host, to_host, capsule, resources, token, reason, start_time, stage,
                 stage_time, outcome)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(migration.id.as_str())
        .bind(migration.job.as_str())
        .bind(migration.kind.to_string())
        .bind(migration.generation.0.cast_signed())
        .bind(migration.from_generation.0.cast_signed())
        .bind(migration.from.as_ref().map(HostId::as_str))
        .bind(migration.to.as_ref().map(HostId::as_str))
        .bind(migration.capsule.as_ref().map(CapsuleName::as_str))
        .bind(migration.resources.as_ref().map(to_json).transpose()?)
        .bind(&migration.token)
        .bind(&migration.reason)
        .bind(migration.start_time.to_string())
        .bind(migration.stage.to_string())
        .bind(migration.stage_time.to_string())
        .bind(to_json(&migration.outcome)?)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Updates a migration: stage with its times, outcome, phases, pause and bytes.
    pub async fn migration_update(&mut self, migration: &MigrationRow) -> Result<()> {
        sqlx::query(
            "UPDATE migration SET stage = ?, stage_time = ?, freeze_time = ?, outcome = ?, phases = ?, pause_seconds = ?,
                bytes_moved = ?, destination_lost = ? WHERE id = ?",
        )
        .bind(migration.stage.to_string())
        .bind(migration.stage_time.to_string())
        .bind(migration.freeze_time.map(|time| time.to_string()))
        .bind(to_json(&migration.outcome)?)
        .bind(to_json(&migration.phases)?)
        .bind(migration.pause_seconds)
        .bind(migration.bytes_moved.cast_signed())
        .bind(migration.destination_lost)
        .bind(migration.id.as_str())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists all migrations under way.
    pub async fn migration_list_under_way(&mut self) -> Result<Vec<MigrationRow>> {
        let rows = sqlx::query("SELECT * FROM migration WHERE stage <> 'ended' ORDER BY start_time")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Lists all migrations, oldest first.
    pub async fn migration_list(&mut self) -> Result<Vec<MigrationRow>> {
        let rows =
            sqlx::query("SELECT * FROM migration ORDER BY start_time, rowid").fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Lists the last successful migrations of a kind, newest first.
    pub async fn migration_list_latest(&mut self, kind: MigrationKind, limit: u32) -> Result<Vec<MigrationRow>> {
        let query =
            "SELECT * FROM migration WHERE kind = ? AND stage = 'ended' AND outcome = ? ORDER BY rowid DESC LIMIT ?";
        let rows = sqlx::query(query)
            .bind(kind.to_string())
            .bind(to_json(&Outcome::Succeeded)?)
            .bind(limit)
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Lists the migrations of some jobs, oldest first.
    pub async fn migration_list_of_jobs(&mut self, jobs: impl Iterator<Item = &JobId>) -> Result<Vec<MigrationRow>> {
        let mut query = QueryBuilder::new("SELECT * FROM migration WHERE job_id IN (");
        let mut separated = query.separated(", ");
        for job in jobs {
            separated.push_bind(job.as_str());
        }
        query.push(") ORDER BY start_time, rowid");
        let rows = query.build().fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Lists the migrations of a job, oldest first.
    pub async fn migration_list_of_job(&mut self, job: &JobId) -> Result<Vec<MigrationRow>> {
        let rows = sqlx::query("SELECT * FROM migration WHERE job_id = ? ORDER BY start_time, rowid")
            .bind(job.as_str())
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<MigrationRow> {
    Ok(MigrationRow {
        id: parsed(row, "id")?,
        job: parsed(row, "job_id")?,
        kind: parsed(row, "kind")?,
        generation: Generation(unsigned(row, "generation")?),
        from_generation: Generation(unsigned(row, "from_generation")?),
        from: parsed_option(row, "from_host")?,
        to: parsed_option(row, "to_host")?,
        capsule: parsed_option(row, "capsule")?,
        destination_lost: row.try_get("destination_lost")?,
        resources: match row.try_get::<Option<String>, _>("resources")? {
            Some(_) => Some(json(row, "resources")?),
            None => None,
        },
        token: row.try_get("token")?,
        reason: row.try_get("reason")?,
        start_time: parsed(row, "start_time")?,
        stage: parsed(row, "stage")?,
        stage_time: parsed(row, "stage_time")?,
        freeze_time: parsed_option(row, "freeze_time")?,
        outcome: json(row, "outcome")?,
        phases: json(row, "phases")?,
        pause_seconds: row.try_get("pause_seconds")?,
        bytes_moved: unsigned(row, "bytes_moved")?,
    })
}

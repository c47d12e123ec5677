//! External jobs.

use mooring_types::JobId;
use mooring_types::endpoint::ExternalEndpoint;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, to_json, unsigned};

/// The endpoints of an external job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalRow {
    pub job: JobId,
    pub endpoints: Vec<ExternalEndpoint>,
    /// Grows with each change of the endpoints, which ends connections to the old ones.
    pub epoch: u64,
}

impl Tx {
    /// Adds the endpoints of a job.
    pub async fn external_insert(&mut self, row: &ExternalRow) -> Result<()> {
        sqlx::query("INSERT INTO external_job (job_id, endpoints, epoch) VALUES (?, ?, ?)")
            .bind(row.job.as_str())
            .bind(to_json(&row.endpoints)?)
            .bind(row.epoch.cast_signed())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Replaces endpoints and epoch.
    pub async fn external_update(&mut self, row: &ExternalRow) -> Result<()> {
        sqlx::query("UPDATE external_job SET endpoints = ?, epoch = ? WHERE job_id = ?")
            .bind(to_json(&row.endpoints)?)
            .bind(row.epoch.cast_signed())
            .bind(row.job.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Returns the endpoints of an external job; `None` for every other job.
    pub async fn external_get(&mut self, job: &JobId) -> Result<Option<ExternalRow>> {
        let row = sqlx::query("SELECT * FROM external_job WHERE job_id = ?")
            .bind(job.as_str())
            .fetch_optional(&mut *self.inner)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists the endpoints of all external jobs, ended ones included.
    pub async fn external_list(&mut self) -> Result<Vec<ExternalRow>> {
        let rows = sqlx::query("SELECT * FROM external_job ORDER BY job_id").fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<ExternalRow> {
    Ok(ExternalRow { job: parsed(row, "job_id")?, endpoints: json(row, "endpoints")?, epoch: unsigned(row, "epoch")? })
}

//! The capsules in the capsule store.

use mooring_types::capsule::CapsuleName;
use mooring_types::migration::MigrationKind;
use mooring_types::{JobId, Timestamp};
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, parsed, parsed_option, unsigned};

/// A complete capsule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapsuleRow {
    pub name: CapsuleName,
    pub job: JobId,
    /// The migration that wrote it.
    pub kind: MigrationKind,
    /// The time of its completion.
    pub create_time: Timestamp,
    /// Its size before compression.
    pub bytes: u64,
    /// Its size in the store.
    pub stored_bytes: u64,
    /// The capsule on which it builds.
    pub base: Option<CapsuleName>,
}

impl Tx {
    /// Adds a capsule.
    pub async fn capsule_insert(&mut self, row: &CapsuleRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO capsule (name, job_id, kind, create_time, bytes, stored_bytes, base) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.name.as_str())
        .bind(row.job.as_str())
        .bind(row.kind.to_string())
        .bind(row.create_time.to_string())
        .bind(row.bytes.cast_signed())
        .bind(row.stored_bytes.cast_signed())
        .bind(row.base.as_ref().map(CapsuleName::as_str))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Removes the row of a capsule, if there is one.
    pub async fn capsule_delete(&mut self, name: &CapsuleName) -> Result<()> {
        sqlx::query("DELETE FROM capsule WHERE name = ?").bind(name.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Lists all capsules, oldest first.
    pub async fn capsule_list(&mut self) -> Result<Vec<CapsuleRow>> {
        let rows = sqlx::query("SELECT * FROM capsule ORDER BY create_time, rowid").fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<CapsuleRow> {
    Ok(CapsuleRow {
        name: parsed(row, "name")?,
        job: parsed(row, "job_id")?,
        kind: parsed(row, "kind")?,
        create_time: parsed(row, "create_time")?,
        bytes: unsigned(row, "bytes")?,
        stored_bytes: unsigned(row, "stored_bytes")?,
        base: parsed_option(row, "base")?,
    })
}

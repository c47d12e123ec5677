//! Why the store could not do as told.

use mooring_types::JobId;
use mooring_types::job::JobStatus;
use sqlx::migrate::MigrateError;

/// Why the store could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought to this version.
    #[error("can't bring the database to this version's schema")]
    Migrate(#[source] MigrateError),
    /// The database was written by a newer version.
    #[error(
        "the database is of a newer version of Mooring (schema {version}): start that version, or use another directory"
    )]
    Newer {
        /// Its schema.
        version: i64,
    },
    /// A column holds what its type can't be.
    #[error("can't read column `{column}` of the database")]
    Unreadable {
        /// The column.
        column: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value can't be written as JSON.
    #[error("can't write a value as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// The state machine has no such way.
    #[error("job {job} can't go from {from} to {to}")]
    Transition {
        /// The job.
        job: JobId,
        /// Its status.
        from: JobStatus,
        /// The status that was meant.
        to: JobStatus,
    },
}

impl StoreError {
    /// Whether a name or another value that has to be the only one of its kind is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

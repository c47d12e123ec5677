//! The errors of the store.

use mooring_types::JobId;
use mooring_types::job::JobStatus;
use sqlx::migrate::MigrateError;

/// The reason why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("can't bring the database to this version's schema")]
    Migrate(#[source] MigrateError),
    #[error(
        "the database is of a newer version of Mooring (schema {version}): start that version, or use another directory"
    )]
    Newer {
        /// The version of its schema.
        version: i64,
    },
    /// A column holds a value that its type does not have.
    #[error("can't read column `{column}` of the database")]
    Unreadable {
        column: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("can't write a value as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// The state machine has no such transition.
    #[error("job {job} can't go from {from} to {to}")]
    Transition { job: JobId, from: JobStatus, to: JobStatus },
}

impl StoreError {
    /// Returns whether a value that has to be unique is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

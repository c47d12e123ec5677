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

/// The reason why the database can't be written or read, which is none of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskFault {
    #[error("its file system is read-only")]
    ReadOnly,
    #[error("its disk is full")]
    Full,
    /// A file system that the kernel made read-only after an error looks like a failing disk to
    /// SQLite.
    #[error("its disk fails, or its file system became read-only")]
    Failing,
}

impl StoreError {
    /// Returns the fault of the disk that the error comes from, if it comes from one.
    #[must_use]
    pub fn disk_fault(&self) -> Option<DiskFault> {
        let Self::Database(sqlx::Error::Database(error)) = self else { return None };
        let code: u32 = error.code()?.parse().ok()?;
        // The low byte of SQLite's extended codes is the kind of error.
        match code & 0xff {
            8 => Some(DiskFault::ReadOnly),
            10 => Some(DiskFault::Failing),
            13 => Some(DiskFault::Full),
            _ => None,
        }
    }

    /// Returns whether a value that has to be unique is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Connection, SqliteConnection};

    use super::*;

    async fn fault(connection: &mut SqliteConnection, statement: &str) -> Option<DiskFault> {
        let error = sqlx::raw_sql(statement).execute(connection).await.expect_err(statement);
        StoreError::from(error).disk_fault()
    }

    #[tokio::test]
    async fn faults_of_the_disk_are_told_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(directory.path().join("a.db")).create_if_missing(true);
        let mut writer = options.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (1)").execute(&mut writer).await.unwrap();
        assert_eq!(fault(&mut writer, "INSERT INTO t VALUES (1)").await, None);
        let large = "PRAGMA max_page_count = 3; INSERT INTO t VALUES (randomblob(100000))";
        assert_eq!(fault(&mut writer, large).await, Some(DiskFault::Full));
        writer.close().await.unwrap();
        let mut reader = options.create_if_missing(false).read_only(true).connect().await.unwrap();
        assert_eq!(fault(&mut reader, "INSERT INTO t VALUES (2)").await, Some(DiskFault::ReadOnly));
    }
}

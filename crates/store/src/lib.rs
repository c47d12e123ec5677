//! Persistence: what has to survive `kill -9` at any moment, in SQLite.
//!
//! Everything is read and written in a transaction, [`Tx`], of which there is one at a time: what a use-case reads is still so when it
//! writes. A commit is on the disk when [`Tx::commit`] returns. What hosts and gateways observe is not kept here (they report it again);
//! what was decided is.
//!
//! One file per noun, with the verb last: `job_insert`, `host_list`. The one way to change a job's status is
//! [`Tx::job_status_set`], which asks the state machine and writes the event in the same transaction; what is declared of a job that
//! somebody else runs goes through [`Tx::job_status_declare`].
//!
//! The schema is in `migrations/`. A database of a newer version is refused, since what it means is unknown here.

#![forbid(unsafe_code)]

mod capsule;
mod connection;
mod error;
mod event;
mod external;
mod farewell;
mod gateway;
mod group;
mod host;
mod job;
mod migration;
mod secret;
mod security_group;
mod setting;
mod template;
mod usage;
mod user;

pub use capsule::CapsuleRow;
pub use connection::ConnectionRow;
pub use error::StoreError;
pub use event::{EventKind, EventRow};
pub use external::ExternalRow;
pub use farewell::FarewellRow;
pub use gateway::GatewayRow;
pub use group::{GroupRow, MembershipRow};
pub use host::{Drain, Extent, HostKey, HostRow, Joined};
pub use job::JobRow;
pub use migration::{MigrationRow, Stage};
pub use secret::SecretRow;
pub use security_group::SecurityGroupRow;
pub use template::TemplateRow;
pub use usage::UsageRow;
pub use user::{SessionRow, UserRow};

use std::path::Path;
use std::str::FromStr;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};

type Result<T> = std::result::Result<T, StoreError>;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// A transaction; dropped without [`Tx::commit`], nothing of it stays.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Sqlite>,
}

impl Store {
    /// Opens the database at `path`, made or brought to this version's schema first.
    ///
    /// # Errors
    /// It can't be opened, is of a newer version, or its schema can't be changed.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        // One connection is one writer: transactions queue here instead of failing at each other.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        match sqlx::migrate!().run(&pool).await {
            Ok(()) => Ok(Self { pool }),
            Err(MigrateError::VersionMissing(version)) => Err(StoreError::Newer { version }),
            Err(error) => Err(StoreError::Migrate(error)),
        }
    }

    /// Begins a transaction, waiting for the one under way.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx { inner: self.pool.begin().await? })
    }

    /// Closes the database once the transaction under way has ended.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Tx {
    /// Makes everything of this transaction last.
    ///
    /// # Errors
    /// The database fails; then nothing of it lasts.
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }
}

/// Reads a text column that the types crate parses.
fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error: T::Err| StoreError::Unreadable { column, source: Box::new(error) })
}

/// Reads a text column that may be absent.
fn parsed_option<T>(row: &SqliteRow, column: &'static str) -> Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.try_get::<Option<&str>, _>(column)? {
        Some(_) => parsed(row, column).map(Some),
        None => Ok(None),
    }
}

/// Reads a JSON column.
fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|error| StoreError::Unreadable { column, source: Box::new(error) })
}

/// Writes a value as JSON.
fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(StoreError::Unwritable)
}

/// Reads a number column that is never negative.
fn unsigned<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|error| StoreError::Unreadable { column, source: Box::new(error) })
}

//! Persistence: all state that has to survive `kill -9` at any moment, in SQLite.
//!
//! All reads and writes are in a transaction, [`Tx`]. There is one at a time, so a use-case writes
//! on top of what it has read. A commit is on disk when [`Tx::commit`] returns. Only desired state
//! is stored; hosts and gateways report observed state again.
//!
//! One file per noun, with the verb last: `job_insert`, `host_list`. Only [`Tx::job_status_set`]
//! changes a job's status: it asks the state machine and appends the event. For external jobs it is
//! [`Tx::job_status_declare`].
//!
//! The schema is in `migrations/`. A database of a newer version is refused.
//!
//! Every method fails with [`StoreError`] when the database does.

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
mod schema;
mod secret;
mod security_group;
mod setting;
mod template;
mod usage;
mod user;

pub use capsule::CapsuleRow;
pub use connection::ConnectionRow;
pub use error::StoreError;
pub use event::EventRow;
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

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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

/// A transaction; dropped without [`Tx::commit`] it changes nothing.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Sqlite>,
}

impl Store {
    /// Opens the database at `path`, and creates or upgrades its schema.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        make_private(path).map_err(sqlx::Error::Io)?;
        // A single connection is a single writer: transactions queue instead of failing.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        match schema::migrator().run(&pool).await {
            Ok(()) => Ok(Self { pool }),
            Err(MigrateError::VersionMissing(version)) => Err(StoreError::Newer { version }),
            Err(error) => Err(StoreError::Migrate(error)),
        }
    }

    /// Begins a transaction after the one under way.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx { inner: self.pool.begin().await? })
    }

    /// Closes the database after the transaction under way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Tx {
    /// Makes all changes of this transaction durable; on failure none is.
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }
}

/// Creates the database's file for its owner alone (0600), and closes an existing one to others.
/// Further files of SQLite get the mode of the database.
fn make_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::set_permissions(Path::new(&file), Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Parses a text column.
fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error: T::Err| StoreError::Unreadable { column, source: Box::new(error) })
}

/// Parses a text column that may be NULL.
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

/// Parses a JSON column.
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

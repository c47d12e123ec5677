//! Persistence: all state that has to survive `kill -9` at any moment, in SQLite.
//!
//! All reads and writes are in a transaction, [`Tx`]. There is one at a time, so a use-case writes
//! on top of what it has read. A commit is on disk when [`Tx::commit`] returns. Only desired state
//! is stored; hosts and gateways report observed state again. A long list is read beside it, from
//! the last commit ([`Store::begin_read`]).
//!
//! One file per noun, with the verb last: `job_insert`, `host_list`. Only [`Tx::job_status_set`]
//! changes a job's status: it asks the state machine and appends the event. For external jobs it is
//! [`Tx::job_status_declare`].
//!
//! The schema is in `migrations/`. A database of a newer version is refused.
//!
//! Every method fails with [`StoreError`] when the database does.

#![forbid(unsafe_code)]

mod api_token;
mod audit;
mod capsule;
mod connection;
mod error;
mod event;
mod external;
mod farewell;
mod gateway;
mod gateway_certificate;
mod gateway_port;
mod group;
mod host;
mod identity;
mod job;
mod job_listing;
mod join_token;
mod migration;
mod quota;
mod schema;
mod secret;
mod security_group;
mod session;
mod setting;
mod template;
mod usage;
mod user;
mod visit;

pub use api_token::ApiTokenRow;
pub use audit::{AuditActor, AuditChoice, AuditLimits, AuditRow};
pub use capsule::CapsuleRow;
pub use connection::ConnectionRow;
pub use error::{DiskFault, StoreError};
pub use event::EventRow;
pub use external::ExternalRow;
pub use farewell::FarewellRow;
pub use gateway::GatewayRow;
pub use gateway_certificate::GatewayCertificateRow;
pub use group::{GroupRow, MembershipBy, MembershipRow};
pub use host::{Drain, Extent, HostKey, HostRow, Joined};
pub use identity::IdentityRow;
pub use job::JobRow;
pub use job_listing::{JobChoice, JobPageRow, JobPlace};
pub use join_token::JoinTokenRow;
pub use migration::{MigrationRow, Stage};
pub use secret::SecretRow;
pub use security_group::SecurityGroupRow;
pub use session::SessionRow;
pub use template::TemplateRow;
pub use usage::{Unused, UsageRow};
pub use user::UserRow;
pub use visit::VisitRow;

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, Row, Sqlite, Transaction};

/// The most transactions that read at the same time.
const READERS: u32 = 2;

type Result<T> = std::result::Result<T, StoreError>;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    /// Connections that read the last commit while another one writes.
    readers: SqlitePool,
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
        // A single connection is a single writer: transactions queue instead of failing. After a
        // disk's fault SQLite has rolled back unasked, and the connection still counts itself
        // into a transaction. What followed on it would be a part of that one, and lost: it is
        // closed, and another one opened.
        let writer = SqlitePoolOptions::new().max_connections(1);
        let writer = writer.before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }));
        let pool = writer.connect_with(options.clone()).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(options.create_if_missing(false).pragma("query_only", "on"));
        match schema::migrator().run(&pool).await {
            Ok(()) => Ok(Self { pool, readers }),
            Err(MigrateError::VersionMissing(version)) => Err(StoreError::Newer { version }),
            Err(error) => Err(StoreError::Migrate(error)),
        }
    }

    /// Begins a transaction after the one under way.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx { inner: self.pool.begin().await? })
    }

    /// Begins a transaction that reads the last commit and waits for no other. It can't write.
    pub async fn begin_read(&self) -> Result<Tx> {
        Ok(Tx { inner: self.readers.begin().await? })
    }

    /// Closes the database after the transactions under way.
    pub async fn close(&self) {
        self.readers.close().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn execute(tx: &mut Tx, sql: &str) -> std::result::Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(&mut *tx.inner).await.map(|_| ())
    }

    #[tokio::test]
    async fn what_is_committed_after_a_fault_of_the_disk_is_durable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let store = Store::open(&path).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        execute(&mut tx, "CREATE TABLE t (x)").await.unwrap();
        tx.commit().await.unwrap();
        for number in 0..3 {
            let mut tx = store.begin().await.unwrap();
            // The disk is full, on which SQLite ends the whole transaction.
            execute(&mut tx, "PRAGMA max_page_count = 1").await.unwrap();
            let error = execute(&mut tx, "INSERT INTO t VALUES (zeroblob(1000000))").await.unwrap_err();
            assert_eq!(StoreError::from(error).disk_fault(), Some(DiskFault::Full));
            drop(tx);
            // One that only reads.
            drop(store.begin().await.unwrap());
            let mut tx = store.begin().await.unwrap();
            execute(&mut tx, &format!("INSERT INTO t VALUES ({number})")).await.unwrap();
            tx.commit().await.unwrap();
        }
        let other = Store::open(&path).await.unwrap();
        let mut tx = other.begin_read().await.unwrap();
        let rows: Vec<i64> = sqlx::query_scalar("SELECT x FROM t ORDER BY x").fetch_all(&mut *tx.inner).await.unwrap();
        assert_eq!(rows, [0, 1, 2]);
    }
}

//! The audit: who did what, from where, when, on what, and with which outcome.

use mooring_types::Timestamp;
use mooring_types::audit::AuditOutcome;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use crate::{Result, StoreError, Tx, parsed};

/// A request that changes something, and one object of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Grows with each row.
    pub id: i64,
    pub time: Timestamp,
    pub actor: AuditActor,
    /// The address that the request came from.
    pub address: String,
    /// The program that sent it, by its own word.
    pub client: String,
    /// The action, like `job.cancel`.
    pub action: String,
    /// The id of the object, or the text that named it; empty without one.
    pub object: String,
    /// The name of the object, if it has one beside its id.
    pub object_name: String,
    /// Further objects.
    pub detail: String,
    pub outcome: AuditOutcome,
    /// The reason of a refusal or failure.
    pub reason: String,
}

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditActor {
    /// A user, a host or a gateway that has proved who it is.
    Known(String),
    /// Somebody else, with the name of the user that the request claims; empty without one.
    Stranger(String),
}

impl AuditActor {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        let (Self::Known(name) | Self::Stranger(name)) = self;
        name
    }
}

/// The rows to list.
#[derive(Debug, Clone, Default)]
pub struct AuditChoice {
    pub user: Option<String>,
    /// An action, or the part of it before the dot.
    pub action: Option<String>,
    /// An object, by id or name.
    pub object: Option<String>,
    pub outcome: Option<AuditOutcome>,
    /// The earliest time.
    pub since: Option<Timestamp>,
    /// The time that comes after the last one.
    pub until: Option<Timestamp>,
    /// Only rows before this one.
    pub before: Option<i64>,
    /// Only rows after this one.
    pub after: Option<i64>,
}

/// The most rows that are kept of each kind of actor.
#[derive(Debug, Clone, Copy)]
pub struct AuditLimits {
    pub known: i64,
    pub strangers: i64,
}

impl Tx {
    /// Adds a row; its id is chosen.
    pub async fn audit_insert(&mut self, row: &AuditRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit (time, user_name, is_stranger, address, client, action, object, object_name, detail,
                outcome, reason)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.time.as_millisecond())
        .bind(row.actor.name())
        .bind(matches!(row.actor, AuditActor::Stranger(_)))
        .bind(&row.address)
        .bind(&row.client)
        .bind(&row.action)
        .bind(&row.object)
        .bind(&row.object_name)
        .bind(&row.detail)
        .bind(row.outcome.to_string())
        .bind(&row.reason)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists the newest rows of a choice, newest first.
    pub async fn audit_list(&mut self, choice: &AuditChoice, limit: u32) -> Result<Vec<AuditRow>> {
        let mut query: QueryBuilder<'_, Sqlite> = QueryBuilder::new("SELECT * FROM audit WHERE 1");
        if let Some(user) = &choice.user {
            query.push(" AND user_name = ").push_bind(user);
        }
        if let Some(action) = &choice.action {
            query.push(" AND (action = ").push_bind(action);
            query
                .push(" OR substr(action, 1, length(")
                .push_bind(action)
                .push(") + 1) = ")
                .push_bind(action)
                .push(" || '.')");
        }
        if let Some(object) = &choice.object {
            query.push(" AND (object = ").push_bind(object).push(" OR object_name = ").push_bind(object).push(")");
        }
        if let Some(outcome) = choice.outcome {
            query.push(" AND outcome = ").push_bind(outcome.to_string());
        }
        if let Some(since) = choice.since {
            query.push(" AND time >= ").push_bind(since.as_millisecond());
        }
        if let Some(until) = choice.until {
            query.push(" AND time < ").push_bind(until.as_millisecond());
        }
        if let Some(before) = choice.before {
            query.push(" AND id < ").push_bind(before);
        }
        if let Some(after) = choice.after {
            query.push(" AND id > ").push_bind(after);
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&mut *self.inner).await?.iter().map(read).collect()
    }

    /// Lists the actions that have rows, in the order of the alphabet.
    pub async fn audit_actions(&mut self) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT DISTINCT action FROM audit ORDER BY action").fetch_all(&mut *self.inner).await?;
        rows.iter().map(|row| Ok(row.try_get("action")?)).collect()
    }

    /// Removes the rows older than a time, and the oldest beyond the limits. Returns their number.
    pub async fn audit_trim(&mut self, before: Timestamp, limits: AuditLimits) -> Result<u64> {
        let old = sqlx::query("DELETE FROM audit WHERE time < ?")
            .bind(before.as_millisecond())
            .execute(&mut *self.inner)
            .await?;
        let known = self.audit_keep_newest(false, limits.known).await?;
        let strangers = self.audit_keep_newest(true, limits.strangers).await?;
        Ok(old.rows_affected() + known.rows_affected() + strangers.rows_affected())
    }

    async fn audit_keep_newest(&mut self, is_stranger: bool, limit: i64) -> Result<SqliteQueryResult> {
        let done = sqlx::query(
            "DELETE FROM audit WHERE is_stranger = ?1 AND id <=
                (SELECT id FROM audit WHERE is_stranger = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )
        .bind(is_stranger)
        .bind(limit)
        .execute(&mut *self.inner)
        .await?;
        Ok(done)
    }
}

fn read(row: &SqliteRow) -> Result<AuditRow> {
    let unreadable = |source| StoreError::Unreadable { column: "time", source };
    let name: String = row.try_get("user_name")?;
    Ok(AuditRow {
        id: row.try_get("id")?,
        time: Timestamp::from_millisecond(row.try_get("time")?).map_err(|error| unreadable(Box::new(error)))?,
        actor: if row.try_get("is_stranger")? { AuditActor::Stranger(name) } else { AuditActor::Known(name) },
        address: row.try_get("address")?,
        client: row.try_get("client")?,
        action: row.try_get("action")?,
        object: row.try_get("object")?,
        object_name: row.try_get("object_name")?,
        detail: row.try_get("detail")?,
        outcome: parsed(row, "outcome")?,
        reason: row.try_get("reason")?,
    })
}

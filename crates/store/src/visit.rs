//! Visits: browsers of users that a connection lets in. Of a visit's token only the SHA-256 is
//! kept.

use mooring_types::{ConnectionId, Role, SessionId, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, parsed};

/// A visit with its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitRow {
    /// The hash of its token.
    pub token_hash: String,
    pub connection: ConnectionId,
    pub user: UserId,
    pub user_name: String,
    pub role: Role,
    /// The session that it ends with.
    pub session: SessionId,
    pub create_time: Timestamp,
}

impl Tx {
    /// Begins a visit.
    pub async fn visit_insert(&mut self, visit: &VisitRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO visit (token_hash, connection_id, user_id, session_id, create_time) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&visit.token_hash)
        .bind(visit.connection.as_str())
        .bind(visit.user.as_str())
        .bind(visit.session.as_str())
        .bind(visit.create_time.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists all visits, oldest first.
    pub async fn visit_list(&mut self) -> Result<Vec<VisitRow>> {
        let rows = sqlx::query(
            "SELECT visit.*, user.name, user.role FROM visit JOIN user ON user.id = visit.user_id
             ORDER BY visit.create_time, token_hash",
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Ends a visit.
    pub async fn visit_delete(&mut self, token_hash: &str) -> Result<()> {
        sqlx::query("DELETE FROM visit WHERE token_hash = ?").bind(token_hash).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<VisitRow> {
    Ok(VisitRow {
        token_hash: row.try_get("token_hash")?,
        connection: parsed(row, "connection_id")?,
        user: parsed(row, "user_id")?,
        user_name: row.try_get("name")?,
        role: parsed(row, "role")?,
        session: parsed(row, "session_id")?,
        create_time: parsed(row, "create_time")?,
    })
}

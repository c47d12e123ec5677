//! Tokens with which hosts join.

use mooring_types::{JoinTokenId, Name, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, parsed, parsed_option};

/// A token with which one host may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    pub id: JoinTokenId,
    /// The SHA-256 of the token.
    pub token_hash: String,
    /// The name that the host has to have; `None` for any.
    pub host_name: Option<Name>,
    /// The user that made it.
    pub user_name: String,
    pub create_time: Timestamp,
    pub expires_at: Timestamp,
}

impl Tx {
    /// Adds a token.
    pub async fn join_token_insert(&mut self, row: &JoinTokenRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO join_token (id, token_hash, host_name, user_name, create_time, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(row.id.as_str())
        .bind(&row.token_hash)
        .bind(row.host_name.as_ref().map(Name::as_str))
        .bind(&row.user_name)
        .bind(row.create_time.to_string())
        .bind(row.expires_at.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists all tokens, oldest first.
    pub async fn join_token_list(&mut self) -> Result<Vec<JoinTokenRow>> {
        let rows =
            sqlx::query("SELECT * FROM join_token ORDER BY create_time, rowid").fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Removes a token. Returns whether there was one.
    pub async fn join_token_delete(&mut self, id: &JoinTokenId) -> Result<bool> {
        let done =
            sqlx::query("DELETE FROM join_token WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(done.rows_affected() > 0)
    }
}

fn read(row: &SqliteRow) -> Result<JoinTokenRow> {
    Ok(JoinTokenRow {
        id: parsed(row, "id")?,
        token_hash: row.try_get("token_hash")?,
        host_name: parsed_option(row, "host_name")?,
        user_name: row.try_get("user_name")?,
        create_time: parsed(row, "create_time")?,
        expires_at: parsed(row, "expires_at")?,
    })
}

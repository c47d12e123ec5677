//! API tokens of users. Of a token only the SHA-256 is kept.

use mooring_types::api_token::TokenScope;
use mooring_types::{ApiTokenId, Name, Timestamp, UserId};
use sqlx::sqlite::SqliteRow;

use crate::user::read_user;
use crate::{Result, Tx, UserRow, parsed, parsed_option};

/// An API token with its user.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiTokenRow {
    pub id: ApiTokenId,
    /// The hash of the token.
    pub token_hash: String,
    pub user: UserRow,
    /// The name, unique among the tokens of the user.
    pub name: Name,
    pub scope: TokenScope,
    pub create_time: Timestamp,
    /// The time from which it is useless.
    pub expires_at: Timestamp,
    /// The time of the last use; `None` before the first one.
    pub last_used: Option<Timestamp>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT user.id, user.name, user.role, user.password_hash, user.create_time, user.quota,
                api_token.id AS token_id, token_hash, api_token.name AS token_name, scope,
                api_token.create_time AS made, expires_at, last_used
             FROM api_token JOIN user ON user.id = api_token.user_id ",
            $rest
        )
    };
}

impl Tx {
    /// Adds a token. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if the user
    /// has one of that name.
    pub async fn api_token_insert(&mut self, token: &ApiTokenRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO api_token (id, token_hash, user_id, name, scope, create_time, expires_at, last_used)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(token.id.as_str())
        .bind(&token.token_hash)
        .bind(token.user.id.as_str())
        .bind(token.name.as_str())
        .bind(token.scope.name())
        .bind(token.create_time.to_string())
        .bind(token.expires_at.to_string())
        .bind(token.last_used.map(|time| time.to_string()))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Returns the token with that hash.
    pub async fn api_token_get(&mut self, token_hash: &str) -> Result<Option<ApiTokenRow>> {
        let row =
            sqlx::query(select!("WHERE token_hash = ?")).bind(token_hash).fetch_optional(&mut *self.inner).await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists all tokens, oldest first.
    pub async fn api_token_list(&mut self) -> Result<Vec<ApiTokenRow>> {
        let rows =
            sqlx::query(select!("ORDER BY api_token.create_time, api_token.rowid")).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Records a use of a token.
    pub async fn api_token_touch(&mut self, id: &ApiTokenId, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE api_token SET last_used = ? WHERE id = ?")
            .bind(now.to_string())
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Removes a token.
    pub async fn api_token_delete(&mut self, id: &ApiTokenId) -> Result<()> {
        sqlx::query("DELETE FROM api_token WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Removes every token of a user.
    pub async fn api_token_delete_of_user(&mut self, user: &UserId) -> Result<()> {
        sqlx::query("DELETE FROM api_token WHERE user_id = ?").bind(user.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<ApiTokenRow> {
    Ok(ApiTokenRow {
        id: parsed(row, "token_id")?,
        token_hash: sqlx::Row::try_get(row, "token_hash")?,
        user: read_user(row)?,
        name: parsed(row, "token_name")?,
        scope: parsed(row, "scope")?,
        create_time: parsed(row, "made")?,
        expires_at: parsed(row, "expires_at")?,
        last_used: parsed_option(row, "last_used")?,
    })
}

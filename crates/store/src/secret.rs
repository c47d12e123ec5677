//! Secrets of users, sealed. The store never sees the key.

use mooring_types::{Name, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, parsed};

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// The owner.
    pub user: UserId,
    /// The owner's name, as jobs have it.
    pub user_name: String,
    pub name: Name,
    pub sealed: Vec<u8>,
    pub create_time: Timestamp,
    /// The time at which its value was last set.
    pub update_time: Timestamp,
}

const SELECT: &str =
    "SELECT secret.user_id, user.name AS user_name, secret.name, sealed, secret.create_time, secret.update_time
    FROM secret JOIN user ON user.id = secret.user_id";

impl Tx {
    /// Sets a secret; a present one gets the new value.
    pub async fn secret_put(&mut self, user: &UserId, name: &Name, sealed: &[u8], now: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO secret (user_id, name, sealed, create_time, update_time) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (user_id, name) DO UPDATE SET sealed = excluded.sealed, update_time = excluded.update_time",
        )
        .bind(user.as_str())
        .bind(name.as_str())
        .bind(sealed)
        .bind(now.to_string())
        .bind(now.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Replaces the sealed form of a secret whose value stays.
    pub async fn secret_reseal(&mut self, user: &UserId, name: &Name, sealed: &[u8]) -> Result<()> {
        sqlx::query("UPDATE secret SET sealed = ? WHERE user_id = ? AND name = ?")
            .bind(sealed)
            .bind(user.as_str())
            .bind(name.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists all secrets by user and name.
    pub async fn secret_list(&mut self) -> Result<Vec<SecretRow>> {
        let sql = format!("{SELECT} ORDER BY secret.user_id, secret.name");
        let rows = sqlx::query(&sql).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Lists a user's secrets by name.
    pub async fn secret_list_of_user(&mut self, user: &UserId) -> Result<Vec<SecretRow>> {
        let sql = format!("{SELECT} WHERE secret.user_id = ? ORDER BY secret.name");
        let rows = sqlx::query(&sql).bind(user.as_str()).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Removes a secret. Returns whether there was one.
    pub async fn secret_delete(&mut self, user: &UserId, name: &Name) -> Result<bool> {
        let done = sqlx::query("DELETE FROM secret WHERE user_id = ? AND name = ?")
            .bind(user.as_str())
            .bind(name.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

fn read(row: &SqliteRow) -> Result<SecretRow> {
    Ok(SecretRow {
        user: parsed(row, "user_id")?,
        user_name: row.try_get("user_name")?,
        name: parsed(row, "name")?,
        sealed: row.try_get("sealed")?,
        create_time: parsed(row, "create_time")?,
        update_time: parsed(row, "update_time")?,
    })
}

//! Users.

use mooring_types::quota::Quota;
use mooring_types::{Role, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, to_json};

/// A user.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRow {
    pub id: UserId,
    pub name: String,
    pub role: Role,
    /// The argon2 hash of the password; empty for a user who has none.
    pub password_hash: String,
    pub create_time: Timestamp,
    pub quota: Quota,
}

impl Tx {
    /// Adds a user. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if the name is
    /// taken.
    pub async fn user_insert(&mut self, user: &UserRow) -> Result<()> {
        sqlx::query("INSERT INTO user (id, name, role, password_hash, create_time, quota) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(user.id.as_str())
            .bind(&user.name)
            .bind(user.role.to_string())
            .bind(&user.password_hash)
            .bind(user.create_time.to_string())
            .bind(to_json(&user.quota)?)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Returns the user with that name.
    pub async fn user_get(&mut self, name: &str) -> Result<Option<UserRow>> {
        let row = sqlx::query("SELECT id, name, role, password_hash, create_time, quota FROM user WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *self.inner)
            .await?;
        row.as_ref().map(read_user).transpose()
    }

    /// Returns whether something is kept under a user's name.
    pub async fn user_name_is_used(&mut self, name: &str) -> Result<bool> {
        let query = "SELECT EXISTS (SELECT 1 FROM job_listing WHERE user_name = ?1)
             OR EXISTS (SELECT 1 FROM gateway WHERE user_name = ?1)
             OR EXISTS (SELECT 1 FROM security_group WHERE user_name = ?1)
             OR EXISTS (SELECT 1 FROM template WHERE user_name = ?1)";
        Ok(sqlx::query_scalar(query).bind(name).fetch_one(&mut *self.inner).await?)
    }

    /// Lists all users, oldest first.
    pub async fn user_list(&mut self) -> Result<Vec<UserRow>> {
        let rows =
            sqlx::query("SELECT id, name, role, password_hash, create_time, quota FROM user ORDER BY create_time, id")
                .fetch_all(&mut *self.inner)
                .await?;
        rows.iter().map(read_user).collect()
    }

    /// Changes a user's role, password and quota.
    pub async fn user_update(&mut self, user: &UserRow) -> Result<()> {
        sqlx::query("UPDATE user SET role = ?, password_hash = ?, quota = ? WHERE id = ?")
            .bind(user.role.to_string())
            .bind(&user.password_hash)
            .bind(to_json(&user.quota)?)
            .bind(user.id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Removes a user with its identity, sessions, API tokens, memberships, secrets and private
    /// templates. Its jobs stay.
    pub async fn user_delete(&mut self, id: &UserId) -> Result<()> {
        self.session_delete_of_user(id).await?;
        // Another person may get the name.
        sqlx::query("UPDATE gateway_port SET user_name = '' WHERE user_name = (SELECT name FROM user WHERE id = ?)")
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        sqlx::query("DELETE FROM user WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

pub(crate) fn read_user(row: &SqliteRow) -> Result<UserRow> {
    Ok(UserRow {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        role: parsed(row, "role")?,
        password_hash: row.try_get("password_hash")?,
        create_time: parsed(row, "create_time")?,
        quota: json(row, "quota")?,
    })
}

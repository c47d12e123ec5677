//! Users and their sessions. Of a session's token only the SHA-256 is kept.

use mooring_types::{JobId, Role, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, parsed, parsed_option};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    pub id: UserId,
    pub name: String,
    pub role: Role,
    /// The argon2 hash of the password.
    pub password_hash: String,
    pub create_time: Timestamp,
}

/// A session with its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub user: UserRow,
    pub create_time: Timestamp,
    pub last_used: Timestamp,
    /// The job of a session that is for one job alone.
    pub job: Option<JobId>,
}

impl Tx {
    /// Adds a user. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if the name is
    /// taken.
    pub async fn user_insert(&mut self, user: &UserRow) -> Result<()> {
        sqlx::query("INSERT INTO user (id, name, role, password_hash, create_time) VALUES (?, ?, ?, ?, ?)")
            .bind(user.id.as_str())
            .bind(&user.name)
            .bind(user.role.to_string())
            .bind(&user.password_hash)
            .bind(user.create_time.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Returns the user with that name.
    pub async fn user_get(&mut self, name: &str) -> Result<Option<UserRow>> {
        let row = sqlx::query("SELECT id, name, role, password_hash, create_time FROM user WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *self.inner)
            .await?;
        row.as_ref().map(read_user).transpose()
    }

    /// Lists all users, oldest first.
    pub async fn user_list(&mut self) -> Result<Vec<UserRow>> {
        let rows = sqlx::query("SELECT id, name, role, password_hash, create_time FROM user ORDER BY create_time, id")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read_user).collect()
    }

    /// Changes a user's role and password.
    pub async fn user_update(&mut self, user: &UserRow) -> Result<()> {
        sqlx::query("UPDATE user SET role = ?, password_hash = ? WHERE id = ?")
            .bind(user.role.to_string())
            .bind(&user.password_hash)
            .bind(user.id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Removes a user with its sessions, memberships, secrets and private templates. Its jobs stay.
    pub async fn user_delete(&mut self, id: &UserId) -> Result<()> {
        self.session_delete_of_user(id).await?;
        sqlx::query("DELETE FROM user WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Ends every session of a user.
    pub async fn session_delete_of_user(&mut self, id: &UserId) -> Result<()> {
        sqlx::query("DELETE FROM session WHERE user_id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Begins a session; with a job, for that job alone.
    pub async fn session_insert(
        &mut self,
        token_hash: &str,
        user: &UserId,
        job: Option<&JobId>,
        now: Timestamp,
    ) -> Result<()> {
        sqlx::query("INSERT INTO session (token_hash, user_id, job_id, create_time, last_used) VALUES (?, ?, ?, ?, ?)")
            .bind(token_hash)
            .bind(user.as_str())
            .bind(job.map(JobId::as_str))
            .bind(now.to_string())
            .bind(now.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Returns the session of a token.
    pub async fn session_get(&mut self, token_hash: &str) -> Result<Option<SessionRow>> {
        let row = sqlx::query(
            "SELECT user.id, user.name, user.role, user.password_hash, user.create_time,
                    session.create_time AS began, session.last_used, session.job_id
             FROM session JOIN user ON user.id = session.user_id WHERE session.token_hash = ?",
        )
        .bind(token_hash)
        .fetch_optional(&mut *self.inner)
        .await?;
        let read = |row: &SqliteRow| {
            Ok(SessionRow {
                user: read_user(row)?,
                create_time: parsed(row, "began")?,
                last_used: parsed(row, "last_used")?,
                job: parsed_option(row, "job_id")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Records a use of a session.
    pub async fn session_touch(&mut self, token_hash: &str, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE session SET last_used = ? WHERE token_hash = ?")
            .bind(now.to_string())
            .bind(token_hash)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Ends a session.
    pub async fn session_delete(&mut self, token_hash: &str) -> Result<()> {
        sqlx::query("DELETE FROM session WHERE token_hash = ?").bind(token_hash).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read_user(row: &SqliteRow) -> Result<UserRow> {
    Ok(UserRow {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        role: parsed(row, "role")?,
        password_hash: row.try_get("password_hash")?,
        create_time: parsed(row, "create_time")?,
    })
}

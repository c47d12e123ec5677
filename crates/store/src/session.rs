//! Sessions of users. Of a session's token only the SHA-256 is kept.

use mooring_types::{JobId, SessionId, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::user::read_user;
use crate::{Result, Tx, UserRow, parsed, parsed_option};

/// A session with its user.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    pub id: SessionId,
    pub user: UserRow,
    /// The hash of its token.
    pub token_hash: String,
    pub create_time: Timestamp,
    pub last_used: Timestamp,
    /// The job of a session that is for one job alone.
    pub job: Option<JobId>,
    /// The session that has allowed this one, and with which it ends.
    pub parent: Option<SessionId>,
    /// The address that the login came from; empty in sessions of earlier versions.
    pub address: String,
    /// The program that logged in, by its own word.
    pub client: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT user.id, user.name, user.role, user.password_hash, user.create_time, user.quota,
                session.id AS session_id, session.token_hash, session.create_time AS began, session.last_used,
                session.job_id, session.parent_id, session.address, session.client
             FROM session JOIN user ON user.id = session.user_id ",
            $rest
        )
    };
}

impl Tx {
    /// Begins a session.
    pub async fn session_insert(&mut self, session: &SessionRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO session (id, token_hash, user_id, job_id, parent_id, create_time, last_used, address, client)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.id.as_str())
        .bind(&session.token_hash)
        .bind(session.user.id.as_str())
        .bind(session.job.as_ref().map(JobId::as_str))
        .bind(session.parent.as_ref().map(SessionId::as_str))
        .bind(session.create_time.to_string())
        .bind(session.last_used.to_string())
        .bind(&session.address)
        .bind(&session.client)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Returns the session of a token.
    pub async fn session_get(&mut self, token_hash: &str) -> Result<Option<SessionRow>> {
        let row = sqlx::query(select!("WHERE session.token_hash = ?"))
            .bind(token_hash)
            .fetch_optional(&mut *self.inner)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Lists all sessions, oldest first.
    pub async fn session_list(&mut self) -> Result<Vec<SessionRow>> {
        let rows = sqlx::query(select!("ORDER BY session.create_time, session.id")).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
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

    /// Ends a session, those that it has allowed, and its visits.
    pub async fn session_end(&mut self, id: &SessionId) -> Result<()> {
        sqlx::query("DELETE FROM visit WHERE session_id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        sqlx::query("DELETE FROM session WHERE id = ?1 OR parent_id = ?1")
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Removes a session that nobody has used for too long. Those that it has allowed have ends of
    /// their own.
    pub async fn session_delete(&mut self, token_hash: &str) -> Result<()> {
        sqlx::query("DELETE FROM session WHERE token_hash = ?").bind(token_hash).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Ends every session and visit of a user.
    pub async fn session_delete_of_user(&mut self, id: &UserId) -> Result<()> {
        sqlx::query("DELETE FROM visit WHERE user_id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        sqlx::query("DELETE FROM session WHERE user_id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<SessionRow> {
    Ok(SessionRow {
        id: parsed(row, "session_id")?,
        user: read_user(row)?,
        token_hash: row.try_get("token_hash")?,
        create_time: parsed(row, "began")?,
        last_used: parsed(row, "last_used")?,
        job: parsed_option(row, "job_id")?,
        parent: parsed_option(row, "parent_id")?,
        address: row.try_get("address")?,
        client: row.try_get("client")?,
    })
}

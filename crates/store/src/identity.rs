//! Identities: the users that an OpenID provider vouches for.

use mooring_types::UserId;
use sqlx::Row;

use crate::user::read_user;
use crate::{Result, Tx, UserRow, parsed};

/// The identity of a user at an OpenID provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// The URL of the provider.
    pub issuer: String,
    /// The provider's name for the person, which it gives to nobody else.
    pub subject: String,
    pub user: UserId,
    /// The user is an admin because the provider says so.
    pub makes_admin: bool,
}

impl Tx {
    /// Adds the identity of a user. Fails with
    /// [`StoreError::is_taken`](crate::StoreError::is_taken) if the user has one, or another user
    /// has it.
    pub async fn identity_insert(&mut self, identity: &IdentityRow) -> Result<()> {
        sqlx::query("INSERT INTO identity (issuer, subject, user_id, makes_admin) VALUES (?, ?, ?, ?)")
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(identity.user.as_str())
            .bind(identity.makes_admin)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Records whether the provider makes the user an admin.
    pub async fn identity_update(&mut self, identity: &IdentityRow) -> Result<()> {
        sqlx::query("UPDATE identity SET makes_admin = ? WHERE user_id = ?")
            .bind(identity.makes_admin)
            .bind(identity.user.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Returns the user of an identity.
    pub async fn identity_user(&mut self, issuer: &str, subject: &str) -> Result<Option<UserRow>> {
        let row = sqlx::query(
            "SELECT user.id, name, role, password_hash, create_time, quota
             FROM identity JOIN user ON user.id = identity.user_id WHERE issuer = ? AND subject = ?",
        )
        .bind(issuer)
        .bind(subject)
        .fetch_optional(&mut *self.inner)
        .await?;
        row.as_ref().map(read_user).transpose()
    }

    /// Lists the identities of all users.
    pub async fn identity_list(&mut self) -> Result<Vec<IdentityRow>> {
        let rows = sqlx::query("SELECT issuer, subject, user_id, makes_admin FROM identity ORDER BY user_id")
            .fetch_all(&mut *self.inner)
            .await?;
        let read = |row| {
            Ok(IdentityRow {
                issuer: Row::try_get(row, "issuer")?,
                subject: Row::try_get(row, "subject")?,
                user: parsed(row, "user_id")?,
                makes_admin: Row::try_get(row, "makes_admin")?,
            })
        };
        rows.iter().map(read).collect()
    }
}

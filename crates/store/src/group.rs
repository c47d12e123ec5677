//! Groups of users. The database knows members by id, users see them by name.

use mooring_types::quota::Quota;
use mooring_types::{Name, Timestamp, UserId};
use sqlx::Row;

use crate::{Result, Tx, json, parsed, to_json};

/// A group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    pub name: Name,
    pub description: String,
    pub create_time: Timestamp,
    pub quota: Quota,
}

/// The membership of a user in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipRow {
    pub group: Name,
    pub user: UserId,
    pub user_name: String,
    pub by: MembershipBy,
}

/// The giver of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipBy {
    /// An admin, who alone takes it away.
    Admin,
    /// The user's OpenID provider, which takes it away as well.
    Provider,
}

impl Tx {
    /// Adds a group. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if the name
    /// is taken.
    pub async fn group_insert(&mut self, group: &GroupRow) -> Result<()> {
        sqlx::query("INSERT INTO user_group (name, description, create_time, quota) VALUES (?, ?, ?, ?)")
            .bind(group.name.as_str())
            .bind(&group.description)
            .bind(group.create_time.to_string())
            .bind(to_json(&group.quota)?)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Changes a group's description and quota.
    pub async fn group_update(&mut self, group: &GroupRow) -> Result<()> {
        sqlx::query("UPDATE user_group SET description = ?, quota = ? WHERE name = ?")
            .bind(&group.description)
            .bind(to_json(&group.quota)?)
            .bind(group.name.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists all groups by name.
    pub async fn group_list(&mut self) -> Result<Vec<GroupRow>> {
        let rows = sqlx::query("SELECT name, description, create_time, quota FROM user_group ORDER BY name")
            .fetch_all(&mut *self.inner)
            .await?;
        let read = |row| {
            Ok(GroupRow {
                name: parsed(row, "name")?,
                description: row.try_get("description")?,
                create_time: parsed(row, "create_time")?,
                quota: json(row, "quota")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Removes a group; its members stay users.
    pub async fn group_delete(&mut self, name: &Name) -> Result<()> {
        sqlx::query("DELETE FROM user_group WHERE name = ?").bind(name.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Lists all memberships by group and user name.
    pub async fn membership_list(&mut self) -> Result<Vec<MembershipRow>> {
        let rows = sqlx::query(
            "SELECT group_name, user_id, is_of_provider, user.name AS user_name
             FROM group_member JOIN user ON user.id = group_member.user_id ORDER BY group_name, user.name",
        )
        .fetch_all(&mut *self.inner)
        .await?;
        let read = |row| {
            Ok(MembershipRow {
                group: parsed(row, "group_name")?,
                user: parsed(row, "user_id")?,
                user_name: row.try_get("user_name")?,
                by: if row.try_get("is_of_provider")? { MembershipBy::Provider } else { MembershipBy::Admin },
            })
        };
        rows.iter().map(read).collect()
    }

    /// Lists the names of all users that share a group with a user, itself included.
    pub async fn membership_mates(&mut self, user: &UserId) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT DISTINCT user.name AS user_name FROM group_member AS own
             JOIN group_member AS other ON other.group_name = own.group_name
             JOIN user ON user.id = other.user_id WHERE own.user_id = ?",
        )
        .bind(user.as_str())
        .fetch_all(&mut *self.inner)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("user_name")?)).collect()
    }

    /// Adds a member. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) for a
    /// present one.
    pub async fn membership_insert(&mut self, group: &Name, user: &UserId, by: MembershipBy) -> Result<()> {
        sqlx::query("INSERT INTO group_member (group_name, user_id, is_of_provider) VALUES (?, ?, ?)")
            .bind(group.as_str())
            .bind(user.as_str())
            .bind(by == MembershipBy::Provider)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Removes a member.
    pub async fn membership_delete(&mut self, group: &Name, user: &UserId) -> Result<()> {
        sqlx::query("DELETE FROM group_member WHERE group_name = ? AND user_id = ?")
            .bind(group.as_str())
            .bind(user.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

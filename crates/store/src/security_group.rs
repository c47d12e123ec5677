//! Security groups.

use mooring_types::security::SecurityGroupSpec;
use mooring_types::{SecurityGroupId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, to_json};

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroupRow {
    pub id: SecurityGroupId,
    pub spec: SecurityGroupSpec,
    /// The creator.
    pub user_name: String,
    pub create_time: Timestamp,
}

impl Tx {
    /// Adds a security group. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if
    /// the name is taken.
    pub async fn security_group_insert(&mut self, group: &SecurityGroupRow) -> Result<()> {
        sqlx::query("INSERT INTO security_group (id, name, spec, user_name, create_time) VALUES (?, ?, ?, ?, ?)")
            .bind(group.id.as_str())
            .bind(group.spec.name.as_str())
            .bind(to_json(&group.spec)?)
            .bind(&group.user_name)
            .bind(group.create_time.to_string())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Changes a security group. Fails like [`Tx::security_group_insert`].
    pub async fn security_group_update(&mut self, id: &SecurityGroupId, spec: &SecurityGroupSpec) -> Result<()> {
        sqlx::query("UPDATE security_group SET name = ?, spec = ? WHERE id = ?")
            .bind(spec.name.as_str())
            .bind(to_json(spec)?)
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists all security groups, oldest first.
    pub async fn security_group_list(&mut self) -> Result<Vec<SecurityGroupRow>> {
        let rows = sqlx::query("SELECT id, spec, user_name, create_time FROM security_group ORDER BY create_time, id")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes a security group. The caller checks that nobody uses it.
    pub async fn security_group_delete(&mut self, id: &SecurityGroupId) -> Result<()> {
        sqlx::query("DELETE FROM security_group WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<SecurityGroupRow> {
    Ok(SecurityGroupRow {
        id: parsed(row, "id")?,
        spec: json(row, "spec")?,
        user_name: row.try_get("user_name")?,
        create_time: parsed(row, "create_time")?,
    })
}

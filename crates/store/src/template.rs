//! Templates that users made. A template's job is a request in JSON, which the API reads.

use mooring_types::{Name, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, parsed_option, to_json};

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateRow {
    /// The owner; `None` for a public template.
    pub owner: Option<UserId>,
    pub name: Name,
    pub tag: Name,
    pub description: String,
    /// The request with its defaults.
    pub job: serde_json::Value,
    /// The access path of its jobs.
    pub access_path: String,
    /// The creator.
    pub user_name: String,
    pub create_time: Timestamp,
}

impl Tx {
    /// Adds a template, as the newest of its name. Fails with
    /// [`StoreError::is_taken`](crate::StoreError::is_taken) if name and tag are taken.
    pub async fn template_insert(&mut self, template: &TemplateRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO template (owner_id, name, tag, description, job, access_path, user_name, create_time)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(template.owner.as_ref().map(UserId::as_str))
        .bind(template.name.as_str())
        .bind(template.tag.as_str())
        .bind(&template.description)
        .bind(to_json(&template.job)?)
        .bind(&template.access_path)
        .bind(&template.user_name)
        .bind(template.create_time.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists public templates and those of a user, oldest first.
    pub async fn template_list(&mut self, user: &UserId) -> Result<Vec<TemplateRow>> {
        let rows = sqlx::query("SELECT * FROM template WHERE owner_id IS NULL OR owner_id = ? ORDER BY sequence")
            .bind(user.as_str())
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes a template.
    pub async fn template_delete(&mut self, template: &TemplateRow) -> Result<()> {
        sqlx::query("DELETE FROM template WHERE owner_id IS ? AND name = ? AND tag = ?")
            .bind(template.owner.as_ref().map(UserId::as_str))
            .bind(template.name.as_str())
            .bind(template.tag.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<TemplateRow> {
    Ok(TemplateRow {
        owner: parsed_option(row, "owner_id")?,
        name: parsed(row, "name")?,
        tag: parsed(row, "tag")?,
        description: row.try_get("description")?,
        job: json(row, "job")?,
        access_path: row.try_get("access_path")?,
        user_name: row.try_get("user_name")?,
        create_time: parsed(row, "create_time")?,
    })
}

//! Templates that users made. The job of one is kept as the request that it stands for, which the API reads.

use mooring_types::{Name, Timestamp, UserId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, parsed_option, to_json};

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateRow {
    /// Whose it is; everybody's where it is nobody's.
    pub owner: Option<UserId>,
    /// Its name.
    pub name: Name,
    /// Its tag.
    pub tag: Name,
    /// What it is for.
    pub description: String,
    /// The request that it stands for.
    pub job: serde_json::Value,
    /// What follows the address in the URL of its jobs.
    pub access_path: String,
    /// Who created it.
    pub user_name: String,
    /// Since when.
    pub create_time: Timestamp,
}

impl Tx {
    /// Adds a template; it is the newest of its name then.
    ///
    /// # Errors
    /// The name and tag are taken.
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

    /// Everybody's templates and those of a user, oldest first.
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

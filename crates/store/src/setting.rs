//! Settings: single values by name.

use sqlx::Row;

use crate::{Result, Tx};

impl Tx {
    /// Returns the value of a setting.
    pub async fn setting_get(&mut self, name: &str) -> Result<Option<String>> {
        let row =
            sqlx::query("SELECT value FROM setting WHERE name = ?").bind(name).fetch_optional(&mut *self.inner).await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    /// Sets a setting.
    pub async fn setting_set(&mut self, name: &str, value: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}

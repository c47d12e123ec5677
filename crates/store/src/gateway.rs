//! Gateways.

use mooring_types::gateway::GatewaySpec;
use mooring_types::{GatewayId, HostId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, to_json};

/// A gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayRow {
    pub id: GatewayId,
    pub spec: GatewaySpec,
    /// The host on which it is placed.
    pub host: HostId,
    /// The fingerprint of its public key, whose certificates alone count; `None` before it has one.
    pub public_key: Option<String>,
    pub create_time: Timestamp,
    /// The number of restarts that were requested.
    pub restart: u64,
    /// The creator.
    pub user_name: String,
}

impl Tx {
    /// Adds a gateway. Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if the name
    /// is taken.
    pub async fn gateway_insert(&mut self, gateway: &GatewayRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO gateway (id, name, spec, host_id, public_key, create_time, user_name) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(gateway.id.as_str())
        .bind(gateway.spec.name.as_str())
        .bind(to_json(&gateway.spec)?)
        .bind(gateway.host.as_str())
        .bind(no_key(&gateway.id))
        .bind(gateway.create_time.to_string())
        .bind(&gateway.user_name)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Changes a gateway's spec. Fails like [`Tx::gateway_insert`].
    pub async fn gateway_update(&mut self, id: &GatewayId, spec: &GatewaySpec) -> Result<()> {
        sqlx::query("UPDATE gateway SET name = ?, spec = ? WHERE id = ?")
            .bind(spec.name.as_str())
            .bind(to_json(spec)?)
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists all gateways, oldest first.
    pub async fn gateway_list(&mut self) -> Result<Vec<GatewayRow>> {
        const SQL: &str = "SELECT id, spec, host_id, public_key, create_time, restart, user_name FROM gateway ORDER BY create_time, id";
        let rows = sqlx::query(SQL).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Counts one more requested restart.
    pub async fn gateway_restart(&mut self, id: &GatewayId) -> Result<()> {
        sqlx::query("UPDATE gateway SET restart = restart + 1 WHERE id = ?")
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Records the public key of a gateway: certificates of an earlier one count no more.
    pub async fn gateway_key_set(&mut self, id: &GatewayId, public_key: &str) -> Result<()> {
        sqlx::query("UPDATE gateway SET public_key = ? WHERE id = ?")
            .bind(public_key)
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Removes a gateway and its connections.
    pub async fn gateway_delete(&mut self, id: &GatewayId) -> Result<()> {
        sqlx::query("DELETE FROM gateway WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

/// The column's value for a gateway without a key; it is unique.
fn no_key(id: &GatewayId) -> String {
    format!("none {id}")
}

fn read(row: &SqliteRow) -> Result<GatewayRow> {
    let id: GatewayId = parsed(row, "id")?;
    Ok(GatewayRow {
        spec: json(row, "spec")?,
        host: parsed(row, "host_id")?,
        public_key: Some(row.try_get::<String, _>("public_key")?).filter(|key| *key != no_key(&id)),
        create_time: parsed(row, "create_time")?,
        restart: row.try_get::<i64, _>("restart")?.cast_unsigned(),
        user_name: row.try_get("user_name")?,
        id,
    })
}

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
    /// The token of its process, in clear: the host's agent has to get it.
    pub token: String,
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
            "INSERT INTO gateway (id, name, spec, host_id, token, create_time, user_name) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(gateway.id.as_str())
        .bind(gateway.spec.name.as_str())
        .bind(to_json(&gateway.spec)?)
        .bind(gateway.host.as_str())
        .bind(&gateway.token)
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
        const SQL: &str =
            "SELECT id, spec, host_id, token, create_time, restart, user_name FROM gateway ORDER BY create_time, id";
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

    /// Removes a gateway and its connections.
    pub async fn gateway_delete(&mut self, id: &GatewayId) -> Result<()> {
        sqlx::query("DELETE FROM gateway WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<GatewayRow> {
    Ok(GatewayRow {
        id: parsed(row, "id")?,
        spec: json(row, "spec")?,
        host: parsed(row, "host_id")?,
        token: row.try_get("token")?,
        create_time: parsed(row, "create_time")?,
        restart: row.try_get::<i64, _>("restart")?.cast_unsigned(),
        user_name: row.try_get("user_name")?,
    })
}

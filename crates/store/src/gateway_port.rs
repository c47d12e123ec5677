//! The last use of each port of a gateway.

use std::collections::BTreeMap;

use mooring_types::port::PortUse;
use mooring_types::{GatewayId, Port};
use sqlx::Row;

use crate::connection::port;
use crate::{ConnectionRow, Result, Tx, unsigned};

impl Tx {
    /// Returns the last uses of a gateway's ports, as a user sees them.
    pub async fn gateway_port_uses(&mut self, gateway: &GatewayId, user: &str) -> Result<BTreeMap<Port, PortUse>> {
        let rows = sqlx::query("SELECT port, user_name, number FROM gateway_port WHERE gateway_id = ?")
            .bind(gateway.as_str())
            .fetch_all(&mut *self.inner)
            .await?;
        let read = |row| {
            let user_name: String = Row::try_get(row, "user_name")?;
            Ok((port(row, "port")?, PortUse { is_own: user_name == user, number: unsigned(row, "number")? }))
        };
        rows.iter().map(read).collect()
    }

    /// Records that the job of a connection uses its port.
    pub(crate) async fn gateway_port_use(&mut self, connection: &ConnectionRow) -> Result<()> {
        let gateway = connection.gateway.as_str();
        sqlx::query(
            "INSERT OR REPLACE INTO gateway_port (gateway_id, port, user_name, number)
             SELECT ?, ?, user_name, (SELECT COALESCE(MAX(number), 0) + 1 FROM gateway_port WHERE gateway_id = ?)
             FROM job WHERE id = ?",
        )
        .bind(gateway)
        .bind(connection.gateway_port.get())
        .bind(gateway)
        .bind(connection.job.as_str())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}

//! Connections: which port of a gateway leads to which port of a job.

use mooring_types::gateway::{Access, Cookies, HoldLimits, Protocol, WakeOn, Widget};
use mooring_types::{ConnectionId, GatewayId, JobId, Port};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, StoreError, Tx, json, parsed, to_json, unsigned};

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    pub id: ConnectionId,
    pub gateway: GatewayId,
    pub job: JobId,
    /// The port that the job publishes.
    pub target_port: Port,
    /// The gateway's port, for the life of the connection.
    pub gateway_port: Port,
    /// True once the gateway has listened at the port. The port stays then.
    pub opened: bool,
    pub protocol: Protocol,
    /// The limits of held requests while the job does not execute.
    pub hold_limits: HoldLimits,
    /// The clients that wake the job, if they are others than the job's own policy says.
    pub wake_on: Option<WakeOn>,
    pub widget: Widget,
    pub cookies: Cookies,
    pub access: Access,
    /// The names of the users with whom it is shared.
    pub shares: Vec<String>,
    /// The SHA-256 of the secret of its link.
    pub link_hash: Option<String>,
}

impl Tx {
    /// Adds a connection, in place of the farewell at its port.
    ///
    /// Fails with [`StoreError::is_taken`] if the port is taken or the target port is connected
    /// already.
    pub async fn connection_insert(&mut self, connection: &ConnectionRow) -> Result<()> {
        self.farewell_give_way(connection).await?;
        sqlx::query(
            "INSERT INTO connection (id, gateway_id, job_id, target_port, gateway_port, protocol, hold_limits, widget, cookies,
                access, shares, link_hash, opened, wake_on)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(connection.id.as_str())
        .bind(connection.gateway.as_str())
        .bind(connection.job.as_str())
        .bind(connection.target_port.get())
        .bind(connection.gateway_port.get())
        .bind(to_json(&connection.protocol)?)
        .bind(to_json(&connection.hold_limits)?)
        .bind(to_json(&connection.widget)?)
        .bind(to_json(&connection.cookies)?)
        .bind(to_json(&connection.access)?)
        .bind(to_json(&connection.shares)?)
        .bind(&connection.link_hash)
        .bind(connection.opened)
        .bind(to_json(&connection.wake_on)?)
        .execute(&mut *self.inner)
        .await?;
        self.gateway_port_use(connection).await
    }

    /// Records that the gateway listens at a connection's port.
    pub async fn connection_opened(&mut self, id: &ConnectionId) -> Result<()> {
        sqlx::query("UPDATE connection SET opened = 1 WHERE id = ?")
            .bind(id.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists all connections by gateway and port.
    pub async fn connection_list(&mut self) -> Result<Vec<ConnectionRow>> {
        let rows = sqlx::query("SELECT * FROM connection ORDER BY gateway_id, gateway_port")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Lists the connections of a job by gateway and port.
    pub async fn connection_list_of_job(&mut self, job: &JobId) -> Result<Vec<ConnectionRow>> {
        let rows = sqlx::query("SELECT * FROM connection WHERE job_id = ? ORDER BY gateway_id, gateway_port")
            .bind(job.as_str())
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes a connection and frees its port.
    pub async fn connection_delete(&mut self, id: &ConnectionId) -> Result<()> {
        sqlx::query("DELETE FROM connection WHERE id = ?").bind(id.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Lists the jobs with the first gateway of each, of those that it is connected to.
    pub async fn connection_list_first(&mut self) -> Result<Vec<(JobId, GatewayId)>> {
        let rows = sqlx::query("SELECT job_id, gateway_id, MIN(rowid) FROM connection GROUP BY job_id")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(|row| Ok((parsed(row, "job_id")?, parsed(row, "gateway_id")?))).collect()
    }

    /// Removes every connection of a job.
    pub async fn connection_delete_of_job(&mut self, job: &JobId) -> Result<()> {
        sqlx::query("DELETE FROM connection WHERE job_id = ?").bind(job.as_str()).execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<ConnectionRow> {
    Ok(ConnectionRow {
        id: parsed(row, "id")?,
        gateway: parsed(row, "gateway_id")?,
        job: parsed(row, "job_id")?,
        target_port: port(row, "target_port")?,
        gateway_port: port(row, "gateway_port")?,
        protocol: json(row, "protocol")?,
        hold_limits: json(row, "hold_limits")?,
        wake_on: json(row, "wake_on")?,
        widget: json(row, "widget")?,
        cookies: json(row, "cookies")?,
        access: json(row, "access")?,
        shares: json(row, "shares")?,
        link_hash: row.try_get("link_hash")?,
        opened: row.try_get("opened")?,
    })
}

pub(crate) fn port(row: &SqliteRow, column: &'static str) -> Result<Port> {
    Port::try_from(unsigned::<u16>(row, column)?)
        .map_err(|error| StoreError::Unreadable { column, source: Box::new(error) })
}

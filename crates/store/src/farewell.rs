//! Farewells: the remains of an ended job's connections, by which their ports tell the outcome.
//!
//! They begin in the transaction that ends the job, for every connection whose protocol has one. A
//! new connection replaces the farewell at its port, so the port counts as free.

use mooring_types::gateway::{Protocol, Widget};
use mooring_types::job::JobStatus;
use mooring_types::{ConnectionId, GatewayId, JobId, Name, Port, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::connection::port;
use crate::{ConnectionRow, Result, Tx, json, parsed};

/// The remains of a connection, with the outcome of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarewellRow {
    /// The former connection.
    pub connection: ConnectionId,
    pub gateway: GatewayId,
    pub gateway_port: Port,
    pub protocol: Protocol,
    pub widget: Widget,
    pub job: JobId,
    pub job_name: Name,
    /// The job's final status.
    pub job_status: JobStatus,
    /// The reason of the status; may be empty.
    pub status_reason: String,
    pub exit_code: Option<i32>,
    pub end_time: Timestamp,
}

impl Tx {
    /// Lists all farewells by gateway and port.
    pub async fn farewell_list(&mut self) -> Result<Vec<FarewellRow>> {
        let rows = sqlx::query(
            "SELECT farewell.*, job.spec ->> '$.name' AS job_name, job.status, job.status_reason, job.exit_code, job.end_time
             FROM farewell JOIN job ON job.id = farewell.job_id ORDER BY gateway_id, gateway_port",
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Removes a farewell.
    pub async fn farewell_delete(&mut self, connection: &ConnectionId) -> Result<()> {
        sqlx::query("DELETE FROM farewell WHERE connection_id = ?")
            .bind(connection.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Leaves a farewell at each connection of an ended job whose protocol has one.
    pub(crate) async fn farewell_begin(&mut self, job: &JobId) -> Result<()> {
        for connection in self.connection_list_of_job(job).await? {
            // Strangers learn nothing of a job behind a login.
            if !connection.protocol.leaves_farewell() || connection.access.is_guarded() {
                continue;
            }
            sqlx::query(
                "INSERT INTO farewell (connection_id, gateway_id, job_id, gateway_port, protocol, widget)
                 SELECT id, gateway_id, job_id, gateway_port, protocol, widget FROM connection WHERE id = ?",
            )
            .bind(connection.id.as_str())
            .execute(&mut *self.inner)
            .await?;
        }
        Ok(())
    }

    /// Removes the farewell at the port of a new connection.
    pub(crate) async fn farewell_give_way(&mut self, connection: &ConnectionRow) -> Result<()> {
        sqlx::query("DELETE FROM farewell WHERE gateway_id = ? AND gateway_port = ?")
            .bind(connection.gateway.as_str())
            .bind(connection.gateway_port.get())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<FarewellRow> {
    Ok(FarewellRow {
        connection: parsed(row, "connection_id")?,
        gateway: parsed(row, "gateway_id")?,
        gateway_port: port(row, "gateway_port")?,
        protocol: json(row, "protocol")?,
        widget: json(row, "widget")?,
        job: parsed(row, "job_id")?,
        job_name: parsed(row, "job_name")?,
        job_status: parsed(row, "status")?,
        status_reason: row.try_get("status_reason")?,
        exit_code: row.try_get("exit_code")?,
        end_time: parsed(row, "end_time")?,
    })
}

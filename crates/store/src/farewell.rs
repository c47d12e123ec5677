//! Farewells: what is left of the connections of a job that has ended, so that their ports can say what became of it.
//!
//! One begins in the transaction that ends the job, for every connection that may speak HTTP. A connection that gets the port takes the
//! farewell's place, so the pool of ports need not know of it.

use mooring_types::gateway::{Protocol, Widget};
use mooring_types::job::JobStatus;
use mooring_types::{ConnectionId, GatewayId, JobId, Name, Port, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::connection::port;
use crate::{ConnectionRow, Result, Tx, json, parsed, to_json};

/// What is left of a connection, and what became of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarewellRow {
    /// The connection that it was.
    pub connection: ConnectionId,
    /// The gateway.
    pub gateway: GatewayId,
    /// The port that the connection had.
    pub gateway_port: Port,
    /// How its bytes were treated.
    pub protocol: Protocol,
    /// Whether its pages got the widget.
    pub widget: Widget,
    /// The job.
    pub job: JobId,
    /// The job's name.
    pub job_name: Name,
    /// The status that it has ended with.
    pub job_status: JobStatus,
    /// Why; empty where there is nothing to say.
    pub status_reason: String,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// When it ended.
    pub end_time: Timestamp,
}

impl Tx {
    /// All farewells, by gateway and port.
    pub async fn farewell_list(&mut self) -> Result<Vec<FarewellRow>> {
        let rows = sqlx::query(
            "SELECT farewell.*, job.spec ->> '$.name' AS job_name, job.status, job.status_reason, job.exit_code, job.end_time
             FROM farewell JOIN job ON job.id = farewell.job_id ORDER BY gateway_id, gateway_port",
        )
        .fetch_all(&mut *self.inner)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Says no more what became of a connection's job.
    pub async fn farewell_delete(&mut self, connection: &ConnectionId) -> Result<()> {
        sqlx::query("DELETE FROM farewell WHERE connection_id = ?")
            .bind(connection.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Has a job that ends leave a farewell at each of its connections that may speak HTTP.
    pub(crate) async fn farewell_begin(&mut self, job: &JobId) -> Result<()> {
        sqlx::query(
            "INSERT INTO farewell (connection_id, gateway_id, job_id, gateway_port, protocol, widget)
             SELECT id, gateway_id, job_id, gateway_port, protocol, widget FROM connection WHERE job_id = ? AND protocol <> ?",
        )
        .bind(job.as_str())
        .bind(to_json(&Protocol::Tcp)?)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Ends the farewell whose port a connection gets, if there is one.
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

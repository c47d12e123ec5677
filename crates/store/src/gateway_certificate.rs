//! Certificates that users have given gateways, their keys sealed. The store never sees the key
//! that opens them.

use mooring_types::{GatewayId, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, parsed};

/// A certificate for the ports of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCertificateRow {
    pub gateway: GatewayId,
    /// The first of its names, by which it is replaced and removed.
    pub name: String,
    /// The certificate and those between it and its root, in PEM.
    pub certificate: String,
    pub sealed_key: Vec<u8>,
    /// The time at which it was given.
    pub set_time: Timestamp,
}

impl Tx {
    /// Adds a certificate; one of the same gateway and name is replaced.
    pub async fn gateway_certificate_put(&mut self, row: &GatewayCertificateRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO gateway_certificate (gateway_id, name, certificate, sealed_key, set_time) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (gateway_id, name) DO UPDATE SET certificate = excluded.certificate,
             sealed_key = excluded.sealed_key, set_time = excluded.set_time",
        )
        .bind(row.gateway.as_str())
        .bind(&row.name)
        .bind(&row.certificate)
        .bind(&row.sealed_key)
        .bind(row.set_time.to_string())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Lists all certificates, by gateway and name.
    pub async fn gateway_certificate_list(&mut self) -> Result<Vec<GatewayCertificateRow>> {
        const SQL: &str = "SELECT gateway_id, name, certificate, sealed_key, set_time FROM gateway_certificate ORDER BY gateway_id, name";
        let rows = sqlx::query(SQL).fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }

    /// Removes a certificate. Returns whether there was one.
    pub async fn gateway_certificate_delete(&mut self, gateway: &GatewayId, name: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM gateway_certificate WHERE gateway_id = ? AND name = ?")
            .bind(gateway.as_str())
            .bind(name)
            .execute(&mut *self.inner)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

fn read(row: &SqliteRow) -> Result<GatewayCertificateRow> {
    Ok(GatewayCertificateRow {
        gateway: parsed(row, "gateway_id")?,
        name: row.try_get("name")?,
        certificate: row.try_get("certificate")?,
        sealed_key: row.try_get("sealed_key")?,
        set_time: parsed(row, "set_time")?,
    })
}

//! Hosts.

use std::net::{IpAddr, Ipv4Addr};

use mooring_types::host::{HostFacts, HostRole};
use mooring_types::{HostId, Name, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, parsed_option, to_json};

/// What a host said of itself when it joined, and since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// What it offers itself for.
    pub role: HostRole,
    /// The address by which other hosts reach it.
    pub address: Ipv4Addr,
    /// The address by which clients reach its gateways.
    pub public_address: IpAddr,
    /// Where its agent takes capsules.
    pub move_port: u16,
    /// The SHA-256 of its agent's certificate, in hex.
    pub certificate: String,
    /// Its WireGuard public key; empty where it has none.
    pub wireguard_key: String,
    /// What it has.
    pub facts: HostFacts,
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: Name,
    /// Its address in the overlay.
    pub overlay: Ipv4Addr,
    /// The SHA-256 of its token.
    pub token_hash: String,
    /// What it said of itself.
    pub joined: Joined,
    /// When it was last heard from.
    pub last_seen: Option<Timestamp>,
}

impl Tx {
    /// Adds a host, or replaces all of the one with that id but its overlay address.
    ///
    /// # Errors
    /// Another host has the name, or the database fails.
    pub async fn host_put(&mut self, host: &HostRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO host (id, name, overlay, token_hash, join_data, last_seen) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, token_hash = excluded.token_hash,
                join_data = excluded.join_data, last_seen = excluded.last_seen",
        )
        .bind(host.id.as_str())
        .bind(host.name.as_str())
        .bind(host.overlay.to_string())
        .bind(&host.token_hash)
        .bind(to_json(&host.joined)?)
        .bind(host.last_seen.map(|time| time.to_string()))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// All hosts by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn host_list(&mut self) -> Result<Vec<HostRow>> {
        let rows = sqlx::query("SELECT id, name, overlay, token_hash, join_data, last_seen FROM host ORDER BY name")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<HostRow> {
    Ok(HostRow {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        overlay: parsed(row, "overlay")?,
        token_hash: row.try_get("token_hash")?,
        joined: json(row, "join_data")?,
        last_seen: parsed_option(row, "last_seen")?,
    })
}

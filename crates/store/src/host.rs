//! Hosts.

use std::net::{IpAddr, Ipv4Addr};

use mooring_types::host::{HostFacts, HostRole};
use mooring_types::{HostId, Name, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx, json, parsed, parsed_option, to_json};

/// The part of a host that its agent reports when it joins, and afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    pub role: HostRole,
    /// The address by which other hosts reach it.
    pub address: Ipv4Addr,
    /// The address by which clients reach its gateways.
    pub public_address: IpAddr,
    /// The port at which its agent takes migrations.
    #[serde(alias = "movePort")]
    pub migration_port: u16,
    /// The public key of its WireGuard device; may be empty.
    pub wireguard_key: String,
    pub facts: HostFacts,
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    pub id: HostId,
    pub name: Name,
    /// Its overlay address.
    pub overlay: Ipv4Addr,
    /// The fingerprint of its agent's public key, whose certificates alone count.
    pub public_key: String,
    /// The proof of a join under the host's name.
    pub key: HostKey,
    /// The part that its agent reports.
    pub joined: Joined,
    /// The time of its last report, within half a minute.
    pub last_seen: Option<Timestamp>,
    /// The drain that an admin ordered.
    pub drain_by_hand: Option<Drain>,
    /// The drain that follows from a notice of the host's cloud.
    pub drain_by_notice: Option<Drain>,
    /// The time at which an admin removed it. Its name is free, and its row stays for what names
    /// it.
    pub removed_at: Option<Timestamp>,
}

/// The proof that a join under a host's name comes from that host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// The host joined before hosts had keys: an admin has to let it join again.
    Unrecorded,
    /// An admin lets the host join with a new key.
    Awaited,
    /// The SHA-256 of the key that the host drew at its first start, in hex.
    Hash(String),
}

impl HostKey {
    fn of_column(text: Option<String>) -> Self {
        match text {
            None => Self::Unrecorded,
            Some(hash) if hash.is_empty() => Self::Awaited,
            Some(hash) => Self::Hash(hash),
        }
    }

    fn column(&self) -> Option<&str> {
        match self {
            Self::Unrecorded => None,
            Self::Awaited => Some(""),
            Self::Hash(hash) => Some(hash),
        }
    }
}

/// The drain of a host: it takes no new jobs, and its jobs leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    pub since: Timestamp,
    /// The time by which all jobs should have left.
    pub deadline: Option<Timestamp>,
    pub extent: Extent,
    /// The reason, like `host host-1 is reclaimed at 2026-01-02T03:04:05Z`.
    pub reason: String,
}

/// The jobs that leave a drained host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Extent {
    /// All jobs; those without room elsewhere are suspended.
    Everything,
    /// The jobs that another host has room for.
    WhatFitsElsewhere,
}

impl HostRow {
    /// Returns the drain in force: the one with the larger extent, and of equal ones the one with
    /// the earlier deadline.
    #[must_use]
    pub fn drain(&self) -> Option<&Drain> {
        let drains = [&self.drain_by_hand, &self.drain_by_notice].into_iter().flatten();
        drains.min_by_key(|drain| (drain.extent != Extent::Everything, drain.deadline.is_none(), drain.deadline))
    }
}

impl Tx {
    /// Adds a host, or replaces the one with that id except for its overlay address and drains.
    /// Fails with [`StoreError::is_taken`](crate::StoreError::is_taken) if another host has the
    /// name.
    pub async fn host_put(&mut self, host: &HostRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO host (id, name, overlay, public_key, key_hash, join_data, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, public_key = excluded.public_key,
                key_hash = excluded.key_hash,
                join_data = excluded.join_data, last_seen = excluded.last_seen, removed_at = NULL",
        )
        .bind(host.id.as_str())
        .bind(host.name.as_str())
        .bind(host.overlay.to_string())
        .bind(&host.public_key)
        .bind(host.key.column())
        .bind(to_json(&host.joined)?)
        .bind(host.last_seen.map(|time| time.to_string()))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Sets the drains of a host.
    pub async fn host_drain_set(
        &mut self,
        host: &HostId,
        by_hand: Option<&Drain>,
        by_notice: Option<&Drain>,
    ) -> Result<()> {
        sqlx::query("UPDATE host SET drain_by_hand = ?, drain_by_notice = ? WHERE id = ?")
            .bind(by_hand.map(to_json).transpose()?)
            .bind(by_notice.map(to_json).transpose()?)
            .bind(host.as_str())
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Lists all hosts by name, without removed ones.
    pub async fn host_list(&mut self) -> Result<Vec<HostRow>> {
        let rows = sqlx::query("SELECT * FROM host WHERE removed_at IS NULL ORDER BY name")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Lists the removed hosts by name.
    pub async fn host_list_removed(&mut self) -> Result<Vec<HostRow>> {
        let rows = sqlx::query("SELECT * FROM host WHERE removed_at IS NOT NULL ORDER BY name")
            .fetch_all(&mut *self.inner)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes a host: its keys count no more.
    pub async fn host_remove(&mut self, host: &HostId, now: Timestamp) -> Result<()> {
        sqlx::query(
            "UPDATE host SET removed_at = ?, public_key = 'removed ' || id, key_hash = 'removed', drain_by_hand = NULL,
                drain_by_notice = NULL WHERE id = ?",
        )
        .bind(now.to_string())
        .bind(host.as_str())
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<HostRow> {
    Ok(HostRow {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        overlay: parsed(row, "overlay")?,
        public_key: row.try_get("public_key")?,
        key: HostKey::of_column(row.try_get("key_hash")?),
        joined: json(row, "join_data")?,
        last_seen: parsed_option(row, "last_seen")?,
        drain_by_hand: drain(row, "drain_by_hand")?,
        drain_by_notice: drain(row, "drain_by_notice")?,
        removed_at: parsed_option(row, "removed_at")?,
    })
}

fn drain(row: &SqliteRow, column: &'static str) -> Result<Option<Drain>> {
    match row.try_get::<Option<&str>, _>(column)? {
        Some(_) => json(row, column).map(Some),
        None => Ok(None),
    }
}

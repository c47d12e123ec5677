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
    #[serde(alias = "movePort")]
    pub migration_port: u16,
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
    /// What proves a join under the host's name.
    pub key: HostKey,
    /// What it said of itself.
    pub joined: Joined,
    /// When it was last heard from.
    pub last_seen: Option<Timestamp>,
    /// That an admin wants it empty.
    pub drain_by_hand: Option<Drain>,
    /// That it will be taken away, as its cloud says.
    pub drain_by_notice: Option<Drain>,
}

/// What proves that a join under a host's name comes from that host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// The host joined before hosts had keys: its certificate has to do, once.
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

/// That a host is to be empty: it takes no new jobs, and those on it leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Since when.
    pub since: Timestamp,
    /// Until when everything should have left.
    pub deadline: Option<Timestamp>,
    /// What leaves.
    pub extent: Extent,
    /// Why, like `host host-1 is reclaimed at 2026-01-02T03:04:05Z`.
    pub reason: String,
}

/// Which jobs leave a host that is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Extent {
    /// All: what no other host has room for is suspended.
    Everything,
    /// Those that another host has room for.
    WhatFitsElsewhere,
}

impl HostRow {
    /// What its jobs leave for, if they do: the one that asks for more, and of two that ask for the same the one that is over sooner.
    #[must_use]
    pub fn drain(&self) -> Option<&Drain> {
        let drains = [&self.drain_by_hand, &self.drain_by_notice].into_iter().flatten();
        drains.min_by_key(|drain| (drain.extent != Extent::Everything, drain.deadline.is_none(), drain.deadline))
    }
}

impl Tx {
    /// Adds a host, or replaces all of the one with that id but its overlay address and its drains.
    ///
    /// # Errors
    /// Another host has the name.
    pub async fn host_put(&mut self, host: &HostRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO host (id, name, overlay, token_hash, key_hash, join_data, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, token_hash = excluded.token_hash,
                key_hash = excluded.key_hash,
                join_data = excluded.join_data, last_seen = excluded.last_seen",
        )
        .bind(host.id.as_str())
        .bind(host.name.as_str())
        .bind(host.overlay.to_string())
        .bind(&host.token_hash)
        .bind(host.key.column())
        .bind(to_json(&host.joined)?)
        .bind(host.last_seen.map(|time| time.to_string()))
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Keeps what a host is drained for.
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

    /// All hosts by name.
    pub async fn host_list(&mut self) -> Result<Vec<HostRow>> {
        let rows = sqlx::query("SELECT * FROM host ORDER BY name").fetch_all(&mut *self.inner).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<HostRow> {
    Ok(HostRow {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        overlay: parsed(row, "overlay")?,
        token_hash: row.try_get("token_hash")?,
        key: HostKey::of_column(row.try_get("key_hash")?),
        joined: json(row, "join_data")?,
        last_seen: parsed_option(row, "last_seen")?,
        drain_by_hand: drain(row, "drain_by_hand")?,
        drain_by_notice: drain(row, "drain_by_notice")?,
    })
}

fn drain(row: &SqliteRow, column: &'static str) -> Result<Option<Drain>> {
    match row.try_get::<Option<&str>, _>(column)? {
        Some(_) => json(row, column).map(Some),
        None => Ok(None),
    }
}

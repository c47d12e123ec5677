//! Overlay addresses: one for each job, which moves with it, and one for each host.
//!
//! The overlay (100.64.0.0/10 by default, the shared address space of RFC 6598) is split in two:
//! the last /16 of it is for hosts, everything below for jobs. Addresses are given lowest first,
//! and a freed one is given again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The overlay's address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay(Ipv4Net);

/// Why a range cannot serve as an overlay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("overlay {0} is too small: it needs a prefix of /15 or shorter")]
pub struct OverlayTooSmall(Ipv4Net);

impl Default for Overlay {
    fn default() -> Self {
        Self(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10))
    }
}

impl Overlay {
    /// Takes a range as the overlay.
    ///
    /// # Errors
    /// The range has fewer than two /16.
    pub fn new(range: Ipv4Net) -> Result<Self, OverlayTooSmall> {
        if range.prefix_len() <= 15 { Ok(Self(range.trunc())) } else { Err(OverlayTooSmall(range)) }
    }

    /// The whole range.
    #[must_use]
    pub fn range(self) -> Ipv4Net {
        self.0
    }

    /// The lowest address that no job has; `None` when all are taken.
    #[must_use]
    pub fn free_job_address(self, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let first = self.0.network().to_bits() + 2;
        lowest_free(first, self.hosts_start(), used)
    }

    /// The lowest address that no host has; `None` when all are taken.
    #[must_use]
    pub fn free_host_address(self, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        lowest_free(self.hosts_start() + 1, self.0.broadcast().to_bits(), used)
    }

    fn hosts_start(self) -> u32 {
        self.0.broadcast().to_bits() & 0xffff_0000
    }
}

fn lowest_free(first: u32, end: u32, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    (first..end).map(Ipv4Addr::from_bits).find(|address| !used.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_hosts_never_share_an_address() {
        let overlay = Overlay::default();
        let mut used = BTreeSet::new();
        for expected in ["100.64.0.2", "100.64.0.3"] {
            let given = overlay.free_job_address(&used).unwrap();
            assert_eq!(given.to_string(), expected);
            used.insert(given);
        }
        assert_eq!(overlay.free_host_address(&used).unwrap().to_string(), "100.127.0.1");
        used.remove(&"100.64.0.2".parse().unwrap());
        assert_eq!(overlay.free_job_address(&used).unwrap().to_string(), "100.64.0.2");
    }

    #[test]
    fn a_small_overlay_is_refused() {
        assert!(Overlay::new("10.9.0.0/16".parse().unwrap()).is_err());
        assert!(Overlay::new("10.8.0.0/15".parse().unwrap()).is_ok());
    }
}

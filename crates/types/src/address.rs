//! Overlay addresses: one for each job, which migrates with it, and one for each host.
//!
//! The overlay is 100.64.0.0/10 by default, the shared address space of RFC 6598. Its last /16 is
//! for hosts, the rest for jobs. The lowest free address is assigned first, and freed addresses are
//! reused.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The overlay's address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay(Ipv4Net);

/// A range that is too small for an overlay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("overlay {0} is too small: it needs a prefix of /15 or shorter")]
pub struct OverlayTooSmall(Ipv4Net);

impl Default for Overlay {
    fn default() -> Self {
        Self(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10))
    }
}

impl Overlay {
    /// Makes an overlay of a range, which needs at least two /16.
    pub fn new(range: Ipv4Net) -> Result<Self, OverlayTooSmall> {
        if range.prefix_len() <= 15 { Ok(Self(range.trunc())) } else { Err(OverlayTooSmall(range)) }
    }

    /// Returns the whole range.
    #[must_use]
    pub fn range(self) -> Ipv4Net {
        self.0
    }

    /// Returns the lowest free address for a job, or `None` when all are taken.
    #[must_use]
    pub fn free_job_address(self, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let first = self.0.network().to_bits() + 2;
        lowest_free(first, self.hosts_start(), used)
    }

    /// Returns the lowest free address for a host, or `None` when all are taken.
    #[must_use]
    pub fn free_host_address(self, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        lowest_free(self.hosts_start() + 1, self.0.broadcast().to_bits(), used)
    }

    /// Returns whether an address is in the part for hosts.
    #[must_use]
    pub fn is_of_host(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address) && address.to_bits() >= self.hosts_start()
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
        let host = overlay.free_host_address(&used).unwrap();
        assert_eq!(host.to_string(), "100.127.0.1");
        assert!(overlay.is_of_host(host) && !used.iter().any(|job| overlay.is_of_host(*job)));
        assert!(!overlay.is_of_host([127, 0, 0, 1].into()) && !overlay.is_of_host([192, 168, 0, 1].into()));
        used.remove(&"100.64.0.2".parse().unwrap());
        assert_eq!(overlay.free_job_address(&used).unwrap().to_string(), "100.64.0.2");
    }

    #[test]
    fn a_small_overlay_is_refused() {
        assert!(Overlay::new("10.9.0.0/16".parse().unwrap()).is_err());
        assert!(Overlay::new("10.8.0.0/15".parse().unwrap()).is_ok());
    }
}

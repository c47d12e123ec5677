//! The rules for what jobs of this host reach: a task of their own, so that no migration waits for
//! them.
//!
//! Rules follow from the slice, from the agent's configuration, and from the addresses of OpCenter,
//! which jobs may call. They are looked up again every [`LOOK_UP_INTERVAL`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mooring_api::watch::Network;
use mooring_linux::nft_jobs::{self, JobRules};
use mooring_ops::log::chain;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The interval at which the name of OpCenter is resolved again, and failed rules are tried again.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the rules in force.
#[derive(Debug)]
pub(crate) struct Isolation {
    /// The table of the rules.
    pub(crate) table: String,
    /// The beginning of the names of jobs' interfaces.
    pub(crate) interfaces: String,
    /// OpCenter's URL.
    pub(crate) opcenter: String,
    pub(crate) migration_port: u16,
    /// The ranges that an admin allows.
    pub(crate) allowed: Vec<String>,
    /// `None` until the first slice; rules of before stay until then.
    pub(crate) network: watch::Receiver<Option<Network>>,
}

impl Isolation {
    /// Keeps the rules until `stop`; they then stay, as jobs do.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut in_force = None;
        loop {
            let network = self.network.borrow_and_update().clone();
            if let Some(network) = network {
                let rules = self.rules(&network).await;
                if in_force.as_ref() != Some(&rules) {
                    match nft_jobs::put_in_force(&self.table, &rules).await {
                        Ok(()) => in_force = Some(rules),
                        Err(error) => {
                            tracing::error!(error = %chain(&error), "jobs are not kept apart in the network");
                        }
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.network.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_UP_INTERVAL) => {}
            }
        }
    }

    async fn rules(&self, network: &Network) -> JobRules {
        let (host, port) = host_and_port(&self.opcenter);
        let found = lookup_host((host, port)).await.map(Iterator::collect).unwrap_or_else(|error| {
            tracing::debug!(%error, "OpCenter's name can't be resolved: jobs may not reach it");
            Vec::new()
        });
        let opcenter = found.into_iter().filter_map(|address| match address.ip() {
            IpAddr::V4(address) => Some((address, port)),
            IpAddr::V6(_) => None,
        });
        let opcenter: BTreeSet<(Ipv4Addr, u16)> = opcenter.collect();
        JobRules {
            interfaces: self.interfaces.clone(),
            overlay: network.overlay.range().to_string(),
            hosts: network.peers.iter().map(|peer| peer.underlay).collect(),
            migration_port: self.migration_port,
            opcenter: opcenter.into_iter().collect(),
            neighbours: network.neighbours.clone(),
            allowed: self.allowed.clone(),
        }
    }
}

/// The host and the port of a URL.
fn host_and_port(url: &str) -> (&str, u16) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next().unwrap_or(rest);
    let default = if scheme == "https" { 443 } else { 80 };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host.trim_matches(['[', ']']), port.parse().unwrap_or(default)),
        _ => (authority.trim_matches(['[', ']']), default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_host_and_port() {
        for (url, expected) in [
            ("http://198.18.0.1:8443", ("198.18.0.1", 8443)),
            ("http://198.18.0.1:8443/", ("198.18.0.1", 8443)),
            ("https://float.example.org", ("float.example.org", 443)),
            ("http://[fd00::1]:8443", ("fd00::1", 8443)),
            ("https://[fd00::1]", ("fd00::1", 443)),
        ] {
            assert_eq!(host_and_port(url), expected, "{url}");
        }
    }
}

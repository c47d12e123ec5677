//! The table of routes: desired, present, and the fewest commands from one to the other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mooring_api::watch::{Network, Peer};
use mooring_types::HostId;
use serde::Deserialize;

/// The protocol number of the agent's routes: only these are ever removed.
pub(super) const PROTOCOL: u8 = 77;

/// The routes that lead to other hosts, by destination (always a /32).
pub(super) type Table = BTreeMap<Ipv4Addr, Hop>;

/// The next hop of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    /// The next machine; `None` when the destination itself is on the device.
    pub(super) via: Option<Ipv4Addr>,
    /// The output device.
    pub(super) device: String,
    /// `true` if `via` is on the device although no address of the device says so.
    pub(super) onlink: bool,
    /// The source address of this host's own packets.
    pub(super) source: Ipv4Addr,
}

/// The way of packets to other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Through a device on which all overlay addresses of hosts are.
    Tunnel(String),
    /// Through the device that joins the hosts themselves.
    Subnet(String),
}

impl Reach {
    fn to_host(&self, peer: &Peer, source: Ipv4Addr) -> Hop {
        match self {
            Self::Tunnel(device) => Hop { via: None, device: device.clone(), onlink: false, source },
            Self::Subnet(device) => Hop { via: Some(peer.underlay), device: device.clone(), onlink: false, source },
        }
    }

    fn to_job(&self, peer: &Peer, source: Ipv4Addr) -> Hop {
        match self {
            Self::Tunnel(device) => Hop { via: Some(peer.overlay), device: device.clone(), onlink: true, source },
            Self::Subnet(_) => self.to_host(peer, source),
        }
    }
}

/// Returns the desired table of the host `own` with overlay address `source`. A job on an unknown
/// host has no route.
pub(super) fn wanted(own: &HostId, source: Ipv4Addr, network: &Network, reach: &Reach) -> Table {
    let peers: BTreeMap<&HostId, &Peer> =
        network.peers.iter().filter(|peer| peer.host != *own).map(|peer| (&peer.host, peer)).collect();
    let hosts = peers.values().map(|peer| (peer.overlay, reach.to_host(peer, source)));
    let jobs = network.routes.iter().filter_map(|route| {
        let peer = peers.get(&route.host)?;
        Some((route.address, reach.to_job(peer, source)))
    });
    hosts.chain(jobs).collect()
}

/// The commands that turn `from` into `to`. Addresses in `local` lead to an interface on this host
/// and are left alone.
pub(super) fn changes(from: &Table, to: &Table, local: &BTreeMap<Ipv4Addr, String>) -> Vec<String> {
    let set = to.iter().filter(|(address, hop)| from.get(address) != Some(hop));
    let gone = from.keys().filter(|address| !to.contains_key(address));
    let set = set.filter(|(address, _)| !local.contains_key(address)).map(|(address, hop)| set_line(*address, hop));
    let gone = gone.filter(|address| !local.contains_key(address)).map(|address| remove_line(*address));
    // New routes come before removals. Routes to hosts sort behind those to jobs that lead over
    // them, but `onlink` makes the order irrelevant.
    set.chain(gone).collect()
}

/// The command that replaces any route to the address in one step.
pub(super) fn set_line(address: Ipv4Addr, hop: &Hop) -> String {
    let Hop { via, device, onlink, source } = hop;
    let next = via.map_or_else(|| "scope link".to_owned(), |via| format!("via {via}"));
    let onlink = if *onlink { " onlink" } else { "" };
    let next = if via.is_some() { format!("{next} dev {device}{onlink}") } else { format!("dev {device} {next}") };
    format!("route replace {address}/32 {next} src {source} proto {PROTOCOL}")
}

/// The command that routes an address to an interface of this host. The route has no protocol mark:
/// `apply` never removes it.
pub(super) fn local_line(address: Ipv4Addr, interface: &str, source: Option<Ipv4Addr>) -> String {
    let source = source.map(|source| format!(" src {source}")).unwrap_or_default();
    format!("route replace {address}/32 dev {interface} scope link{source}")
}

/// The command that removes a route of the agent, if it exists.
fn remove_line(address: Ipv4Addr) -> String {
    format!("route flush exact {address}/32 proto {PROTOCOL}")
}

/// The command that removes any route to an address, if one exists.
pub(super) fn clear_line(address: Ipv4Addr) -> String {
    format!("route flush exact {address}/32")
}

/// The command that removes all routes of the agent.
pub(super) fn clear_all_line() -> String {
    format!("route flush proto {PROTOCOL}")
}

/// The present routes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The agent's routes to other hosts.
    pub(super) remote: Table,
    /// The addresses that lead to a job's interface on this host, with its name.
    pub(super) local: BTreeMap<Ipv4Addr, String>,
}

#[derive(Deserialize)]
struct RouteLine {
    dst: String,
    gateway: Option<Ipv4Addr>,
    dev: Option<String>,
    protocol: Option<String>,
    prefsrc: Option<Ipv4Addr>,
    #[serde(default)]
    flags: Vec<String>,
}

/// Parses the output of `ip -j route show`. Jobs' interfaces have names that start with
/// `job_interfaces`.
pub(super) fn read(json: &str, job_interfaces: &str) -> Result<Found, serde_json::Error> {
    let mut found = Found::default();
    let lines: Vec<RouteLine> = if json.trim().is_empty() { Vec::new() } else { serde_json::from_str(json)? };
    for line in lines {
        // A /32 is printed without its length; the agent has no other routes.
        let (Ok(address), Some(device)) = (line.dst.parse::<Ipv4Addr>(), line.dev) else { continue };
        if device.starts_with(job_interfaces) {
            found.local.insert(address, device);
        } else if line.protocol.as_deref() == Some(PROTOCOL.to_string().as_str()) {
            let onlink = line.flags.iter().any(|flag| flag == "onlink");
            let source = line.prefsrc.unwrap_or(Ipv4Addr::UNSPECIFIED);
            found.remote.insert(address, Hop { via: line.gateway, device, onlink, source });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"[
        {"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
        {"dst":"100.64.0.2","gateway":"100.127.0.2","dev":"m0vx","protocol":"77","prefsrc":"100.127.0.1","flags":["onlink"]},
        {"dst":"100.64.0.3","dev":"m0jabc","scope":"link","flags":[]},
        {"dst":"100.64.0.4","gateway":"192.0.2.7","dev":"eth0","protocol":"static","flags":[]},
        {"dst":"100.127.0.2","dev":"m0vx","protocol":"77","scope":"link","prefsrc":"100.127.0.1","flags":[]},
        {"dst":"198.18.0.0/24","dev":"e0","protocol":"kernel","scope":"link","prefsrc":"198.18.0.5","flags":[]}]"#;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_is_ours_is_found() {
        let found = read(PRINTED, "m0j").unwrap();
        assert_eq!(found.remote.keys().copied().collect::<Vec<_>>(), [address("100.64.0.2"), address("100.127.0.2")]);
        assert_eq!(found.local, BTreeMap::from([(address("100.64.0.3"), "m0jabc".to_owned())]));
        assert_eq!(read("", "m0j").unwrap(), Found::default());
    }

    #[test]
    fn what_was_set_is_found_equal() {
        let found = read(PRINTED, "m0j").unwrap().remote;
        let lines: Vec<_> = found.iter().map(|(address, hop)| set_line(*address, hop)).collect();
        let expected = [
            "route replace 100.64.0.2/32 via 100.127.0.2 dev m0vx onlink src 100.127.0.1 proto 77",
            "route replace 100.127.0.2/32 dev m0vx scope link src 100.127.0.1 proto 77",
        ];
        assert_eq!(lines, expected);
        assert!(changes(&found, &found, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn what_is_carried_here_is_left_alone() {
        let found = read(PRINTED, "m0j").unwrap();
        let local = BTreeMap::from([(address("100.64.0.2"), "m0jxyz".to_owned())]);
        let lines = changes(&found.remote, &Table::new(), &local);
        assert_eq!(lines, ["route flush exact 100.127.0.2/32 proto 77"]);
        let lines = changes(&Table::new(), &found.remote, &local);
        assert_eq!(lines, ["route replace 100.127.0.2/32 dev m0vx scope link src 100.127.0.1 proto 77"]);
    }
}

//! Egress: jobs whose own connections leave through another host.
//!
//! ```text
//!  job ─► this host ─ rule "from job" ─► table ─► overlay ─► egress host ─ masquerade ─► outside
//! ```
//!
//! Packets of such a job to the outside go to its egress host first and get that host's address
//! there. The kernel of the egress host tracks the connection; neither it nor the peer notices a
//! migration. The host that carries the job must not translate the address: the job is in the
//! nftables set of jobs that leave elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use mooring_api::watch::{Network, Peer};
use mooring_linux::{ip, nft};
use mooring_types::HostId;

use super::NetworkError;
use super::table::{PROTOCOL, Reach};

/// The priority of the agent's rules: before the machine's own, the rule for the overlay first.
const RULE_PRIORITY: u32 = 7700;
const OUTSIDE: u32 = 7701;
/// The first number of the egress hosts' tables; the last two bytes of a host's overlay address are
/// added.
const TABLE_BASE: u32 = 77_000_000;

/// The jobs that leave through other hosts, and these hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Egress {
    /// The overlay address of each job's egress host.
    jobs: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// The next hop of each egress host, with its options.
    ways: BTreeMap<Ipv4Addr, String>,
}

/// Returns the desired egress of the host `own`.
pub(super) fn wanted(own: &HostId, network: &Network, reach: &Reach) -> Egress {
    let peers: BTreeMap<&HostId, &Peer> =
        network.peers.iter().filter(|peer| peer.host != *own).map(|peer| (&peer.host, peer)).collect();
    let mut wanted = Egress::default();
    for line in &network.egress {
        let Some(peer) = peers.get(&line.host) else { continue };
        let hop = match reach {
            Reach::Tunnel(device) => format!("via {} dev {device} onlink", peer.overlay),
            Reach::Subnet(device) => format!("via {} dev {device}", peer.underlay),
        };
        wanted.jobs.insert(line.address, peer.overlay);
        wanted.ways.insert(peer.overlay, hop);
    }
    wanted
}

impl Egress {
    /// Changes `from` into this egress; `None` when the present one is unknown.
    pub(super) async fn put_in_force(
        &self,
        from: Option<&Self>,
        overlay: &str,
        nft_table: &str,
    ) -> Result<(), NetworkError> {
        let away: BTreeSet<Ipv4Addr> = self.jobs.keys().copied().collect();
        let failed = || NetworkError::linux("lead jobs to their ways out");
        // From here on this host's address is not given to these jobs; the rules follow at once.
        nft::leave_elsewhere(nft_table, &away).await.map_err(failed())?;
        let nothing = Self::default();
        let known = from.unwrap_or(&nothing);
        if from.is_none() {
            forget_all().await;
        }
        let lines = self.changes(known, overlay);
        ip::batch_all(None, &lines).await.map_err(failed())
    }

    fn changes(&self, from: &Self, overlay: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (way, hop) in self.ways.iter().filter(|(way, hop)| from.ways.get(way) != Some(hop)) {
            lines.push(format!("route replace default {hop} table {} proto {PROTOCOL}", table(*way)));
        }
        for (job, way) in self.jobs.iter().filter(|(job, way)| from.jobs.get(job) != Some(way)) {
            lines.push(format!("rule add priority {RULE_PRIORITY} from {job} to {overlay} lookup main"));
            lines.push(format!("rule add priority {OUTSIDE} from {job} lookup {}", table(*way)));
        }
        for (job, way) in from.jobs.iter().filter(|(job, way)| self.jobs.get(job) != Some(way)) {
            lines.push(format!("rule del priority {OUTSIDE} from {job} lookup {}", table(*way)));
            if !self.jobs.contains_key(job) {
                lines.push(format!("rule del priority {RULE_PRIORITY} from {job} to {overlay} lookup main"));
            }
        }
        for way in from.ways.keys().filter(|way| !self.ways.contains_key(way)) {
            lines.push(format!("route flush table {}", table(*way)));
        }
        lines
    }
}

/// Removes all rules of the agent's priority.
pub(super) async fn forget_all() {
    for priority in [RULE_PRIORITY, OUTSIDE] {
        // `ip` removes one rule of a priority at a time.
        while ip::batch(None, &[format!("rule del priority {priority}")]).await.is_ok() {}
    }
}

fn table(way: Ipv4Addr) -> u32 {
    let [_, _, high, low] = way.octets();
    TABLE_BASE + u32::from(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_different_is_changed() {
        let (job, other) = (Ipv4Addr::new(100, 64, 0, 2), Ipv4Addr::new(100, 64, 0, 3));
        let way = Ipv4Addr::new(100, 127, 0, 1);
        let hop = "via 100.127.0.1 dev mrvx onlink".to_owned();
        let one = Egress { jobs: [(job, way)].into(), ways: [(way, hop.clone())].into() };
        let two = Egress { jobs: [(job, way), (other, way)].into(), ways: [(way, hop)].into() };
        let overlay = "100.64.0.0/10";
        assert_eq!(one.changes(&one, overlay), Vec::<String>::new());
        assert_eq!(
            one.changes(&Egress::default(), overlay),
            [
                "route replace default via 100.127.0.1 dev mrvx onlink table 77000001 proto 77",
                "rule add priority 7700 from 100.64.0.2 to 100.64.0.0/10 lookup main",
                "rule add priority 7701 from 100.64.0.2 lookup 77000001",
            ]
        );
        assert_eq!(
            one.changes(&two, overlay),
            [
                "rule del priority 7701 from 100.64.0.3 lookup 77000001",
                "rule del priority 7700 from 100.64.0.3 to 100.64.0.0/10 lookup main",
            ]
        );
        assert_eq!(
            Egress::default().changes(&one, overlay).last().map(String::as_str),
            Some("route flush table 77000001")
        );
    }
}

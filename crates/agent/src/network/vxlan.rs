//! The kernel's VXLAN: one device, and a permanent neighbour and forwarding entry for each other
//! host. Nothing is learned, flooded or resolved.
//!
//! ```text
//! route    job/32 via peer's overlay address      (the agent's table)
//! neigh    peer's overlay address -> its MAC      (derived from that address)
//! fdb      its MAC -> its underlay address
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mooring_api::watch::Peer;
use mooring_linux::ip;
use serde::Deserialize;

use super::{NetworkError, link};

/// The MTU: 50 bytes less than Ethernet's 1500.
pub(super) const MTU: u32 = 1450;
const NETWORK_ID: u32 = 77;
/// The port of RFC 7348.
const VXLAN_PORT: u16 = 4789;

/// The overlay addresses of other hosts with their underlay addresses.
type Peers = BTreeMap<Ipv4Addr, Ipv4Addr>;

/// The device.
#[derive(Debug)]
pub(super) struct Vxlan {
    pub(super) device: String,
    /// The kernel's entries; `None` when unknown.
    told: Option<Peers>,
}

impl Vxlan {
    /// Finds or creates the device.
    pub(super) async fn open(device: String, underlay: Ipv4Addr, overlay: Ipv4Addr) -> Result<Self, NetworkError> {
        let attempt = "make the VXLAN device";
        let mac = mac(overlay);
        let found = link::find(&device).await?;
        if found.as_ref().is_some_and(|found| !is_ours(found, underlay, &mac)) {
            ip::link_delete(None, &device).await.map_err(NetworkError::linux(attempt))?;
        }
        if !found.is_some_and(|found| is_ours(&found, underlay, &mac)) {
            let make = format!(
                "link add {device} address {mac} type vxlan id {NETWORK_ID} dstport {VXLAN_PORT} local {underlay} nolearning"
            );
            ip::batch(None, &[make]).await.map_err(NetworkError::linux(attempt))?;
        }
        ip::batch(None, &[format!("link set {device} mtu {MTU} addrgenmode none up")])
            .await
            .map_err(NetworkError::linux(attempt))?;
        link::open_to_jobs(&device)?;
        Ok(Self { device, told: None })
    }

    /// Sets the kernel's entries for the other hosts.
    pub(super) async fn set_peers<'a>(&mut self, peers: impl Iterator<Item = &'a Peer>) -> Result<(), NetworkError> {
        let attempt = "tell the VXLAN device where hosts are";
        let wanted: Peers = peers.map(|peer| (peer.overlay, peer.underlay)).collect();
        // When the entries are unknown, all are set; an existing entry does not change.
        let (told, stale) = match self.told.take() {
            Some(told) => {
                let stale = told.keys().filter(|overlay| !wanted.contains_key(overlay)).copied().collect();
                (told, stale)
            }
            None => (Peers::new(), self.neighbours_besides(&wanted).await?),
        };
        let device = &self.device;
        let news: Vec<_> = wanted.iter().filter(|(overlay, underlay)| told.get(overlay) != Some(underlay)).collect();
        let forwarding = news.iter().map(|(overlay, underlay)| {
            format!("fdb replace {} dev {device} dst {underlay} self permanent", mac(**overlay))
        });
        let forwarding = forwarding.chain(stale.iter().map(|old| format!("fdb del {} dev {device} self", mac(*old))));
        let neighbours = news.iter().map(|(overlay, _)| {
            format!("neighbour replace {overlay} lladdr {} dev {device} nud permanent", mac(**overlay))
        });
        let neighbours = neighbours.chain(stale.iter().map(|old| format!("neighbour del {old} dev {device}")));
        let forwarding = ip::bridge_batch_all(None, &forwarding.collect::<Vec<_>>()).await;
        let neighbours = ip::batch_all(None, &neighbours.collect::<Vec<_>>()).await;
        forwarding.and(neighbours).map_err(NetworkError::linux(attempt))?;
        self.told = Some(wanted);
        Ok(())
    }

    async fn neighbours_besides(&self, wanted: &Peers) -> Result<Vec<Ipv4Addr>, NetworkError> {
        #[derive(Deserialize)]
        struct Neighbour {
            dst: String,
        }
        let json = ip::query(None, &["-4", "-j", "neighbour", "show", "dev", &self.device, "nud", "permanent"]).await;
        let json = json.map_err(NetworkError::linux("read the VXLAN device's neighbours"))?;
        let found: Vec<Neighbour> = serde_json::from_str(&json).map_err(NetworkError::printed("ip neighbour show"))?;
        let found = found.iter().filter_map(|neighbour| neighbour.dst.parse().ok());
        Ok(found.filter(|overlay| !wanted.contains_key(overlay)).collect())
    }
}

/// A host's hardware address on the overlay.
fn mac(overlay: Ipv4Addr) -> String {
    let [a, b, c, d] = overlay.octets();
    format!("0a:59:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn is_ours(found: &link::Link, underlay: Ipv4Addr, mac: &str) -> bool {
    let parameter = |name: &str, value: serde_json::Value| found.parameter(name) == Some(&value);
    found.kind() == "vxlan"
        && found.address == mac
        && parameter("id", NETWORK_ID.into())
        && parameter("port", VXLAN_PORT.into())
        && parameter("local", underlay.to_string().into())
}

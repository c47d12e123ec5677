//! WireGuard: the kernel's, where it exists and `wg` can configure it, else [`Tunnel`] in this
//! process. In both cases it is one device, and each other host is a peer with its overlay address
//! and its jobs' addresses.
//!
//! A TUN device and its routes stay while the agent is down; packets of that time are lost, and
//! their senders repeat them.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mooring_api::watch::Network;
use mooring_linux::{ip, wireguard};
use mooring_ops::Tasks;
use mooring_types::HostId;
use tokio_util::sync::CancellationToken;

use super::key::{self, Key};
use super::tunnel::{PeerLine, Tunnel};
use super::{NetworkError, link};

/// The MTU over an underlay of 1500, with IPv4 or IPv6.
pub(super) const MTU: u32 = 1420;
/// The UDP port of every host.
const WIREGUARD_PORT: u16 = 51877;

/// The device and its driver.
#[derive(Debug)]
pub(super) struct Wireguard {
    pub(super) device: String,
    driver: Driver,
    /// The driver's peers; `None` when unknown.
    told: Option<Vec<PeerLine>>,
}

#[derive(Debug)]
enum Driver {
    Kernel,
    Process(Tunnel),
}

impl Wireguard {
    /// Finds or creates the device and starts its driver.
    pub(super) async fn open(
        device: String,
        underlay: Ipv4Addr,
        key: &Key,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) -> Result<Self, NetworkError> {
        let attempt = "make the WireGuard device";
        let found = link::find(&device).await?;
        let kernel = match found.as_ref().map(link::Link::kind) {
            Some("wireguard") => true,
            Some("tun") => false,
            Some(_) => {
                ip::link_delete(None, &device).await.map_err(NetworkError::linux(attempt))?;
                wireguard::create(&device).await.is_ok()
            }
            None => wireguard::create(&device).await.is_ok(),
        };
        let driver = if kernel {
            Driver::Kernel
        } else {
            let listen = SocketAddr::from((underlay, WIREGUARD_PORT));
            Driver::Process(Tunnel::open(&device, listen, key.secret.clone(), tasks, stop)?)
        };
        ip::batch(None, &[format!("link set {device} mtu {MTU} addrgenmode none up")])
            .await
            .map_err(NetworkError::linux(attempt))?;
        link::open_to_jobs(&device)?;
        Ok(Self { device, driver, told: None })
    }

    /// Returns whether the driver still works.
    pub(super) fn works(&self) -> bool {
        match &self.driver {
            Driver::Kernel => true,
            Driver::Process(tunnel) => tunnel.works(),
        }
    }

    /// Sets the driver's peers and their addresses.
    pub(super) async fn set_peers(&mut self, own: &HostId, network: &Network, key: &Key) -> Result<(), NetworkError> {
        let lines = lines(own, network);
        if self.told.as_ref() == Some(&lines) {
            return Ok(());
        }
        match &self.driver {
            Driver::Kernel => wireguard::configure(&self.device, &configuration(key, &lines))
                .await
                .map_err(NetworkError::linux("configure the WireGuard device"))?,
            Driver::Process(tunnel) => tunnel.set_peers(&lines).await,
        }
        self.told = Some(lines);
        Ok(())
    }

    /// Stops the driver in this process; the device stays.
    pub(super) async fn release(self) {
        match self.driver {
            Driver::Kernel => {}
            Driver::Process(tunnel) => tunnel.close().await,
        }
    }
}

/// The other hosts as peers. A host without a usable key is unreachable.
fn lines(own: &HostId, network: &Network) -> Vec<PeerLine> {
    let others = network.peers.iter().filter(|peer| peer.host != *own);
    let lines = others.filter_map(|peer| {
        let Some(key) = key::decode(&peer.wireguard_key) else {
            tracing::warn!(host = %peer.host, "host {} has no WireGuard key: it can't be reached", peer.host);
            return None;
        };
        let jobs = network.routes.iter().filter(|route| route.host == peer.host).map(|route| route.address);
        let addresses = std::iter::once(peer.overlay).chain(jobs).collect();
        Some(PeerLine { key, endpoint: SocketAddr::from((peer.underlay, WIREGUARD_PORT)), addresses })
    });
    lines.collect()
}

/// In the form of wg(8).
fn configuration(key: &Key, lines: &[PeerLine]) -> Vec<String> {
    let interface = [
        "[Interface]".to_owned(),
        format!("PrivateKey = {}", key.private_text()),
        format!("ListenPort = {WIREGUARD_PORT}"),
    ];
    let peers = lines.iter().flat_map(|line| {
        let addresses: Vec<_> = line.addresses.iter().map(|address| format!("{address}/32")).collect();
        [
            "[Peer]".to_owned(),
            format!("PublicKey = {}", BASE64_STANDARD.encode(line.key)),
            format!("Endpoint = {}", line.endpoint),
            format!("AllowedIPs = {}", addresses.join(", ")),
            "PersistentKeepalive = 25".to_owned(),
        ]
    });
    interface.into_iter().chain(peers).collect()
}

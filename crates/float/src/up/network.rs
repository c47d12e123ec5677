//! The virtual hosts' network: a private bridge, and a network namespace for each of them.
//!
//! The range 198.18.0.0/15 is reserved for network tests (RFC 2544): it has no real machines.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mooring_linux::job_net::sysctl;
use mooring_linux::{Result, ip, netns, nft};

/// This machine's own address on the bridge.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The virtual hosts' subnet.
const SUBNET: &str = "198.18.0.0/24";
/// The bridge's device.
const BRIDGE_DEVICE: &str = "mooring0";
/// The nftables table with the masquerade rule.
const NFT_TABLE: &str = "mooring_up";

/// The address of a virtual host, counted from 1.
pub(crate) fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number + 1)
}

/// The virtual hosts' network.
#[derive(Debug)]
pub(crate) struct Network {
    directory: PathBuf,
    hosts: u8,
}

impl Network {
    /// The network for a number of hosts, with namespaces below `dir`.
    pub(crate) fn new(dir: &Path, hosts: u8) -> Self {
        Self { directory: dir.join("run"), hosts }
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, number: u8) -> PathBuf {
        self.directory.join(format!("host-{number}.netns"))
    }

    /// Creates the network, after a removal of what an earlier run left.
    pub(crate) async fn create(&self) -> Result<()> {
        self.remove().await?;
        let bridge = [
            format!("link add {BRIDGE_DEVICE} type bridge"),
            format!("address add {BRIDGE}/24 dev {BRIDGE_DEVICE}"),
            format!("link set {BRIDGE_DEVICE} up"),
        ];
        ip::batch(None, &bridge).await?;
        sysctl("net/ipv4/ip_forward", "1")?;
        nft::masquerade(NFT_TABLE, SUBNET, BRIDGE_DEVICE).await?;
        for number in 1..=self.hosts {
            self.create_host(number).await?;
        }
        Ok(())
    }

    async fn create_host(&self, number: u8) -> Result<()> {
        let namespace = self.namespace(number);
        netns::create(&namespace)?;
        let (outer, inner) = (format!("mrhost{number}"), format!("mrhost{number}p"));
        let outside = [
            format!("link add {outer} type veth peer name {inner}"),
            format!("link set {outer} master {BRIDGE_DEVICE} up"),
        ];
        ip::batch(None, &outside).await?;
        netns::move_link(&inner, &namespace)?;
        let inside = [
            format!("link set {inner} name eth0"),
            format!("address add {}/24 dev eth0", host(number)),
            "link set eth0 up".to_owned(),
            format!("route add default via {BRIDGE}"),
        ];
        ip::batch(Some(&namespace), &inside).await
    }

    /// Removes the network.
    pub(crate) async fn remove(&self) -> Result<()> {
        let mut outcome = nft::uninstall(NFT_TABLE).await;
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            outcome = outcome.and(netns::delete(&entry.path()));
        }
        for number in 1..=self.hosts {
            outcome = outcome.and(ip::link_delete(None, &format!("mrhost{number}")).await);
        }
        outcome.and(ip::link_delete(None, BRIDGE_DEVICE).await)
    }
}

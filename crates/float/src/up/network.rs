//! The virtual hosts' network: a private bridge, and a network namespace for each of them.
//!
//! The range 198.18.0.0/15 is set aside for trying out networks (RFC 2544): nobody's machines are there.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mooring_linux::job_net::sysctl;
use mooring_linux::{Result, ip, netns, nft};

/// This machine's own address on the bridge.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const SUBNET: &str = "198.18.0.0/24";
const DEVICE: &str = "mooring0";
const TABLE: &str = "mooring_up";

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
    /// The network of so many hosts, with their namespaces kept below `dir`.
    pub(crate) fn new(dir: &Path, hosts: u8) -> Self {
        Self { directory: dir.join("run"), hosts }
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, number: u8) -> PathBuf {
        self.directory.join(format!("host-{number}.netns"))
    }

    /// Makes it, whatever an earlier run left of it.
    pub(crate) async fn make(&self) -> Result<()> {
        self.remove().await?;
        let bridge = [
            format!("link add {DEVICE} type bridge"),
            format!("address add {BRIDGE}/24 dev {DEVICE}"),
            format!("link set {DEVICE} up"),
        ];
        ip::batch(None, &bridge).await?;
        sysctl("net/ipv4/ip_forward", "1")?;
        nft::masquerade(TABLE, SUBNET, DEVICE).await?;
        for number in 1..=self.hosts {
            self.make_host(number).await?;
        }
        Ok(())
    }

    async fn make_host(&self, number: u8) -> Result<()> {
        let namespace = self.namespace(number);
        netns::create(&namespace)?;
        let (outer, inner) = (format!("mrhost{number}"), format!("mrhost{number}p"));
        let outside =
            [format!("link add {outer} type veth peer name {inner}"), format!("link set {outer} master {DEVICE} up")];
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

    /// Removes it.
    pub(crate) async fn remove(&self) -> Result<()> {
        let mut outcome = nft::uninstall(TABLE).await;
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            outcome = outcome.and(netns::delete(&entry.path()));
        }
        for number in 1..=self.hosts {
            outcome = outcome.and(ip::link_delete(None, &format!("mrhost{number}")).await);
        }
        outcome.and(ip::link_delete(None, DEVICE).await)
    }
}

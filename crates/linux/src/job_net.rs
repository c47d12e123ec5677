//! The network interface of a job. It is the same on every host, so that a migration changes
//! nothing inside the job.
//!
//! The job's namespace has one interface, `eth0`, with the job's address as a /32. Its default
//! route leads over a link-local address that no machine has. A permanent neighbour entry maps that
//! address to the host's end of the veth pair. Both ends have constant hardware addresses, and
//! `eth0` has a constant number: programs keep it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::{Error, Result, ip, netns, nft};

const GATEWAY: &str = "169.254.1.1";
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// The number of `eth0`. The lowest ones belong to interfaces that the kernel makes in each
/// namespace: the loopback, and tunnels where their modules are loaded.
const INTERFACE_NUMBER: u32 = 64;

/// A job's network interface on this host. Its users may all send echo requests, for which no raw
/// socket is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobNet {
    /// The file of the job's namespace.
    pub namespace: PathBuf,
    /// The name of the host's end of the pair, at most 15 characters.
    pub host_interface: String,
    pub address: Ipv4Addr,
    /// The MTU of the overlay.
    pub mtu: u32,
}

impl JobNet {
    /// Makes the namespace, the interface and the rules of its loopback, without a route to it.
    pub async fn setup(&self) -> Result<()> {
        let Self { namespace, host_interface, address, mtu } = self;
        netns::create_with_own_table(namespace)?;
        netns::run_in(namespace, without_mptcp)??;
        netns::run_in(namespace, || sysctl("net/ipv4/ping_group_range", "0 2147483647"))??;
        nft::install_loopback(namespace).await?;
        if !ip::link_exists(Some(namespace), "eth0").await {
            ip::link_delete(None, host_interface).await?;
            netns::add_link("eth0", INTERFACE_NUMBER, namespace, host_interface)?;
            // Nobody else is on this link: an address of IPv6 need not be looked for there.
            netns::run_in(namespace, || sysctl("net/ipv6/conf/eth0/accept_dad", "0").or_else(is_absent))??;
            let mac = self.job_mac();
            let inside = [
                format!("link set eth0 address {mac} mtu {mtu}"),
                format!("address replace {address}/32 dev eth0"),
                "link set eth0 up".to_owned(),
                format!("neighbour replace {GATEWAY} lladdr {HOST_MAC} dev eth0 nud permanent"),
                format!("route replace {GATEWAY} dev eth0 scope link"),
                format!("route replace default via {GATEWAY} dev eth0 src {address}"),
            ];
            ip::batch(Some(namespace), &inside).await?;
        }
        let mac = self.job_mac();
        let outside = [
            format!("link set {host_interface} address {HOST_MAC} mtu {mtu}"),
            format!("link set {host_interface} up"),
            format!("neighbour replace {address} lladdr {mac} dev {host_interface} nud permanent"),
        ];
        ip::batch(None, &outside).await?;
        sysctl(&format!("net/ipv4/conf/{host_interface}/rp_filter"), "0")?;
        sysctl(&format!("net/ipv4/conf/{host_interface}/forwarding"), "1")
    }

    /// Routes the job's address to its interface on this host.
    pub async fn route_here(&self) -> Result<()> {
        ip::batch(None, &[format!("route replace {}/32 dev {} scope link", self.address, self.host_interface)]).await
    }

    /// Removes the interface and the namespace. Continues after errors and returns the first.
    pub async fn teardown(&self) -> Result<()> {
        let link = ip::link_delete(None, &self.host_interface).await;
        netns::delete(&self.namespace).and(link)
    }

    fn job_mac(&self) -> String {
        hardware_address(self.address).map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// The hardware address of the job with an address.
pub(crate) fn hardware_address(job: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = job.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// Turns MPTCP off in this thread's network namespace: its sockets can't be checkpointed. Programs
/// use TCP instead, as on a kernel without MPTCP.
fn without_mptcp() -> Result<()> {
    sysctl("net/mptcp/enabled", "0").or_else(is_absent)
}

/// Takes a setting that this kernel does not have for set.
fn is_absent(error: Error) -> Result<()> {
    match error {
        Error::System { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        error => Err(error),
    }
}

/// Sets a value below `/proc/sys`, in the network namespace of the calling thread.
pub fn sysctl(name: &str, value: &str) -> Result<()> {
    std::fs::write(format!("/proc/sys/{name}"), value).map_err(Error::system(format!("set {name} to {value}")))
}

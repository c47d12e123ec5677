//! The devices of a host's network, as the kernel describes them.

use std::net::Ipv4Addr;

use mooring_linux::ip;
use mooring_linux::job_net::sysctl;
use serde::Deserialize;

use super::NetworkError;

/// A network device.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    linkinfo: Info,
}

#[derive(Debug, Default, Deserialize)]
struct Info {
    #[serde(default)]
    info_kind: String,
    #[serde(default)]
    info_data: serde_json::Value,
}

impl Link {
    /// Returns the kind of the device, in iproute2's words.
    pub(super) fn kind(&self) -> &str {
        &self.linkinfo.info_kind
    }

    /// A parameter of its kind.
    pub(super) fn parameter(&self, name: &str) -> Option<&serde_json::Value> {
        self.linkinfo.info_data.get(name)
    }
}

/// The device of that name; `None` when there is none.
pub(super) async fn find(device: &str) -> Result<Option<Link>, NetworkError> {
    let Ok(json) = ip::query(None, &["-d", "-j", "link", "show", "dev", device]).await else { return Ok(None) };
    let mut links: Vec<Link> = serde_json::from_str(&json).map_err(NetworkError::printed("ip link show"))?;
    Ok(links.pop())
}

/// Finds the device with an address.
pub(super) async fn with_address(address: Ipv4Addr) -> Result<Option<String>, NetworkError> {
    #[derive(Deserialize)]
    struct Line {
        ifname: String,
    }
    let json = ip::query(None, &["-j", "address", "show", "to", &address.to_string()]).await;
    let json = json.map_err(NetworkError::linux("look for the host's own address"))?;
    let lines: Vec<Line> = serde_json::from_str(&json).map_err(NetworkError::printed("ip address show"))?;
    Ok(lines.into_iter().next().map(|line| line.ifname))
}

/// The IPv4 addresses of a device.
pub(super) async fn addresses(device: &str) -> Result<Vec<Ipv4Addr>, NetworkError> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        addr_info: Vec<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        local: Option<Ipv4Addr>,
    }
    let json = ip::query(None, &["-4", "-j", "address", "show", "dev", device]).await;
    let json = json.map_err(NetworkError::linux("read a device's addresses"))?;
    let lines: Vec<Line> = serde_json::from_str(&json).map_err(NetworkError::printed("ip address show"))?;
    Ok(lines.into_iter().flat_map(|line| line.addr_info).filter_map(|address| address.local).collect())
}

/// Makes a device accept packets of jobs from any direction, and neither send nor accept ICMP
/// redirects. During a migration packets pass hosts off the shortest route, and a redirect would
/// outlive it.
pub(super) fn open_to_jobs(device: &str) -> Result<(), NetworkError> {
    let setting = |name: &str| format!("net/ipv4/conf/{device}/{name}");
    let strict =
        std::fs::read_to_string(format!("/proc/sys/{}", setting("rp_filter"))).is_ok_and(|now| now.trim() != "0");
    // 2 (loose) also overrides a 1 (strict) for all devices; 0 does not.
    let filter = if strict || strict_everywhere() { sysctl(&setting("rp_filter"), "2") } else { Ok(()) };
    filter
        .and_then(|()| sysctl(&setting("send_redirects"), "0"))
        .and_then(|()| sysctl(&setting("accept_redirects"), "0"))
        .map_err(NetworkError::linux("set up a device for packets of jobs"))
}

fn strict_everywhere() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").is_ok_and(|now| now.trim() == "1")
}

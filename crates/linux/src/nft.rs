//! Packets of jobs that are held, and address translation at the border of the overlay, in one
//! nftables table per host.
//!
//! While a job's sockets do not exist, the kernel would answer packets for them with a reset. So
//! packets to a *held* address are dropped in three chains. They are prerouting (packets of
//! others), output (packets of this host), and forward (packets whose destination was translated).
//! Packets from a *muted* address are dropped as well. A *quiet* address may send all packets but
//! those that end a connection.
//!
//! Packets between two sockets of a job never leave its namespace, which has a table for them:
//! [`close_loopback`].
//!
//! Tables, chains and rules are made by `nft`. What changes within a migration's pause are sets
//! alone, by netlink.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::nft_set::{self, Change};
use crate::{Result, ip, netns};

/// The table in the namespace of a job whose loopback is closed.
const LOOPBACK_TABLE: &str = "mooring_loopback";
/// The set in that table with the loopback's number while it is closed.
const CLOSED: &str = "closed";
/// The number of the loopback interface in each namespace.
const LOOPBACK: [u8; 4] = 1_u32.to_ne_bytes();
const CLOSE: Change<'_> = Change::Add { set: CLOSED, key: &LOOPBACK };
const OPEN: Change<'_> = Change::Delete { set: CLOSED, key: &LOOPBACK };
/// The sets of a host's table that change with each migration.
const HELD: &str = "held";
const MUTED: &str = "muted";
const QUIET: &str = "quiet";
/// The set of jobs' addresses with their interfaces.
const OWN: &str = "own";
const ADDRESS_BYTES: usize = 4;
/// The length of an interface's name with its end (`IFNAMSIZ`).
const INTERFACE_BYTES: usize = 16;
/// CRIU's mark of the packets by which it brings a restored socket into its state (`SOCCR_MARK`).
const CRIU_MARK: &str = "0xc114";

/// The jobs' interfaces of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// The beginning of their names.
    pub prefix: String,
    /// Those that are there, with the addresses of their jobs.
    pub present: Vec<(String, Ipv4Addr)>,
}

/// Makes the table, unless it exists. `overlay` is in CIDR notation.
///
/// A job's packets have its own address as their source, and are of IPv4: others are dropped.
/// Interfaces that are there already are admitted; [`admit`] is for later ones.
pub async fn install(table: &str, overlay: &str, jobs: &Interfaces) -> Result<()> {
    let Interfaces { prefix, present } = jobs;
    let present: Vec<String> =
        present.iter().map(|(interface, address)| format!("{address} . \"{interface}\"")).collect();
    let present = match present.as_slice() {
        [] => String::new(),
        present => format!("add element inet {table} {OWN} {{ {} }}\n", present.join(", ")),
    };
    let script = format!(
        "add table inet {table}
add set inet {table} {HELD} {{ type ipv4_addr; }}
add set inet {table} {MUTED} {{ type ipv4_addr; }}
add set inet {table} {QUIET} {{ type ipv4_addr; }}
add set inet {table} away {{ type ipv4_addr; }}
add set inet {table} {OWN} {{ type ipv4_addr . ifname; }}
flush set inet {table} {OWN}
{present}add chain inet {table} arriving {{ type filter hook prerouting priority -300; policy accept; }}
flush chain inet {table} arriving
add rule inet {table} arriving iifname \"{prefix}*\" meta nfproto ipv6 drop
add rule inet {table} arriving iifname \"{prefix}*\" ip saddr . iifname != @{OWN} drop
add rule inet {table} arriving ip daddr @{HELD} drop
add rule inet {table} arriving ip saddr @{MUTED} drop
add rule inet {table} arriving ip saddr @{QUIET} tcp flags & (fin | rst) != 0 drop
add chain inet {table} sending {{ type filter hook output priority -300; policy accept; }}
flush chain inet {table} sending
add rule inet {table} sending oifname \"{prefix}*\" meta nfproto ipv6 drop
add rule inet {table} sending ip daddr @{HELD} drop
add chain inet {table} delivering {{ type filter hook postrouting priority 0; policy accept; }}
flush chain inet {table} delivering
add rule inet {table} delivering ip daddr @{HELD} drop
add chain inet {table} leaving {{ type nat hook postrouting priority 100; policy accept; }}
flush chain inet {table} leaving
add rule inet {table} leaving ip saddr {overlay} ip saddr != @away ip daddr != {overlay} masquerade"
    );
    apply(script).await
}

/// Exempts exactly these addresses from masquerading: their packets leave the overlay on another
/// host. If nftables fails, nothing has changed.
pub async fn leave_elsewhere(table: &str, away: &BTreeSet<Ipv4Addr>) -> Result<()> {
    let mut script = format!("flush set inet {table} away");
    if !away.is_empty() {
        let elements: Vec<String> = away.iter().map(ToString::to_string).collect();
        script += &format!("\nadd element inet {table} away {{ {} }}", elements.join(", "));
    }
    apply(script).await
}

/// Drops packets for the overlay that would leave by an interface whose name does not start with
/// `devices`. Without it, the default route would send packets for a job without a route out of the
/// host in the clear. Needs [`install`].
pub async fn fence(table: &str, overlay: &str, devices: &str) -> Result<()> {
    let script = format!(
        "add chain inet {table} fence {{ type filter hook postrouting priority 0; policy accept; }}
flush chain inet {table} fence
add rule inet {table} fence ip daddr {overlay} oifname != \"lo\" oifname != \"{devices}*\" drop"
    );
    apply(script).await
}

/// Removes the rules of [`fence`].
pub async fn unfence(table: &str) -> Result<()> {
    let script = format!(
        "add chain inet {table} fence {{ type filter hook postrouting priority 0; policy accept; }}
delete chain inet {table} fence"
    );
    apply(script).await
}

/// Drops packets to `address` from now on.
pub fn hold(table: &str, address: Ipv4Addr) -> Result<()> {
    nft_set::apply(table, &[add(HELD, &address.octets())])
}

/// Drops packets to `address` from now on, and packets from it that end a connection. So a failed
/// restore ends no connection, while a restored job sends its pending bytes at once.
pub fn quieten(table: &str, address: Ipv4Addr) -> Result<()> {
    let key = address.octets();
    nft_set::apply(table, &[add(HELD, &key), add(QUIET, &key)])
}

/// Drops packets to and from `address` from now on.
pub fn isolate(table: &str, address: Ipv4Addr) -> Result<()> {
    let key = address.octets();
    nft_set::apply(table, &[add(HELD, &key), add(MUTED, &key)])
}

/// Lets packets to and from `address` pass again.
pub fn release(table: &str, address: Ipv4Addr) -> Result<()> {
    let key = &address.octets();
    // Deleting an address that is not in a set is an error: so it is added first.
    let changes = [HELD, MUTED, QUIET].map(|set| [Change::Add { set, key }, Change::Delete { set, key }]);
    nft_set::apply(table, changes.as_flattened())
}

/// Lets packets with the source `address` come from a job's interface; those with another one are
/// dropped.
pub fn admit(table: &str, interface: &str, address: Ipv4Addr) -> Result<()> {
    let mut key = address.octets().to_vec();
    key.extend(interface.as_bytes());
    key.resize(ADDRESS_BYTES + INTERFACE_BYTES, 0);
    nft_set::apply(table, &[add(OWN, &key)])
}

fn add<'a>(set: &'a str, key: &'a [u8]) -> Change<'a> {
    Change::Add { set, key }
}

/// Makes the table in the namespace of a job, unless it exists. Its loopback is open, or stays as
/// it is.
pub async fn install_loopback(namespace: &Path) -> Result<()> {
    let script = format!(
        "add table inet {LOOPBACK_TABLE}
add set inet {LOOPBACK_TABLE} {CLOSED} {{ type iface_index; }}
add chain inet {LOOPBACK_TABLE} sending {{ type filter hook output priority -300; policy accept; }}
flush chain inet {LOOPBACK_TABLE} sending
add rule inet {LOOPBACK_TABLE} sending oif lo oif @{CLOSED} meta mark != {CRIU_MARK} drop"
    );
    ip::run(Some(namespace), "nft", &["-f", "-"], &[script]).await
}

/// Drops what leaves by the loopback of a namespace from now on: all packets between two sockets of
/// a job.
///
/// A restored socket sends at once what it had not sent before the freeze. While the other socket
/// does not exist, the kernel would answer with a reset. During a checkpoint, a packet between two
/// sockets would change one that has been read already. CRIU's own packets pass.
pub async fn close_loopback(namespace: &Path) -> Result<()> {
    let close = || netns::run_in(namespace, || nft_set::apply(LOOPBACK_TABLE, &[CLOSE])).flatten();
    match close() {
        // A job that an older agent has started has no table.
        Err(error) if nft_set::is_missing(&error) => {
            install_loopback(namespace).await?;
            close()
        }
        closed => closed,
    }
}

/// Lets packets pass on the loopback of a namespace again. Does nothing without such a namespace.
pub async fn open_loopback(namespace: &Path) -> Result<()> {
    if !netns::exists(namespace) {
        return Ok(());
    }
    match netns::run_in(namespace, || nft_set::apply(LOOPBACK_TABLE, &[CLOSE, OPEN])).flatten() {
        // An older agent may have closed it by other rules, which this replaces.
        Err(error) if nft_set::is_missing(&error) => install_loopback(namespace).await,
        opened => opened,
    }
}

/// A published port: a port of this host that leads to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub host_port: u16,
    pub job: Ipv4Addr,
    /// The target port.
    pub job_port: u16,
    /// The allowed source addresses, in CIDR notation.
    pub sources: Vec<String>,
}

/// Publishes exactly these ports of `host`. If nftables fails, nothing has changed.
///
/// The source of forwarded packets becomes `overlay`, the host's address in the overlay, so that
/// answers return by this host. Packets from other sources than the allowed ones are dropped, also
/// within a connection. Packets of this host to its own address are treated alike. Packets to a
/// held address are dropped here as well, since they still have the host's address in the other
/// chains.
pub async fn publish(table: &str, host: Ipv4Addr, overlay: Ipv4Addr, ports: &[Forward]) -> Result<()> {
    let mut script = format!("add table inet {table}\nadd set inet {table} {HELD} {{ type ipv4_addr; }}\n");
    for chain in ["published_guard", "published_to"] {
        script += &format!("add chain inet {table} {chain}\nflush chain inet {table} {chain}\n");
    }
    for (chain, hook, rule) in [
        // After connection tracking, and before address translation.
        ("published_check", "type filter hook prerouting priority -150", "jump published_guard"),
        ("published_check_own", "type filter hook output priority -150", "jump published_guard"),
        ("published", "type nat hook prerouting priority -100", "jump published_to"),
        ("published_own", "type nat hook output priority -100", "jump published_to"),
        ("published_hold", "type filter hook postrouting priority 0", "ip daddr @held drop"),
    ] {
        script += &format!(
            "add chain inet {table} {chain} {{ {hook}; policy accept; }}
flush chain inet {table} {chain}
add rule inet {table} {chain} {rule}
"
        );
    }
    script += &format!(
        "add chain inet {table} published_back {{ type nat hook postrouting priority 90; policy accept; }}
flush chain inet {table} published_back
"
    );
    for Forward { host_port, job, job_port, sources } in ports {
        let to_port = format!("ip daddr {host} tcp dport {host_port}");
        for source in sources {
            script += &format!("add rule inet {table} published_guard {to_port} ip saddr {source} accept\n");
        }
        script += &format!(
            "add rule inet {table} published_guard {to_port} drop
add rule inet {table} published_to {to_port} dnat ip to {job}:{job_port}
add rule inet {table} published_back ct status dnat ip daddr {job} tcp dport {job_port} snat ip to {overlay}
"
        );
    }
    apply(script).await
}

/// Masquerades packets from `subnet` that leave by another interface than `device`, in a table of
/// its own.
pub async fn masquerade(table: &str, subnet: &str, device: &str) -> Result<()> {
    let script = format!(
        "add table inet {table}
add chain inet {table} leaving {{ type nat hook postrouting priority 100; policy accept; }}
flush chain inet {table} leaving
add rule inet {table} leaving ip saddr {subnet} oifname != \"{device}\" masquerade"
    );
    apply(script).await
}

/// Removes the table.
pub async fn uninstall(table: &str) -> Result<()> {
    apply(format!("add table inet {table}\ndelete table inet {table}")).await
}

async fn apply(script: String) -> Result<()> {
    ip::run(None, "nft", &["-f", "-"], &[script]).await
}

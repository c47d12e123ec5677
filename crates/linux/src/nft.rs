//! Holding packets of a job, and translating what leaves the overlay: one nftables table per host.
//!
//! While a job's sockets do not exist, the kernel would answer anything that arrives for them with a reset. A *held* address is in a
//! set that three chains drop on: one before routing for what others send, one on output for what this host sends itself, and one on the
//! way to the job for what has its address only since it was translated. A *muted*
//! address is in another set: what comes from it is dropped as well. A *quiet* one may say everything but that a connection ends.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::{Result, ip};

/// Makes the table, empty of held addresses unless it is there already. `overlay` is in CIDR form.
///
/// # Errors
/// nftables could not be used.
pub async fn install(table: &str, overlay: &str) -> Result<()> {
    let script = format!(
        "add table inet {table}
add set inet {table} held {{ type ipv4_addr; }}
add set inet {table} muted {{ type ipv4_addr; }}
add set inet {table} quiet {{ type ipv4_addr; }}
add set inet {table} away {{ type ipv4_addr; }}
add chain inet {table} arriving {{ type filter hook prerouting priority -300; policy accept; }}
flush chain inet {table} arriving
add rule inet {table} arriving ip daddr @held drop
add rule inet {table} arriving ip saddr @muted drop
add rule inet {table} arriving ip saddr @quiet tcp flags & (fin | rst) != 0 drop
add chain inet {table} sending {{ type filter hook output priority -300; policy accept; }}
flush chain inet {table} sending
add rule inet {table} sending ip daddr @held drop
add chain inet {table} delivering {{ type filter hook postrouting priority 0; policy accept; }}
flush chain inet {table} delivering
add rule inet {table} delivering ip daddr @held drop
add chain inet {table} leaving {{ type nat hook postrouting priority 100; policy accept; }}
flush chain inet {table} leaving
add rule inet {table} leaving ip saddr {overlay} ip saddr != @away ip daddr != {overlay} masquerade"
    );
    apply(script).await
}

/// Gives exactly these addresses none of this host's own when they leave the overlay: they leave it elsewhere.
///
/// # Errors
/// nftables could not be used; then nothing has changed.
pub async fn leave_elsewhere(table: &str, away: &BTreeSet<Ipv4Addr>) -> Result<()> {
    let mut script = format!("flush set inet {table} away");
    if !away.is_empty() {
        let elements: Vec<String> = away.iter().map(ToString::to_string).collect();
        script += &format!("\nadd element inet {table} away {{ {} }}", elements.join(", "));
    }
    apply(script).await
}

/// Drops what is meant for the overlay and would leave by an interface whose name does not start with `devices`: a packet for a job
/// whose route is not there is lost then, where the default route would take it out of the host in clear. After [`install`].
///
/// # Errors
/// nftables could not be used.
pub async fn fence(table: &str, overlay: &str, devices: &str) -> Result<()> {
    let script = format!(
        "add chain inet {table} fence {{ type filter hook postrouting priority 0; policy accept; }}
flush chain inet {table} fence
add rule inet {table} fence ip daddr {overlay} oifname != \"lo\" oifname != \"{devices}*\" drop"
    );
    apply(script).await
}

/// Undoes [`fence`].
///
/// # Errors
/// nftables could not be used.
pub async fn unfence(table: &str) -> Result<()> {
    let script = format!(
        "add chain inet {table} fence {{ type filter hook postrouting priority 0; policy accept; }}
delete chain inet {table} fence"
    );
    apply(script).await
}

/// Drops every packet towards `address` from here on.
///
/// # Errors
/// nftables could not be used.
pub async fn hold(table: &str, address: Ipv4Addr) -> Result<()> {
    apply(format!("add element inet {table} held {{ {address} }}")).await
}

/// Drops every packet towards `address` from here on, and what ends a connection from it: a job whose restore is given up takes none
/// of its connections along, while one that is restored sends again at once what it was about to send.
///
/// # Errors
/// nftables could not be used.
pub async fn quieten(table: &str, address: Ipv4Addr) -> Result<()> {
    apply(format!("add element inet {table} held {{ {address} }}\nadd element inet {table} quiet {{ {address} }}"))
        .await
}

/// Drops every packet towards and from `address` from here on.
///
/// # Errors
/// nftables could not be used.
pub async fn isolate(table: &str, address: Ipv4Addr) -> Result<()> {
    apply(format!("add element inet {table} held {{ {address} }}\nadd element inet {table} muted {{ {address} }}"))
        .await
}

/// Lets packets towards and from `address` pass again.
///
/// # Errors
/// nftables could not be used.
pub async fn release(table: &str, address: Ipv4Addr) -> Result<()> {
    // Added first, so that an address that is in none of the sets is no error.
    let sets = ["held", "muted", "quiet"];
    let lines = sets
        .iter()
        .flat_map(|set| ["add", "delete"].map(|verb| format!("{verb} element inet {table} {set} {{ {address} }}")));
    apply(lines.collect::<Vec<_>>().join("\n")).await
}

/// A port of this host that leads to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The host's port.
    pub host_port: u16,
    /// The job's address.
    pub job: Ipv4Addr,
    /// The port that the job listens on.
    pub job_port: u16,
    /// Who may come, in CIDR form.
    pub sources: Vec<String>,
}

/// Has exactly these ports of `host` lead to jobs. What reaches a job comes from `overlay`, the host's own address there, so that it is
/// answered by way of this host; whoever may not come is dropped, also in the middle of a connection. The same goes for what this host
/// itself sends to that address. A held address is not reached in this way either: where the other chains look, a packet still has the
/// host's address.
///
/// # Errors
/// nftables could not be used; then nothing has changed.
pub async fn publish(table: &str, host: Ipv4Addr, overlay: Ipv4Addr, ports: &[Forward]) -> Result<()> {
    let mut script = format!("add table inet {table}\nadd set inet {table} held {{ type ipv4_addr; }}\n");
    for chain in ["published_guard", "published_to"] {
        script += &format!("add chain inet {table} {chain}\nflush chain inet {table} {chain}\n");
    }
    for (chain, hook, rule) in [
        // After connections are known, and before addresses are translated.
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

/// Translates what comes from `subnet` and leaves by another interface than `device`, in a table of its own.
///
/// # Errors
/// nftables could not be used.
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
///
/// # Errors
/// nftables could not be used.
pub async fn uninstall(table: &str) -> Result<()> {
    apply(format!("add table inet {table}\ndelete table inet {table}")).await
}

async fn apply(script: String) -> Result<()> {
    ip::run(None, "nft", &["-f", "-"], &[script]).await
}

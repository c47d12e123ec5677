//! Holding packets of a job, and translating what leaves the overlay: one nftables table per host.
//!
//! While a job's sockets do not exist, the kernel would answer anything that arrives for them with a reset. A *held* address is in a
//! set that two chains drop on: one before routing for what others send, one on output for what this host sends itself. A *muted*
//! address is in another set: what comes from it is dropped as well, so that a job whose restore is given up says nothing to anybody.

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
add chain inet {table} arriving {{ type filter hook prerouting priority -300; policy accept; }}
flush chain inet {table} arriving
add rule inet {table} arriving ip daddr @held drop
add rule inet {table} arriving ip saddr @muted drop
add chain inet {table} sending {{ type filter hook output priority -300; policy accept; }}
flush chain inet {table} sending
add rule inet {table} sending ip daddr @held drop
add chain inet {table} leaving {{ type nat hook postrouting priority 100; policy accept; }}
flush chain inet {table} leaving
add rule inet {table} leaving ip saddr {overlay} ip daddr != {overlay} masquerade"
    );
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
    // Added first, so that an address that is in neither set is no error.
    let sets = ["held", "muted"];
    let lines = sets
        .iter()
        .flat_map(|set| ["add", "delete"].map(|verb| format!("{verb} element inet {table} {set} {{ {address} }}")));
    apply(lines.collect::<Vec<_>>().join("\n")).await
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

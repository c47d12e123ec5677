//! The addresses that the jobs of a host reach, in an nftables table of their own. It is replaced
//! as a whole when something changes.
//!
//! ```text
//!  job ── its own address? ── a new connection? ─┬─ to its host ──► opening, else refused
//!         (`nft::admit`)                         └─ beyond it ────► opening
//!
//!  opening:  published ports, OpCenter, name servers, jobs of its user, ranges    accepted
//!            other jobs, hosts, link-local addresses, metadata of clouds          refused
//! ```
//!
//! Of TCP only the first segment is looked at. So connections that exist pass, also after a
//! migration, when this host's table of connections does not know them. Nothing here changes in the
//! pause of a migration.
//!
//! The host takes frames of the overlay, and the capsules of migrations, from other hosts alone.

use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::{Result, ip};

/// Addresses that no job needs, and at which clouds have credentials.
const WITHHELD: [&str; 6] =
    ["127.0.0.0/8", "169.254.0.0/16", "100.100.100.200", "168.63.129.16", "192.0.0.192", "255.255.255.255"];
/// The UDP port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;

/// The rules for the jobs of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRules {
    /// The beginning of the names of jobs' interfaces.
    pub interfaces: String,
    /// The overlay's range, in CIDR notation.
    pub overlay: String,
    /// The addresses of hosts by which they reach each other.
    pub hosts: Vec<Ipv4Addr>,
    /// The port of this host for migrations.
    pub migration_port: u16,
    /// The addresses and ports of OpCenter.
    pub opcenter: Vec<(Ipv4Addr, u16)>,
    /// Addresses of jobs that reach each other.
    pub neighbours: Vec<Vec<Ipv4Addr>>,
    /// Ranges that an admin allows, in CIDR notation.
    pub allowed: Vec<String>,
}

/// Puts exactly these rules in force. If nftables fails, nothing has changed.
pub async fn put_in_force(table: &str, rules: &JobRules) -> Result<()> {
    ip::run(None, "nft", &["-f", "-"], &[script(table, rules)]).await
}

/// Removes the rules.
pub async fn remove(table: &str) -> Result<()> {
    ip::run(None, "nft", &["-f", "-"], &[format!("add table inet {table}\ndelete table inet {table}")]).await
}

fn script(table: &str, rules: &JobRules) -> String {
    let JobRules { interfaces, overlay, hosts, migration_port, opcenter, neighbours, allowed } = rules;
    let mut script = format!("add table inet {table}\ndelete table inet {table}\nadd table inet {table}\n");
    script += &set(table, "hosts", "type ipv4_addr;", hosts.iter().map(ToString::to_string));
    let opcenter = opcenter.iter().map(|(address, port)| format!("{address} . {port}"));
    script += &set(table, "opcenter", "type ipv4_addr . inet_service;", opcenter);
    script += &set(table, "allowed", "type ipv4_addr; flags interval; auto-merge;", allowed.iter().cloned());
    script += &set(table, "withheld", "type ipv4_addr; flags interval;", WITHHELD.map(str::to_owned).into_iter());
    script += &neighbourhoods(table, neighbours);
    let _ = write!(
        script,
        "add chain inet {table} opening
add rule inet {table} opening ct status dnat accept
add rule inet {table} opening ip daddr . tcp dport @opcenter accept
add rule inet {table} opening ip daddr != {overlay} meta l4proto {{ tcp, udp }} th dport 53 accept
add rule inet {table} opening ip saddr vmap @neighbourhoods
add rule inet {table} opening ip daddr @allowed accept
add rule inet {table} opening ip daddr {overlay} reject with icmpx admin-prohibited
add rule inet {table} opening ip daddr @hosts reject with icmpx admin-prohibited
add rule inet {table} opening ip daddr @withheld reject with icmpx admin-prohibited
add chain inet {table} leaving_job {{ type filter hook forward priority 0; policy accept; }}
add rule inet {table} leaving_job iifname != \"{interfaces}*\" accept
add rule inet {table} leaving_job tcp flags & (syn | ack) != syn accept
add rule inet {table} leaving_job ct state established,related accept
add rule inet {table} leaving_job jump opening
add chain inet {table} entering_host {{ type filter hook input priority 0; policy accept; }}
add rule inet {table} entering_host udp dport {VXLAN_PORT} ip saddr != @hosts drop
add rule inet {table} entering_host iifname != \"lo\" tcp dport {migration_port} ip saddr != @hosts drop
add rule inet {table} entering_host iifname != \"{interfaces}*\" accept
add rule inet {table} entering_host tcp flags & (syn | ack) != syn accept
add rule inet {table} entering_host ct state established,related accept
add rule inet {table} entering_host jump opening
add rule inet {table} entering_host reject with icmpx admin-prohibited
"
    );
    script
}

/// Chains of jobs that reach each other, and the map from a job to its chain.
fn neighbourhoods(table: &str, neighbours: &[Vec<Ipv4Addr>]) -> String {
    let mut script = String::new();
    let mut verdicts = Vec::new();
    // A job alone has no neighbour.
    for (number, jobs) in neighbours.iter().filter(|jobs| jobs.len() > 1).enumerate() {
        let name = format!("neighbours_{number}");
        script += &set(table, &name, "type ipv4_addr;", jobs.iter().map(ToString::to_string));
        let _ = write!(
            script,
            "add chain inet {table} to_{name}\nadd rule inet {table} to_{name} ip daddr @{name} accept\n"
        );
        verdicts.extend(jobs.iter().map(|job| format!("{job} : jump to_{name}")));
    }
    let _ = writeln!(script, "add map inet {table} neighbourhoods {{ type ipv4_addr : verdict; }}");
    if !verdicts.is_empty() {
        let _ = writeln!(script, "add element inet {table} neighbourhoods {{ {} }}", verdicts.join(", "));
    }
    script
}

fn set(table: &str, name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    let mut script = format!("add set inet {table} {name} {{ {kind} }}\n");
    if !elements.is_empty() {
        let _ = writeln!(script, "add element inet {table} {name} {{ {} }}", elements.join(", "));
    }
    script
}

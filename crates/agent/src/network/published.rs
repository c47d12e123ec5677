//! Published ports: ports of this host that lead to jobs on it.
//!
//! ```text
//!  client ──► host's address:hostPort ══ translated ══► job's address:containerPort
//!             allowed sources alone     from the host's overlay address
//! ```
//!
//! The desired ports of a slice are put in force as one batch of packet rules after each change,
//! and checked again every [`LISTENER_CHECK_INTERVAL`]. Packets to a job get this host's overlay
//! address as their source. Answers return to this host even after a migration, so that established
//! connections survive. New ones are refused here from then on: the port belongs to the job's new
//! host.
//!
//! A port on which a program of the host listens stays with that program. Of two jobs with the same
//! port, the one that has it keeps it; else the first in the slice gets it. The other one is
//! reported as a problem of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::PublishedPort;
use mooring_linux::nft::{self, Forward};
use mooring_ops::log::chain;
use mooring_types::{JobId, Port};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::error::NetworkError;

/// The interval at which listening programs of the host are checked.
const LISTENER_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The state of a listening socket, as the kernel prints it.
const TCP_LISTEN_STATE: &str = "0A";

/// The published ports of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// This host's address in the overlay.
    pub(crate) overlay: Ipv4Addr,
    /// The ports, by the age of their jobs.
    pub(crate) ports: Vec<PublishedPort>,
}

/// Keeps the packet rules of published ports. It has a task of its own, so that no migration waits
/// for it.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// The host's table of packet rules.
    pub(crate) table: String,
    /// The address whose ports are published.
    pub(crate) underlay: Ipv4Addr,
    /// `None` until the first slice; rules of before stay until then.
    pub(crate) wanted: watch::Receiver<Option<Wanted>>,
    /// Ports that can't be published, for the host's report.
    pub(crate) problems: watch::Sender<Vec<String>>,
    /// Notified when the problems change.
    pub(crate) observed: Arc<Notify>,
}

impl Publisher {
    /// Publishes the desired ports until `stop`; the rules then stay, as jobs do.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut in_force: Option<Wanted> = None;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if let Some(wanted) = wanted {
                let problems = self.publish(wanted, &mut in_force).await;
                let changed = self.problems.send_if_modified(|known| {
                    let changed = *known != problems;
                    *known = problems;
                    changed
                });
                if changed {
                    self.observed.notify_one();
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LISTENER_CHECK_INTERVAL) => {}
            }
        }
    }

    /// Puts changed ports in force, and returns those that can't be published.
    async fn publish(&self, wanted: Wanted, in_force: &mut Option<Wanted>) -> Vec<String> {
        let holders = in_force.iter().flat_map(|wanted| &wanted.ports).map(|port| (port.host_port, port.job.clone()));
        let (ports, mut problems) = choose(wanted.ports, &holders.collect(), &listening(self.underlay));
        let chosen = Wanted { overlay: wanted.overlay, ports };
        if in_force.as_ref() == Some(&chosen) {
            return problems;
        }
        let forwards: Vec<Forward> = chosen.ports.iter().map(forward).collect();
        match nft::publish(&self.table, self.underlay, chosen.overlay, &forwards).await {
            Ok(()) => *in_force = Some(chosen),
            Err(error) => {
                let error = NetworkError::linux("publish ports of jobs")(error);
                tracing::error!(error = %chain(&error), "ports of jobs are not published");
                problems.push("ports of jobs are not published: the host's log says why".to_owned());
            }
        }
        problems
    }
}

/// Assigns each port to one job, and returns the problems of the others.
fn choose(
    wanted: Vec<PublishedPort>,
    holders: &BTreeMap<Port, JobId>,
    listening: &BTreeSet<u16>,
) -> (Vec<PublishedPort>, Vec<String>) {
    let mut winners: BTreeMap<Port, JobId> = BTreeMap::new();
    for port in &wanted {
        let holds = holders.get(&port.host_port) == Some(&port.job);
        if holds || !winners.contains_key(&port.host_port) {
            winners.insert(port.host_port, port.job.clone());
        }
    }
    let (mut chosen, mut problems) = (Vec::new(), Vec::new());
    for port in wanted {
        let winner = &winners[&port.host_port];
        let without = |why: String| format!("port {} of job {} is not published here: {why}", port.host_port, port.job);
        if listening.contains(&port.host_port.get()) {
            problems.push(without("a program of the host listens on it".to_owned()));
        } else if *winner != port.job {
            problems.push(without(format!("job {winner} has it")));
        } else {
            chosen.push(port);
        }
    }
    (chosen, problems)
}

fn forward(port: &PublishedPort) -> Forward {
    let covers = |first: Port, last: Port| (first..=last).contains(&port.host_port);
    let meant = port.rules.iter().filter(|rule| covers(rule.ports().0, rule.ports().1));
    // The host's address between hosts is of IPv4: nobody comes there by IPv6.
    let sources = meant.map(|rule| rule.source()).filter(|source| source.addr().is_ipv4());
    Forward {
        host_port: port.host_port.get(),
        job: port.address,
        job_port: port.container_port.get(),
        sources: sources.map(|source| source.to_string()).collect(),
    }
}

/// The TCP ports at which something on this host listens for what comes to `address`.
fn listening(address: Ipv4Addr) -> BTreeSet<u16> {
    // The thread's own network namespace; what can't be read has no listeners.
    let read = |family: &str| fs::read_to_string(format!("/proc/thread-self/net/{family}")).unwrap_or_default();
    let mut ports = listeners(&read("tcp"), &[Ipv4Addr::UNSPECIFIED, address].map(hex_v4));
    // Of IPv6 the sockets for both families.
    ports.extend(listeners(&read("tcp6"), &["0".repeat(32)]));
    ports
}

/// An address as the kernel prints it: four bytes in the machine's order.
fn hex_v4(address: Ipv4Addr) -> String {
    format!("{:08X}", u32::from_ne_bytes(address.octets()))
}

/// The ports of the listening sockets of a table of the kernel's, at any of these addresses.
fn listeners(table: &str, addresses: &[String]) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        let meant = state == TCP_LISTEN_STATE && addresses.iter().any(|known| known == address);
        meant.then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn port(host_port: u16, job: &JobId) -> PublishedPort {
        PublishedPort {
            job: job.clone(),
            address: Ipv4Addr::new(100, 64, 0, 2),
            host_port: Port::new(host_port).unwrap(),
            container_port: Port::new(80).unwrap(),
            rules: ["tcp:8000-8100:10.0.0.0/8", "tcp:22:10.0.0.0/8", "tcp:*:fd00::/8", "tcp:*:10.0.0.1"]
                .map(|rule| rule.parse().unwrap())
                .into(),
        }
    }

    fn jobs() -> (JobId, JobId) {
        (JobId::random(&mut rand::rng()), JobId::random(&mut rand::rng()))
    }

    #[test]
    fn the_first_gets_a_port_and_whoever_has_it_keeps_it() {
        let (first, second) = jobs();
        let wanted = vec![port(8000, &first), port(8000, &second), port(8001, &second)];
        let (chosen, problems) = choose(wanted.clone(), &BTreeMap::new(), &BTreeSet::new());
        assert_eq!(chosen, [port(8000, &first), port(8001, &second)]);
        assert_eq!(problems, [format!("port 8000 of job {second} is not published here: job {first} has it")]);
        let holders = [(Port::new(8000).unwrap(), second.clone())].into();
        let (chosen, problems) = choose(wanted, &holders, &BTreeSet::new());
        assert_eq!(chosen, [port(8000, &second), port(8001, &second)]);
        assert_eq!(problems, [format!("port 8000 of job {first} is not published here: job {second} has it")]);
    }

    #[test]
    fn what_the_host_listens_on_is_left_to_it() {
        let (first, _) = jobs();
        let (chosen, problems) = choose(vec![port(22, &first)], &BTreeMap::new(), &[22].into());
        assert!(chosen.is_empty());
        let told = format!("port 22 of job {first} is not published here: a program of the host listens on it");
        assert_eq!(problems, [told]);
    }

    #[test]
    fn the_rules_for_the_port_name_the_sources() {
        let (job, _) = jobs();
        assert_eq!(forward(&port(8080, &job)).sources, ["10.0.0.0/8", "10.0.0.1/32"]);
        assert_eq!(forward(&port(9000, &job)).sources, ["10.0.0.1/32"]);
        assert!(forward(&PublishedPort { rules: Vec::new(), ..port(8080, &job) }).sources.is_empty());
    }

    #[test]
    fn listeners_of_the_address_and_of_all_addresses_are_found() {
        let own = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let all = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let found = listening(Ipv4Addr::LOCALHOST);
        assert!(found.contains(&port(&own)) && found.contains(&port(&all)) && !found.contains(&port(&other)));
    }
}

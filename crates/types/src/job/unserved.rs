//! Published ports on which nothing listens for others.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Port;

/// The most listeners that are kept, and that a sentence names.
const LISTENERS_MAX: usize = 8;
const NAMED_MAX: usize = 4;

/// The published ports of a job on which nothing listens for others, while the job listens
/// elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unserved {
    /// The ports on which the job is to listen, in ascending order.
    pub ports: Vec<Port>,
    /// Some of the addresses on which the job listens instead, the most likely ones first.
    pub listeners: Vec<SocketAddr>,
}

impl Unserved {
    /// Compares the published ports of a job with its listeners; `None` where each port is served,
    /// and for a job that listens nowhere else.
    ///
    /// A listener on loopback may be a program's own. It counts if it has the number of a published
    /// port, or if no published port is served.
    #[must_use]
    pub fn of(published: &[Port], listeners: impl IntoIterator<Item = SocketAddr>) -> Option<Self> {
        let published: BTreeSet<Port> = published.iter().copied().collect();
        let listeners: BTreeSet<SocketAddr> = listeners.into_iter().collect();
        let served: BTreeSet<u16> =
            listeners.iter().filter(|listener| is_for_others(listener)).map(SocketAddr::port).collect();
        let ports: Vec<Port> = published.iter().copied().filter(|port| !served.contains(&port.get())).collect();
        let is_published = |listener: &SocketAddr| published.iter().any(|port| port.get() == listener.port());
        let is_elsewhere = |listener: &SocketAddr| match is_for_others(listener) {
            true => !is_published(listener),
            false => ports.len() == published.len() || ports.iter().any(|port| port.get() == listener.port()),
        };
        let mut listeners: Vec<SocketAddr> = listeners.into_iter().filter(is_elsewhere).collect();
        listeners.sort_by_key(|listener| (!is_published(listener), !is_for_others(listener), listener.port()));
        listeners.truncate(LISTENERS_MAX);
        (!ports.is_empty() && !listeners.is_empty()).then_some(Self { ports, listeners })
    }

    /// Keeps only the ports that were unserved before as well; `None` without any.
    #[must_use]
    pub fn lasting(mut self, before: &Self) -> Option<Self> {
        self.ports.retain(|port| before.ports.contains(port));
        (!self.ports.is_empty()).then_some(self)
    }

    /// The sentence about one port: the addresses on which the job listens, and the remedy. `None`
    /// for a port that is not concerned.
    #[must_use]
    pub fn text(&self, port: Port) -> Option<String> {
        if !self.ports.contains(&port) || self.listeners.is_empty() {
            return None;
        }
        let mut named: Vec<String> = self.listeners.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        match self.listeners.len().saturating_sub(NAMED_MAX) {
            0 => {}
            1 => named.push("one other address".to_owned()),
            others => named.push(format!("{others} other addresses")),
        }
        let last = named.pop()?;
        let named = if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) };
        let unpublished = self.listeners.iter().find(|listener| is_for_others(listener));
        let instead = unpublished.map(|listener| format!(", or publish {}", listener.port())).unwrap_or_default();
        Some(format!(
            "nothing listens on port {port} for others; the job listens on {named}: \
             have it listen on 0.0.0.0:{port}{instead}"
        ))
    }
}

/// Returns whether others reach a listener at the job's address, which is one of IPv4. A listener
/// on all addresses of IPv6 takes connections of IPv4 as well, unless its program declines them.
fn is_for_others(listener: &SocketAddr) -> bool {
    match listener.ip() {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.to_ipv4_mapped().is_some_and(|ip| !ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn texts(unserved: &Unserved) -> Vec<String> {
        unserved.ports.iter().filter_map(|port| unserved.text(*port)).collect()
    }

    fn found(published: &[u16], listeners: &[&str]) -> Vec<String> {
        let published: Vec<Port> = published.iter().copied().map(port).collect();
        let listeners = listeners.iter().map(|listener| listener.parse().unwrap());
        Unserved::of(&published, listeners).as_ref().map(texts).unwrap_or_default()
    }

    #[test]
    fn sentence_names_listeners_and_remedy() {
        assert_eq!(
            found(&[8080], &["0.0.0.0:9090", "127.0.0.1:8080"]),
            ["nothing listens on port 8080 for others; the job listens on 127.0.0.1:8080 and 0.0.0.0:9090: \
              have it listen on 0.0.0.0:8080, or publish 9090"]
        );
        assert_eq!(
            found(&[8080], &["[::1]:8080"]),
            ["nothing listens on port 8080 for others; the job listens on [::1]:8080: \
              have it listen on 0.0.0.0:8080"]
        );
        assert_eq!(
            found(&[80, 8080], &["100.64.0.2:9090", "0.0.0.0:80"]),
            ["nothing listens on port 8080 for others; the job listens on 100.64.0.2:9090: \
              have it listen on 0.0.0.0:8080, or publish 9090"]
        );
        let many: Vec<String> = (1..=6).map(|number| format!("127.0.0.1:{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            found(&[9], &many),
            ["nothing listens on port 9 for others; the job listens on 127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3, \
              127.0.0.1:4 and 2 other addresses: have it listen on 0.0.0.0:9"]
        );
    }

    #[test]
    fn served_ports_and_jobs_without_listeners_are_left_alone() {
        assert!(found(&[8080], &[]).is_empty());
        assert!(found(&[], &["127.0.0.1:8080"]).is_empty());
        for served in ["0.0.0.0:8080", "[::]:8080", "100.64.0.2:8080", "[::ffff:0.0.0.0]:8080"] {
            assert!(found(&[8080], &[served, "127.0.0.1:8080", "0.0.0.0:9090"]).is_empty(), "{served}");
        }
        // The kernels of a notebook server, whose second port is published for later.
        assert!(found(&[8888, 6006], &["0.0.0.0:8888", "127.0.0.1:35000"]).is_empty());
        assert_eq!(found(&[8888, 6006], &["0.0.0.0:8888", "127.0.0.1:6006"]).len(), 1);
    }

    #[test]
    fn what_has_just_begun_does_not_last() {
        let of = |ports: &[u16]| Unserved {
            ports: ports.iter().copied().map(port).collect(),
            listeners: vec!["0.0.0.0:9090".parse().unwrap()],
        };
        assert_eq!(of(&[1, 2]).lasting(&of(&[2, 3])), Some(of(&[2])));
        assert_eq!(of(&[1]).lasting(&of(&[2])), None);
    }

    proptest! {
        #[test]
        fn found_ports_are_published_and_not_served(
            published in prop::collection::vec(1_u16..9, 0..5),
            listeners in prop::collection::vec((0_usize..4, 1_u16..9), 0..20),
        ) {
            let ips = ["0.0.0.0", "127.0.0.1", "::1", "100.64.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
            let listeners: Vec<SocketAddr> =
                listeners.into_iter().map(|(ip, port)| SocketAddr::new(ips[ip], port)).collect();
            let published: Vec<Port> = published.into_iter().map(port).collect();
            if let Some(unserved) = Unserved::of(&published, listeners.clone()) {
                let served = |port: Port| listeners.iter().any(|other| other.port() == port.get() && is_for_others(other));
                prop_assert!(unserved.ports.iter().all(|port| published.contains(port) && !served(*port)));
                prop_assert!(unserved.listeners.iter().all(|listener| listeners.contains(listener)));
                prop_assert!(unserved.listeners.len() <= LISTENERS_MAX);
                prop_assert_eq!(texts(&unserved).len(), unserved.ports.len());
            }
        }
    }
}

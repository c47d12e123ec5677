//! The budgets of a gateway process: the most that one client address, one job and all of them use.
//!
//! | budget | of one address | of one job | in all |
//! |---|---|---|---|
//! | client connections | 10,000 | 20,000 | 40,000 |
//! | bytes of request heads that are not whole | 32 MiB | | 128 MiB |
//! | bytes of heads of answers that are not whole | | 32 MiB | 128 MiB |
//!
//! A client behind a trusted proxy counts by its own address. It counts with its connection if the
//! proxy announces it, else with each request while that is answered. Beyond the budget such a
//! request gets 503.
//!
//! Clients stay far below them. A connection beyond its budget is reset when it is accepted. A head
//! of a request beyond it is answered with 503, and its connection is closed; metrics count both. A
//! request whose answer has a head beyond it gets 503. A connection of HTTP/1 that has had no
//! request for 15 minutes is closed.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_types::JobId;
use parking_lot::Mutex;

/// The limits of the budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub connections_of_address: usize,
    pub connections_of_job: usize,
    pub connections: usize,
    /// In bytes.
    pub heads_of_address: usize,
    /// In bytes.
    pub heads_of_job: usize,
    /// In bytes, of requests and of answers each.
    pub heads: usize,
    /// The time for which a connection of HTTP/1 may have no request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_of_address: 10_000,
            connections_of_job: 20_000,
            connections: 40_000,
            heads_of_address: 32 << 20,
            heads_of_job: 32 << 20,
            heads: 128 << 20,
            idle: Duration::from_secs(15 * 60),
        }
    }
}

/// The budgets; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Budgets(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    limits: Limits,
    connections: Mutex<Connections>,
    heads: Mutex<Heads>,
}

#[derive(Debug, Default)]
struct Connections {
    in_all: usize,
    of_addresses: HashMap<IpAddr, usize>,
    of_jobs: HashMap<JobId, usize>,
}

#[derive(Debug, Default)]
struct Heads {
    of_requests: usize,
    of_addresses: HashMap<IpAddr, usize>,
    of_answers: usize,
    of_jobs: HashMap<JobId, usize>,
}

/// A client connection within its budgets; returned by drop.
#[derive(Debug)]
pub struct ConnectionShare {
    budgets: Budgets,
    /// `None` for a trusted proxy.
    address: Option<IpAddr>,
    job: JobId,
}

/// The place of a client behind a proxy within the budget of its address; returned by drop.
#[derive(Debug)]
pub struct AddressShare {
    budgets: Budgets,
    address: IpAddr,
}

/// The bytes of the unfinished head of one connection; returned by drop.
#[derive(Debug)]
pub struct HeadShare {
    budgets: Budgets,
    sender: Sender,
    bytes: usize,
}

/// The sender of a head.
#[derive(Debug)]
enum Sender {
    Client(IpAddr),
    /// A trusted proxy, of many clients.
    Proxy,
    Job(JobId),
}

impl Budgets {
    /// Budgets with other limits than the usual ones.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, ..Inner::default() }))
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Takes a client's connection out of its budgets; `None` if one of them is used up.
    #[must_use]
    pub fn connection(&self, address: IpAddr, job: &JobId) -> Option<ConnectionShare> {
        self.take_connection(Some(address), job)
    }

    /// Takes a connection of a trusted proxy out of its budgets; `None` if one of them is used up.
    /// Its clients count by their own addresses: see [`Budgets::address`].
    #[must_use]
    pub fn connection_of_proxy(&self, job: &JobId) -> Option<ConnectionShare> {
        self.take_connection(None, job)
    }

    fn take_connection(&self, address: Option<IpAddr>, job: &JobId) -> Option<ConnectionShare> {
        let Limits { connections_of_address, connections_of_job, connections, .. } = self.0.limits;
        let mut used = self.0.connections.lock();
        let address = address.map(|address| address.to_canonical());
        let of_address = address.and_then(|address| used.of_addresses.get(&address).copied()).unwrap_or_default();
        let has_room = used.in_all < connections
            && of_address < connections_of_address
            && used.of_jobs.get(job).is_none_or(|used| *used < connections_of_job);
        if !has_room {
            return None;
        }
        used.in_all += 1;
        if let Some(address) = address {
            *used.of_addresses.entry(address).or_default() += 1;
        }
        *used.of_jobs.entry(job.clone()).or_default() += 1;
        Some(ConnectionShare { budgets: self.clone(), address, job: job.clone() })
    }

    /// Counts a client behind a trusted proxy, for a connection or a request; `None` if the budget
    /// of its address is used up.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> Option<AddressShare> {
        let mut used = self.0.connections.lock();
        let address = address.to_canonical();
        let of_address = used.of_addresses.entry(address).or_default();
        if *of_address >= self.0.limits.connections_of_address {
            return None;
        }
        *of_address += 1;
        Some(AddressShare { budgets: self.clone(), address })
    }

    /// The unfinished heads of a client's connection: none yet.
    #[must_use]
    pub fn heads(&self, address: IpAddr) -> HeadShare {
        HeadShare { budgets: self.clone(), sender: Sender::Client(address.to_canonical()), bytes: 0 }
    }

    /// The unfinished heads of a trusted proxy's connection: none yet. Whose they are is known when
    /// they are whole.
    #[must_use]
    pub fn heads_of_proxy(&self) -> HeadShare {
        HeadShare { budgets: self.clone(), sender: Sender::Proxy, bytes: 0 }
    }

    /// The unfinished heads of a connection to a job: none yet.
    #[must_use]
    pub fn heads_of_job(&self, job: &JobId) -> HeadShare {
        HeadShare { budgets: self.clone(), sender: Sender::Job(job.clone()), bytes: 0 }
    }
}

impl HeadShare {
    /// Adds bytes of an unfinished head; returns whether they are within the budgets.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Limits { heads_of_address, heads_of_job, heads, .. } = self.budgets.0.limits;
        let mut used = self.budgets.0.heads.lock();
        let used = &mut *used;
        let (of_sender, most, in_all) = match &self.sender {
            Sender::Proxy => {
                used.of_requests += bytes;
                self.bytes += bytes;
                return used.of_requests <= heads;
            }
            Sender::Client(address) => {
                (used.of_addresses.entry(*address).or_default(), heads_of_address, &mut used.of_requests)
            }
            Sender::Job(job) => (used.of_jobs.entry(job.clone()).or_default(), heads_of_job, &mut used.of_answers),
        };
        *of_sender += bytes;
        *in_all += bytes;
        self.bytes += bytes;
        *of_sender <= most && *in_all <= heads
    }

    /// Returns the bytes of a head that has ended.
    pub fn clear(&mut self) {
        if self.bytes > 0 {
            let mut used = self.budgets.0.heads.lock();
            match &self.sender {
                Sender::Proxy => used.of_requests -= self.bytes,
                Sender::Client(address) => {
                    used.of_requests -= self.bytes;
                    give_back(&mut used.of_addresses, address, self.bytes);
                }
                Sender::Job(job) => {
                    used.of_answers -= self.bytes;
                    give_back(&mut used.of_jobs, job, self.bytes);
                }
            }
            self.bytes = 0;
        }
    }
}

impl Drop for HeadShare {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Drop for ConnectionShare {
    fn drop(&mut self) {
        let mut used = self.budgets.0.connections.lock();
        used.in_all -= 1;
        if let Some(address) = &self.address {
            give_back(&mut used.of_addresses, address, 1);
        }
        give_back(&mut used.of_jobs, &self.job, 1);
    }
}

impl Drop for AddressShare {
    fn drop(&mut self) {
        give_back(&mut self.budgets.0.connections.lock().of_addresses, &self.address, 1);
    }
}

fn give_back<K: Eq + Hash>(used: &mut HashMap<K, usize>, key: &K, count: usize) {
    if let Some(left) = used.get_mut(key) {
        *left = left.saturating_sub(count);
        if *left == 0 {
            used.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        connections_of_address: 3,
        connections_of_job: 4,
        connections: 6,
        heads_of_address: 30,
        heads_of_job: 40,
        heads: 50,
        idle: Duration::MAX,
    };

    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    proptest! {
        #[test]
        fn budgets_are_kept_and_returned(steps in prop::collection::vec((0_u8..3, 0_usize..3, any::<bool>()), 0..60)) {
            let budgets = Budgets::new(LIMITS);
            let jobs: Vec<JobId> = (0..3).map(|_| JobId::random(&mut rand::rng())).collect();
            let mut open: Vec<(u8, usize, ConnectionShare)> = Vec::new();
            for (from, job, closes) in steps {
                if closes && !open.is_empty() {
                    open.remove(0);
                    continue;
                }
                let of_address = open.iter().filter(|(other, ..)| *other == from).count();
                let of_job = open.iter().filter(|(_, other, _)| *other == job).count();
                let has_room = of_address < 3 && of_job < 4 && open.len() < 6;
                let taken = budgets.connection(address(from), &jobs[job]);
                prop_assert_eq!(taken.is_some(), has_room);
                open.extend(taken.map(|taken| (from, job, taken)));
            }
            drop(open);
            let used = budgets.0.connections.lock();
            prop_assert!(used.in_all == 0 && used.of_addresses.is_empty() && used.of_jobs.is_empty());
        }
    }

    #[test]
    fn heads_of_an_address_are_added_up() {
        let budgets = Budgets::new(LIMITS);
        let [mut one, mut two, mut other] = [1, 1, 2].map(|from| budgets.heads(address(from)));
        assert!(one.grow(20) && two.grow(10) && other.grow(20));
        assert!(!two.grow(1) && !other.grow(1));
        one.clear();
        assert!(two.grow(18) && !two.grow(1));
        drop((one, two, other));
        let used = budgets.0.heads.lock();
        assert!(used.of_requests == 0 && used.of_addresses.is_empty());
    }

    #[test]
    fn heads_of_a_job_have_a_budget_of_their_own() {
        let budgets = Budgets::new(LIMITS);
        let job = JobId::random(&mut rand::rng());
        let [mut one, mut two] = [&job, &job].map(|job| budgets.heads_of_job(job));
        let mut of_client = budgets.heads(address(1));
        assert!(one.grow(20) && two.grow(20) && of_client.grow(30) && !two.grow(1));
        drop((one, two, of_client));
        let used = budgets.0.heads.lock();
        assert!(used.of_answers == 0 && used.of_jobs.is_empty());
    }

    #[test]
    fn clients_behind_a_proxy_have_their_own_budgets() {
        let budgets = Budgets::new(LIMITS);
        let job = JobId::random(&mut rand::rng());
        let of_proxy: Vec<_> = (0..4).map(|_| budgets.connection_of_proxy(&job).expect("room")).collect();
        assert!(budgets.connection_of_proxy(&job).is_none());
        drop(of_proxy);
        let requests: Vec<_> = (0..3).map(|_| budgets.address(address(1)).expect("room")).collect();
        assert!(budgets.address(address(1)).is_none() && budgets.connection(address(1), &job).is_none());
        assert!(budgets.address(address(2)).is_some());
        let mut heads = budgets.heads_of_proxy();
        assert!(heads.grow(50) && !heads.grow(1));
        drop((requests, heads));
        assert!(budgets.0.connections.lock().of_addresses.is_empty() && budgets.0.heads.lock().of_requests == 0);
    }

    #[test]
    fn mapped_address_is_the_same() {
        let budgets = Budgets::new(Limits { connections_of_address: 1, ..LIMITS });
        let job = JobId::random(&mut rand::rng());
        let _first = budgets.connection(address(1), &job).expect("room");
        assert!(budgets.connection("::ffff:192.0.2.1".parse().unwrap(), &job).is_none());
    }
}

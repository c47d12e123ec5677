//! The clients of a connection, and the bytes that each has moved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mooring_api::watch::ClientObservation;
use mooring_types::Timestamp;
use parking_lot::Mutex;

/// The clients of one connection.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    present: BTreeMap<u64, Arc<ClientRecord>>,
    /// Bytes in and out of the clients that have left.
    gone: (u64, u64),
}

/// A client connection's address and counters.
#[derive(Debug)]
pub struct ClientRecord {
    /// Of a proxy's connection, the client of the newest request.
    address: Mutex<SocketAddr>,
    connected_at: Timestamp,
    /// Bytes from the client to the job.
    pub bytes_in: AtomicU64,
    /// Bytes from the job to the client.
    pub bytes_out: AtomicU64,
    /// Its requests that wait for the job.
    held: AtomicU32,
}

/// A request of a client that waits for the job; it is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<ClientRecord>);

/// A client's entry in the registry; removed by drop.
#[derive(Debug)]
pub struct Present {
    clients: Clients,
    key: u64,
    pub record: Arc<ClientRecord>,
}

impl Clients {
    /// Adds a client.
    #[must_use]
    pub fn enter(&self, address: SocketAddr, now: Timestamp) -> Present {
        let record = Arc::new(ClientRecord {
            address: Mutex::new(address),
            connected_at: now,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            held: AtomicU32::new(0),
        });
        let mut registry = self.registry();
        let key = registry.next;
        registry.next += 1;
        registry.present.insert(key, record.clone());
        Present { clients: self.clone(), key, record }
    }

    /// The clients, by the time of their connection.
    #[must_use]
    pub fn observe(&self) -> Vec<ClientObservation> {
        let observe = |record: &Arc<ClientRecord>| ClientObservation {
            address: *record.address.lock(),
            connected_at: record.connected_at,
            bytes_in: record.bytes_in.load(Ordering::Relaxed),
            bytes_out: record.bytes_out.load(Ordering::Relaxed),
        };
        self.registry().present.values().map(observe).collect()
    }

    /// The number of clients.
    #[must_use]
    pub fn count(&self) -> usize {
        self.registry().present.len()
    }

    /// The requests of the clients that wait for the job.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.registry().present.values().map(|record| record.held.load(Ordering::Relaxed)).sum()
    }

    /// Bytes in and out of all clients, including those that have left.
    #[must_use]
    pub fn moved(&self) -> (u64, u64) {
        let registry = self.registry();
        registry.present.values().fold(registry.gone, |sum, record| record.add_to(sum))
    }

    fn registry(&self) -> parking_lot::MutexGuard<'_, Registry> {
        self.0.lock()
    }
}

impl ClientRecord {
    /// Names the client behind a proxy.
    pub(crate) fn name(&self, client: SocketAddr) {
        *self.address.lock() = client;
    }

    /// Counts a request that waits for the job.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        self.held.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    fn add_to(&self, (bytes_in, bytes_out): (u64, u64)) -> (u64, u64) {
        (bytes_in + self.bytes_in.load(Ordering::Relaxed), bytes_out + self.bytes_out.load(Ordering::Relaxed))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut registry = self.clients.registry();
        if let Some(record) = registry.present.remove(&self.key) {
            registry.gone = record.add_to(registry.gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_left_clients_count() {
        let clients = Clients::default();
        let enter = |port: u16| clients.enter(([127, 0, 0, 1], port).into(), Timestamp::UNIX_EPOCH);
        let (first, second) = (enter(1), enter(2));
        first.record.bytes_in.store(5, Ordering::Relaxed);
        second.record.bytes_out.store(7, Ordering::Relaxed);
        drop(first);
        assert_eq!((clients.moved(), clients.observe().len()), ((5, 7), 1));
        drop(second);
        assert_eq!((clients.moved(), clients.observe().len()), ((5, 7), 0));
    }
}

//! The recent traffic of gateways, from their reports: connections and throughput, every
//! [`STEP`] for [`LENGTH`]. It is kept in memory.
//!
//! A process of a gateway counts the bytes of each connection since its own start. A restart begins
//! with another process, so differences are taken by process and connection.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use mooring_api::view::GatewayMetricView;
use mooring_api::watch::GatewayReport;
use mooring_types::{ConnectionId, GatewayId, Timestamp};
use parking_lot::Mutex;

/// The least time between two samples.
const STEP: Duration = Duration::from_secs(5);
/// The length of the history.
const LENGTH: Duration = Duration::from_secs(3600);
/// The silence after which a process counts as gone.
const SILENCE: Duration = Duration::from_secs(10);

/// The recent traffic of all gateways.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<HashMap<GatewayId, History>>);

#[derive(Debug, Default)]
struct History {
    samples: VecDeque<GatewayMetricView>,
    processes: HashMap<u64, Process>,
    /// The bytes since the last sample, from clients and to clients.
    pending: (u64, u64),
    /// The time of the last sample, or of the first report.
    sampled: Option<Timestamp>,
}

/// The last report of a process.
#[derive(Debug)]
struct Process {
    at: Timestamp,
    counters: HashMap<ConnectionId, (u64, u64)>,
    clients: u32,
    held: u32,
}

impl Traffic {
    /// Takes in a report.
    pub(crate) fn report(&self, gateway: &GatewayId, report: &GatewayReport, now: Timestamp) {
        self.0.lock().entry(gateway.clone()).or_default().report(report, now);
    }

    /// Returns the samples of a gateway from a time on, oldest first.
    pub(crate) fn samples(&self, gateway: &GatewayId, since: Timestamp) -> Vec<GatewayMetricView> {
        let histories = self.0.lock();
        let samples = histories.get(gateway).into_iter().flat_map(|history| &history.samples);
        samples.filter(|sample| sample.time >= since).cloned().collect()
    }

    /// Forgets a gateway that is destroyed.
    pub(crate) fn forget(&self, gateway: &GatewayId) {
        self.0.lock().remove(gateway);
    }
}

impl History {
    fn report(&mut self, report: &GatewayReport, now: Timestamp) {
        let is_first = self.sampled.is_none();
        let known = self.processes.remove(&report.incarnation);
        for seen in &report.connections {
            let before = known.as_ref().and_then(|process| process.counters.get(&seen.connection)).copied();
            // What went before the first report of all was not seen.
            let before = before.unwrap_or(if is_first { (seen.bytes_in, seen.bytes_out) } else { (0, 0) });
            self.pending.0 += seen.bytes_in.saturating_sub(before.0);
            self.pending.1 += seen.bytes_out.saturating_sub(before.1);
        }
        if !report.finished {
            let counters =
                report.connections.iter().map(|seen| (seen.connection.clone(), (seen.bytes_in, seen.bytes_out)));
            let clients = report.connections.iter().map(|seen| seen.clients.len()).sum::<usize>();
            let process = Process {
                at: now,
                counters: counters.collect(),
                clients: u32::try_from(clients).unwrap_or(u32::MAX),
                held: report.connections.iter().map(|seen| seen.held).sum(),
            };
            self.processes.insert(report.incarnation, process);
        }
        self.processes.retain(|_, process| process.at + SILENCE > now);
        self.sample(now);
    }

    fn sample(&mut self, now: Timestamp) {
        let sampled = *self.sampled.get_or_insert(now);
        let elapsed = Duration::try_from(now.duration_since(sampled)).unwrap_or_default();
        if elapsed < STEP {
            return;
        }
        let rate = |bytes: u64| (bytes as f64 / elapsed.as_secs_f64()).round() as u64;
        let (received, sent) = std::mem::take(&mut self.pending);
        self.samples.push_back(GatewayMetricView {
            time: now,
            connections: self.processes.values().map(|process| process.clients).sum(),
            held: self.processes.values().map(|process| process.held).sum(),
            received_per_second: rate(received),
            sent_per_second: rate(sent),
        });
        self.sampled = Some(now);
        while self.samples.front().is_some_and(|oldest| oldest.time + LENGTH < now) {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_api::watch::ConnectionObservation;

    use super::*;

    fn begun() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn report(incarnation: u64, connection: &ConnectionId, bytes: u64) -> GatewayReport {
        let connection = ConnectionObservation {
            is_port_taken: false,
            connection: connection.clone(),
            problem: None,
            clients: Vec::new(),
            calling: 0,
            caller: None,
            held: 2,
            bytes_in: bytes,
            bytes_out: 10 * bytes,
        };
        GatewayReport {
            incarnation,
            replaces: None,
            finished: false,
            sequence: 1,
            quiesced: Vec::new(),
            connections: vec![connection],
        }
    }

    #[test]
    fn rates_follow_the_counters_across_a_restart() {
        let traffic = Traffic::default();
        let gateway = GatewayId::random(&mut rand::rng());
        let connection = ConnectionId::random(&mut rand::rng());
        let after = |seconds: u64| begun() + Duration::from_secs(seconds);
        traffic.report(&gateway, &report(1, &connection, 1_000_000), after(0));
        traffic.report(&gateway, &report(1, &connection, 1_000_100), after(3));
        traffic.report(&gateway, &report(1, &connection, 1_000_500), after(5));
        // Another process starts at zero, while the first one is there.
        traffic.report(&gateway, &report(2, &connection, 250), after(10));
        traffic.report(&gateway, &report(2, &connection, 250), after(15));
        let samples = traffic.samples(&gateway, begun());
        let rates: Vec<_> = samples.iter().map(|one| (one.received_per_second, one.sent_per_second)).collect();
        assert_eq!(rates, [(100, 1000), (50, 500), (0, 0)]);
        assert_eq!(samples.iter().map(|one| one.held).collect::<Vec<_>>(), [2, 4, 2]);
        assert_eq!(traffic.samples(&gateway, after(11)).len(), 1);
    }

    #[test]
    fn history_is_an_hour_of_samples_five_seconds_apart() {
        let traffic = Traffic::default();
        let gateway = GatewayId::random(&mut rand::rng());
        let connection = ConnectionId::random(&mut rand::rng());
        for second in 0..2 * 3600 {
            traffic.report(&gateway, &report(1, &connection, second), begun() + Duration::from_secs(second));
        }
        let samples = traffic.samples(&gateway, begun());
        assert_eq!(samples.len(), 721);
        traffic.forget(&gateway);
        assert!(traffic.samples(&gateway, begun()).is_empty());
    }
}

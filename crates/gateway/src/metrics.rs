//! The metrics of a gateway process, for Prometheus.
//!
//! | name | value |
//! |---|---|
//! | `mooring_connections`, `mooring_connections_total` | client connections, by job |
//! | `mooring_bytes_in_total`, `mooring_bytes_out_total` | bytes from clients to the job, and back, by job |
//! | `mooring_requests_total` | HTTP requests with a response, by job and class of the status |
//! | `mooring_requests_held` | held HTTP requests |
//! | `mooring_requests_refused_total` | HTTP requests answered with 503, by job and reason |
//! | `mooring_pauses_seconds` | how long gates were closed, by job |
//! | `mooring_connections_refused_total` | clients that no security group allows, by job |
//! | `mooring_over_budget_total` | connections and heads beyond a budget, by job and budget |
//! | `mooring_listeners_failing` | ports that can't be listened on |
//!
//! Every series has the gateway's id as a label. The other labels are jobs of the slice and
//! enumerations, so the number of series is bounded. A job that is not connected is not counted,
//! and its series are removed.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mooring_types::{GatewayId, JobId};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::clients::ClientRecord;

/// Buckets in seconds: from a quick migration to a job that was away for an hour.
const PAUSES: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// The metrics of a gateway process; clones share their counters.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    jobs: Mutex<BTreeSet<JobId>>,
    live: Mutex<Live>,
    series: Series,
}

#[derive(Debug)]
struct Series {
    open: Family<OfJob, Gauge>,
    opened: Family<OfJob, Counter>,
    bytes_in: Family<OfJob, Counter>,
    bytes_out: Family<OfJob, Counter>,
    answered: Family<Answered, Counter>,
    held: Family<OfJob, Gauge>,
    unavailable: Family<Refused, Counter>,
    pauses: Family<OfJob, Histogram, fn() -> Histogram>,
    forbidden: Family<OfJob, Counter>,
    over_budget: Family<OverBudget, Counter>,
    failing: Gauge,
}

/// Open connections, with the number of their bytes that are counted.
#[derive(Debug, Default)]
struct Live {
    next: u64,
    connections: HashMap<u64, Counted>,
}

#[derive(Debug)]
struct Counted {
    job: JobId,
    record: Arc<ClientRecord>,
    bytes_in: u64,
    bytes_out: u64,
}

/// The reason of a 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The request was held for as long as its connection's hold limits allow.
    HeldTooLong,
    /// The hold limits allow no more held requests.
    TooManyHeld,
    /// The job executes and does not take connections.
    Unreachable,
    /// The connection to the job broke before the response.
    Broken,
    /// The response has a head beyond the limits.
    HeadTooLarge,
    /// The job speaks HTTP/2 alone, and the request was of HTTP/1.
    Http2Alone,
    /// The job is suspended, and the request does not wake it.
    Asleep,
}

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    Connections,
    Heads,
}

/// The class of an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Class(u8);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Job(JobId);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfJob {
    job: Job,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    job: Job,
    class: Class,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    job: Job,
    reason: Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverBudget {
    job: Job,
    budget: Budget,
}

/// An open connection; counted out by drop.
#[derive(Debug)]
pub struct OpenConnection {
    metrics: Metrics,
    key: u64,
}

/// A held request; counted out by drop.
#[derive(Debug)]
pub struct HeldRequest {
    metrics: Metrics,
    job: JobId,
}

impl Metrics {
    /// The metrics of a gateway, all zero.
    #[must_use]
    pub fn new(gateway: &GatewayId) -> Self {
        let gateway = ("gateway".into(), gateway.to_string().into());
        Self::of_registry(Registry::with_prefix_and_labels("mooring", [gateway].into_iter()))
    }

    fn of_registry(mut registry: Registry) -> Self {
        let series = Series {
            open: Family::default(),
            opened: Family::default(),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            answered: Family::default(),
            held: Family::default(),
            unavailable: Family::default(),
            pauses: Family::new_with_constructor(|| Histogram::new(PAUSES)),
            forbidden: Family::default(),
            over_budget: Family::default(),
            failing: Gauge::default(),
        };
        registry.register("connections", "open client connections", series.open.clone());
        // The encoder appends `_total` to the names of counters.
        registry.register("connections", "client connections since the start", series.opened.clone());
        registry.register("bytes_in", "bytes from clients to the job", series.bytes_in.clone());
        registry.register("bytes_out", "bytes from the job to clients", series.bytes_out.clone());
        registry.register("requests", "HTTP requests with a response", series.answered.clone());
        registry.register("requests_held", "held HTTP requests", series.held.clone());
        let unavailable = "HTTP requests answered with 503";
        registry.register("requests_refused", unavailable, series.unavailable.clone());
        registry.register("pauses_seconds", "how long the gate of the job was closed", series.pauses.clone());
        let forbidden = "clients that no security group allows";
        registry.register("connections_refused", forbidden, series.forbidden.clone());
        let over_budget = "connections and request heads beyond a budget";
        registry.register("over_budget", over_budget, series.over_budget.clone());
        registry.register("listeners_failing", "ports that can't be listened on", series.failing.clone());
        Self(Arc::new(Inner { registry, jobs: Mutex::default(), live: Mutex::default(), series }))
    }

    /// Counts for these jobs from now on, and removes the series of all others.
    pub fn retain_jobs(&self, jobs: BTreeSet<JobId>) {
        let mut counted = lock(&self.0.jobs);
        let series = &self.0.series;
        for gone in counted.difference(&jobs) {
            let of_job = of(gone);
            for family in [&series.opened, &series.bytes_in, &series.bytes_out, &series.forbidden] {
                family.remove(&of_job);
            }
            series.open.remove(&of_job);
            series.held.remove(&of_job);
            series.pauses.remove(&of_job);
            for class in (1..=5).map(Class) {
                series.answered.remove(&Answered { job: Job(gone.clone()), class });
            }
            for budget in [Budget::Connections, Budget::Heads] {
                series.over_budget.remove(&OverBudget { job: Job(gone.clone()), budget });
            }
            for reason in Unavailable::ALL {
                series.unavailable.remove(&Refused { job: Job(gone.clone()), reason });
            }
        }
        for new in jobs.difference(&counted) {
            // Prometheus sees the first change only of a series that it has seen at 0.
            series.open.get_or_create(&of(new)).set(0);
        }
        *counted = jobs;
    }

    /// Counts a client connection; its bytes are read from its record.
    #[must_use]
    pub fn connection_opened(&self, job: &JobId, record: Arc<ClientRecord>) -> OpenConnection {
        self.of(job, |series, of_job| {
            series.open.get_or_create(of_job).inc();
            series.opened.get_or_create(of_job).inc();
        });
        let mut live = lock(&self.0.live);
        let key = live.next;
        live.next += 1;
        live.connections.insert(key, Counted { job: job.clone(), record, bytes_in: 0, bytes_out: 0 });
        OpenConnection { metrics: self.clone(), key }
    }

    /// Counts a client that was refused before a byte was read.
    pub fn connection_refused(&self, job: &JobId) {
        self.of(job, |series, of_job| {
            series.forbidden.get_or_create(of_job).inc();
        });
    }

    /// Counts a held request.
    #[must_use]
    pub fn request_held(&self, job: &JobId) -> HeldRequest {
        self.of(job, |series, of_job| {
            series.held.get_or_create(of_job).inc();
        });
        HeldRequest { metrics: self.clone(), job: job.clone() }
    }

    /// Counts a response, by the job or by the gateway.
    pub fn request_answered(&self, job: &JobId, status: u16) {
        let class = Class(u8::try_from(status / 100).unwrap_or(5).clamp(1, 5));
        self.of(job, |series, of_job| {
            series.answered.get_or_create(&Answered { job: of_job.job.clone(), class }).inc();
        });
    }

    /// Counts a connection or a head beyond a budget.
    pub fn over_budget(&self, job: &JobId, budget: Budget) {
        self.of(job, |series, of_job| {
            series.over_budget.get_or_create(&OverBudget { job: of_job.job.clone(), budget }).inc();
        });
    }

    /// Counts a 503 by the gateway.
    pub fn request_refused(&self, job: &JobId, reason: Unavailable) {
        self.of(job, |series, of_job| {
            series.unavailable.get_or_create(&Refused { job: of_job.job.clone(), reason }).inc();
        });
    }

    /// Records how long the job's gate was closed.
    pub fn paused(&self, job: &JobId, pause: Duration) {
        self.of(job, |series, of_job| series.pauses.get_or_create(of_job).observe(pause.as_secs_f64()));
    }

    /// Sets the number of ports that can't be listened on.
    pub fn listeners_failing(&self, count: usize) {
        self.0.series.failing.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All series in the format of Prometheus.
    ///
    /// # Errors
    /// Never: writing text does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        for counted in lock(&self.0.live).connections.values_mut() {
            self.count(counted);
        }
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    /// Counts the bytes of a connection since the last time.
    fn count(&self, counted: &mut Counted) {
        let bytes_in = counted.record.bytes_in.load(Ordering::Relaxed);
        let bytes_out = counted.record.bytes_out.load(Ordering::Relaxed);
        self.of(&counted.job, |series, of_job| {
            series.bytes_in.get_or_create(of_job).inc_by(bytes_in.saturating_sub(counted.bytes_in));
            series.bytes_out.get_or_create(of_job).inc_by(bytes_out.saturating_sub(counted.bytes_out));
        });
        (counted.bytes_in, counted.bytes_out) = (bytes_in, bytes_out);
    }

    /// Counts for a job, if the job is connected.
    fn of(&self, job: &JobId, count: impl FnOnce(&Series, &OfJob)) {
        let counted = lock(&self.0.jobs);
        if counted.contains(job) {
            count(&self.0.series, &of(job));
        }
    }
}

impl Default for Metrics {
    /// The metrics of a gateway without an id.
    fn default() -> Self {
        Self::of_registry(Registry::with_prefix("mooring"))
    }
}

impl Unavailable {
    const ALL: [Self; 7] = [
        Self::HeldTooLong,
        Self::TooManyHeld,
        Self::Unreachable,
        Self::Broken,
        Self::HeadTooLarge,
        Self::Http2Alone,
        Self::Asleep,
    ];
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Some(mut counted) = lock(&self.metrics.0.live).connections.remove(&self.key) else { return };
        self.metrics.count(&mut counted);
        self.metrics.of(&counted.job, |series, of_job| {
            series.open.get_or_create(of_job).dec();
        });
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.metrics.of(&self.job, |series, of_job| {
            series.held.get_or_create(of_job).dec();
        });
    }
}

impl EncodeLabelValue for Job {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

impl EncodeLabelValue for Class {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        write!(encoder, "{}xx", self.0)
    }
}

impl EncodeLabelValue for Budget {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Connections => "connections",
            Self::Heads => "heads",
        })
    }
}

impl EncodeLabelValue for Unavailable {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::HeldTooLong => "heldTooLong",
            Self::TooManyHeld => "tooManyHeld",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::HeadTooLarge => "headTooLarge",
            Self::Http2Alone => "http2Alone",
            Self::Asleep => "asleep",
        })
    }
}

fn of(job: &JobId) -> OfJob {
    OfJob { job: Job(job.clone()) }
}

fn lock<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use mooring_types::Timestamp;

    use super::*;
    use crate::clients::Clients;

    struct Counting {
        metrics: Metrics,
        gateway: GatewayId,
        job: JobId,
        clients: Clients,
    }

    impl Counting {
        fn new() -> Self {
            let (gateway, job) = (GatewayId::random(&mut rand::rng()), JobId::random(&mut rand::rng()));
            let metrics = Metrics::new(&gateway);
            metrics.retain_jobs([job.clone()].into());
            Self { metrics, gateway, job, clients: Clients::default() }
        }

        fn record(&self) -> Arc<ClientRecord> {
            self.clients.enter("127.0.0.1:1".parse().unwrap(), Timestamp::UNIX_EPOCH).record.clone()
        }

        /// The value of a series with all of its other labels.
        fn value(&self, name: &str, more: &str) -> Option<f64> {
            let (gateway, job) = (&self.gateway, &self.job);
            let line = format!("{name}{{gateway=\"{gateway}\",job=\"{job}\"{more}}} ");
            let text = self.metrics.text().unwrap();
            text.lines().find_map(|other| other.strip_prefix(&line)).map(|value| value.parse().unwrap())
        }
    }

    #[test]
    fn bytes_are_counted_once() {
        let counting = Counting::new();
        let record = counting.record();
        let open = counting.metrics.connection_opened(&counting.job, record.clone());
        record.bytes_in.fetch_add(5, Ordering::Relaxed);
        assert_eq!(counting.value("mooring_bytes_in_total", ""), Some(5.0));
        record.bytes_in.fetch_add(2, Ordering::Relaxed);
        record.bytes_out.fetch_add(9, Ordering::Relaxed);
        assert_eq!(counting.value("mooring_connections", ""), Some(1.0));
        drop(open);
        assert_eq!(counting.value("mooring_bytes_in_total", ""), Some(7.0));
        assert_eq!(counting.value("mooring_bytes_out_total", ""), Some(9.0));
        assert_eq!(counting.value("mooring_connections", ""), Some(0.0));
        assert_eq!(counting.value("mooring_connections_total", ""), Some(1.0));
    }

    #[test]
    fn requests_are_counted_by_outcome() {
        let counting = Counting::new();
        let held = counting.metrics.request_held(&counting.job);
        assert_eq!(counting.value("mooring_requests_held", ""), Some(1.0));
        drop(held);
        assert_eq!(counting.value("mooring_requests_held", ""), Some(0.0));
        counting.metrics.request_answered(&counting.job, 204);
        counting.metrics.request_answered(&counting.job, 999);
        assert_eq!(counting.value("mooring_requests_total", ",class=\"2xx\""), Some(1.0));
        assert_eq!(counting.value("mooring_requests_total", ",class=\"5xx\""), Some(1.0));
        counting.metrics.request_refused(&counting.job, Unavailable::TooManyHeld);
        assert_eq!(counting.value("mooring_requests_refused_total", ",reason=\"tooManyHeld\""), Some(1.0));
        counting.metrics.paused(&counting.job, Duration::from_secs(3));
        assert_eq!(counting.value("mooring_pauses_seconds_count", ""), Some(1.0));
        assert_eq!(counting.value("mooring_pauses_seconds_sum", ""), Some(3.0));
    }

    #[test]
    fn disconnected_job_leaves_no_series() {
        let counting = Counting::new();
        let Counting { metrics, job, .. } = &counting;
        let (open, held) = (metrics.connection_opened(job, counting.record()), metrics.request_held(job));
        metrics.request_answered(job, 200);
        metrics.request_refused(job, Unavailable::Broken);
        metrics.paused(job, Duration::from_secs(1));
        metrics.connection_refused(job);
        metrics.retain_jobs(BTreeSet::new());
        // A later end does not bring the series back.
        drop((open, held));
        metrics.request_answered(job, 200);
        assert!(!metrics.text().unwrap().contains(job.as_str()));
    }
}

//! When bytes arrived on a connection.
//!
//! Arrivals within a millisecond are one, and only the most recent ones are remembered: at full
//! speed a bit more than a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Arrivals closer than this are one.
const GRAIN: Duration = Duration::from_millis(1);
/// The number of arrivals that are kept.
const REMEMBERED: usize = 1 << 16;

/// The arrivals of a connection.
#[derive(Debug)]
pub struct Progress {
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    recent: VecDeque<Instant>,
    last: Instant,
    longest: Duration,
    received: u64,
    delivered: u64,
    ended: bool,
}

/// The arrivals since an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The time from that instant to the first byte, in whole milliseconds; `None` without a byte.
    pub first_byte: Option<Duration>,
    /// The longest time without a byte, the one under way at that instant and the one that is still
    /// open included.
    pub longest_stall: Duration,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let record = Record {
            recent: VecDeque::from([now]),
            last: now,
            longest: Duration::ZERO,
            received: 0,
            delivered: 0,
            ended: false,
        };
        Self { record: Mutex::new(record) }
    }

    pub(super) fn note(&self, length: usize) {
        let now = Instant::now();
        let mut record = self.record();
        record.received += length as u64;
        record.longest = record.longest.max(now - record.last);
        record.last = now;
        if record.recent.back().is_none_or(|before| now - *before >= GRAIN) {
            if record.recent.len() == REMEMBERED {
                record.recent.pop_front();
            }
            record.recent.push_back(now);
        }
    }

    pub(super) fn note_delivered(&self, bytes: u64) {
        self.record().delivered = bytes;
    }

    pub(super) fn end(&self) {
        self.record().ended = true;
    }

    pub(super) fn ended(&self) -> bool {
        self.record().ended
    }

    pub(super) fn received(&self) -> u64 {
        self.record().received
    }

    /// Returns the bytes that the other end last reported as received.
    pub(super) fn delivered(&self) -> u64 {
        self.record().delivered
    }

    /// The longest time between two arrivals.
    pub(super) fn longest_stall(&self) -> Duration {
        self.record().longest
    }

    pub(super) fn since(&self, at: Instant) -> Flow {
        let record = self.record();
        let first = record.recent.partition_point(|arrival| *arrival < at);
        let from = record.recent.range(first.saturating_sub(1)..).copied();
        let stalls = from.clone().zip(from.skip(1)).map(|(before, after)| after - before);
        Flow {
            first_byte: record.recent.get(first).map(|arrival| *arrival - at),
            longest_stall: stalls.chain([record.last.elapsed()]).max().unwrap_or_default(),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }
}

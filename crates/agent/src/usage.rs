//! The usage of the jobs of this host.
//!
//! Each job's control group and interface are read every second. Every interval a reading becomes a
//! sample of the next report. The first sample of a job comes earlier: a drain has to know the size
//! of a job that was just started. A job that begins to lack memory is sampled at once: it may be
//! killed before the interval is over. Counters restart with each generation of a job and with each
//! control group, so a first reading is only compared with.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mooring_api::watch::UsageSample;
use mooring_linux::usage::{Counters, interface_bytes};
use mooring_types::usage::Usage;
use mooring_types::{Clock, Generation, JobId, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::job::Jobs;
use crate::runtime::job_dir::JobDir;

/// The interval of readings, at most the interval of samples.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// The interval before the first sample of a job, at most the interval of samples.
const FIRST_INTERVAL: Duration = Duration::from_secs(3);
/// The number of files of a job from which on their size is not counted.
const COUNTED_FILES_MAX: usize = 10_000;

/// Measures the jobs of this host.
#[derive(Debug)]
pub(crate) struct Sampler {
    host: Arc<Host>,
    jobs: Jobs,
    samples: HashMap<JobId, LastSample>,
    /// The number of kills for lack of memory.
    kills: u64,
}

/// The last sample of a job.
#[derive(Debug)]
struct LastSample {
    generation: Generation,
    reading: Reading,
    lacked_memory: bool,
    /// True when the reading was only taken to be compared with.
    is_first: bool,
}

/// One reading of a job's counters.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    counters: Counters,
    /// Bytes received and sent.
    network: (u64, u64),
}

impl Sampler {
    pub(crate) fn new(host: Arc<Host>, jobs: Jobs) -> Self {
        Self { host, jobs, samples: HashMap::new(), kills: 0 }
    }

    /// Measures until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let interval = self.host.config.metrics_interval;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(READ_INTERVAL.min(interval)) => self.read(interval).await,
            }
        }
    }

    async fn read(&mut self, interval: Duration) {
        let kills = self.jobs.note_processes();
        if kills != self.kills {
            self.kills = kills;
            self.host.observed.notify_one();
        }
        let executing = self.jobs.executing();
        self.samples.retain(|job, _| executing.iter().any(|(id, _, _)| id == job));
        for (job, generation, job_dir) in executing {
            let Some(now) = Reading::of(&job_dir) else {
                self.samples.remove(&job);
                continue;
            };
            let last = self.samples.get(&job).filter(|last| last.generation == generation);
            let usage = last.and_then(|last| now.since(&last.reading));
            let (Some(last), Some(mut usage)) = (last, usage) else {
                self.samples.insert(job, LastSample { generation, reading: now, lacked_memory: false, is_first: true });
                continue;
            };
            let lacks_memory = usage.lacks_memory().is_some();
            let interval = if last.is_first { FIRST_INTERVAL.min(interval) } else { interval };
            let is_due = now.at.duration_since(last.reading.at) >= interval;
            if !is_due && (last.lacked_memory || !lacks_memory) {
                continue;
            }
            usage.disk = disk(job_dir.upper()).await;
            let sample = UsageSample { time: SystemClock.now(), usage };
            self.jobs.measured(&job, generation, sample);
            self.samples
                .insert(job, LastSample { generation, reading: now, lacked_memory: lacks_memory, is_first: false });
            self.host.observed.notify_one();
        }
    }
}

impl Reading {
    /// Reads the kernel's counters of a job; `None` while it has none.
    fn of(job_dir: &JobDir) -> Option<Self> {
        let counters = job_dir.cgroup().counters().ok()?;
        // The host's end of the interface receives what the job sends.
        let (sent, received) = interface_bytes(job_dir.interface()).unwrap_or_default();
        Some(Self { at: Instant::now(), counters, network: (received, sent) })
    }

    /// The usage since an earlier reading; `None` where a counter restarted in between.
    fn since(&self, before: &Self) -> Option<Usage> {
        let (now, then) = (&self.counters, &before.counters);
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let cpu_seconds = now.cpu.checked_sub(then.cpu)?.as_secs_f64();
        Some(Usage {
            seconds,
            cpu_used: if seconds > 0.0 { cpu_seconds / seconds } else { 0.0 },
            cpu: now.cores.unwrap_or_default(),
            mem_used: now.memory.used,
            mem: now.memory.limit.unwrap_or_default(),
            page_cache: now.memory.page_cache,
            swap: now.memory.swap,
            limit_hits: now.memory.limit_hits.checked_sub(then.memory.limit_hits)?,
            processes: now.processes,
            received: self.network.0.checked_sub(before.network.0)?,
            sent: self.network.1.checked_sub(before.network.1)?,
            disk: None,
        })
    }
}

/// The size on disk of the files that a job has changed.
async fn disk(upper: PathBuf) -> Option<u64> {
    tokio::task::spawn_blocking(move || blocks_below(&upper)).await.ok().flatten()
}

fn blocks_below(directory: &Path) -> Option<u64> {
    const BLOCK: u64 = 512;
    let (mut left, mut sum, mut open) = (COUNTED_FILES_MAX, 0, vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        // A file that is removed meanwhile counts as nothing.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            sum += metadata.blocks() * BLOCK;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use mooring_linux::usage::Memory;
    use proptest::prelude::*;

    use super::*;

    fn reading(at: Instant, cpu_ms: u64, hits: u64, network: (u64, u64)) -> Reading {
        let memory = Memory { used: 700, limit: Some(1000), page_cache: 100, swap: 0, limit_hits: hits };
        let counters = Counters { cpu: Duration::from_millis(cpu_ms), cores: Some(2.0), memory, processes: 3 };
        Reading { at, counters, network }
    }

    #[test]
    fn disk_counts_a_bounded_number_of_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/file"), vec![1; 100_000]).unwrap();
        let counted = blocks_below(directory.path()).unwrap();
        assert!((100_000..300_000).contains(&counted), "{counted}");
        for number in 0..=COUNTED_FILES_MAX {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(blocks_below(directory.path()), None);
    }

    proptest! {
        #[test]
        fn usage_is_the_difference_of_readings(ms in 1_u64..60_000, cpu in 0_u64..120_000, bytes in 0_u64..1_000_000, hits in 0_u64..9) {
            let began = Instant::now();
            let before = reading(began, 5_000, 2, (10, 20));
            let now = reading(began + Duration::from_millis(ms), 5_000 + cpu, 2 + hits, (10 + bytes, 20));
            let usage = now.since(&before).unwrap();
            prop_assert!((usage.cpu_used - cpu as f64 / ms as f64).abs() < 1e-6);
            prop_assert_eq!((usage.received, usage.sent, usage.limit_hits), (bytes, 0, hits));
        }

        #[test]
        fn restarted_counters_give_no_usage(before in 1_u64..10_000, now in 0_u64..10_000) {
            prop_assume!(now < before);
            let at = Instant::now();
            prop_assert!(reading(at, now, 0, (0, 0)).since(&reading(at, before, 0, (0, 0))).is_none());
            prop_assert!(reading(at, 0, now, (0, 0)).since(&reading(at, 0, before, (0, 0))).is_none());
            prop_assert!(reading(at, 0, 0, (now, 0)).since(&reading(at, 0, 0, (before, 0))).is_none());
        }
    }
}

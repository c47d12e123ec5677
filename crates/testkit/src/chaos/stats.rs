//! Memory and descriptors of a world's processes over time.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use crate::world::World;

/// The growth, relative and absolute, that the minimum of a figure may show between the second and
/// the last fifth of a process's life.
const GROWTH: f64 = 0.15;
const MEMORY_SLACK_MB: f64 = 16.0;
const DESCRIPTORS_SLACK: f64 = 48.0;
/// The shortest life of a process from which growth can be judged.
const MIN_LIFE_SECONDS: f64 = 60.0;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    memory_mb: f64,
    descriptors: f64,
}

/// The samples of every process, also of those that have ended.
#[derive(Debug)]
pub(super) struct Stats {
    began: Instant,
    samples: BTreeMap<(String, i32), Vec<Sample>>,
}

impl Stats {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), samples: BTreeMap::new() }
    }

    pub(super) fn sample(&mut self, world: &World) {
        for daemon in world.daemons(&["server"]) {
            let after = |word: &str| daemon.arguments.iter().skip_while(|known| *known != word).nth(1).cloned();
            let name = after("--name").or_else(|| after("server")).unwrap_or_default();
            let at = self.began.elapsed().as_secs_f64();
            // A process that ends meanwhile has no figures.
            if let Some((memory_mb, descriptors)) = figures(daemon.pid) {
                self.samples.entry((name, daemon.pid)).or_default().push(Sample { at, memory_mb, descriptors });
            }
        }
    }

    /// Returns a sentence for each process that grew.
    pub(super) fn grown(&self) -> Vec<String> {
        let grew = |((name, pid), samples): (&(String, i32), &Vec<Sample>)| {
            let (early, late) = (fifth(samples, 1)?, fifth(samples, 4)?);
            let more = |early: f64, late: f64, slack: f64| late > early * (1.0 + GROWTH) + slack;
            let memory = more(early.memory_mb, late.memory_mb, MEMORY_SLACK_MB);
            let descriptors = more(early.descriptors, late.descriptors, DESCRIPTORS_SLACK);
            let text = format!(
                "{name} ({pid}) grew from {:.0} MB and {} descriptors to {:.0} MB and {}",
                early.memory_mb, early.descriptors, late.memory_mb, late.descriptors
            );
            (memory || descriptors).then_some(text)
        };
        self.samples.iter().filter_map(grew).collect()
    }

    /// Returns the maximum of each kind of process.
    pub(super) fn most(&self) -> String {
        let mut most: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for ((name, _), samples) in &self.samples {
            let (memory, descriptors) = most.entry(name).or_default();
            for sample in samples {
                (*memory, *descriptors) = (memory.max(sample.memory_mb), descriptors.max(sample.descriptors));
            }
        }
        let text = |(name, (memory, descriptors)): (&&str, &(f64, f64))| {
            format!("{name} {memory:.0} MB and {descriptors} descriptors")
        };
        most.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

/// Returns the minimum of each figure in a fifth of a process's life; `None` for a short life.
fn fifth(samples: &[Sample], number: usize) -> Option<Sample> {
    let (first, last) = (samples.first()?, samples.last()?);
    let life = last.at - first.at;
    let start = first.at + life / 5.0 * number as f64;
    let within = samples.iter().filter(|sample| (start..=start + life / 5.0).contains(&sample.at)).copied();
    let least = within.reduce(|least, sample| Sample {
        at: least.at,
        memory_mb: least.memory_mb.min(sample.memory_mb),
        descriptors: least.descriptors.min(sample.descriptors),
    });
    least.filter(|_| life >= MIN_LIFE_SECONDS)
}

/// Returns resident memory in MB and the number of open descriptors.
fn figures(pid: i32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())?;
    let kilobytes: f64 = resident.parse().ok()?;
    Some((kilobytes / 1024.0, fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_growth_is_found() {
        let grown = |memory: &dyn Fn(u32) -> f64| {
            let sample = |at: u32| Sample { at: f64::from(at), memory_mb: memory(at), descriptors: 20.0 };
            let mut stats = Stats::begin();
            stats.samples.insert(("agent".into(), 1), (0..100).map(sample).collect());
            stats.grown().len()
        };
        assert_eq!(grown(&|at| 50.0 + f64::from(at)), 1);
        assert_eq!(grown(&|at| 50.0 + f64::from(at % 10) * 5.0), 0);
    }
}

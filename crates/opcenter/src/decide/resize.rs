//! Decides the size that a job should have: a pure function of its policy, its size and what it
//! used.
//!
//! Cores and memory are judged apart. Use above the upper bound in every measurement of that
//! bound's duration asks for more, use below the lower bound for less. Measurements before the last
//! migration do not count, since the size was another one. A job that lacks memory
//! ([`Usage::lacks_memory`]) needs no duration: it migrates at once if its policy says so.
//!
//! | | more | less |
//! |---|---|---|
//! | by step | larger by the step's percentage, at least by one core | smaller by it, at least by one core or 0.5 GB |
//! | by use (`stepAuto`) | puts the highest use in the middle between the bounds | the same |
//! | rounded | up to whole cores and 0.5 GB | up to whole cores and 0.5 GB |
//! | limited by | `limit` and the maximum of the submission | `lowerLimit`, else the size of the submission; the highest use stays below the upper bound |

use std::time::Duration;

use mooring_store::UsageRow;
use mooring_types::duration::format_duration;
use mooring_types::host::Resources;
use mooring_types::policy::{Bounds, JobPolicy, Moves, Step};
use mooring_types::usage::{MOST, Usage};

/// The granularity of memory in GB.
const MEM_GB_STEP: f64 = 0.5;
const BYTES_PER_GB: f64 = 1e9;

/// Another size for a job, with the reason.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Advice {
    pub(crate) size: Resources,
    pub(crate) reason: String,
}

/// The direction in which one resource should change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trend {
    More,
    Less,
}

/// Returns the size that a job should have instead of `now`, if any. The history is that of its
/// present generation, oldest first.
pub(crate) fn advise(policy: &JobPolicy, submitted: Resources, now: Resources, history: &[UsageRow]) -> Option<Advice> {
    if policy.moves == Moves::Disabled {
        return None;
    }
    let mut size = now;
    let mut reasons = Vec::new();
    if let Some((trend, reason)) = wanted_cpu(policy, history)
        && let Some(cpu) = next_cpu(policy, submitted.cpu, now.cpu, trend, history)
    {
        size.cpu = cpu;
        reasons.push(reason);
    }
    if let Some((trend, reason)) = wanted_mem(policy, history)
        && let Some(mem_gb) = next_mem(policy, submitted.mem_gb, now.mem_gb, trend, history)
    {
        size.mem_gb = mem_gb;
        reasons.push(reason);
    }
    (!reasons.is_empty()).then(|| Advice { size, reason: reasons.join("; ") })
}

/// Returns how far back a policy looks; `None` if it never resizes.
pub(crate) fn looks_back(policy: &JobPolicy) -> Option<Duration> {
    let rules = &policy.migrate_policy;
    let longest = |upper: Duration, lower: Duration| upper.max(lower);
    let cpu = rules.watches_cpu().then(|| longest(rules.cpu.upper_bound_duration, rules.cpu.lower_bound_duration));
    let mem = rules.watches_mem().then(|| longest(rules.mem.upper_bound_duration, rules.mem.lower_bound_duration));
    let evades = rules.evade_oom.then_some(Duration::ZERO);
    if policy.moves == Moves::Disabled { None } else { [cpu, mem, evades].into_iter().flatten().max() }
}

fn wanted_cpu(policy: &JobPolicy, history: &[UsageRow]) -> Option<(Trend, String)> {
    let rules = &policy.migrate_policy;
    rules.watches_cpu().then(|| trend("CPU", &rules.cpu, history, Usage::cpu_ratio)).flatten()
}

fn wanted_mem(policy: &JobPolicy, history: &[UsageRow]) -> Option<(Trend, String)> {
    let rules = &policy.migrate_policy;
    let lack = history.last().filter(|_| rules.evade_oom).and_then(|newest| newest.usage.lacks_memory());
    match lack {
        Some(sign) => Some((Trend::More, sign.to_owned())),
        None => rules.watches_mem().then(|| trend("memory", &rules.mem, history, Usage::mem_ratio)).flatten(),
    }
}

fn trend<T>(name: &str, bounds: &Bounds<T>, history: &[UsageRow], ratio: fn(&Usage) -> f64) -> Option<(Trend, String)> {
    let (upper, lower) = (f64::from(bounds.upper_bound_ratio), f64::from(bounds.lower_bound_ratio));
    let reason = |word, bound, time| format!("{name} {word} {bound} % for {}", short(time));
    if lasts(history, bounds.upper_bound_duration, |usage| ratio(usage) > upper) {
        return Some((Trend::More, reason("above", upper, bounds.upper_bound_duration)));
    }
    let is_below = lasts(history, bounds.lower_bound_duration, |usage| ratio(usage) < lower);
    is_below.then(|| (Trend::Less, reason("below", lower, bounds.lower_bound_duration)))
}

/// Returns whether `holds` is true of all measurements of the last `duration`, which they have to
/// cover.
fn lasts(history: &[UsageRow], duration: Duration, holds: impl Fn(&Usage) -> bool) -> bool {
    let mut covered = 0.0;
    for row in history.iter().rev() {
        if !holds(&row.usage) {
            return false;
        }
        covered += row.usage.seconds;
        if covered >= duration.as_secs_f64() {
            return true;
        }
    }
    false
}

/// Returns the highest use in the time that a policy looks back.
fn peak(history: &[UsageRow], used: impl Fn(&Usage) -> f64) -> f64 {
    history.iter().map(|row| used(&row.usage)).fold(0.0, f64::max)
}

/// Returns the size at which a use is in the middle between the bounds.
fn for_use<T>(bounds: &Bounds<T>, peak: f64) -> f64 {
    peak / (f64::from(bounds.upper_bound_ratio + bounds.lower_bound_ratio) / 200.0)
}

fn next_cpu(policy: &JobPolicy, submitted: u32, now: u32, trend: Trend, history: &[UsageRow]) -> Option<u32> {
    let bounds = &policy.migrate_policy.cpu;
    let peak = peak(history, |usage| usage.cpu_used);
    let step = f64::from(now) * f64::from(bounds.step) / 100.0;
    let target = |by_step: f64| match policy.migrate_policy.step {
        Step::Auto => for_use(bounds, peak),
        Step::Manual => by_step,
    };
    match trend {
        Trend::More => {
            let most = [bounds.limit, policy.cpu_max].into_iter().flatten().min().unwrap_or(u32::MAX);
            let next = cores(target(f64::from(now) + step)).max(now.saturating_add(1)).min(most);
            (next > now).then_some(next)
        }
        Trend::Less => {
            let enough = (peak * 100.0 / f64::from(bounds.upper_bound_ratio)).ceil() as u32;
            let least = bounds.lower_limit.unwrap_or(submitted).max(enough).max(1);
            let next = cores(target(f64::from(now) - step)).min(now.saturating_sub(1)).max(least);
            (next < now).then_some(next)
        }
    }
}

fn next_mem(policy: &JobPolicy, submitted: f64, now: f64, trend: Trend, history: &[UsageRow]) -> Option<f64> {
    let bounds = &policy.migrate_policy.mem;
    let peak = peak(history, |usage| usage.mem_used as f64 / BYTES_PER_GB);
    let step = now * f64::from(bounds.step) / 100.0;
    let target = |by_step: f64| match policy.migrate_policy.step {
        Step::Auto => for_use(bounds, peak),
        Step::Manual => by_step,
    };
    match trend {
        Trend::More => {
            let most = [bounds.limit, policy.mem_gb_max].into_iter().flatten().fold(f64::INFINITY, f64::min);
            let next = pieces(target(now + step)).max(pieces_above(now)).min(most);
            (next > now).then_some(next)
        }
        Trend::Less => {
            // A size that lacks memory would grow back at once.
            let enough = pieces_above(peak * 100.0 / f64::from(bounds.upper_bound_ratio).min(MOST));
            let least = bounds.lower_limit.unwrap_or(submitted).max(enough);
            let next = pieces(target(now - step)).min(pieces(now) - MEM_GB_STEP).max(least);
            (next < now).then_some(next)
        }
    }
}

/// Rounds up to whole cores.
fn cores(number: f64) -> u32 {
    // Floating point noise above a whole number must not add a core.
    (number - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Rounds up to whole pieces.
fn pieces(gb: f64) -> f64 {
    (gb / MEM_GB_STEP - 1e-9).ceil() * MEM_GB_STEP
}

/// Returns the next whole piece above.
fn pieces_above(gb: f64) -> f64 {
    (gb / MEM_GB_STEP).floor() * MEM_GB_STEP + MEM_GB_STEP
}

/// Formats a duration without zero units: `30m`, where scripts get `30m0s`.
pub(crate) fn short(duration: Duration) -> String {
    let mut text = format_duration(duration);
    for nothing in ["0s", "0m"] {
        let shorter = text.strip_suffix(nothing).filter(|left| left.ends_with(|unit: char| unit.is_ascii_alphabetic()));
        match shorter {
            Some(shorter) => text = shorter.to_owned(),
            None => break,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use mooring_types::job::JobStatus;
    use mooring_types::policy::MigratePolicy;
    use mooring_types::{Generation, JobId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    const NOW: Resources = Resources { cpu: 4, mem_gb: 4.0 };

    fn history(now: Resources, uses: &[(f64, f64)]) -> Vec<UsageRow> {
        let job = JobId::random(&mut rand::rng());
        let row = |(index, (cpu, mem)): (usize, &(f64, f64))| UsageRow {
            job: job.clone(),
            time: Timestamp::from_second(index as i64 * 20).unwrap(),
            generation: Generation(1),
            status: JobStatus::Executing,
            usage: Usage {
                seconds: 20.0,
                cpu_used: f64::from(now.cpu) * cpu / 100.0,
                cpu: f64::from(now.cpu),
                mem_used: (now.mem_gb * BYTES_PER_GB * mem / 100.0) as u64,
                mem: (now.mem_gb * BYTES_PER_GB) as u64,
                ..Usage::default()
            },
        };
        uses.iter().enumerate().map(row).collect()
    }

    fn policy(text: &str) -> JobPolicy {
        JobPolicy { migrate_policy: text.parse().unwrap(), ..JobPolicy::default() }
    }

    fn size(text: &str, submitted: Resources, uses: &[(f64, f64)]) -> Option<(u32, f64)> {
        advise(&policy(text), submitted, NOW, &history(NOW, uses)).map(|advice| (advice.size.cpu, advice.size.mem_gb))
    }

    #[test]
    fn what_lasts_asks_for_another_size() {
        let idle = (1.0, 50.0);
        let advice = advise(&policy(""), NOW, NOW, &history(NOW, &[(50.0, 91.0), (50.0, 92.0)])).unwrap();
        assert_eq!(advice.size, Resources { cpu: 4, mem_gb: 6.0 });
        assert_eq!(advice.reason, "memory above 90 % for 30s");
        assert_eq!(size("", NOW, &[(50.0, 92.0)]), None, "20 s are no 30 s");
        assert_eq!(size("", NOW, &[(95.0, 50.0), (50.0, 50.0), (95.0, 50.0)]), None, "a pause in between");
        assert_eq!(size("", NOW, &[(99.0, 50.0); 2]), Some((6, 4.0)));
        let small = Resources { cpu: 1, mem_gb: 1.0 };
        assert_eq!(size("", small, &[idle; 15]), Some((2, 4.0)));
        assert_eq!(size("", NOW, &[idle; 15]), None, "it was submitted with so much");
        assert_eq!(size("cpu.lowerLimit=3", NOW, &[idle; 15]), Some((3, 4.0)));
        assert_eq!(size("cpu.disable=true", small, &[idle; 15]), None);
        assert_eq!(size("cpu.limit=5", NOW, &[(99.0, 50.0); 2]), Some((5, 4.0)));
        assert_eq!(size("cpu.limit=4", NOW, &[(99.0, 50.0); 2]), None);
    }

    #[test]
    fn automatic_steps_follow_use() {
        let rule =
            "stepAuto=true,cpu.upperBoundRatio=80,cpu.lowerBoundRatio=20,mem.upperBoundRatio=80,mem.lowerBoundRatio=20";
        assert_eq!(size(rule, NOW, &[(100.0, 100.0); 2]), Some((8, 8.0)));
        let small = Resources { cpu: 1, mem_gb: 0.5 };
        assert_eq!(size(rule, small, &[(10.0, 10.0); 15]), Some((1, 1.0)));
    }

    #[test]
    fn lack_of_memory_resizes_at_once() {
        let alarming = [(50.0, 50.0), (50.0, 96.0)];
        assert_eq!(size("", NOW, &alarming), Some((4, 6.0)));
        assert_eq!(size("disable=true", NOW, &alarming), Some((4, 6.0)), "evadeOOM is apart");
        assert_eq!(size("evadeOOM=false", NOW, &alarming), None);
        assert_eq!(size("mem.limit=4.7", NOW, &alarming), Some((4, 4.7)));
        assert_eq!(size("mem.limit=4", NOW, &alarming), None);
        let fixed = JobPolicy { moves: Moves::Disabled, ..policy("") };
        assert_eq!(advise(&fixed, NOW, NOW, &history(NOW, &alarming)), None);
        assert_eq!(looks_back(&fixed), None);
        assert_eq!(advise(&JobPolicy::default(), NOW, NOW, &history(NOW, &[(100.0, 100.0); 99])), None);
        assert_eq!(looks_back(&JobPolicy::default()), None);
    }

    #[test]
    fn durations_say_no_more_than_they_have_to() {
        for (seconds, text) in
            [(0, "0s"), (30, "30s"), (90, "1m30s"), (1800, "30m"), (3600, "1h"), (3660, "1h1m"), (600, "10m")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    fn any_policy() -> impl Strategy<Value = MigratePolicy> {
        let bounds = || (2_u32..=100, 0_u32..100, 1_u32..200, prop::option::of(1_u32..64), prop::option::of(1_u32..64));
        (bounds(), bounds(), any::<bool>(), any::<bool>()).prop_map(|(cpu, mem, auto, evade_oom)| {
            let mut policy = MigratePolicy { evade_oom, ..MigratePolicy::GIVEN };
            policy.step = if auto { Step::Auto } else { Step::Manual };
            let lower_of = |upper: u32, lower: u32| lower % upper;
            policy.cpu.upper_bound_ratio = cpu.0;
            policy.cpu.lower_bound_ratio = lower_of(cpu.0, cpu.1);
            (policy.cpu.step, policy.cpu.limit) = (cpu.2, cpu.3);
            policy.cpu.lower_limit = cpu.4.map(|lower| lower.min(cpu.3.unwrap_or(u32::MAX)));
            policy.mem.upper_bound_ratio = mem.0;
            policy.mem.lower_bound_ratio = lower_of(mem.0, mem.1);
            (policy.mem.step, policy.mem.limit) = (mem.2, mem.3.map(f64::from));
            policy.mem.lower_limit = mem.4.map(|lower| f64::from(lower.min(mem.3.unwrap_or(u32::MAX))));
            policy
        })
    }

    proptest! {
        #[test]
        fn advice_stays_within_limits_and_above_use(
            migrate_policy in any_policy(),
            (cpu, half_gb) in (1_u32..64, 1_u32..128),
            (cpu_submitted, half_gb_submitted) in (1_u32..64, 1_u32..128),
            max in prop::option::of((1_u32..64, 1_u32..64)),
            uses in prop::collection::vec((0.0..100.0, 0.0..100.0), 0..20),
        ) {
            let (cpu_max, mem_gb_max) = (max.map(|max| max.0), max.map(|max| f64::from(max.1)));
            let policy = JobPolicy { migrate_policy, cpu_max, mem_gb_max, ..JobPolicy::default() };
            let now = Resources { cpu, mem_gb: f64::from(half_gb) * MEM_GB_STEP };
            let submitted = Resources { cpu: cpu_submitted, mem_gb: f64::from(half_gb_submitted) * MEM_GB_STEP };
            let history = history(now, &uses);
            let Some(Advice { size, reason }) = advise(&policy, submitted, now, &history) else { return Ok(()) };
            prop_assert!(size != now && !reason.is_empty());
            let (cpu, mem) = (&migrate_policy.cpu, &migrate_policy.mem);
            if size.cpu > now.cpu {
                prop_assert!(cpu.limit.is_none_or(|limit| size.cpu <= limit) && cpu_max.is_none_or(|max| size.cpu <= max));
            }
            if size.cpu < now.cpu {
                prop_assert!(size.cpu >= cpu.lower_limit.unwrap_or(submitted.cpu).max(1));
                let used = peak(&history, |usage| usage.cpu_used);
                prop_assert!(used / f64::from(size.cpu) * 100.0 <= f64::from(cpu.upper_bound_ratio));
            }
            if size.mem_gb > now.mem_gb {
                prop_assert!(mem.limit.is_none_or(|limit| size.mem_gb <= limit));
                prop_assert!(mem_gb_max.is_none_or(|max| size.mem_gb <= max));
            }
            if size.mem_gb < now.mem_gb {
                prop_assert!(size.mem_gb >= mem.lower_limit.unwrap_or(submitted.mem_gb));
                let used = peak(&history, |usage| usage.mem_used as f64 / BYTES_PER_GB);
                prop_assert!(used / size.mem_gb * 100.0 <= f64::from(mem.upper_bound_ratio));
                prop_assert!(history.last().unwrap().usage.lacks_memory().is_none() || !migrate_policy.evade_oom);
            }
        }

        #[test]
        fn same_use_never_reverts_a_resize(
            migrate_policy in any_policy(), (cpu, half_gb) in (1_u32..64, 1_u32..128), used in (0.0..100.0, 0.0..100.0),
        ) {
            let policy = JobPolicy { migrate_policy, ..JobPolicy::default() };
            let now = Resources { cpu, mem_gb: f64::from(half_gb) * MEM_GB_STEP };
            let history = history(now, &[used; 20]);
            let Some(first) = advise(&policy, now, now, &history) else { return Ok(()) };
            let moved: Vec<UsageRow> = history.into_iter().map(|row| UsageRow {
                usage: Usage { cpu: f64::from(first.size.cpu), mem: (first.size.mem_gb * BYTES_PER_GB) as u64, ..row.usage },
                ..row
            }).collect();
            let Some(second) = advise(&policy, now, first.size, &moved) else { return Ok(()) };
            // It may go further the same way; an earlier lower limit is no way back.
            prop_assert!(first.size.cpu <= now.cpu || second.size.cpu >= now.cpu);
            prop_assert!(first.size.cpu >= now.cpu || second.size.cpu <= first.size.cpu);
            prop_assert!(first.size.mem_gb >= now.mem_gb || second.size.mem_gb <= first.size.mem_gb);
        }
    }
}

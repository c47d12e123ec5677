//! Decides which jobs leave a drained host next, and how: a pure function of the jobs on it.
//!
//! ```text
//!   by hand      until a deadline, if one was given     everything leaves
//!   reclaimed    until RECLAIM_MARGIN before the cloud's time   everything leaves
//!   at risk      no deadline                            what another host has room for leaves
//! ```
//!
//! The job with the largest state goes first, since its migration takes longest. Its state is the
//! memory that it uses, or its memory limit until that was measured. The number of jobs that leave
//! at once is limited. They compete for the host's cores and its network, and each is frozen for as
//! long as all of them take.
//!
//! A job migrates where another host has room, its policy allows it and the time is enough;
//! otherwise it is suspended. A failed migration is repeated, to another host if there is one;
//! after [`ATTEMPTS_MAX`] failures the job is suspended. Where that fails too, both are tried in
//! turn. A job that has failed to leave goes after
//! those that have not, and after a longer pause each time ([`pause_after`]).
//!
//! * [`situation`]: what the state says of a drained host.
//! * [`standing`]: what users are told of each job on it.
//!
//! The time needed is [`FIXED_COST`] plus the job's size divided by the rate of earlier migrations.
//! For a suspend the rate is that of earlier capsules. Only transfers of at least
//! [`MEASURED_BYTES_MIN`] count; without any the rate is [`RATE_DEFAULT`].
//!
//! A suspend that seems to take too long comes last, after all that can end in time has begun. The
//! estimate may be wrong, and without the suspend only an older snapshot is left. A migration that
//! seems too long never begins: interrupted at its end, it leaves a job with two hosts of which one
//! is gone.
//!
//! Migrations, suspends and snapshots under way count as jobs that leave. One that takes
//! [`OVERDUE_FACTOR`] times as long as estimated counts no more: it may be stuck, and the others
//! have to leave in time. Where one after the other would take longer than the time left, more of
//! them leave at once.

pub(crate) mod situation;
pub(crate) mod standing;

use std::cmp::Reverse;
use std::time::Duration;

use mooring_api::watch::Notice;
use mooring_store::{Drain, Extent, MigrationRow};
use mooring_types::migration::Phase;
use mooring_types::placement::{Asked, Candidate, NoHost, choose};
use mooring_types::{HostId, JobId, Timestamp};

/// The number of migrations of a job that may fail before the job is suspended.
pub(crate) const ATTEMPTS_MAX: usize = 3;
/// The time before a reclaimed machine goes, at which all jobs have to have left it.
pub(crate) const RECLAIM_MARGIN: Duration = Duration::from_secs(10);
/// The time that leaving takes regardless of the size: quiesce, two starts of CRIU, retire.
const FIXED_COST: Duration = Duration::from_secs(4);
/// The pause of a job after its first failure to leave; doubled after each further one.
const RETRY_DELAY: Duration = Duration::from_secs(5);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// The part of the time left that a pause may take: a job has some attempts until the deadline.
const RETRY_SHARE: u32 = 4;
/// A job that leaves for this many times its estimated time may be stuck.
const OVERDUE_FACTOR: u32 = 3;
/// The assumed bytes per second without a measurement: a modest disk or a gigabit network.
const RATE_DEFAULT: f64 = 100e6;
/// The transfer of fewer bytes takes the fixed cost only, and says nothing about the rate.
const MEASURED_BYTES_MIN: u64 = 64_000_000;

/// A host that is drained.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    pub(crate) host: HostId,
    pub(crate) extent: Extent,
    /// The time left until the deadline, if there is one.
    pub(crate) left: Option<Duration>,
    /// The number of jobs that may leave at once.
    pub(crate) at_once: usize,
    /// The number of jobs that leave now and are not overdue.
    pub(crate) under_way: usize,
    pub(crate) has_store: bool,
    /// Bytes per second between hosts.
    pub(crate) host_rate: f64,
    /// Bytes per second into the capsule store.
    pub(crate) store_rate: f64,
    /// The jobs on the host that do not migrate yet.
    pub(crate) jobs: Vec<Leaver>,
}

/// A job that is to leave.
#[derive(Debug, Clone)]
pub(crate) struct Leaver {
    pub(crate) job: JobId,
    pub(crate) bytes: u64,
    pub(crate) asked: Asked,
    pub(crate) may_move: bool,
    /// The number of its failures to leave in this drain.
    pub(crate) tries: usize,
    /// The destinations of failed migrations of this drain.
    pub(crate) failed_to: Vec<HostId>,
    /// True after a recent failure: the job waits before it tries again.
    pub(crate) rests: bool,
}

/// The way in which a job leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Departure {
    /// To another host.
    Migrate(HostId),
    /// Into the capsule store.
    Suspend {
        /// The reason why the job does not migrate.
        why: &'static str,
    },
}

/// Returns the jobs that leave now. Adds their size to the candidates' use.
pub(crate) fn next(situation: &Situation, candidates: &mut [Candidate]) -> Vec<(JobId, Departure)> {
    let mut free = situation.at_once().saturating_sub(situation.under_way);
    let mut jobs: Vec<&Leaver> = situation.jobs.iter().collect();
    jobs.sort_by_key(|leaver| turn(leaver));
    let (mut begun, mut late) = (Vec::new(), Vec::new());
    let mut may_be_late = true;
    for leaver in jobs {
        let Some(way) = departure(situation, leaver, candidates) else { continue };
        match way {
            Departure::Suspend { .. } if !situation.is_enough(leaver.bytes, situation.store_rate) => {
                late.push((leaver, way))
            }
            _ if leaver.rests => {}
            // A job that waits for its turn keeps the first claim on the time left.
            _ if free == 0 => may_be_late = false,
            way => {
                if let Departure::Migrate(to) = &way
                    && let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.id == *to)
                {
                    candidate.used = candidate.used + leaver.asked.resources;
                }
                free -= 1;
                begun.push((leaver.job.clone(), way));
            }
        }
    }
    if may_be_late {
        let late = late.into_iter().filter(|(leaver, _)| !leaver.rests).take(free);
        begun.extend(late.map(|(leaver, way)| (leaver.job.clone(), way)));
    }
    begun
}

/// The order of departures: those that have not failed yet, the largest first.
fn turn(leaver: &Leaver) -> (usize, Reverse<u64>, &str) {
    (leaver.tries, Reverse(leaver.bytes), leaver.job.as_str())
}

fn departure(situation: &Situation, leaver: &Leaver, candidates: &[Candidate]) -> Option<Departure> {
    let why = match room(situation, leaver, candidates) {
        Ok(host) => return Some(Departure::Migrate(host)),
        Err(no_way) => no_way.why(),
    };
    situation.suspends().then_some(Departure::Suspend { why })
}

/// The reason why a job does not migrate to another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoWay {
    /// It was submitted so that it is not moved.
    Fixed,
    /// Its migrations have failed.
    Failed,
    TooLittleTime,
    /// Its VM policy admits no other host.
    Policy,
    /// No other host can mount its volumes.
    Mounts,
    NoRoom,
}

impl NoWay {
    fn why(self) -> &'static str {
        match self {
            Self::Fixed => "it may not be moved (`--disableMigrate`)",
            Self::Failed => "its migrations have failed",
            Self::TooLittleTime => "the time is too short to move it",
            Self::Policy => "its VM policy takes no other host",
            Self::Mounts => "no other host can mount its volumes",
            Self::NoRoom => "no other host has room",
        }
    }
}

/// Returns the host to which a job migrates, or the reason why it can't.
fn room(situation: &Situation, leaver: &Leaver, candidates: &[Candidate]) -> Result<HostId, NoWay> {
    if !leaver.may_move {
        return Err(NoWay::Fixed);
    }
    if situation.suspends() && leaver.failed_to.len() >= ATTEMPTS_MAX + leaver.suspends_failed() {
        return Err(NoWay::Failed);
    }
    if !situation.is_enough(leaver.bytes, situation.host_rate) {
        return Err(NoWay::TooLittleTime);
    }
    let untried: Vec<Candidate> =
        candidates.iter().filter(|candidate| !leaver.failed_to.contains(&candidate.id)).cloned().collect();
    let away = Some(&situation.host);
    let others: Vec<Candidate> =
        candidates.iter().filter(|candidate| candidate.id != situation.host).cloned().collect();
    let chosen = choose(&untried, leaver.asked, away).or_else(|_| choose(&others, leaver.asked, None));
    chosen.map(|host| host.id.clone()).map_err(|refusal| match refusal {
        NoHost::NoneOfKind { .. } => NoWay::Policy,
        NoHost::CantMountAnywhere(_) => NoWay::Mounts,
        _ => NoWay::NoRoom,
    })
}

impl Leaver {
    /// The number of its suspends that have failed in this drain.
    fn suspends_failed(&self) -> usize {
        self.tries.saturating_sub(self.failed_to.len())
    }
}

impl Situation {
    /// Returns whether jobs that have no way to another host are suspended.
    fn suspends(&self) -> bool {
        self.extent == Extent::Everything && self.has_store
    }

    /// Returns whether a transfer of `bytes` ends in the time left.
    fn is_enough(&self, bytes: u64, rate: f64) -> bool {
        self.left.is_none_or(|left| needed(bytes, rate) <= left)
    }

    /// The number of jobs that have to leave at once: more than usual where all of them would not
    /// have left by the deadline.
    fn at_once(&self) -> usize {
        let Some(left) = self.left else { return self.at_once };
        let needed: Duration = self.jobs.iter().map(|leaver| needed(leaver.bytes, self.host_rate)).sum();
        let lanes = needed.as_secs_f64() / left.as_secs_f64().max(1.0);
        // A job that is too large for the time left takes a lane of its own, not more than that.
        self.at_once.max((lanes.ceil() as usize).min(self.jobs.len() + self.under_way))
    }
}

/// Returns the time that a job of this size needs to leave.
fn needed(bytes: u64, rate: f64) -> Duration {
    FIXED_COST + Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX / 2)
}

/// Returns whether a job that has been leaving for `elapsed` may be stuck.
pub(crate) fn is_overdue(bytes: u64, rate: f64, elapsed: Duration) -> bool {
    elapsed > needed(bytes, rate).saturating_mul(OVERDUE_FACTOR)
}

/// Returns the pause of a job after a number of failures to leave. `left` is the time from the last
/// one to the deadline.
fn pause_after(tries: usize, left: Option<Duration>) -> Duration {
    let doubled = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let most = left.map_or(RETRY_DELAY_MAX, |left| RETRY_DELAY_MAX.min(left / RETRY_SHARE).max(RETRY_DELAY));
    RETRY_DELAY.saturating_mul(2_u32.saturating_pow(doubled)).min(most)
}

/// Returns the bytes per second of earlier migrations.
pub(crate) fn rate(migrations: &[MigrationRow]) -> f64 {
    let large = migrations.iter().filter(|row| row.bytes_moved >= MEASURED_BYTES_MIN);
    let (bytes, seconds) = large.fold((0.0, 0.0), |(bytes, seconds), row| {
        let counts = |phase| matches!(phase, Phase::PreCopy | Phase::Freeze | Phase::Transfer | Phase::Restore);
        let took: f64 = row.phases.iter().filter(|phase| counts(phase.name)).map(|phase| phase.seconds).sum();
        (bytes + row.bytes_moved as f64, seconds + took)
    });
    if seconds > 0.0 { bytes / seconds } else { RATE_DEFAULT }
}

/// Returns the drain that a notice of the host's cloud asks for.
pub(crate) fn by_notice(host: &str, notice: Notice, previous: Option<&Drain>, now: Timestamp) -> Option<Drain> {
    let (deadline, extent, reason) = match notice {
        Notice::Stays => return None,
        Notice::AtRisk => (None, Extent::WhatFitsElsewhere, format!("host {host} may be reclaimed soon")),
        Notice::Reclaimed { at } => {
            (Some(at - RECLAIM_MARGIN), Extent::Everything, format!("host {host} is reclaimed at {at}"))
        }
    };
    let since = previous.filter(|previous| previous.extent == extent).map_or(now, |previous| previous.since);
    Some(Drain { since, deadline, extent, reason })
}

#[cfg(test)]
mod tests {
    use mooring_types::host::{Purchase, Resources};
    use mooring_types::policy::Wanted;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Made {
        situation: Situation,
        candidates: Vec<Candidate>,
    }

    fn candidate(name: &str, cpu: u32, purchase: Purchase, refusal: Option<String>) -> Candidate {
        let nothing = Resources { cpu: 0, mem_gb: 0.0 };
        let id = HostId::random(&mut rand::rng());
        let capacity = Resources { cpu, mem_gb: 1000.0 };
        Candidate { id, name: name.into(), capacity, used: nothing, purchase, refusal, mounts: Vec::new() }
    }

    fn made() -> impl Strategy<Value = Made> {
        let kinds = [Wanted::SpotOnly, Wanted::SpotFirst, Wanted::OnDemand];
        let wanted = prop::sample::select(kinds.to_vec());
        let purchase = prop::sample::select(vec![Purchase::Spot, Purchase::OnDemand]);
        let job = (0_u64..20_000_000_000, 1_u32..4, wanted, any::<bool>(), 0_usize..5, any::<bool>());
        (
            (prop::collection::vec(job, 0..10), prop::collection::vec((0_u32..12, purchase, any::<bool>()), 0..4)),
            (any::<bool>(), prop::option::of(0_u64..300), 1_usize..5, 0_usize..6, any::<bool>()),
            (10e6..500e6, 10e6..500e6),
        )
            .prop_map(
                |((jobs, hosts), (all, left, at_once, under_way, has_store), (host_rate, store_rate))| {
                    let here = candidate("here", 100, Purchase::Spot, Some("it is drained".into()));
                    let host = here.id.clone();
                    let others = hosts.into_iter().enumerate().map(|(index, (cpu, purchase, ready))| {
                        candidate(&format!("host-{index}"), cpu, purchase, (!ready).then(|| "it is unreachable".into()))
                    });
                    let candidates: Vec<Candidate> = others.chain([here]).collect();
                    let leaver =
                        |(bytes, cpu, wanted, may_move, failed, rests): (u64, u32, Wanted, bool, usize, bool)| Leaver {
                            job: JobId::random(&mut rand::rng()),
                            bytes,
                            asked: Asked::of(wanted, Resources { cpu, mem_gb: 1.0 }),
                            may_move,
                            tries: failed,
                            failed_to: vec![candidates[0].id.clone(); failed],
                            rests,
                        };
                    let jobs = jobs.into_iter().map(leaver).collect();
                    let extent = if all { Extent::Everything } else { Extent::WhatFitsElsewhere };
                    let left = left.map(Duration::from_secs);
                    let situation =
                        Situation { host, extent, left, at_once, under_way, has_store, host_rate, store_rate, jobs };
                    Made { situation, candidates }
                },
            )
    }

    fn ends_in_time(situation: &Situation, leaver: &Leaver, way: &Departure) -> bool {
        let rate = if matches!(way, Departure::Migrate(_)) { situation.host_rate } else { situation.store_rate };
        situation.is_enough(leaver.bytes, rate)
    }

    proptest! {
        #[test]
        fn failed_leave_last_and_largest_first_within_the_limit(made in made()) {
            let Made { situation, mut candidates } = made;
            let begun = next(&situation, &mut candidates);
            prop_assert!(begun.is_empty() || begun.len() + situation.under_way <= situation.at_once());
            prop_assert!(situation.left.is_some() || situation.at_once() == situation.at_once);
            let of = |job: &JobId| situation.jobs.iter().find(|leaver| leaver.job == *job).unwrap();
            let in_time: Vec<_> = begun
                .iter()
                .filter(|(job, way)| ends_in_time(&situation, of(job), way))
                .map(|(job, _)| (of(job).tries, Reverse(of(job).bytes)))
                .collect();
            prop_assert!(in_time.is_sorted());
            for (job, _) in &begun {
                prop_assert!(!of(job).rests);
                prop_assert_eq!(begun.iter().filter(|(other, _)| other == job).count(), 1);
            }
        }

        #[test]
        fn destinations_have_room(made in made()) {
            let Made { situation, mut candidates } = made;
            let begun = next(&situation, &mut candidates);
            for candidate in &candidates {
                let arriving = begun.iter().any(|(_, way)| *way == Departure::Migrate(candidate.id.clone()));
                prop_assert!(!arriving || candidate.id != situation.host && candidate.refusal.is_none());
                prop_assert!(candidate.used.cpu <= candidate.capacity.cpu);
            }
        }

        #[test]
        fn destinations_match_vm_policies(made in made()) {
            let Made { situation, mut candidates } = made;
            for (job, way) in next(&situation, &mut candidates) {
                let Departure::Migrate(to) = way else { continue };
                let leaver = situation.jobs.iter().find(|leaver| leaver.job == job).unwrap();
                let host = candidates.iter().find(|candidate| candidate.id == to).unwrap();
                prop_assert!(leaver.asked.wanted.unwrap().admits(host.purchase));
            }
        }

        #[test]
        fn late_suspends_come_last(made in made()) {
            let Made { situation, mut candidates } = made;
            let before = candidates.clone();
            let begun = next(&situation, &mut candidates);
            for (job, way) in &begun {
                let leaver = situation.jobs.iter().find(|leaver| leaver.job == *job).unwrap();
                if ends_in_time(&situation, leaver, way) {
                    continue;
                }
                let is_suspend = matches!(way, Departure::Suspend { .. });
                prop_assert!(is_suspend);
                let waits = situation.jobs.iter().any(|other| {
                    let is_begun = begun.iter().any(|(begun, _)| *begun == other.job);
                    let could = departure(&situation, other, &candidates);
                    !is_begun && !other.rests && could.is_some_and(|way| ends_in_time(&situation, other, &way))
                });
                prop_assert!(!waits, "{before:?}");
            }
        }

        #[test]
        fn drain_empties_the_host(made in made()) {
            let Made { mut situation, mut candidates } = made;
            for leaver in &mut situation.jobs {
                leaver.rests = false;
            }
            (situation.extent, situation.has_store, situation.under_way) = (Extent::Everything, true, 0);
            let mut rounds = 0;
            while !situation.jobs.is_empty() {
                let begun = next(&situation, &mut candidates);
                prop_assert!(!begun.is_empty(), "nothing begins: {situation:?}");
                situation.jobs.retain(|leaver| begun.iter().all(|(job, _)| *job != leaver.job));
                situation.left = situation.left.map(|left| left.saturating_sub(Duration::from_secs(20)));
                rounds += 1;
            }
            prop_assert!(rounds <= 10);
        }

        #[test]
        fn risk_suspends_nothing(made in made()) {
            let Made { mut situation, mut candidates } = made;
            situation.extent = Extent::WhatFitsElsewhere;
            let only_migrations = next(&situation, &mut candidates).iter().all(|(_, way)| matches!(way, Departure::Migrate(_)));
            prop_assert!(only_migrations);
        }
    }

    #[test]
    fn pauses_grow_to_a_minute_and_not_beyond_the_time_left() {
        let seconds = Duration::from_secs;
        let pauses: Vec<u64> = (1..=6).map(|tries| pause_after(tries, None).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        assert_eq!(pause_after(usize::MAX, None), seconds(60));
        assert_eq!(pause_after(3, Some(seconds(40))), seconds(10));
        assert_eq!(pause_after(3, Some(Duration::ZERO)), seconds(5));
        assert_eq!(pause_after(3, Some(seconds(600))), seconds(20));
    }

    #[test]
    fn standing_notice_keeps_its_start() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (began, later, end) = (at("2026-01-02T12:00:00Z"), at("2026-01-02T12:00:30Z"), at("2026-01-02T12:02:00Z"));
        let first = by_notice("host-1", Notice::Reclaimed { at: end }, None, began).unwrap();
        assert_eq!(first.reason, "host host-1 is reclaimed at 2026-01-02T12:02:00Z");
        assert_eq!(first.deadline, Some(end - RECLAIM_MARGIN));
        assert_eq!(by_notice("host-1", Notice::Reclaimed { at: end }, Some(&first), later), Some(first.clone()));
        let risk = by_notice("host-1", Notice::AtRisk, Some(&first), later).unwrap();
        assert_eq!((risk.since, risk.deadline, risk.extent), (later, None, Extent::WhatFitsElsewhere));
        assert_eq!(by_notice("host-1", Notice::Stays, Some(&first), later), None);
    }
}

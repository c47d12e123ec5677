//! Decides whether a job is used, and measures how long it has not been; pure.
//!
//! A job is used while its clients transfer more than an open page does without a person. It is
//! also used while it computes or transfers data itself.
//!
//! | a client | bytes per second | background traffic below that |
//! |---|---|---|
//! | sends over HTTP, or over a port of unknown protocol | more than [`BACKGROUND_HTTP_IN`] | JupyterLab's lists every 10 s (0.5 KiB/s), RStudio's request of 1 KiB every 50 s, WebSocket pings |
//! | sends over a port connected as `tcp` | more than [`BACKGROUND_TCP_IN`] | SSH keep-alives every 15 s |
//! | receives | more than [`BACKGROUND_OUT`] | the answers to all that |
//!
//! Traffic is summed over [`WINDOW`], so that a single burst (a page load, a saved notebook)
//! counts. CPU use below [`BUSY_CORES`] does not count: idle servers and kernels tick. Nor does
//! traffic of the job's interface below [`BACKGROUND_OUT`]. More is a transfer of the job itself,
//! or of clients of a published port.
//!
//! A job that waits shows nothing of this. Its host sees some of it: a query without an answer, a
//! Jupyter kernel, a program in the foreground of a terminal. That keeps the job awake up to a
//! limit of its policy, counted since the job was last used otherwise. What the job says of itself
//! has a limit of its own.
//!
//! Time in which OpCenter did not run, or in which a gateway or the host was unreachable, does not
//! count as idle. A restart of OpCenter therefore neither ends nor extends a job's idleness.

use std::time::Duration;

use mooring_store::Unused;
use mooring_types::Timestamp;
use mooring_types::job::{Activity, InUse};
use mooring_types::usage::Usage;

/// The time over which traffic is summed.
const WINDOW: Duration = Duration::from_secs(10);
/// The most bytes per second that open pages send without a person.
const BACKGROUND_HTTP_IN: u64 = 1024;
/// The most bytes per second that clients of plain TCP send without a person.
const BACKGROUND_TCP_IN: u64 = 16;
/// The most bytes per second that clients receive without a person.
const BACKGROUND_OUT: u64 = 32 * 1024;
/// The cores at work from which on a job counts as used.
const BUSY_CORES: f64 = 0.05;
/// The longest time between two observations; more means that OpCenter did not run.
const OBSERVATION_GAP_MAX: Duration = Duration::from_secs(10);

/// All bytes that the clients of a job have transferred so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Sent by clients that may speak HTTP.
    pub(crate) http_in: u64,
    /// Sent by clients that do not.
    pub(crate) tcp_in: u64,
    /// Received by any client.
    pub(crate) out: u64,
}

/// The use of a job at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Use {
    /// A gateway or the host is unreachable, or nothing was measured yet.
    Unknown,
    /// The traffic so far, the last measurement of the job, and what it does on its own.
    Known { traffic: Traffic, usage: Usage, doing: Doing },
}

/// The activity of a job on its own, as its host sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Doing {
    #[default]
    Nothing,
    /// It seems to wait for something, or to work.
    Inferred,
    /// It says so itself.
    Said,
}

impl Doing {
    pub(crate) fn of(activity: &Activity) -> Self {
        match activity.uses.as_slice() {
            [] => Self::Nothing,
            uses if uses.iter().any(InUse::is_said) => Self::Said,
            _ => Self::Inferred,
        }
    }
}

/// The time for which a job has not been used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Idleness {
    unused: Unused,
    looked: Timestamp,
    /// The beginning of the window, with the traffic by then.
    window: Option<(Timestamp, Traffic)>,
}

impl Idleness {
    /// Continues from the times that were known before.
    pub(crate) fn after(unused: Unused, now: Timestamp) -> Self {
        Self { unused, looked: now, window: None }
    }

    /// Returns the times for which the job has not been used.
    pub(crate) fn unused(&self) -> Unused {
        self.unused
    }

    /// Takes an observation into account. What the job does on its own keeps it awake up to
    /// `awake_limit`.
    pub(crate) fn look(&mut self, now: Timestamp, observed: Use, awake_limit: Duration) {
        let since = Duration::try_from(now.duration_since(self.looked)).unwrap_or_default();
        self.looked = now;
        let Use::Known { traffic, usage, doing } = observed else {
            self.window = None;
            return;
        };
        // Both are computed: a window also ends while the job works.
        let (moves, works) = (self.moves(now, traffic), works(&usage));
        let counted = if since <= OBSERVATION_GAP_MAX { since } else { Duration::ZERO };
        match doing {
            _ if moves || works => self.unused = Unused::default(),
            Doing::Said => self.unused.idle = Duration::ZERO,
            Doing::Inferred if self.unused.held < awake_limit => {
                self.unused = Unused { idle: Duration::ZERO, held: self.unused.held + counted };
            }
            Doing::Inferred | Doing::Nothing => self.unused.idle += counted,
        }
    }

    /// Returns whether clients transferred more than background traffic.
    fn moves(&mut self, now: Timestamp, traffic: Traffic) -> bool {
        let Some((began, before)) = self.window else {
            self.window = Some((now, traffic));
            return false;
        };
        // Counters restart with a gateway's process; the traffic in between is unknown.
        let moved = |now: u64, before: u64, rate: u64| {
            now.checked_sub(before).is_some_and(|bytes| bytes > rate * WINDOW.as_secs())
        };
        let moves = moved(traffic.http_in, before.http_in, BACKGROUND_HTTP_IN)
            || moved(traffic.tcp_in, before.tcp_in, BACKGROUND_TCP_IN)
            || moved(traffic.out, before.out, BACKGROUND_OUT);
        let began_anew = traffic.http_in < before.http_in || traffic.tcp_in < before.tcp_in || traffic.out < before.out;
        let is_over = Duration::try_from(now.duration_since(began)).is_ok_and(|time| time >= WINDOW);
        if moves || began_anew || is_over {
            self.window = Some((now, traffic));
        }
        moves
    }
}

/// Returns whether a job computes or transfers.
fn works(usage: &Usage) -> bool {
    let carried = usage.received.max(usage.sent) as f64;
    usage.cpu_used >= BUSY_CORES || carried > BACKGROUND_OUT as f64 * usage.seconds
}

#[cfg(test)]
mod tests {
    use mooring_types::policy::IdlePolicy;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_second(seconds as i64).unwrap()
    }

    const LIMIT: Duration = IdlePolicy::AWAKE_LIMIT;

    fn does(http_in: u64, tcp_in: u64, out: u64, doing: Doing) -> Use {
        Use::Known { traffic: Traffic { http_in, tcp_in, out }, usage: Usage::default(), doing }
    }

    fn observed(http_in: u64, tcp_in: u64, out: u64) -> Use {
        does(http_in, tcp_in, out, Doing::Nothing)
    }

    /// Returns the idle time after `seconds` with an observation each second.
    fn idle_after(seconds: u64, look: impl Fn(u64) -> Use) -> u64 {
        let mut idleness = Idleness::after(Unused::default(), at(0));
        (1..=seconds).for_each(|second| idleness.look(at(second), look(second), LIMIT));
        idleness.unused().idle.as_secs()
    }

    #[test]
    fn open_page_is_idle_and_work_is_not() {
        // Five requests of 1 KiB every 10 s, answered with 20 KiB each.
        let polls = |second: u64| (second / 10 * 5 * 1024, second / 10 * 5 * 20_480);
        assert_eq!(idle_after(1800, |second| observed(polls(second).0, 0, polls(second).1)), 1800);
        // A notebook is saved at 1000 s.
        let saved = |second: u64| if second >= 1000 { 60_000 } else { 0 };
        assert_eq!(idle_after(1800, |second| observed(polls(second).0 + saved(second), 0, 0)), 800);
        // A download ends at 1500 s.
        assert!((300..=304).contains(&idle_after(1800, |second| observed(0, 0, second.min(1500) * 100_000))));
        // Somebody types into a terminal until 1700 s; keep-alives come all the time.
        let typed = |second: u64| second / 15 * 100 + second.min(1700) * 40;
        assert!((100..=110).contains(&idle_after(1800, |second| observed(0, typed(second), 0))));
    }

    #[test]
    fn computing_or_transferring_job_is_used() {
        let ticks = Usage { seconds: 20.0, cpu_used: 0.02, received: 20 * 8192, ..Usage::default() };
        for works in [Usage { cpu_used: 0.5, ..ticks }, Usage { received: 20 * 1_000_000, ..ticks }] {
            let look = |second| {
                let usage = if second == 50 { works } else { ticks };
                Use::Known { traffic: Traffic::default(), usage, doing: Doing::Nothing }
            };
            assert_eq!(idle_after(60, look), 10);
        }
    }

    fn idle_for(seconds: u64) -> Unused {
        Unused { idle: Duration::from_secs(seconds), held: Duration::ZERO }
    }

    #[test]
    fn what_waits_keeps_a_job_awake_up_to_its_limit() {
        let limit = Duration::from_secs(600);
        let after = |seconds: u64, look: &dyn Fn(u64) -> Use| {
            let mut idleness = Idleness::after(Unused::default(), at(0));
            (1..=seconds).for_each(|second| idleness.look(at(second), look(second), limit));
            idleness.unused().idle.as_secs()
        };
        let waits = |_| does(0, 0, 0, Doing::Inferred);
        assert_eq!(after(600, &waits), 0);
        assert_eq!(after(700, &waits), 100);
        // The answer came at 300 s.
        let answered = |second| does(0, 0, 0, if second < 300 { Doing::Inferred } else { Doing::Nothing });
        assert_eq!(after(400, &answered), 101);
        // A client used the job at 500 s, from which the limit counts again.
        let used = |second| does(if second < 500 { 0 } else { 60_000 }, 0, 0, Doing::Inferred);
        assert_eq!(after(1000, &used), 0);
        assert_eq!(after(1200, &used), 100);
        // What a job says itself is limited by what it says.
        assert_eq!(after(5000, &|_| does(0, 0, 0, Doing::Said)), 0);
        let mut not_counted = Idleness::after(Unused::default(), at(0));
        (1..=50).for_each(|second| not_counted.look(at(second), waits(second), Duration::ZERO));
        assert_eq!(not_counted.unused().idle.as_secs(), 50);
    }

    proptest! {
        #[test]
        fn only_observed_time_counts(looks in prop::collection::vec((0_u64..40, prop::option::of(0_u64..60_000)), 1..60)) {
            let mut idleness = Idleness::after(Unused::default(), at(0));
            let (mut now, mut most, mut sent) = (0, 0, 0);
            for (later, more) in looks {
                now += later;
                let before = idleness.unused().idle;
                if let Some(more) = more {
                    sent += more;
                    most += if later <= OBSERVATION_GAP_MAX.as_secs() { later } else { 0 };
                    idleness.look(at(now), observed(sent, 0, 0), LIMIT);
                    if more > BACKGROUND_HTTP_IN * WINDOW.as_secs() && idleness.window.is_some() && before > Duration::ZERO {
                        prop_assert!(idleness.unused().idle <= before + OBSERVATION_GAP_MAX);
                    }
                } else {
                    idleness.look(at(now), Use::Unknown, LIMIT);
                    prop_assert_eq!(idleness.unused().idle, before);
                }
                prop_assert!(idleness.unused().idle.as_secs() <= most);
            }
        }

        #[test]
        fn idleness_continues_from_saved_value(kept in 0_u64..100_000, away in 11_u64..100_000, looks in 1_u64..100) {
            let mut idleness = Idleness::after(idle_for(kept), at(away));
            for second in 1..=looks {
                idleness.look(at(away + second), observed(0, 0, 0), LIMIT);
            }
            prop_assert_eq!(idleness.unused().idle.as_secs(), kept + looks);
        }

        #[test]
        fn traffic_ends_idleness(kept in 0_u64..100_000, window in 0_u64..9, over in 1_u64..100_000) {
            let mut idleness = Idleness::after(idle_for(kept), at(0));
            idleness.look(at(1), observed(5, 5, 5), LIMIT);
            for second in 2..2 + window {
                idleness.look(at(second), observed(5, 5, 5), LIMIT);
            }
            let mut by_clients = [observed(5 + BACKGROUND_HTTP_IN * 10 + over, 5, 5), observed(5, 5 + BACKGROUND_TCP_IN * 10 + over, 5), observed(5, 5, 5 + BACKGROUND_OUT * 10 + over)];
            for look in &mut by_clients {
                let mut used = idleness;
                used.look(at(2 + window), *look, LIMIT);
                prop_assert_eq!(used.unused().idle, Duration::ZERO);
            }
        }
    }
}

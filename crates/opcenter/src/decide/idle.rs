//! Whether a job is used, and for how long it has not been: pure.
//!
//! A job is used while its clients send or take more than an open page does by itself, or while it computes or transfers by itself.
//!
//! | a client | bytes per second | what it does by itself |
//! |---|---|---|
//! | sends, over HTTP or what may be | more than [`CHATTER_IN`] | JupyterLab's page asks for its lists every 10 s, about 0.5 KiB/s in all; RStudio's waits in one request of 1 KiB for 50 s; WebSockets are pinged |
//! | sends, where the port is connected as `tcp` | more than [`KEEPALIVE_IN`] | SSH says every 15 s or so that it is there |
//! | takes | more than [`CHATTER_OUT`] | the answers to all that; downloads take more |
//!
//! Measured over [`WINDOW`], so that what is sent at once (a page is loaded, a notebook saved) counts however little follows. What a job
//! computes with less than [`WORK`] of a core counts as nothing: idle servers and kernels tick. Nor does what its interface carries by less
//! than [`CHATTER_OUT`] either way; more is a transfer of its own, or of clients who came by a published port.
//!
//! The time in which nobody looked (OpCenter was away) and the time in which something is not known (a gateway is not heard from, the host
//! has measured nothing yet) does not count as idle. So a restart of OpCenter ends no job's idleness and adds none.

use std::time::Duration;

use mooring_types::Timestamp;
use mooring_types::usage::Usage;

/// Over how long traffic is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// The bytes per second that the pages of a job's clients send by themselves, at most.
const CHATTER_IN: u64 = 1024;
/// The bytes per second that clients of plain TCP send by themselves, at most.
const KEEPALIVE_IN: u64 = 16;
/// The bytes per second that clients take by themselves, at most.
const CHATTER_OUT: u64 = 32 * 1024;
/// How many cores have to be at work for a job to be used.
const WORK: f64 = 0.05;
/// No two looks are further apart, unless nobody looked in between.
const LOOKS_WITHIN: Duration = Duration::from_secs(10);

/// All bytes that the clients of a job have moved so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Sent by clients that may speak HTTP.
    pub(crate) http_in: u64,
    /// Sent by clients that do not.
    pub(crate) tcp_in: u64,
    /// Taken by any of them.
    pub(crate) out: u64,
}

/// What is known of a job at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen {
    /// Not enough.
    Unclear,
    /// What its clients moved so far, and what it used itself when that was last measured.
    All { traffic: Traffic, usage: Usage },
}

/// For how long a job has not been used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Idleness {
    idle: Duration,
    looked: Timestamp,
    /// When the traffic that is under measurement began, and from where it is counted.
    window: Option<(Timestamp, Traffic)>,
}

impl Idleness {
    /// Of a job that was not used for `idle` when somebody last looked.
    pub(crate) fn after(idle: Duration, now: Timestamp) -> Self {
        Self { idle, looked: now, window: None }
    }

    /// For how long the job has not been used.
    pub(crate) fn idle(&self) -> Duration {
        self.idle
    }

    /// Takes a look.
    pub(crate) fn look(&mut self, now: Timestamp, seen: Seen) {
        let since = Duration::try_from(now.duration_since(self.looked)).unwrap_or_default();
        self.looked = now;
        let Seen::All { traffic, usage } = seen else {
            self.window = None;
            return;
        };
        // Both are looked at: a window ends also while the job works.
        let (moves, works) = (self.moves(now, traffic), works(&usage));
        if moves || works {
            self.idle = Duration::ZERO;
        } else if since <= LOOKS_WITHIN {
            self.idle += since;
        }
    }

    /// Whether clients moved more than they do by themselves.
    fn moves(&mut self, now: Timestamp, traffic: Traffic) -> bool {
        let Some((began, before)) = self.window else {
            self.window = Some((now, traffic));
            return false;
        };
        // Counters begin anew with a gateway's process; then nothing is known of what was in between.
        let moved = |now: u64, before: u64, rate: u64| {
            now.checked_sub(before).is_some_and(|bytes| bytes > rate * WINDOW.as_secs())
        };
        let moves = moved(traffic.http_in, before.http_in, CHATTER_IN)
            || moved(traffic.tcp_in, before.tcp_in, KEEPALIVE_IN)
            || moved(traffic.out, before.out, CHATTER_OUT);
        let began_anew = traffic.http_in < before.http_in || traffic.tcp_in < before.tcp_in || traffic.out < before.out;
        let is_over = Duration::try_from(now.duration_since(began)).is_ok_and(|time| time >= WINDOW);
        if moves || began_anew || is_over {
            self.window = Some((now, traffic));
        }
        moves
    }
}

/// Whether a job computes or transfers.
fn works(usage: &Usage) -> bool {
    let carried = usage.received.max(usage.sent) as f64;
    usage.cpu_used >= WORK || carried > CHATTER_OUT as f64 * usage.seconds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_second(seconds as i64).unwrap()
    }

    fn seen(http_in: u64, tcp_in: u64, out: u64) -> Seen {
        Seen::All { traffic: Traffic { http_in, tcp_in, out }, usage: Usage::default() }
    }

    /// For how long a job was idle at the end of `seconds`, a look each second.
    fn idle_after(seconds: u64, look: impl Fn(u64) -> Seen) -> u64 {
        let mut idleness = Idleness::after(Duration::ZERO, at(0));
        (1..=seconds).for_each(|second| idleness.look(at(second), look(second)));
        idleness.idle().as_secs()
    }

    #[test]
    fn an_open_page_is_no_use_and_whoever_works_with_it_is() {
        // Five requests of 1 KiB every 10 s, answered with 20 KiB each.
        let polls = |second: u64| (second / 10 * 5 * 1024, second / 10 * 5 * 20_480);
        assert_eq!(idle_after(1800, |second| seen(polls(second).0, 0, polls(second).1)), 1800);
        // A notebook is saved at 1000 s.
        let saved = |second: u64| if second >= 1000 { 60_000 } else { 0 };
        assert_eq!(idle_after(1800, |second| seen(polls(second).0 + saved(second), 0, 0)), 800);
        // A download ends at 1500 s.
        assert!((300..=304).contains(&idle_after(1800, |second| seen(0, 0, second.min(1500) * 100_000))));
        // Somebody types into a terminal until 1700 s; keep-alives come all the time.
        let typed = |second: u64| second / 15 * 100 + second.min(1700) * 40;
        assert!((100..=110).contains(&idle_after(1800, |second| seen(0, typed(second), 0))));
    }

    #[test]
    fn a_job_that_computes_or_transfers_is_used() {
        let ticks = Usage { seconds: 20.0, cpu_used: 0.02, received: 20 * 8192, ..Usage::default() };
        for works in [Usage { cpu_used: 0.5, ..ticks }, Usage { received: 20 * 1_000_000, ..ticks }] {
            let look = |second| {
                let usage = if second == 50 { works } else { ticks };
                Seen::All { traffic: Traffic::default(), usage }
            };
            assert_eq!(idle_after(60, look), 10);
        }
    }

    proptest! {
        #[test]
        fn only_time_that_was_looked_at_counts(looks in prop::collection::vec((0_u64..40, prop::option::of(0_u64..60_000)), 1..60)) {
            let mut idleness = Idleness::after(Duration::ZERO, at(0));
            let (mut now, mut most, mut sent) = (0, 0, 0);
            for (later, more) in looks {
                now += later;
                let before = idleness.idle();
                if let Some(more) = more {
                    sent += more;
                    most += if later <= LOOKS_WITHIN.as_secs() { later } else { 0 };
                    idleness.look(at(now), seen(sent, 0, 0));
                    if more > CHATTER_IN * WINDOW.as_secs() && idleness.window.is_some() && before > Duration::ZERO {
                        prop_assert!(idleness.idle() <= before + LOOKS_WITHIN);
                    }
                } else {
                    idleness.look(at(now), Seen::Unclear);
                    prop_assert_eq!(idleness.idle(), before);
                }
                prop_assert!(idleness.idle().as_secs() <= most);
            }
        }

        #[test]
        fn what_was_kept_is_gone_on_with(kept in 0_u64..100_000, away in 11_u64..100_000, looks in 1_u64..100) {
            let mut idleness = Idleness::after(Duration::from_secs(kept), at(away));
            for second in 1..=looks {
                idleness.look(at(away + second), seen(0, 0, 0));
            }
            prop_assert_eq!(idleness.idle().as_secs(), kept + looks);
        }

        #[test]
        fn much_traffic_ends_idleness_whatever_was_before(kept in 0_u64..100_000, window in 0_u64..9, over in 1_u64..100_000) {
            let mut idleness = Idleness::after(Duration::from_secs(kept), at(0));
            idleness.look(at(1), seen(5, 5, 5));
            for second in 2..2 + window {
                idleness.look(at(second), seen(5, 5, 5));
            }
            let mut by_clients = [seen(5 + CHATTER_IN * 10 + over, 5, 5), seen(5, 5 + KEEPALIVE_IN * 10 + over, 5), seen(5, 5, 5 + CHATTER_OUT * 10 + over)];
            for look in &mut by_clients {
                let mut used = idleness;
                used.look(at(2 + window), *look);
                prop_assert_eq!(used.idle(), Duration::ZERO);
            }
        }
    }
}

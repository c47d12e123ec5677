//! Random actions on a world, drawn from a seed.

use std::time::Duration;

use mooring_types::migration::Phase;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The durations for which a host is cut off. OpCenter notices 10 s and more.
const CUT_SECONDS: [u64; 4] = [4, 14, 20, 25];
/// The durations for which the capsule store is full or away.
const STORE_SECONDS: [u64; 3] = [2, 5, 12];
/// The range of pauses between two actions, in milliseconds.
const PAUSE_MILLISECONDS: (u64, u64) = (50, 1500);

/// A process of a world that can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    OpCenter,
    /// The agent of a host, counted from 1.
    Agent(u32),
    /// The agent of the gateways' host.
    GatewaysAgent,
    /// One of the gateways, counted from 0.
    Gateway(usize),
}

/// A temporary failure of the capsule store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No byte more can be written.
    Full,
    /// Another file is where its directory was.
    Away,
}

/// A disturbance that is healed after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    Store(Trouble),
    Cut(u32),
}

/// An action. A number names a job by its place, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Migrate(usize),
    Suspend(usize),
    Resume(usize),
    Snapshot(usize),
    /// The job is cancelled, and another one submitted in its place.
    Replace(usize),
    /// The job is suspended and its capsule damaged. It has to stay suspended until the repair.
    Damage(usize),
    Kill(Victim),
    /// The next process in the phase fails.
    Fail(Phase),
    /// The next process in the phase is killed.
    KillIn(Phase),
    Store(Trouble, Duration),
    Cut(u32, Duration),
}

/// An endless sequence of actions, each with the pause before it.
#[derive(Debug)]
pub(super) struct Actions {
    pub(super) jobs: usize,
    pub(super) hosts: u32,
    pub(super) gateways: usize,
    pub(super) random: StdRng,
}

impl Actions {
    /// Draws the next action. It depends on the seed alone, not on the effects of earlier actions.
    pub(super) fn draw(&mut self) -> (Duration, Action) {
        let random = &mut self.random;
        let pause = Duration::from_millis(random.random_range(PAUSE_MILLISECONDS.0..PAUSE_MILLISECONDS.1));
        let job = random.random_range(0..self.jobs);
        let host = random.random_range(1..=self.hosts);
        let gateway = random.random_range(0..self.gateways);
        let phase = one_of(random, &Phase::ALL);
        let action = match random.random_range(0..100) {
            0..24 => Action::Migrate(job),
            24..36 => Action::Suspend(job),
            36..50 => Action::Resume(job),
            50..62 => Action::Snapshot(job),
            62..66 => Action::Replace(job),
            66..70 => Action::Damage(job),
            70..72 => Action::Kill(Victim::OpCenter),
            72..76 => Action::Kill(Victim::Agent(host)),
            76..77 => Action::Kill(Victim::GatewaysAgent),
            77..79 => Action::Kill(Victim::Gateway(gateway)),
            79..87 => Action::Fail(phase),
            87..91 => Action::KillIn(phase),
            91..94 => Action::Store(Trouble::Full, seconds(random, &STORE_SECONDS)),
            94..97 => Action::Store(Trouble::Away, seconds(random, &STORE_SECONDS)),
            _ => Action::Cut(host, seconds(random, &CUT_SECONDS)),
        };
        (pause, action)
    }
}

fn one_of<T: Copy>(random: &mut StdRng, all: &[T]) -> T {
    *all.choose(random).expect("there is something to choose from")
}

fn seconds(random: &mut StdRng, all: &[u64]) -> Duration {
    Duration::from_secs(one_of(random, all))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn actions(seed: u64) -> Actions {
        Actions { jobs: 10, hosts: 3, gateways: 2, random: StdRng::seed_from_u64(seed) }
    }

    #[test]
    fn a_seed_gives_the_same_actions() {
        let draw = |seed| {
            let mut actions = actions(seed);
            (0..1000).map(|_| actions.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let kinds: std::collections::HashSet<_> =
            draw(7).iter().map(|(_, action)| std::mem::discriminant(action)).collect();
        assert_eq!(kinds.len(), 11);
    }
}

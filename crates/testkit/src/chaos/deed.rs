//! What can be done to a world, drawn from a seed.

use std::time::Duration;

use mooring_types::migration::Phase;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// How long a host that was cut off stays so: 10 s are noticed, and less is not.
const CUT_SECONDS: [u64; 4] = [4, 14, 20, 25];
/// How long the capsule store is full or away.
const STORE_SECONDS: [u64; 3] = [2, 5, 12];
/// What is waited for between two deeds, in milliseconds.
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

/// What the capsule store is for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No byte more can be written.
    Full,
    /// Another file is where its directory was.
    Away,
}

/// One thing that is done. Jobs are meant by their place, counted from 0: whichever job is there then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    Migrate(usize),
    Suspend(usize),
    Resume(usize),
    Snapshot(usize),
    /// The job is cancelled, and another one submitted in its place.
    Replace(usize),
    /// It is suspended, its capsule damaged, and it has to stay suspended until the damage is undone.
    Damage(usize),
    Kill(Victim),
    /// Whoever passes the phase next fails.
    Fail(Phase),
    /// Whoever passes the phase next is killed.
    KillIn(Phase),
    Store(Trouble, Duration),
    Cut(u32, Duration),
}

/// Deeds without end, each with how long is waited before it.
#[derive(Debug)]
pub(super) struct Deeds {
    pub(super) jobs: usize,
    pub(super) hosts: u32,
    pub(super) gateways: usize,
    pub(super) random: StdRng,
}

impl Deeds {
    /// The next one. It depends on those before alone, and not on what came of them.
    pub(super) fn draw(&mut self) -> (Duration, Deed) {
        let random = &mut self.random;
        let pause = Duration::from_millis(random.random_range(PAUSE_MILLISECONDS.0..PAUSE_MILLISECONDS.1));
        let job = random.random_range(0..self.jobs);
        let host = random.random_range(1..=self.hosts);
        let gateway = random.random_range(0..self.gateways);
        let phase = one_of(random, &Phase::ALL);
        let deed = match random.random_range(0..100) {
            0..24 => Deed::Migrate(job),
            24..36 => Deed::Suspend(job),
            36..50 => Deed::Resume(job),
            50..62 => Deed::Snapshot(job),
            62..66 => Deed::Replace(job),
            66..70 => Deed::Damage(job),
            70..72 => Deed::Kill(Victim::OpCenter),
            72..76 => Deed::Kill(Victim::Agent(host)),
            76..77 => Deed::Kill(Victim::GatewaysAgent),
            77..79 => Deed::Kill(Victim::Gateway(gateway)),
            79..87 => Deed::Fail(phase),
            87..91 => Deed::KillIn(phase),
            91..94 => Deed::Store(Trouble::Full, seconds(random, &STORE_SECONDS)),
            94..97 => Deed::Store(Trouble::Away, seconds(random, &STORE_SECONDS)),
            _ => Deed::Cut(host, seconds(random, &CUT_SECONDS)),
        };
        (pause, deed)
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

    fn deeds(seed: u64) -> Deeds {
        Deeds { jobs: 10, hosts: 3, gateways: 2, random: StdRng::seed_from_u64(seed) }
    }

    #[test]
    fn a_seed_gives_the_same_deeds_and_all_kinds_of_them() {
        let draw = |seed| {
            let mut deeds = deeds(seed);
            (0..1000).map(|_| deeds.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let kinds: std::collections::HashSet<_> =
            draw(7).iter().map(|(_, deed)| std::mem::discriminant(deed)).collect();
        assert_eq!(kinds.len(), 11);
    }
}

//! Everything at random for a while, with nothing lost: see [`mooring_testkit::chaos`].
//!
//! `make chaos` does it for minutes with a seed that it prints; here is a short one that is always the same.

use std::str::FromStr;
use std::time::Duration;

use mooring_testkit::chaos::{Chaos, Plan};

/// What `make chaos` sets.
const SEED: &str = "MOORING_CHAOS_SEED";
const MINUTES: &str = "MOORING_CHAOS_MINUTES";

#[test]
fn nothing_is_lost_whatever_happens() {
    let minutes = from_environment::<f64>(MINUTES);
    let short = Plan {
        float: env!("CARGO_BIN_EXE_float").into(),
        seed: from_environment(SEED).unwrap_or(4),
        duration: Duration::from_secs(20),
        hosts: 3,
        witnesses: 3,
        counters: 2,
        is_read: false,
    };
    let plan = match minutes {
        None => short,
        Some(minutes) => Plan {
            duration: Duration::from_secs_f64(minutes * 60.0),
            witnesses: 6,
            counters: 4,
            is_read: true,
            ..short
        },
    };
    let chaos = Chaos::start(plan).unwrap();
    match chaos.run() {
        Ok(summary) => println!("{summary}"),
        Err(error) => panic!("{error:#}"),
    }
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

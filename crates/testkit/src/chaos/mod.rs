//! Everything at random: jobs are moved, suspended, resumed, captured, cancelled and replaced while processes die, phases fail, hosts are
//! cut off, and the capsule store is full, away or damaged.
//!
//! ```text
//!   seed ─► deeds ─► hand ─► world (three hosts, gateways, a capsule store that can break)
//!                               │
//!   every second: records, answers of witnesses, output of counters ─► a fault ends it
//!                               │
//!   at the end: everything is healed and left alone ─► settled? ─► all resumed ─► settled? ─► all cancelled ─► nothing left?
//! ```
//!
//! What always holds: no job is lost; what a job knows it does not forget unless its record shows a recovery; what a batch job writes is
//! kept once; every operation that was accepted is on record with how it ended, and why if it failed. What holds once all is healed:
//! every job executes in exactly one place or is suspended with one capsule that is whole, no host holds anything that it should not,
//! and no process has grown.
//!
//! A seed gives the same deeds every time; what they meet depends on how fast the machine is. What went wrong comes as an error whose
//! text has the seed, all that was done and when, and the records of the jobs.
//!
//! | module | noun |
//! |---|---|
//! | `deed` | what can be done, drawn from a seed |
//! | `hand` | doing it |
//! | `run` | one run: its jobs, what is looked at meanwhile, its end |
//! | `subject` | a job, and what has to hold for it |
//! | `pulse` | a client that asks a witness all the time |
//! | `store` | a capsule store that can break |
//! | `traces` | what there is of jobs on this machine |
//! | `toll` | what processes take |
//! | `diary` | what was done when |

mod deed;
mod diary;
mod hand;
mod pulse;
mod run;
mod store;
mod subject;
mod toll;
mod traces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use self::run::Run;
use self::store::Store;
use crate::world::{self, World};

/// What happens to what, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `float`.
    pub float: PathBuf,
    /// What the deeds are drawn from.
    pub seed: u64,
    /// For how long deeds are done; making ready and calming down come on top.
    pub duration: Duration,
    /// How many virtual hosts there are.
    pub hosts: u32,
    /// How many jobs are witnesses, behind two gateways.
    pub witnesses: usize,
    /// How many are batch jobs.
    pub counters: usize,
    /// Whether what is done is written to stderr as it is done.
    pub is_read: bool,
}

/// A world for chaos.
#[derive(Debug)]
pub struct Chaos {
    plan: Plan,
    // The world ends before what its processes write to.
    world: World,
    store: Arc<Store>,
}

impl Chaos {
    /// Makes the world.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(plan: Plan) -> Result<Self> {
        let store = Store::make()?;
        let world = World::start(world::Plan {
            virtual_hosts: plan.hosts,
            arguments: vec!["--capsule-store".into(), format!("dir:{}", store.directory().display())],
            ..world::Plan::new(&plan.float)
        })?;
        Ok(Self { plan, world, store: Arc::new(store) })
    }

    /// Has it all happen, and says what was done.
    ///
    /// # Errors
    /// Something does not hold. The text has all that is known.
    pub fn run(&self) -> Result<String> {
        self.world.run_inside(async || {
            let mut run = Run::prepare(&self.plan, &self.world, &self.store).await?;
            match run.whole().await {
                Ok(summary) => Ok(summary),
                Err(error) => Err(anyhow!("{error:#}\n\n{}", run.report().await)),
            }
        })
    }
}

//! Random actions on a whole Mooring for a while, with checks that nothing is lost.
//!
//! Jobs are migrated, suspended, resumed, snapshotted, cancelled and replaced. Meanwhile processes
//! are killed, phases fail, hosts are cut off, and the capsule store is full, away or damaged.
//!
//! ```text
//!   seed ─► actions ─► world (three hosts, gateways, a capsule store that can break)
//!                        │
//!   every second: records, answers of witnesses, output of counters ─► a fault ends the run
//!                        │
//!   at the end: heal all ─► settled? ─► resume all ─► settled? ─► cancel all ─► nothing left?
//! ```
//!
//! At every moment no job is lost, and a job forgets nothing unless its record has a recovery. The
//! output of a batch job is kept once. A program finds its terminal, connections, locks, files,
//! sockets, workers and watches as they were. Every accepted operation is on record with its
//! outcome, and with a reason if it failed.
//!
//! Once all is healed every job either executes in exactly one place or is suspended with one whole
//! capsule. No host holds anything else, and no process has grown.
//!
//! A seed gives the same actions every time; their effects depend on the speed of the machine. The
//! error of a failed run has the seed, the log of actions, and the records of the jobs.
//!
//! | module | noun |
//! |---|---|
//! | `action` | a random action, drawn from a seed |
//! | `perform` | the execution of actions |
//! | `run` | one run: its jobs, checks and end |
//! | `subject` | a job under test, and its invariants |
//! | `prober` | a client that queries a witness continuously |
//! | `store` | a capsule store that can break |
//! | `traces` | processes, files and interfaces of jobs on this machine |
//! | `stats` | memory and descriptors of Mooring's processes |
//! | `log` | the actions with their times |

mod action;
mod log;
mod perform;
mod prober;
mod run;
mod stats;
mod store;
mod subject;
mod traces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use self::run::Run;
use self::store::Store;
use crate::world::{self, World};

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program `float`.
    pub float: PathBuf,
    /// The seed of the random actions.
    pub seed: u64,
    /// The duration of the actions, without preparation and final checks.
    pub duration: Duration,
    /// The number of virtual hosts.
    pub hosts: u32,
    /// The number of witness jobs, behind two gateways.
    pub witnesses: usize,
    /// The number of batch jobs.
    pub counters: usize,
    /// The number of programs that check what they hold in the kernel.
    pub programs: usize,
    /// Writes the log to stderr as well.
    pub log_to_stderr: bool,
}

/// A world for a run.
#[derive(Debug)]
pub struct Chaos {
    plan: Plan,
    // The world ends before what its processes write to.
    world: World,
    store: Arc<Store>,
}

impl Chaos {
    /// Starts the world.
    pub fn start(plan: Plan) -> Result<Self> {
        let store = Store::make()?;
        let world = World::start(world::Plan {
            virtual_hosts: plan.hosts,
            arguments: vec!["--capsule-store".into(), format!("dir:{}", store.directory().display())],
            ..world::Plan::new(&plan.float)
        })?;
        Ok(Self { plan, world, store: Arc::new(store) })
    }

    /// Performs the run and returns its summary. The error of a violated invariant has the whole
    /// log.
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

//! The reconciler: one task that reads everything, decides, commits, and publishes what follows.
//!
//! A pass repeats until nothing is left to decide, so that one observation carries a job or a move as far as it goes. Whoever changes
//! the store or reports something wakes it; a timer does so every second for what only time decides, and at the very moment at which a
//! host has been silent for too long.
//!
//! * [`life`]: how a job starts, how its status follows what its host observes, how it ends.
//! * [`drain`]: hosts that are to be empty.
//! * [`policy`]: what a job's policy has happen by itself.
//! * [`transit`]: jobs on their way: to another host, into the capsule store, out of it.
//! * [`publish`]: what everybody is told of the decisions.

mod drain;
mod life;
mod policy;
mod publish;
mod transit;

pub(crate) use policy::Followed;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mooring_store::{HostRow, JobRow, StoreError, Tx};
use mooring_types::job::JobStatus;
use mooring_types::migration::MigrationKind;
use mooring_types::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::center::Center;
use crate::observed::Observed;
use crate::snapshot::Snapshot;

const PERIOD: Duration = Duration::from_secs(1);
/// How many decisions in a row may follow from one observation; more would be a circle.
const ROUNDS: usize = 32;

/// Reconciles until asked to stop.
pub(crate) async fn run(center: Center, stop: CancellationToken) {
    loop {
        if let Err(error) = pass(&center).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a pass of the reconciler failed: it is tried again"
            );
        }
        let pause = center.observed().next_silence().map_or(PERIOD, |next| next.min(PERIOD));
        tokio::select! {
            () = stop.cancelled() => return,
            () = center.woken() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn pass(center: &Center) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        let observed = center.observed().clone();
        let tx = center.store.begin().await?;
        let mut round = Round {
            tx,
            config: center.config.clone(),
            observed,
            followed: center.followed.clone(),
            now: center.clock.now(),
            changed: false,
        };
        let all = Snapshot::read(&mut round.tx, &round.observed).await?;
        round.decide(&all).await?;
        let (changed, observed) = (round.changed, round.observed);
        if changed {
            round.tx.commit().await?;
        } else {
            drop(round.tx);
            center.followed.lock().unwrap_or_else(PoisonError::into_inner).keep(&all.jobs);
            publish::publish(center, &all, &observed);
            return Ok(());
        }
    }
    tracing::error!("the reconciler found more to decide {ROUNDS} times in a row");
    Ok(())
}

/// One look at everything, and the decisions that follow from it.
struct Round {
    tx: Tx,
    config: Arc<Config>,
    observed: Observed,
    followed: Arc<Mutex<Followed>>,
    now: Timestamp,
    changed: bool,
}

impl Round {
    async fn decide(&mut self, all: &Snapshot) -> Result<(), StoreError> {
        self.forget_farewells(all).await?;
        let mut candidates = all.job_candidates(&self.observed);
        // What begins to leave is on its way in the next look.
        if self.drain(all, &mut candidates).await? {
            return Ok(());
        }
        for job in all.jobs.values() {
            match (job.status, all.moves.get(&job.id)) {
                // Whoever runs it says how it is; only its cancellation is decided here.
                (status, _) if all.externals.contains_key(&job.id) && status != JobStatus::Cancelling => {}
                (JobStatus::Submitted, _) => self.place(all, job, &mut candidates).await?,
                (JobStatus::Cancelling, moving) => self.cancel(all, job, moving).await?,
                (_, Some(row)) => self.advance(all, job, row).await?,
                (JobStatus::Suspended, None) => self.wake(all, job, &mut candidates).await?,
                (JobStatus::Resuming, None) => {
                    self.out_of_store(all, job, MigrationKind::Resume, &mut candidates).await?
                }
                (JobStatus::Unknown, None) => self.find_again(all, job, &mut candidates).await?,
                (JobStatus::Executing, None) => {
                    let changed = std::mem::take(&mut self.changed);
                    self.follow(all, job).await?;
                    if !self.changed {
                        self.follow_policy(all, job, &mut candidates).await?;
                    }
                    self.changed |= changed;
                }
                (status, None) if !status.is_final() => self.follow(all, job).await?,
                _ => self.free(all, job).await?,
            }
        }
        Ok(())
    }

    /// Whether some host that runs jobs was not heard from yet, and has not had its time either.
    fn is_too_early(&self, all: &Snapshot) -> bool {
        let is_unknown = |host: &HostRow| {
            let is_known = self.observed.host_is_reachable(&host.id) || self.observed.host_is_silent(&host.id);
            host.joined.role.takes_jobs() && !is_known
        };
        all.hosts.iter().any(is_unknown)
    }

    async fn status(&mut self, job: &JobRow, to: JobStatus, reason: &str) -> Result<(), StoreError> {
        self.changed = true;
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        tracing::info!(job = %job.id, from = %job.status, %to, "job {} is {to}{because}", job.id);
        self.tx.job_status_set(job, to, reason, self.now).await
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    // A clock that was set back has measured nothing.
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

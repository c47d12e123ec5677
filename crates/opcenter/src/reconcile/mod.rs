//! The reconciler: one task that reads everything, decides, commits, and publishes what follows.
//!
//! A pass repeats until nothing is left to decide, so that one observation carries a job or a move as far as it goes. Whoever changes
//! the store or reports something wakes it; a timer does so every second for what only time decides, and at the very moment at which a
//! host has been silent for too long.
//!
//! * [`job_status`]: how a job starts, how its status follows what its host observes, how it ends.
//! * [`drain`]: hosts that are to be empty.
//! * [`policy`]: what a job's policy has happen by itself.
//! * [`migration`]: jobs on their way: to another host, into the capsule store, out of it.
//! * [`publish`]: what everybody is told of the decisions.

mod drain;
pub(crate) mod janitor;
mod job_status;
mod migration;
mod policy;
mod publish;
pub(crate) mod usage;

use std::sync::Arc;
use std::time::Duration;

use mooring_store::{HostRow, JobRow, StoreError, Tx};
use mooring_types::job::JobStatus;
use mooring_types::migration::MigrationKind;
use mooring_types::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;

use self::policy::Followed;
use crate::config::Config;
use crate::state::context::Context;
use crate::state::db_state::DbState;
use crate::state::moment::Moment;
use crate::state::observed::Observed;

const PERIOD: Duration = Duration::from_secs(1);
/// How many decisions in a row may follow from one observation; more would be a circle.
const ROUNDS: usize = 32;

/// Reconciles until asked to stop.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let mut followed = Followed::default();
    loop {
        if let Err(error) = pass(&context, &mut followed).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a pass of the reconciler failed: it is tried again"
            );
        }
        let pause = context.observed().next_silence().map_or(PERIOD, |next| next.min(PERIOD));
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.woken() => {}
            () = context.sleep(pause) => {}
        }
    }
}

async fn pass(context: &Context, followed: &mut Followed) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        let observed = context.observed().clone();
        let tx = context.store.begin().await?;
        let mut round = Round {
            tx,
            config: context.config.clone(),
            observed,
            followed: &mut *followed,
            now: context.clock.now(),
            changed: false,
        };
        let state = DbState::read(&mut round.tx, &round.observed).await?;
        round.decide(&state).await?;
        if round.changed {
            round.tx.commit().await?;
        } else {
            drop(round.tx);
            round.followed.keep(&state.jobs);
            let (observed, now) = (round.observed, round.now);
            publish::publish(context, &state, &observed);
            context.moments.send_replace(Some(Moment { state: state.into(), observed: observed.into(), now }));
            return Ok(());
        }
    }
    tracing::error!("the reconciler found more to decide {ROUNDS} times in a row");
    Ok(())
}

/// One look at everything, and the decisions that follow from it.
struct Round<'a> {
    tx: Tx,
    config: Arc<Config>,
    observed: Observed,
    followed: &'a mut Followed,
    now: Timestamp,
    changed: bool,
}

impl Round<'_> {
    async fn decide(&mut self, state: &DbState) -> Result<(), StoreError> {
        self.forget_farewells(state).await?;
        let mut candidates = state.job_candidates(&self.observed);
        // What begins to leave is on its way in the next look.
        if self.drain(state, &mut candidates).await? {
            return Ok(());
        }
        for job in state.jobs.values() {
            match (job.status, state.migrations.get(&job.id)) {
                // Whoever runs it says how it is; only its cancellation is decided here.
                (status, _) if state.externals.contains_key(&job.id) && status != JobStatus::Cancelling => {}
                (JobStatus::Submitted, _) => self.place(state, job, &mut candidates).await?,
                (JobStatus::Cancelling, moving) => self.cancel(state, job, moving).await?,
                (_, Some(row)) => self.advance(state, job, row).await?,
                (JobStatus::Suspended, None) => self.wake(state, job, &mut candidates).await?,
                (JobStatus::Resuming, None) => {
                    self.out_of_store(state, job, MigrationKind::Resume, &mut candidates).await?
                }
                (JobStatus::Unknown, None) => self.find_again(state, job, &mut candidates).await?,
                (JobStatus::Executing, None) => {
                    let changed = std::mem::take(&mut self.changed);
                    self.follow(state, job).await?;
                    if !self.changed {
                        self.follow_policy(state, job, &mut candidates).await?;
                    }
                    self.changed |= changed;
                }
                (status, None) if !status.is_final() => self.follow(state, job).await?,
                _ => self.free(state, job).await?,
            }
        }
        Ok(())
    }

    /// Whether some host that runs jobs was not heard from yet, and has not had its time either.
    fn is_too_early(&self, state: &DbState) -> bool {
        let is_unknown = |host: &HostRow| {
            let is_known = self.observed.host_is_reachable(&host.id) || self.observed.host_is_silent(&host.id);
            host.joined.role.takes_jobs() && !is_known
        };
        state.hosts.iter().any(is_unknown)
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

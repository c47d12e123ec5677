//! The reconciler: one task that reads all state, decides, commits and publishes the slices.
//!
//! A pass repeats until nothing is left to decide. Each change of the database and each report
//! wakes the reconciler. A timer wakes it every second for decisions that depend on time, and at
//! the moment at which the next host becomes unreachable.
//!
//! * [`job_status`]: placement, status, recovery and end of jobs.
//! * [`drain`]: hosts that are drained.
//! * [`policy`]: snapshots, suspends and resizes that policies ask for.
//! * [`migration`]: migrations from stage to stage.
//! * [`find_owner`]: jobs that have moved on since the database was copied that is now in use.
//! * [`ports`]: ports of gateways that other programs hold.
//! * [`publish`]: slices of hosts and gateways. A [`Moment`] for watchers follows.
//! * [`janitor`], [`usage`] and [`audit`]: tasks of their own that remove capsules, measurements
//!   and rows of the audit.

pub(crate) mod audit;
mod drain;
mod find_owner;
mod followed;
pub(crate) mod janitor;
mod job_status;
mod migration;
mod out_of_memory;
mod policy;
mod ports;
mod publish;
mod pulse;
mod short_of_disk;
pub(crate) mod usage;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mooring_ops::log::chain;
use mooring_store::{HostRow, JobRow, StoreError, Tx};
use mooring_types::job::JobStatus;
use mooring_types::migration::MigrationKind;
use mooring_types::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;

use self::followed::Followed;
use self::pulse::Pulse;
use crate::config::Config;
use crate::state::context::Context;
use crate::state::db_state::DbState;
use crate::state::moment::Moment;
use crate::state::observed::Observed;
use crate::state::vault::Vault;

const TICK: Duration = Duration::from_secs(1);
/// The most rounds of one pass; more mean that two decisions undo each other.
const ROUNDS_MAX: usize = 32;

/// Reconciles until asked to stop.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let (mut followed, mut pulse) = (Followed::default(), Pulse::new());
    loop {
        if let Err(error) = pass(&context, &mut followed, &mut pulse).await {
            tracing::error!(error = %chain(&error), "a pass of the reconciler failed; trying again");
        }
        let pause = context.observed().next_silence().map_or(TICK, |next| next.min(TICK));
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.woken() => {}
            () = context.sleep(pause) => {}
        }
    }
}

async fn pass(context: &Context, followed: &mut Followed, pulse: &mut Pulse) -> Result<(), StoreError> {
    let mut has_decided = false;
    for _ in 0..ROUNDS_MAX {
        // Read before the database: these requests have committed.
        let requests = context.requests.load(Ordering::SeqCst);
        let tx = context.store.begin().await?;
        // Read after the wait for the database: its age is judged.
        let observed = look(context, pulse);
        let mut round = Round {
            tx,
            config: context.config.clone(),
            vault: context.vault.clone(),
            observed,
            followed: &mut *followed,
            now: context.clock.now(),
            changed: false,
        };
        let state = DbState::read(&mut round.tx, &round.observed).await?;
        round.decide(&state).await?;
        if round.changed {
            context.outdate_moment();
            round.tx.commit().await?;
            has_decided = true;
        } else {
            drop(round.tx);
            round.followed.keep(&state.jobs);
            let (observed, now) = (round.observed, round.now);
            publish::publish(context, &state, &observed);
            let has_changed = has_decided || requests != context.requests_seen.load(Ordering::SeqCst);
            let moment = Moment { state: state.into(), observed: observed.into(), now };
            context.moments.send_if_modified(|last| {
                let is_news = has_changed || !last.as_ref().is_some_and(|last| moment.repeats(last));
                if is_news {
                    *last = Some(moment);
                }
                is_news
            });
            context.requests_seen.store(requests, Ordering::SeqCst);
            return Ok(());
        }
    }
    tracing::error!("the reconciler did not settle within {ROUNDS_MAX} rounds");
    Ok(())
}

/// Returns the observed state. A stall of OpCenter is nobody's silence.
fn look(context: &Context, pulse: &mut Pulse) -> Observed {
    let mut observed = context.observed();
    if let Some(stall) = pulse.beat() {
        tracing::warn!("OpCenter took in no reports for {stall:.1?}; no host counts as silent for that time");
        observed.forgive(stall);
    }
    observed.clone()
}

/// One reading of all state, with the decisions that follow.
struct Round<'a> {
    tx: Tx,
    config: Arc<Config>,
    vault: Arc<Vault>,
    observed: Observed,
    followed: &'a mut Followed,
    now: Timestamp,
    changed: bool,
}

impl Round<'_> {
    async fn decide(&mut self, state: &DbState) -> Result<(), StoreError> {
        self.forget_farewells(state).await?;
        self.settle_ports(state).await?;
        let mut candidates = state.job_candidates(&self.observed);
        // A job that begins to leave is under way in the next round.
        if self.drain(state, &mut candidates).await? {
            return Ok(());
        }
        let mut owners = self.unknown_owners(state);
        for job in state.jobs.values() {
            self.tell_out_of_memory(job).await?;
            self.tell_short_of_disk(state, job).await?;
            if let Some(owner) = owners.remove(&job.id) {
                self.give_back(state, job, owner).await?;
                continue;
            }
            match (job.status, state.migrations.get(&job.id)) {
                // Another system owns an external job; only its cancellation is decided here.
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

    /// Returns whether some host has neither reported nor had the time to.
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
    // A clock that was set back counts as no time.
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

//! The reconciler: one task that reads everything, decides, commits, and publishes what follows.
//!
//! A pass repeats until nothing is left to decide, so that one observation carries a job or a move as far as it goes. Whoever changes
//! the store or reports something wakes it; a timer does so every second for what only time decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mooring_api::watch::{AgentSlice, GatewaySlice, JobState};
use mooring_ops::failpoint;
use mooring_store::{EventKind, JobRow, MigrationRow, Stage, StoreError, Tx};
use mooring_types::host::Resources;
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase, PhaseTime};
use mooring_types::placement::{Candidate, NoHost, choose, choose_named};
use mooring_types::{Clock, Generation, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::center::{Center, Published};
use crate::moves::{self, Step};
use crate::observed::Observed;
use crate::slices;
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
        tokio::select! {
            () = stop.cancelled() => return,
            () = center.woken() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn pass(center: &Center) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        let observed = center.observed().clone();
        let tx = center.store.begin().await?;
        let mut round = Round { tx, observed, now: center.clock.now(), changed: false };
        let all = Snapshot::read(&mut round.tx, &round.observed).await?;
        round.decide(&all).await?;
        let (changed, observed) = (round.changed, round.observed);
        if changed {
            round.tx.commit().await?;
        } else {
            drop(round.tx);
            publish(center, &all, &observed);
            return Ok(());
        }
    }
    tracing::error!("the reconciler found more to decide {ROUNDS} times in a row");
    Ok(())
}

/// One look at everything, and the decisions that follow from it.
struct Round {
    tx: Tx,
    observed: Observed,
    now: Timestamp,
    changed: bool,
}

impl Round {
    async fn decide(&mut self, all: &Snapshot) -> Result<(), StoreError> {
        let mut candidates = all.job_candidates(&self.observed);
        for job in all.jobs.values() {
            match (job.status, all.moves.get(&job.id)) {
                // Whoever runs it says how it is; only its cancellation is decided here.
                (status, _) if all.externals.contains_key(&job.id) && status != JobStatus::Cancelling => {}
                (JobStatus::Submitted, _) => self.place(job, &mut candidates).await?,
                (JobStatus::Cancelling, moving) => self.cancel(all, job, moving).await?,
                (_, Some(row)) => self.advance(all, job, row).await?,
                (status, None) if !status.is_final() => self.follow(all, job).await?,
                _ => self.free(all, job).await?,
            }
        }
        Ok(())
    }

    // A job's start and end

    async fn place(&mut self, job: &JobRow, candidates: &mut [Candidate]) -> Result<(), StoreError> {
        let asked = job.spec.resources;
        let chosen = match job.host_wanted.as_str() {
            "" => choose(candidates, asked, None),
            name => choose_named(candidates, name, asked, None),
        };
        match chosen.map(|host| host.id.clone()) {
            Ok(host) => {
                if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.id == host) {
                    candidate.used = candidate.used + asked;
                }
                self.tx.job_own(&job.id, &host, Generation::FIRST, self.now).await?;
                self.status(job, JobStatus::Initializing, "").await
            }
            // Hosts come and go; what no host that is known could ever take is told at once.
            Err(NoHost::None) => Ok(()),
            Err(refusal) => {
                let possible = |host: &&Candidate| job.host_wanted.is_empty() || host.name == job.host_wanted;
                let large_enough = |host: &Candidate| host.capacity.fits(Resources { cpu: 0, mem_gb: 0.0 }, asked);
                if candidates.iter().filter(possible).any(large_enough) {
                    return Ok(());
                }
                self.status(job, JobStatus::NoAvailableHost, &refusal.to_string()).await
            }
        }
    }

    /// Has a job's status follow what its host observes.
    async fn follow(&mut self, all: &Snapshot, job: &JobRow) -> Result<(), StoreError> {
        let Some(host) = &job.host else { return Ok(()) };
        let host_name = all.host_name(host);
        if self.observed.host_is_silent(host) {
            return match job.status {
                JobStatus::Executing => {
                    self.status(job, JobStatus::Unknown, &format!("host {host_name} is not heard from")).await
                }
                _ => Ok(()),
            };
        }
        let Some(seen) = self.observed.job(host, &job.id, job.generation).cloned() else { return Ok(()) };
        match seen.state {
            JobState::Starting if job.status == JobStatus::Initializing => {
                self.status(job, JobStatus::Starting, "").await
            }
            JobState::Running | JobState::Restored { .. } | JobState::Exited { .. }
                if job.status == JobStatus::Initializing =>
            {
                self.status(job, JobStatus::Starting, "").await
            }
            JobState::Running | JobState::Restored { .. } | JobState::Exited { .. }
                if job.status != JobStatus::Executing =>
            {
                self.status(job, JobStatus::Executing, "").await
            }
            JobState::Exited { code } => {
                self.tx.job_exit_code_set(&job.id, code).await?;
                match code {
                    0 => self.status(job, JobStatus::Completed, "").await,
                    _ => self.status(job, JobStatus::FailToComplete, &format!("it ended with exit code {code}")).await,
                }
            }
            JobState::FailedToStart { reason } | JobState::Lost { reason }
                if job.status.may_become(JobStatus::FailToExecute) =>
            {
                self.status(job, JobStatus::FailToExecute, &reason).await
            }
            JobState::FailedToStart { reason } | JobState::Lost { reason } => {
                self.status(job, JobStatus::FailToComplete, &reason).await
            }
            _ => Ok(()),
        }
    }

    /// Ends a job's cancellation once every host that may hold it says that nothing is left.
    async fn cancel(&mut self, all: &Snapshot, job: &JobRow, moving: Option<&MigrationRow>) -> Result<(), StoreError> {
        let left = slices::stoppers(all, job).into_iter().any(|(host, generation)| {
            self.observed.job(&host, &job.id, generation).is_none_or(|seen| seen.state != JobState::Gone)
        });
        if left {
            return Ok(());
        }
        if let Some(row) = moving {
            let phase = moves::phase_of(row.stage);
            let outcome = Outcome::Failed { phase, reason: "the job was cancelled".into() };
            self.end(row.clone(), outcome).await?;
        }
        self.status(job, JobStatus::Cancelled, "").await
    }

    /// Gives an ended job's address back once no host can hold anything of it: what is left would answer for the next job of that address.
    async fn free(&mut self, all: &Snapshot, job: &JobRow) -> Result<(), StoreError> {
        let may_be_held = slices::stoppers(all, job).iter().any(|(host, _)| !self.observed.host_is_reachable(host));
        let is_held = self.observed.holders(&job.id).any(|(_, seen)| seen.state != JobState::Gone);
        if job.address.is_some() && !may_be_held && !is_held {
            self.changed = true;
            self.tx.job_address_free(&job.id).await?;
        }
        Ok(())
    }

    async fn status(&mut self, job: &JobRow, to: JobStatus, reason: &str) -> Result<(), StoreError> {
        self.changed = true;
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        tracing::info!(job = %job.id, from = %job.status, %to, "job {} is {to}{because}", job.id);
        self.tx.job_status_set(job, to, reason, self.now).await
    }

    // A move

    async fn advance(&mut self, all: &Snapshot, job: &JobRow, row: &MigrationRow) -> Result<(), StoreError> {
        let mut row = row.clone();
        self.merge_phases(&mut row).await?;
        self.learn_cause(&mut row).await?;
        let step = moves::next(&moves::View {
            row: &row,
            source: self.observed.job(&row.from, &row.job, row.from_generation),
            source_is_silent: self.observed.host_is_silent(&row.from),
            destination: self.observed.job(&row.to, &row.job, row.generation),
            destination_is_silent: self.observed.host_is_silent(&row.to),
            quiet: self.is_quiet(all, &row),
            in_stage: elapsed(row.stage_time, self.now),
        });
        match step {
            Step::Stay => Ok(()),
            Step::Go(Stage::Ended) => {
                let took = elapsed(row.stage_time, self.now);
                self.phase(&mut row, Phase::Retire, took).await?;
                let outcome = row.outcome.clone();
                self.end(row, outcome).await
            }
            Step::Go(stage) => {
                self.finish_own_phase(all, &mut row).await?;
                self.enter(row, stage).await
            }
            Step::Commit => self.commit(all, job, row).await,
            Step::Undo { phase, reason } => self.undo(job, row, phase, reason).await,
            Step::Restored => {
                let outcome = moves::failed(&row.outcome);
                let reason = match &outcome {
                    Outcome::Failed { phase, reason } => format!("the move failed in {phase}: {reason}"),
                    _ => String::new(),
                };
                row.pause_seconds = row.freeze_time.map_or(0.0, |time| elapsed(time, self.now).as_secs_f64());
                self.end(row, outcome).await?;
                self.status(job, JobStatus::Executing, &reason).await
            }
            Step::Lost { reason } => {
                let outcome = moves::failed(&row.outcome);
                self.end(row, outcome).await?;
                self.status(job, JobStatus::FailToComplete, &reason).await
            }
        }
    }

    async fn commit(&mut self, all: &Snapshot, job: &JobRow, mut row: MigrationRow) -> Result<(), StoreError> {
        if let Err(error) = failpoint::check(&Phase::Commit.failpoint()).await {
            // The destination has decided; what fails here is only that OpCenter takes note of it, which it does at the next pass.
            tracing::error!(job = %job.id, %error, "the move of job {} is not committed yet", job.id);
            return Ok(());
        }
        let pause = row.freeze_time.map_or(Duration::ZERO, |time| elapsed(time, self.now));
        row.pause_seconds = pause.as_secs_f64();
        row.outcome = Outcome::Succeeded;
        let (from, to) = (all.host_name(&row.from), all.host_name(&row.to));
        self.tx.job_own(&job.id, &row.to, row.generation, self.now).await?;
        self.phase(&mut row, Phase::Commit, Duration::ZERO).await?;
        self.status(job, JobStatus::Executing, "").await?;
        let message = format!("moved from {from} to {to}; it stood still for {:.3} s", row.pause_seconds);
        self.tx.event_append(&job.id, EventKind::Note, &message, self.now).await?;
        self.enter(row, Stage::Retiring).await
    }

    async fn undo(
        &mut self,
        job: &JobRow,
        mut row: MigrationRow,
        phase: Phase,
        reason: String,
    ) -> Result<(), StoreError> {
        tracing::warn!(job = %job.id, migration = %row.id, %phase, "the move of job {} failed in {phase}: {reason}", job.id);
        let message = format!("the move {} failed in {phase}: {reason}; undoing it", row.id);
        self.tx.event_append(&job.id, EventKind::Note, &message, self.now).await?;
        row.outcome = Outcome::Undoing { phase, reason };
        self.enter(row, Stage::Aborting).await
    }

    async fn enter(&mut self, mut row: MigrationRow, stage: Stage) -> Result<(), StoreError> {
        tracing::info!(job = %row.job, migration = %row.id, %stage, "the move of job {} is {stage}", row.job);
        self.changed = true;
        (row.stage, row.stage_time) = (stage, self.now);
        if stage == Stage::Freezing {
            row.freeze_time = Some(self.now);
        }
        self.tx.migration_update(&row).await
    }

    async fn end(&mut self, mut row: MigrationRow, outcome: Outcome) -> Result<(), StoreError> {
        row.outcome = outcome;
        self.enter(row, Stage::Ended).await
    }

    /// The phases that nobody but OpCenter can measure.
    async fn finish_own_phase(&mut self, all: &Snapshot, row: &mut MigrationRow) -> Result<(), StoreError> {
        match row.stage {
            Stage::Preparing => {
                let planned = elapsed(row.start_time, row.stage_time);
                self.phase(row, Phase::Plan, planned).await
            }
            Stage::Quiescing => {
                let took = elapsed(row.stage_time, self.now);
                if !self.is_quiet(all, row) {
                    tracing::warn!(job = %row.job, "gateways did not go quiet for job {} in time", row.job);
                }
                self.phase(row, Phase::Quiesce, took).await
            }
            _ => Ok(()),
        }
    }

    /// A destination whose source failed sees no more than that it went away, and may say so first.
    async fn learn_cause(&mut self, row: &mut MigrationRow) -> Result<(), StoreError> {
        let Outcome::Undoing { phase, reason } = &row.outcome else { return Ok(()) };
        let source = self.observed.job(&row.from, &row.job, row.from_generation).map(|seen| &seen.state);
        match source {
            Some(JobState::MoveOutFailed { migration, phase: cause, reason: why })
                if *migration == row.id && (phase, reason) != (cause, why) =>
            {
                row.outcome = Outcome::Undoing { phase: *cause, reason: why.clone() };
                self.changed = true;
                self.tx.migration_update(row).await
            }
            _ => Ok(()),
        }
    }

    /// Takes in what the two hosts measured.
    async fn merge_phases(&mut self, row: &mut MigrationRow) -> Result<(), StoreError> {
        const OF_SOURCE: [Phase; 3] = [Phase::PreCopy, Phase::Freeze, Phase::Transfer];
        let ends = [(row.from.clone(), row.from_generation, true), (row.to.clone(), row.generation, false)];
        for (host, generation, is_source) in ends {
            let Some(seen) = self.observed.job(&host, &row.job, generation).cloned() else { continue };
            for PhaseTime { name, seconds } in seen.phases {
                if OF_SOURCE.contains(&name) != is_source {
                    continue;
                }
                self.phase(row, name, Duration::from_secs_f64(seconds.max(0.0))).await?;
            }
            row.bytes_moved = row.bytes_moved.max(seen.bytes_moved);
        }
        Ok(())
    }

    /// Records a phase's duration, once.
    async fn phase(&mut self, row: &mut MigrationRow, phase: Phase, took: Duration) -> Result<(), StoreError> {
        if row.phases.iter().any(|known| known.name == phase) {
            return Ok(());
        }
        row.phases.push(PhaseTime { name: phase, seconds: took.as_secs_f64() });
        row.phases.sort_by_key(|known| known.name);
        self.changed = true;
        self.tx.migration_update(row).await?;
        let message = format!("{phase} took {:.3} s ({})", took.as_secs_f64(), row.id);
        self.tx.event_append(&row.job, EventKind::Phase, &message, self.now).await
    }

    /// Whether every gateway that serves the job and can answer has gone quiet.
    fn is_quiet(&self, all: &Snapshot, row: &MigrationRow) -> bool {
        let mut serving = all.connections.iter().filter(|connection| connection.job == row.job);
        serving.all(|connection| {
            let gateway = &connection.gateway;
            !self.observed.gateway_is_reachable(gateway) || self.observed.gateway_is_quiet(gateway, &row.id)
        })
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    // A clock that was set back has measured nothing.
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// Sends every host and gateway the slice that follows, where it differs from the one it has.
fn publish(center: &Center, all: &Snapshot, observed: &Observed) {
    let previous = center.published.borrow().clone();
    let mut next = Published { sequence: previous.sequence, ..Published::default() };
    // Sequences grow over restarts as well: they start from the clock.
    let sequence = u64::try_from(center.clock.now().as_microsecond()).unwrap_or(0).max(previous.sequence + 1);
    for host in &all.hosts {
        let slice = slices::for_host(&center.config, all, observed, host);
        let line = line(previous.hosts.get(&host.id), slice, sequence, |slice: &mut AgentSlice, sequence| {
            slice.sequence = sequence;
        });
        next.hosts.insert(host.id.clone(), line);
    }
    for gateway in &all.gateways {
        let Some(slice) = slices::for_gateway(all, gateway) else { continue };
        let line = line(previous.gateways.get(&gateway.id), slice, sequence, |slice: &mut GatewaySlice, sequence| {
            slice.sequence = sequence;
        });
        next.gateways.insert(gateway.id.clone(), line);
    }
    if next.hosts != previous.hosts || next.gateways != previous.gateways {
        next.sequence = sequence;
        center.published.send_replace(Arc::new(next));
    }
}

/// The line of a slice: the previous one where nothing but the sequence differs.
fn line<T: Serialize>(
    previous: Option<&(Bytes, Bytes)>,
    mut slice: T,
    sequence: u64,
    number: fn(&mut T, u64),
) -> (Bytes, Bytes) {
    let bare = to_line(&slice);
    match previous {
        Some((known, line)) if *known == bare => (bare, line.clone()),
        _ => {
            number(&mut slice, sequence);
            let line = to_line(&slice);
            (bare, line)
        }
    }
}

fn to_line(slice: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(slice).unwrap_or_else(|error| {
        tracing::error!(%error, "a slice can't be written as JSON");
        Vec::new()
    });
    line.push(b'\n');
    line.into()
}

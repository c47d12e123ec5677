//! Drives migrations from stage to stage; [`migration::next`] decides.

use std::time::Duration;

use mooring_api::watch::{self, JobObservation, JobState};
use mooring_ops::failpoint;
use mooring_store::{CapsuleRow, JobRow, MigrationRow, Stage, StoreError};
use mooring_types::Event;
use mooring_types::event::CapsuleSize;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome, Phase, PhaseTime};

use super::{Round, elapsed};
use crate::decide::migration::{self, Step};
use crate::state::db_state::DbState;

impl Round<'_> {
    pub(super) async fn advance(
        &mut self,
        state: &DbState,
        job: &JobRow,
        row: &MigrationRow,
    ) -> Result<(), StoreError> {
        let mut row = row.clone();
        self.merge_phases(&mut row).await?;
        self.learn_cause(&mut row).await?;
        let step = migration::next(&migration::Facts {
            row: &row,
            source: self.source(&row),
            source_is_silent: row.from.as_ref().is_some_and(|host| self.observed.host_is_silent(host)),
            destination: self.destination(&row),
            destination_is_silent: row.to.as_ref().is_some_and(|host| self.observed.host_is_silent(host)),
            owner_is_back: self.owner_is_back(job, &row),
            quiet: self.is_quiet(state, &row),
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
                self.finish_own_phase(state, &mut row).await?;
                self.enter(row, stage).await
            }
            Step::Commit => self.commit(state, job, row).await,
            Step::Undo { phase, reason } => self.undo(job, row, phase, reason).await,
            Step::GiveUp => self.give_up(state, job, row).await,
            Step::Restored => self.undone(job, row).await,
            Step::SourceLost => {
                let host = state.end_name(row.from.as_ref());
                self.end_failed(row).await?;
                self.status(job, JobStatus::Unknown, &format!("host {host} is unreachable")).await
            }
            Step::Lost { reason } => {
                self.end_failed(row).await?;
                self.status(job, JobStatus::FailToComplete, &reason).await
            }
        }
    }

    async fn commit(&mut self, state: &DbState, job: &JobRow, mut row: MigrationRow) -> Result<(), StoreError> {
        if let Err(error) = failpoint::check(&Phase::Commit.failpoint()).await {
            // The destination has decided already; the next pass tries to record it again.
            tracing::error!(job = %job.id, %error, "the migration of job {} is not committed yet", job.id);
            return Ok(());
        }
        if row.kind != MigrationKind::Snapshot {
            self.record_pause(&mut row);
        }
        row.outcome = Outcome::Succeeded;
        self.phase(&mut row, Phase::Commit, Duration::ZERO).await?;
        let (from, to) = (state.end_name(row.from.as_ref()), state.end_name(row.to.as_ref()));
        let pause_seconds = row.pause_seconds;
        let event = match row.kind {
            MigrationKind::Migrate => Event::Migrated { from, to, pause_seconds },
            MigrationKind::Suspend => Event::Suspended { from, capsule: self.keep(&row).await? },
            MigrationKind::Snapshot => Event::SnapshotTaken { pause_seconds, capsule: self.keep(&row).await? },
            MigrationKind::Resume => Event::Resumed { to },
            MigrationKind::Recover => Event::Recovered { to },
        };
        self.tx.event_append(&job.id, &event, self.now).await?;
        let differences = self.destination(&row).map(|seen| seen.differences.clone()).unwrap_or_default();
        if !differences.is_empty() {
            self.tx.event_append(&job.id, &Event::RestoredWithDifferences { differences }, self.now).await?;
        }
        if let Some(resources) = row.resources {
            self.tx.job_resources_set(&job.id, resources, self.now).await?;
        }
        match (&row.to, row.kind) {
            (Some(to), _) => {
                self.tx.job_own(&job.id, to, row.generation, self.now).await?;
                if row.kind == MigrationKind::Recover {
                    self.tx.job_epoch_next(&job.id).await?;
                }
                self.status(job, JobStatus::Executing, "").await?;
            }
            (None, MigrationKind::Suspend) => {
                self.tx.job_disown(&job.id, self.now).await?;
                self.status(job, JobStatus::Suspended, &row.reason).await?;
            }
            (None, _) => self.status(job, JobStatus::Executing, "").await?,
        }
        let source_lets_go = matches!(row.kind, MigrationKind::Migrate | MigrationKind::Suspend);
        self.enter(row, if source_lets_go { Stage::Retiring } else { Stage::Ended }).await
    }

    /// Records a capsule that is in the store; returns its size.
    async fn keep(&mut self, row: &MigrationRow) -> Result<CapsuleSize, StoreError> {
        let (stored_bytes, base) = match self.source(row).map(|seen| &seen.state) {
            Some(JobState::Stored { stored_bytes, base, .. }) => (*stored_bytes, base.clone()),
            _ => (0, None),
        };
        let size = CapsuleSize { bytes: row.bytes_moved, stored_bytes, is_incremental: base.is_some() };
        if let Some(name) = row.capsule.clone() {
            let (job, kind, bytes) = (row.job.clone(), row.kind, row.bytes_moved);
            let capsule = CapsuleRow { name, job, kind, create_time: self.now, bytes, stored_bytes, base };
            self.tx.capsule_insert(&capsule).await?;
        }
        Ok(size)
    }

    /// Gives up a lost destination. What it holds of the job ends when it is back, and must not
    /// pass for the job before.
    async fn give_up(&mut self, state: &DbState, job: &JobRow, mut row: MigrationRow) -> Result<(), StoreError> {
        let event = Event::DestinationLost { host: state.end_name(row.to.as_ref()) };
        tracing::warn!(job = %job.id, migration = %row.id, "job {}: {event}", job.id);
        self.tx.event_append(&job.id, &event, self.now).await?;
        self.tx.job_epoch_next(&job.id).await?;
        row.destination_lost = true;
        self.enter(row, Stage::RollingBack).await
    }

    /// Ends a migration that was rolled back.
    async fn undone(&mut self, job: &JobRow, mut row: MigrationRow) -> Result<(), StoreError> {
        let reason = match &row.outcome {
            Outcome::RollingBack { phase, reason } => format!("the {} failed in {phase}: {reason}", row.kind.noun()),
            _ => String::new(),
        };
        self.record_pause(&mut row);
        let status = match row.kind {
            MigrationKind::Migrate | MigrationKind::Suspend | MigrationKind::Snapshot => JobStatus::Executing,
            MigrationKind::Resume => JobStatus::Suspended,
            MigrationKind::Recover => JobStatus::Unknown,
        };
        self.end_failed(row).await?;
        // The event of the failure says why.
        self.status(job, status, "").await?;
        self.tx.job_status_reason_set(&job.id, &reason, self.now).await
    }

    /// Ends a migration that has failed, with its one event: only now is its cause known for sure.
    async fn end_failed(&mut self, row: MigrationRow) -> Result<(), StoreError> {
        let outcome = migration::failed(&row.outcome);
        if let Outcome::Failed { phase, reason } = outcome.clone() {
            let event = Event::MigrationFailed { migration: row.id.clone(), migration_kind: row.kind, phase, reason };
            self.tx.event_append(&row.job, &event, self.now).await?;
        }
        self.end(row, outcome).await
    }

    fn record_pause(&self, row: &mut MigrationRow) {
        row.pause_seconds = row.freeze_time.map_or(0.0, |time| elapsed(time, self.now).as_secs_f64());
    }

    /// Returns whether the lost host of a recovery is reachable again and executes the job.
    fn owner_is_back(&self, job: &JobRow, row: &MigrationRow) -> bool {
        let Some(owner) = job.host.as_ref().filter(|_| row.kind == MigrationKind::Recover) else { return false };
        let has_it =
            self.observed.job(owner, &job.id, job.generation).is_some_and(|report| report.state == JobState::Running);
        has_it && !self.observed.host_is_silent(owner)
    }

    /// Returns the source's report on its generation.
    fn source(&self, row: &MigrationRow) -> Option<&JobObservation> {
        self.observed.job(row.from.as_ref()?, &row.job, row.from_generation)
    }

    /// Returns the destination's report on its generation.
    fn destination(&self, row: &MigrationRow) -> Option<&JobObservation> {
        self.observed.job(row.to.as_ref()?, &row.job, row.generation)
    }

    async fn undo(
        &mut self,
        job: &JobRow,
        mut row: MigrationRow,
        phase: Phase,
        reason: String,
    ) -> Result<(), StoreError> {
        let kind = row.kind;
        tracing::warn!(job = %job.id, migration = %row.id, %phase, "the {kind} of job {} failed in {phase}: {reason}", job.id);
        row.outcome = Outcome::RollingBack { phase, reason };
        self.enter(row, Stage::Aborting).await
    }

    async fn enter(&mut self, mut row: MigrationRow, stage: Stage) -> Result<(), StoreError> {
        tracing::info!(job = %row.job, migration = %row.id, %stage, "the {} of job {} is {stage}", row.kind, row.job);
        self.changed = true;
        (row.stage, row.stage_time) = (stage, self.now);
        match stage {
            Stage::Freezing => row.freeze_time = Some(self.now),
            // The job executes again already; only the storing continues.
            Stage::Restoring if row.kind == MigrationKind::Snapshot => self.record_pause(&mut row),
            _ => {}
        }
        self.tx.migration_update(&row).await
    }

    pub(super) async fn end(&mut self, mut row: MigrationRow, outcome: Outcome) -> Result<(), StoreError> {
        row.outcome = outcome;
        self.enter(row, Stage::Ended).await
    }

    /// Records the phase that only OpCenter can measure at its end.
    async fn finish_own_phase(&mut self, state: &DbState, row: &mut MigrationRow) -> Result<(), StoreError> {
        if row.stage != Stage::Quiescing {
            return Ok(());
        }
        let took = elapsed(row.stage_time, self.now);
        if !self.is_quiet(state, row) {
            tracing::warn!(job = %row.job, "gateways did not quiesce for job {} in time", row.job);
        }
        self.phase(row, Phase::Quiesce, took).await
    }

    /// Takes over the cause of a failure from an end that reports it later than the other one,
    /// which only sees a closed stream.
    async fn learn_cause(&mut self, row: &mut MigrationRow) -> Result<(), StoreError> {
        let Outcome::RollingBack { phase, reason } = &row.outcome else { return Ok(()) };
        let tells = |(_, why): &(Phase, &str)| !watch::is_consequence(why);
        let by_source = migration::cause(row, self.source(row), None).filter(tells);
        let by_destination = migration::cause(row, None, self.destination(row)).filter(tells);
        let cause = by_source.or(by_destination.filter(|_| watch::is_consequence(reason)));
        match cause {
            Some((cause, why)) if (*phase, reason.as_str()) != (cause, why) => {
                row.outcome = Outcome::RollingBack { phase: cause, reason: why.to_owned() };
                self.changed = true;
                self.tx.migration_update(row).await
            }
            _ => Ok(()),
        }
    }

    /// Takes over the phases that both hosts measured, in their order.
    async fn merge_phases(&mut self, row: &mut MigrationRow) -> Result<(), StoreError> {
        const OF_SOURCE: [Phase; 3] = [Phase::PreCopy, Phase::Freeze, Phase::Transfer];
        if row.stage == Stage::Preparing {
            let planned = elapsed(row.start_time, row.stage_time);
            self.phase(row, Phase::Plan, planned).await?;
        }
        let mut measured = Vec::new();
        let ends = [(self.source(row).cloned(), true), (self.destination(row).cloned(), false)];
        for (report, is_source) in ends {
            let Some(report) = report else { continue };
            for PhaseTime { name, seconds } in report.phases {
                // A capsule from the store is transferred by the destination.
                let of_source = OF_SOURCE.contains(&name) && row.from.is_some();
                if of_source == is_source {
                    measured.push((name, seconds));
                }
            }
            row.bytes_moved = row.bytes_moved.max(report.bytes_moved);
        }
        measured.sort_by_key(|(name, _)| *name);
        for (name, seconds) in measured {
            self.phase(row, name, Duration::from_secs_f64(seconds.max(0.0))).await?;
        }
        Ok(())
    }

    /// Records the duration of a phase, once.
    async fn phase(&mut self, row: &mut MigrationRow, phase: Phase, took: Duration) -> Result<(), StoreError> {
        if row.phases.iter().any(|recorded| recorded.name == phase) {
            return Ok(());
        }
        row.phases.push(PhaseTime { name: phase, seconds: took.as_secs_f64() });
        row.phases.sort_by_key(|recorded| recorded.name);
        self.changed = true;
        self.tx.migration_update(row).await?;
        let event = Event::PhaseEnded { migration: row.id.clone(), phase, seconds: took.as_secs_f64() };
        self.tx.event_append(&row.job, &event, self.now).await
    }

    /// Returns whether every reachable gateway of the job has quiesced.
    fn is_quiet(&self, state: &DbState, row: &MigrationRow) -> bool {
        let mut serving = state.connections.iter().filter(|connection| connection.job == row.job);
        serving.all(|connection| {
            let gateway = &connection.gateway;
            !self.observed.gateway_is_reachable(gateway) || self.observed.gateway_is_quiet(gateway, &row.id)
        })
    }
}

//! Drains hosts. [`drain::next`] decides which jobs leave.
//!
//! Nothing is kept in memory: reason and deadline are in the host's row, attempts in the rows of
//! migrations. After a restart of OpCenter no drain begins until every host has reported or counts
//! as unreachable, since an unknown host has no room.

use std::time::Duration;

use mooring_api::watch::JobState;
use mooring_store::{Drain, HostRow, JobRow, MigrationRow, Stage, StoreError};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::placement::Candidate;
use mooring_types::policy::Moves;

use super::{Round, elapsed};
use crate::decide::drain::{self, Departure, Leaver, Situation};
use crate::state::begin_migration::{self, Plan};
use crate::state::db_state::DbState;

/// The pause of a job after its migration or suspend has failed.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// The number of earlier migrations from which the rate is computed.
const RATE_SAMPLES: u32 = 20;

impl Round<'_> {
    /// Begins the next migrations from drained hosts, and returns whether any began.
    pub(super) async fn drain(&mut self, state: &DbState, candidates: &mut [Candidate]) -> Result<bool, StoreError> {
        if self.is_too_early(state) {
            return Ok(false);
        }
        let mut began = false;
        for host in &state.hosts {
            let reachable = self.observed.host_is_reachable(&host.id);
            let Some(drain) = host.drain().filter(|_| reachable) else { continue };
            let Some(situation) = self.situation(state, host, drain).await? else { continue };
            for (job, departure) in drain::next(&situation, candidates) {
                if let Some(job) = state.jobs.get(&job) {
                    self.depart(job, host, drain, departure).await?;
                    began = true;
                }
            }
        }
        Ok(began)
    }

    /// Describes the jobs on a host, if any could leave now.
    async fn situation(
        &mut self,
        state: &DbState,
        host: &HostRow,
        drain: &Drain,
    ) -> Result<Option<Situation>, StoreError> {
        let mut jobs = Vec::new();
        for job in state.jobs.values().filter(|job| job.host.as_ref() == Some(&host.id)) {
            if !state.migrations.contains_key(&job.id) && self.may_leave(job, host) {
                jobs.push(self.leaver(job, host, drain).await?);
            }
        }
        if jobs.is_empty() {
            return Ok(None);
        }
        let migrations = self.tx.migration_list_latest(MigrationKind::Migrate, RATE_SAMPLES).await?;
        let suspends = self.tx.migration_list_latest(MigrationKind::Suspend, RATE_SAMPLES).await?;
        let (host_rate, store_rate) = (drain::rate(&migrations), drain::rate(&suspends));
        let leaves = |row: &&MigrationRow| {
            // A source that only retires needs little of its host.
            let leaves = row.from.as_ref() == Some(&host.id) && row.stage != Stage::Retiring;
            let rate = if row.kind.is_into_store() { store_rate } else { host_rate };
            let bytes = state.jobs.get(&row.job).map_or(0, |job| self.bytes(job, host));
            leaves && !drain::is_overdue(bytes, rate, elapsed(row.start_time, self.now))
        };
        Ok(Some(Situation {
            host: host.id.clone(),
            extent: drain.extent,
            left: drain.deadline.map(|deadline| elapsed(self.now, deadline)),
            at_once: self.config.drain_at_once.get(),
            under_way: state.migrations.values().filter(leaves).count(),
            has_store: self.config.has_store(),
            host_rate,
            store_rate,
            jobs,
        }))
    }

    /// The size of a job's state: the memory that it uses, or its limit until that was measured.
    fn bytes(&self, job: &JobRow, host: &HostRow) -> u64 {
        let sample = self.observed.job(&host.id, &job.id, job.generation).and_then(|report| report.usage);
        sample.map_or((job.spec.resources.mem_gb * 1e9) as u64, |sample| sample.usage.mem_used)
    }

    /// Returns whether a job executes and its host confirms it. A job that starts or ends is waited
    /// for.
    fn may_leave(&self, job: &JobRow, host: &HostRow) -> bool {
        let report = self.observed.job(&host.id, &job.id, job.generation).map(|report| &report.state);
        job.status == JobStatus::Executing && matches!(report, Some(JobState::Running | JobState::Restored { .. }))
    }

    async fn leaver(&mut self, job: &JobRow, host: &HostRow, drain: &Drain) -> Result<Leaver, StoreError> {
        let mut tried = self.tx.migration_list_of_job(&job.id).await?;
        tried.retain(|row| row.from.as_ref() == Some(&host.id) && row.start_time >= drain.since);
        tried.retain(|row| matches!(row.outcome, Outcome::Failed { .. }));
        Ok(Leaver {
            job: job.id.clone(),
            bytes: self.bytes(job, host),
            asked: job.asked(),
            may_move: job.policy.moves == Moves::Allowed,
            rests: tried.last().is_some_and(|row| elapsed(row.stage_time, self.now) < RETRY_DELAY),
            failed_to: tried
                .into_iter()
                .filter(|row| row.kind == MigrationKind::Migrate)
                .filter_map(|row| row.to)
                .collect(),
        })
    }

    async fn depart(
        &mut self,
        job: &JobRow,
        host: &HostRow,
        drain: &Drain,
        departure: Departure,
    ) -> Result<(), StoreError> {
        let (kind, to, reason) = match departure {
            Departure::Migrate(to) => (MigrationKind::Migrate, Some(to), drain.reason.clone()),
            Departure::Suspend { why } => (
                MigrationKind::Suspend,
                None,
                format!("{}, and {why}; it is resumed as soon as a host fits", drain.reason),
            ),
        };
        let from = Some(host.id.clone());
        let plan = Plan { kind, from, to, capsule: None, resources: None, reason, start_time: self.now };
        self.changed = true;
        begin_migration::begin(&mut self.tx, job, plan, self.now).await?;
        if kind == MigrationKind::Suspend {
            self.tx.job_await_host(&job.id).await?;
        }
        Ok(())
    }

    /// Returns whether a drain with a deadline is under way: its jobs have the first claim on room.
    pub(super) fn is_in_a_hurry(&self, state: &DbState) -> bool {
        let in_time = |drain: &Drain| drain.deadline.is_some_and(|deadline| self.now < deadline);
        let mut hosts = state.hosts.iter().filter(|host| self.observed.host_is_reachable(&host.id));
        hosts.any(|host| host.drain().is_some_and(in_time) && !state.is_empty(&host.id))
    }
}

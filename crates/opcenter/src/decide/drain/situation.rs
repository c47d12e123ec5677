//! The situation of a drained host, as desired and observed state tell it.

use std::time::Duration;

use mooring_api::watch::JobState;
use mooring_store::{Drain, HostRow, JobRow, MigrationRow, Stage};
use mooring_types::job::JobStatus;
use mooring_types::migration::MigrationKind;
use mooring_types::policy::Moves;
use mooring_types::{HostId, Timestamp};

use super::{Leaver, Situation, is_overdue, pause_after, rate};
use crate::config::Config;
use crate::state::db_state::DbState;
use crate::state::observed::Observed;

/// All that is known at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) state: &'a DbState,
    pub(crate) observed: &'a Observed,
    pub(crate) config: &'a Config,
    pub(crate) now: Timestamp,
}

impl Known<'_> {
    /// Describes the jobs on a host that is drained.
    pub(crate) fn situation(&self, host: &HostRow, drain: &Drain) -> Situation {
        let departures = &self.state.departures;
        let (host_rate, store_rate) = (rate(&departures.migrations), rate(&departures.suspends));
        let leaves = |row: &&MigrationRow| {
            // A source that only retires needs little of its host.
            let leaves = row.from.as_ref() == Some(&host.id) && row.stage != Stage::Retiring;
            let rate = if row.kind.is_into_store() { store_rate } else { host_rate };
            let bytes = self.state.jobs.get(&row.job).map_or(0, |job| self.bytes(job, host));
            leaves && !is_overdue(bytes, rate, elapsed(row.start_time, self.now))
        };
        let here = self.state.jobs.values().filter(|job| job.host.as_ref() == Some(&host.id));
        Situation {
            host: host.id.clone(),
            extent: drain.extent,
            left: drain.deadline.map(|deadline| elapsed(self.now, deadline)),
            at_once: self.config.drain_at_once.get(),
            under_way: self.state.migrations.values().filter(leaves).count(),
            has_store: self.config.has_store(),
            host_rate,
            store_rate,
            jobs: here.filter(|job| self.may_leave(job)).map(|job| self.leaver(job, host, drain)).collect(),
        }
    }

    /// The size of a job's state: the memory that it uses, or its limit until that was measured.
    fn bytes(&self, job: &JobRow, host: &HostRow) -> u64 {
        let sample = self.observed.job(&host.id, &job.id, job.generation).and_then(|report| report.usage);
        sample.map_or((job.spec.resources.mem_gb * 1e9) as u64, |sample| sample.usage.mem_used)
    }

    /// Returns whether a job executes, its host confirms it, and it does not migrate yet. A job
    /// that starts or ends is waited for.
    pub(super) fn may_leave(&self, job: &JobRow) -> bool {
        let Some(host) = &job.host else { return false };
        let report = self.observed.job(host, &job.id, job.generation).map(|report| &report.state);
        job.status == JobStatus::Executing
            && !self.state.migrations.contains_key(&job.id)
            && matches!(report, Some(JobState::Running | JobState::Restored { .. }))
    }

    fn leaver(&self, job: &JobRow, host: &HostRow, drain: &Drain) -> Leaver {
        let failed = self.state.departures.failed(&job.id);
        let next_attempt = self.next_attempt(job, drain);
        let destinations = failed.iter().filter(|row| row.kind == MigrationKind::Migrate);
        Leaver {
            job: job.id.clone(),
            bytes: self.bytes(job, host),
            asked: job.asked(),
            may_move: job.policy.moves == Moves::Allowed,
            tries: failed.len(),
            rests: next_attempt.is_some_and(|next| self.now < next),
            failed_to: destinations.filter_map(|row| row.to.clone()).collect::<Vec<HostId>>(),
        }
    }

    /// Returns the time before which a job that failed to leave does not try again.
    pub(super) fn next_attempt(&self, job: &JobRow, drain: &Drain) -> Option<Timestamp> {
        let failed = self.state.departures.failed(&job.id);
        let last = failed.last()?;
        let left = drain.deadline.map(|deadline| elapsed(last.stage_time, deadline));
        last.stage_time.checked_add(pause_after(failed.len(), left)).ok()
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    // A clock that was set back counts as no time.
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

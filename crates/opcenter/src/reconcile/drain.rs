//! Drains hosts. [`drain::next`] decides which jobs leave.
//!
//! Nothing is kept in memory: reason and deadline are in the host's row, attempts in the rows of
//! migrations. After a restart of OpCenter no drain begins until every host has reported or counts
//! as unreachable, since an unknown host has no room.

use mooring_store::{Drain, HostRow, JobRow, StoreError};
use mooring_types::migration::MigrationKind;
use mooring_types::placement::Candidate;

use super::Round;
use crate::decide::drain::situation::Known;
use crate::decide::drain::{self, Departure};
use crate::state::begin_migration::{self, Plan};
use crate::state::db_state::DbState;

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
            let known = Known { state, observed: &self.observed, config: &self.config, now: self.now };
            let situation = known.situation(host, drain);
            for (job, departure) in drain::next(&situation, candidates) {
                if let Some(job) = state.jobs.get(&job) {
                    self.depart(job, host, drain, departure).await?;
                    began = true;
                }
            }
        }
        Ok(began)
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

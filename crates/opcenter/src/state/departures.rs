//! The attempts of jobs to leave drained hosts, and how fast jobs have left before.
//!
//! Both come from the rows of migrations, so that a restart of OpCenter forgets neither. They are
//! read only while jobs are on a drained host.

use std::collections::BTreeMap;

use mooring_store::{Drain, HostRow, JobRow, MigrationRow, StoreError, Tx};
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::{HostId, JobId};

/// The number of earlier migrations from which the rate is computed.
const RATE_SAMPLES: u32 = 20;

/// The attempts to leave drained hosts; empty where no job has to leave.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Departures {
    /// The failed attempts of each job since its host's drain began, oldest first.
    failed: BTreeMap<JobId, Vec<MigrationRow>>,
    /// The last migrations between hosts.
    pub(crate) migrations: Vec<MigrationRow>,
    /// The last suspends.
    pub(crate) suspends: Vec<MigrationRow>,
}

impl Departures {
    pub(crate) async fn read(
        tx: &mut Tx,
        hosts: &[HostRow],
        jobs: &BTreeMap<JobId, JobRow>,
    ) -> Result<Self, StoreError> {
        let drains: BTreeMap<&HostId, &Drain> =
            hosts.iter().filter_map(|host| Some((&host.id, host.drain()?))).collect();
        let drain_of = |job: &JobRow| job.host.as_ref().and_then(|host| drains.get(host)).copied();
        let leavers: Vec<&JobRow> =
            jobs.values().filter(|job| !job.status.is_final() && drain_of(job).is_some()).collect();
        if leavers.is_empty() {
            return Ok(Self::default());
        }
        let mut failed: BTreeMap<JobId, Vec<MigrationRow>> = BTreeMap::new();
        for row in tx.migration_list_of_jobs(leavers.iter().map(|job| &job.id)).await? {
            let Some(job) = jobs.get(&row.job) else { continue };
            let is_attempt = matches!(row.kind, MigrationKind::Migrate | MigrationKind::Suspend);
            let is_of_drain = drain_of(job).is_some_and(|drain| row.start_time >= drain.since);
            if is_attempt && is_of_drain && row.from == job.host && matches!(row.outcome, Outcome::Failed { .. }) {
                failed.entry(row.job.clone()).or_default().push(row);
            }
        }
        Ok(Self {
            failed,
            migrations: tx.migration_list_latest(MigrationKind::Migrate, RATE_SAMPLES).await?,
            suspends: tx.migration_list_latest(MigrationKind::Suspend, RATE_SAMPLES).await?,
        })
    }

    /// Returns the failed attempts of a job since its host's drain began, oldest first.
    pub(crate) fn failed(&self, job: &JobId) -> &[MigrationRow] {
        self.failed.get(job).map_or(&[], Vec::as_slice)
    }
}

//! Follows the policies of executing jobs: snapshots, suspends of idle jobs, resizes.

use std::time::Duration;

use mooring_api::watch::UsageSample;
use mooring_store::{ConnectionRow, JobRow, MigrationRow, StoreError, Unused};
use mooring_types::gateway::Chatter;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::placement::{Asked, Candidate, choose};
use mooring_types::policy::IdlePolicy;
use mooring_types::quota::Holding;
use mooring_types::{Event, HostId, Timestamp};

use super::followed::{Kept, Weighed};
use super::{Round, elapsed};
use crate::decide::idle::{Doing, Idleness, Traffic, Use};
use crate::decide::resize::{self, Advice, advise, short};
use crate::state::begin_migration::{self, Plan};
use crate::state::db_state::DbState;

/// The pause after a failed resize.
const RESIZE_RETRY_DELAY: Duration = Duration::from_secs(60);
/// The tolerance for measurements that arrive late.
const MEASUREMENT_DELAY_MAX: Duration = Duration::from_secs(60);
/// The number of times that a job's idleness is saved on its way to the limit.
const IDLE_SAVES: u32 = 20;
/// The least change of the time for which a job was kept awake that is saved.
const HELD_SAVE_MIN: Duration = Duration::from_secs(1);

impl Round<'_> {
    /// Begins the due actions of an executing job.
    pub(super) async fn follow_policy(
        &mut self,
        state: &DbState,
        job: &JobRow,
        candidates: &mut [Candidate],
    ) -> Result<(), StoreError> {
        match job.policy.idle {
            Some(policy @ IdlePolicy { after, .. }) if self.config.has_store() => {
                if self.is_idle(state, job, policy).await? {
                    self.forget_idleness(job).await?;
                    self.send_to_store(job, MigrationKind::Suspend, format!("idle for {}", short(after))).await?;
                    return self.tx.job_idle(&job.id).await;
                }
            }
            // A policy that is set again starts to count from zero.
            _ => self.forget_idleness(job).await?,
        }
        if self.resize(job, candidates).await? {
            return Ok(());
        }
        if let Some(interval) = job.policy.snapshot_interval
            && self.snapshot_is_due(state, job, interval).await?
        {
            return self.send_to_store(job, MigrationKind::Snapshot, "snapshot interval".into()).await;
        }
        Ok(())
    }

    /// Updates a job's idleness and returns whether its policy suspends it.
    async fn is_idle(&mut self, state: &DbState, job: &JobRow, policy: IdlePolicy) -> Result<bool, StoreError> {
        let IdlePolicy { after, awake_limit } = policy;
        let (job_use, remembered) = (self.job_use(state, job), self.followed.idle.remove(&job.id));
        let mut kept = match remembered {
            Some(kept) => kept,
            None => {
                let in_database = self.tx.idleness_get(&job.id).await?;
                Kept { now: Idleness::after(in_database, self.now), in_database }
            }
        };
        kept.now.look(self.now, job_use, awake_limit);
        let (unused, known) = (kept.now.unused(), kept.in_database);
        let differs = unused.idle.abs_diff(known.idle) >= after / IDLE_SAVES
            || unused.held.abs_diff(known.held) >= (awake_limit / IDLE_SAVES).max(HELD_SAVE_MIN);
        if differs && unused != known {
            kept.in_database = unused;
            self.changed = true;
            self.tx.idleness_set(&job.id, unused).await?;
        }
        self.followed.idle.insert(job.id.clone(), kept);
        Ok(unused.idle >= after)
    }

    async fn forget_idleness(&mut self, job: &JobRow) -> Result<(), StoreError> {
        let remembered = self.followed.idle.remove(&job.id);
        if remembered.is_some_and(|kept| kept.in_database != Unused::default()) {
            self.changed = true;
            self.tx.idleness_set(&job.id, Unused::default()).await?;
        }
        Ok(())
    }

    fn job_use(&self, state: &DbState, job: &JobRow) -> Use {
        let Some(UsageSample { usage, .. }) = self.measured(job) else { return Use::Unknown };
        let mut traffic = Traffic::default();
        for ConnectionRow { id, gateway, protocol, .. } in
            state.connections.iter().filter(|connection| connection.job == job.id)
        {
            if !self.observed.gateway_is_reachable(gateway) {
                return Use::Unknown;
            }
            let (bytes_in, bytes_out) = self.observed.moved(gateway, id);
            match protocol.chatter() {
                Chatter::KeepAlives => traffic.tcp_in += bytes_in,
                Chatter::Pages => traffic.http_in += bytes_in,
            }
            traffic.out += bytes_out;
        }
        Use::Known { traffic, usage, doing: self.observed.activity(job).map_or(Doing::Nothing, Doing::of) }
    }

    /// Returns the last measurement of a job in its present generation.
    fn measured(&self, job: &JobRow) -> Option<UsageSample> {
        let host = job.host.as_ref().filter(|host| self.observed.host_is_reachable(host))?;
        self.observed.job(host, &job.id, job.generation)?.usage
    }

    /// Begins a resize that measurements ask for, at most once for each measurement.
    async fn resize(&mut self, job: &JobRow, candidates: &mut [Candidate]) -> Result<bool, StoreError> {
        let Some(back) = resize::looks_back(&job.policy) else { return Ok(false) };
        let Some(UsageSample { time, .. }) = self.measured(job) else { return Ok(false) };
        let is_noted = match self.followed.sizes.get(&job.id) {
            Some(weighed) if weighed.time == time => return Ok(false),
            remembered => remembered.is_some_and(|weighed| weighed.is_noted),
        };
        let mut history = self.tx.usage_list(&job.id, time - back - MEASUREMENT_DELAY_MAX).await?;
        history.retain(|row| row.generation == job.generation);
        let advice = advise(&job.policy, job.size_asked_for(), job.spec.resources, &history);
        let stays = match advice {
            Some(advice) if !self.has_failed_lately(job).await? => {
                let asked = Asked { resources: advice.size, ..job.asked() };
                let over = self.over_quota(job, Holding::growth(job.spec.resources, advice.size)).await?;
                match over.map_or(Ok(()), |over| Err(over.to_string())).and_then(|()| {
                    choose(candidates, asked, job.host.as_ref())
                        .map(|host| host.id.clone())
                        .map_err(|refusal| refusal.to_string())
                }) {
                    Ok(host) => {
                        if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.id == host) {
                            candidate.used = candidate.used + advice.size;
                        }
                        self.followed.sizes.remove(&job.id);
                        self.move_to_size(job, host, advice).await?;
                        return Ok(true);
                    }
                    Err(refusal) => Some((advice, refusal)),
                }
            }
            // The failure is in an event; the resize is tried again later.
            Some(_) => {
                self.weigh(job, time, is_noted);
                return Ok(false);
            }
            None => None,
        };
        self.weigh(job, time, stays.is_some());
        match stays {
            Some((Advice { size, reason }, refusal)) if !is_noted => {
                let event = Event::ResizePostponed { reason, cpu: size.cpu, mem_gb: size.mem_gb, refusal };
                tracing::warn!(job = %job.id, "job {}: {event}", job.id);
                self.changed = true;
                self.tx.event_append(&job.id, &event, self.now).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Remembers that a measurement led to no resize.
    fn weigh(&mut self, job: &JobRow, time: Timestamp, is_noted: bool) {
        self.followed.sizes.insert(job.id.clone(), Weighed { time, is_noted });
    }

    /// Returns whether a migration of the job failed too recently to try again.
    async fn has_failed_lately(&mut self, job: &JobRow) -> Result<bool, StoreError> {
        let tried = self.tx.migration_list_of_job(&job.id).await?;
        let failed =
            |row: &MigrationRow| row.kind == MigrationKind::Migrate && matches!(row.outcome, Outcome::Failed { .. });
        Ok(tried.last().is_some_and(|row| failed(row) && elapsed(row.stage_time, self.now) < RESIZE_RETRY_DELAY))
    }

    async fn move_to_size(&mut self, job: &JobRow, host: HostId, advice: Advice) -> Result<(), StoreError> {
        let plan = Plan {
            kind: MigrationKind::Migrate,
            from: job.host.clone(),
            to: Some(host),
            capsule: None,
            resources: Some(advice.size),
            reason: advice.reason,
            start_time: self.now,
        };
        self.changed = true;
        begin_migration::begin(&mut self.tx, job, plan, self.now).await.map(drop)
    }

    async fn snapshot_is_due(&mut self, state: &DbState, job: &JobRow, interval: Duration) -> Result<bool, StoreError> {
        let newest = state.capsule(&job.id).map(|capsule| capsule.create_time);
        if !self.config.has_store() || !is_due(job.exec_time, newest, None, interval, self.now) {
            return Ok(false);
        }
        // A failed snapshot is repeated after the interval. After a resume or recovery, too, a
        // whole interval passes: the job has done nothing since its capsule, and its clients come
        // back at this moment.
        let tried = self.tx.migration_list_of_job(&job.id).await?;
        let counts = |row: &&MigrationRow| {
            matches!(row.kind, MigrationKind::Snapshot | MigrationKind::Resume | MigrationKind::Recover)
        };
        let last = tried.iter().rfind(counts).map(|row| row.stage_time);
        Ok(is_due(job.exec_time, newest, last, interval, self.now))
    }

    /// Begins to suspend or snapshot a job.
    pub(super) async fn send_to_store(
        &mut self,
        job: &JobRow,
        kind: MigrationKind,
        reason: String,
    ) -> Result<(), StoreError> {
        let plan = Plan {
            kind,
            from: job.host.clone(),
            to: None,
            capsule: None,
            resources: None,
            reason,
            start_time: self.now,
        };
        self.changed = true;
        begin_migration::begin(&mut self.tx, job, plan, self.now).await.map(drop)
    }
}

/// Returns whether a snapshot is due: the interval has passed since the job began to execute, since
/// the newest snapshot and since the last attempt.
fn is_due(
    began: Option<Timestamp>,
    newest: Option<Timestamp>,
    tried: Option<Timestamp>,
    interval: Duration,
    now: Timestamp,
) -> bool {
    let since = [began, newest, tried].into_iter().flatten().max();
    since.is_some_and(|since| elapsed(since, now) >= interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_is_due_after_the_interval() {
        let at = |seconds: i64| Timestamp::from_second(seconds).ok();
        let now = at(1000).expect("a time");
        let minute = Duration::from_secs(60);
        for (began, newest, tried, due) in [
            (None, None, None, false),
            (at(900), None, None, true),
            (at(950), None, None, false),
            (at(100), at(950), None, false),
            (at(100), at(900), at(960), false),
            (at(100), at(900), at(940), true),
        ] {
            assert_eq!(is_due(began, newest, tried, minute, now), due, "{began:?} {newest:?} {tried:?}");
        }
    }
}

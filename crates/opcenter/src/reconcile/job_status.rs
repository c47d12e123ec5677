//! The life of a job: placement, status from its host's reports, recovery, end.

use std::time::Duration;

use mooring_api::watch::JobState;
use mooring_store::{JobRow, MigrationRow, StoreError};
use mooring_types::duration::format_duration;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::placement::{Candidate, NoHost, choose, choose_named};
use mooring_types::quota::Holding;
use mooring_types::{Event, Generation, HostId};

use super::{Round, elapsed};
use crate::decide::quota::OverQuota;
use crate::decide::{farewell, migration, slices};
use crate::state::begin_migration::{self, Plan};
use crate::state::db_state::DbState;
use crate::state::quotas;

/// The pause after a failed resume or recovery; doubled after each further failure.
const RESTORE_RETRY_DELAY: Duration = Duration::from_secs(2);
const RESTORE_RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The beginning of the reason of a job that waits for a host.
const WAITS: &str = "waits for a host: ";

/// The exit code of a process that was ended by SIGKILL.
const KILLED: i32 = 137;

impl Round<'_> {
    pub(super) async fn place(
        &mut self,
        state: &DbState,
        job: &JobRow,
        candidates: &mut [Candidate],
    ) -> Result<(), StoreError> {
        let asked = job.asked();
        let chosen = match &job.requested_host {
            None => choose(candidates, asked, None),
            Some(name) => choose_named(candidates, name.as_str(), asked, None),
        };
        match chosen.map(|host| host.id.clone()) {
            Ok(host) => {
                if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.id == host) {
                    candidate.used = candidate.used + asked.resources;
                }
                self.tx.job_own(&job.id, &host, Generation::FIRST, self.now).await?;
                self.status(job, JobStatus::Initializing, "").await
            }
            // A job waits for hosts that may come. A size that no known host could ever take fails
            // at once.
            Err(refusal) => {
                let possible =
                    |host: &&Candidate| job.requested_host.as_ref().is_none_or(|name| host.name == name.as_str());
                let could_ever = candidates.iter().filter(possible).any(|host| host.could_ever_admit(asked));
                if !refusal.is_for_lack_of_hosts() && !could_ever {
                    self.status(job, JobStatus::NoAvailableHost, &refusal.to_string()).await
                } else if let Some(reason) = self.in_vain(state, job, &refusal) {
                    self.status(job, JobStatus::NoAvailableHost, &reason).await
                } else if self.is_too_early(state) {
                    Ok(())
                } else {
                    self.waits(state, job, &refusal, candidates).await
                }
            }
        }
    }

    /// Tells why a job waits for a host, at once and after each change.
    async fn waits(
        &mut self,
        state: &DbState,
        job: &JobRow,
        refusal: &NoHost,
        candidates: &[Candidate],
    ) -> Result<(), StoreError> {
        let until = job.status_time.checked_add(job.policy.vm_policy.wait_limit());
        let until = until.map_or_else(|_| "never".to_owned(), |until| until.strftime("%H:%M UTC").to_string());
        let helps = undrain_helps(state, job, candidates);
        let reason = format!("{WAITS}{refusal}{helps}; gives up at {until} (`--vmPolicy`)");
        if job.status_reason == reason {
            return Ok(());
        }
        self.changed = true;
        self.tx.job_status_reason_set(&job.id, &reason, self.now).await?;
        self.tx.event_append(&job.id, &Event::StatusChanged { status: job.status, reason }, self.now).await
    }

    /// Returns the reason for giving up, once a job has waited for a host as long as its VM policy
    /// says. Just after a start of OpCenter no job gives up, since hosts have not reported yet.
    fn in_vain(&self, state: &DbState, job: &JobRow, refusal: &NoHost) -> Option<String> {
        let policy = job.policy.vm_policy;
        let gives_up = policy.gives_up(elapsed(job.status_time, self.now)) && !self.is_too_early(state);
        gives_up.then(|| format!("{refusal}; waited for {} in vain", format_duration(policy.wait_limit())))
    }

    /// Derives a job's status from its host's report.
    pub(super) async fn follow(&mut self, state: &DbState, job: &JobRow) -> Result<(), StoreError> {
        let Some(host) = &job.host else { return Ok(()) };
        let host_name = state.host_name(host);
        let was_removed = state.removed_hosts.contains_key(host);
        if was_removed || self.observed.host_is_silent(host) {
            return match job.status {
                JobStatus::Executing => {
                    self.status(job, JobStatus::Unknown, &format!("host {host_name} is unreachable")).await
                }
                JobStatus::Initializing | JobStatus::Starting if was_removed => {
                    self.status(job, JobStatus::FailToExecute, &removed(&host_name)).await
                }
                _ => Ok(()),
            };
        }
        let Some(report) = self.observed.job(host, &job.id, job.generation).cloned() else { return Ok(()) };
        if job.image_digest.is_none() && !report.image_digest.is_empty() {
            self.changed = true;
            self.tx.job_image_digest_set(&job.id, &report.image_digest).await?;
        }
        if job.status == JobStatus::Executing
            && !matches!(report.state, JobState::Exited { .. })
            && job.policy.is_over_time(job.executed(self.now))
        {
            let limit = format_duration(job.policy.time_limit.unwrap_or_default());
            return self.status(job, JobStatus::Timedout, &format!("its time limit of {limit} is over")).await;
        }
        match report.state {
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
                if code == 0 {
                    return self.status(job, JobStatus::Completed, "").await;
                }
                let killed = self.ended_out_of_memory(job).await?.filter(|_| code == KILLED);
                let reason = killed.unwrap_or_else(|| format!("it ended with exit code {code}"));
                self.status(job, JobStatus::FailToComplete, &reason).await
            }
            // Another host may have it, as after an older database was put back.
            JobState::Lost { .. } if self.is_too_early(state) => Ok(()),
            JobState::FailedToStart { reason } | JobState::Lost { reason }
                if job.status.may_become(JobStatus::FailToExecute) =>
            {
                self.status(job, JobStatus::FailToExecute, &reason).await
            }
            JobState::FailedToStart { reason } | JobState::Lost { reason } => {
                let killed = self.ended_out_of_memory(job).await?;
                self.status(job, JobStatus::FailToComplete, &killed.unwrap_or(reason)).await
            }
            _ => Ok(()),
        }
    }

    /// Resumes a suspended job: when a client connects, if its policy says so; and when a host
    /// fits, if a drain suspended it.
    pub(super) async fn wake(
        &mut self,
        state: &DbState,
        job: &JobRow,
        candidates: &mut [Candidate],
    ) -> Result<(), StoreError> {
        let mut connections = state.connections.iter().filter(|connection| connection.job == job.id);
        let caller = connections.find_map(|connection| self.observed.caller(&connection.gateway, &connection.id));
        if let Some(caller) = caller.filter(|_| job.policy.resume_on_connect) {
            let more = if job.awaits_host { Holding::default() } else { Holding::size(job.spec.resources) };
            return match self.over_quota(job, more).await? {
                None => self.status(job, JobStatus::Resuming, &format!("woken by {caller}")).await,
                // The reason is told once for all callers.
                Some(over) => self.stays_suspended(job, &format!("a client called, and {over}")).await,
            };
        }
        if !job.awaits_host || self.is_in_a_hurry(state) {
            return Ok(());
        }
        let Ok(host) = choose(candidates, job.asked(), None) else { return Ok(()) };
        let (to, reason) = (host.id.clone(), format!("host {} has room for it", host.name));
        if !self.has_rested(job, MigrationKind::Resume).await? {
            return Ok(());
        }
        self.take_out_of_store(state, job, MigrationKind::Resume, to, reason, candidates).await
    }

    /// Returns the quota that a job would exceed with `more`.
    pub(super) async fn over_quota(&mut self, job: &JobRow, more: Holding) -> Result<Option<OverQuota>, StoreError> {
        if more == Holding::default() {
            return Ok(None);
        }
        Ok(quotas::read(&mut self.tx).await?.admit(&job.user_name, more).err())
    }

    /// Tells once why a job stays suspended.
    async fn stays_suspended(&mut self, job: &JobRow, reason: &str) -> Result<(), StoreError> {
        if job.status_reason == reason {
            return Ok(());
        }
        self.changed = true;
        self.tx.job_status_reason_set(&job.id, reason, self.now).await?;
        self.tx.event_append(&job.id, &Event::StaysSuspended { reason: reason.to_owned() }, self.now).await
    }

    /// Returns whether enough time has passed since the last failures of that kind in a row.
    async fn has_rested(&mut self, job: &JobRow, kind: MigrationKind) -> Result<bool, StoreError> {
        let tried = self.tx.migration_list_of_job(&job.id).await?;
        let of_now = tried.iter().rev().take_while(|row| row.kind == kind);
        let failed = of_now.filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count();
        Ok(failed == 0 || elapsed(job.status_time, self.now) >= pause_after(failed))
    }

    /// Recovers a job of a lost host from its newest snapshot. A job without a snapshot waits for
    /// its host. A recovery is never given up: the capsule store may come back, and so may the
    /// host.
    pub(super) async fn find_again(
        &mut self,
        state: &DbState,
        job: &JobRow,
        candidates: &mut [Candidate],
    ) -> Result<(), StoreError> {
        let removed_host = job.host.as_ref().and_then(|host| state.removed_hosts.get(host));
        let lost = job.host.as_ref().is_none_or(|host| self.observed.host_is_silent(host));
        if !lost && removed_host.is_none() {
            return self.follow(state, job).await;
        }
        if state.capsule(&job.id).is_none() {
            return match removed_host {
                Some(name) => self.status(job, JobStatus::FailToComplete, &removed(name.as_str())).await,
                None => Ok(()),
            };
        }
        if !self.has_rested(job, MigrationKind::Recover).await? {
            return Ok(());
        }
        self.out_of_store(state, job, MigrationKind::Recover, candidates).await
    }

    /// Begins to resume or recover a job on a host that fits. Without one a resume waits as long as
    /// the VM policy says, after which the job is suspended again. A recovery waits for ever.
    pub(super) async fn out_of_store(
        &mut self,
        state: &DbState,
        job: &JobRow,
        kind: MigrationKind,
        candidates: &mut [Candidate],
    ) -> Result<(), StoreError> {
        if state.capsule(&job.id).is_none() {
            return self.status(job, JobStatus::FailToComplete, "it has no capsule").await;
        }
        let chosen = match choose(candidates, job.asked(), None) {
            Ok(host) => host.id.clone(),
            Err(refusal) if kind == MigrationKind::Resume => {
                return match self.in_vain(state, job, &refusal) {
                    Some(reason) => self.status(job, JobStatus::Suspended, &reason).await,
                    None if self.is_too_early(state) => Ok(()),
                    None => self.waits(state, job, &refusal, candidates).await,
                };
            }
            Err(_) => return Ok(()),
        };
        let reason = match (kind, &job.host) {
            (MigrationKind::Recover, Some(host)) => format!("host {} is lost", state.host_name(host)),
            _ if job.status_reason.starts_with(WAITS) => "a host has room for it".to_owned(),
            _ => job.status_reason.clone(),
        };
        self.take_out_of_store(state, job, kind, chosen, reason, candidates).await
    }

    async fn take_out_of_store(
        &mut self,
        state: &DbState,
        job: &JobRow,
        kind: MigrationKind,
        to: HostId,
        reason: String,
        candidates: &mut [Candidate],
    ) -> Result<(), StoreError> {
        if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.id == to) {
            candidate.used = candidate.used + job.spec.resources;
        }
        let plan = Plan {
            kind,
            from: None,
            to: Some(to),
            capsule: state.capsule(&job.id).map(|capsule| capsule.name.clone()),
            resources: None,
            reason,
            start_time: self.now,
        };
        self.changed = true;
        begin_migration::begin(&mut self.tx, job, plan, self.now).await.map(drop)
    }

    /// Completes a cancellation once every host that may hold the job reports that nothing is left.
    pub(super) async fn cancel(
        &mut self,
        state: &DbState,
        job: &JobRow,
        moving: Option<&MigrationRow>,
    ) -> Result<(), StoreError> {
        let left = slices::stoppers(state, job).into_iter().any(|(host, generation)| {
            self.observed.job(&host, &job.id, generation).is_none_or(|report| report.state != JobState::Gone)
        });
        if left {
            return Ok(());
        }
        if let Some(row) = moving {
            let phase = migration::phase_of(row.stage);
            let outcome = Outcome::Failed { phase, reason: "the job was cancelled".into() };
            self.end(row.clone(), outcome).await?;
        }
        self.status(job, JobStatus::Cancelled, "").await
    }

    /// Removes farewells that have lasted long enough.
    pub(super) async fn forget_farewells(&mut self, state: &DbState) -> Result<(), StoreError> {
        for row in state.farewells.iter().filter(|row| farewell::is_said(row, self.now)) {
            self.changed = true;
            self.tx.farewell_delete(&row.connection).await?;
        }
        Ok(())
    }

    /// Returns an ended job's address to the pool once no host can hold anything of the job. A
    /// remnant would answer for the address's next job.
    pub(super) async fn free(&mut self, state: &DbState, job: &JobRow) -> Result<(), StoreError> {
        let may_be_held = slices::stoppers(state, job).iter().any(|(host, _)| !self.observed.host_is_reachable(host));
        let is_held = self.observed.holders(&job.id).any(|(_, report)| report.state != JobState::Gone);
        if job.address.is_some() && !may_be_held && !is_held {
            self.changed = true;
            self.tx.job_address_free(&job.id).await?;
        }
        Ok(())
    }
}

/// Names a host that was drained by hand and would fit a job, with what lets it take jobs again.
fn undrain_helps(state: &DbState, job: &JobRow, candidates: &[Candidate]) -> String {
    let fits = |host: &&Candidate| {
        let is_named = job.requested_host.as_ref().is_none_or(|name| host.name == name.as_str());
        let is_drained = state.host(&host.id).is_some_and(|row| row.drain_by_hand.is_some());
        is_named && is_drained && host.could_ever_admit(job.asked())
    };
    let name = candidates.iter().find(fits).map(|host| &host.name);
    name.map_or_else(String::new, |name| format!("; `float hosts undrain {name}` would help"))
}

/// Returns the reason for the end of a job that was lost with its host.
fn removed(host: &str) -> String {
    format!("its host {host} was removed as lost, and the job has no snapshot")
}

/// Returns the pause after a number of failures in a row.
fn pause_after(failed: usize) -> Duration {
    let doubled = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    RESTORE_RETRY_DELAY.saturating_mul(2_u32.saturating_pow(doubled)).min(RESTORE_RETRY_DELAY_MAX)
}

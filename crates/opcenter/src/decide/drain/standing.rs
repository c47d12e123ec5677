//! The standing of each job on a drained host: what it waits for, or why it can't leave.
//!
//! What is known is said before any attempt: no room, a policy, a finding of the host's look.

use mooring_store::{Drain, Extent, HostRow, JobRow, MigrationRow};
use mooring_types::finding::Effect;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::placement::{Candidate, choose};
use mooring_types::{JobId, Timestamp};

use super::situation::Known;
use super::{Leaver, NoWay, Situation, room};
use crate::decide::migration;

/// A job that has to leave a drained host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) job: JobId,
    /// True where nothing hinders the job: it leaves, or takes its turn.
    pub(crate) leaves: bool,
    /// The action of the job, or the obstacle.
    pub(crate) reason: String,
    /// The number of attempts that have failed since the drain began.
    pub(crate) tries: usize,
    /// The time of the next attempt after one that failed.
    pub(crate) next_attempt: Option<Timestamp>,
}

impl Known<'_> {
    /// Returns the jobs on a drained host, those that are hindered first.
    pub(crate) fn standings(&self, host: &HostRow, drain: &Drain) -> Vec<Standing> {
        let situation = self.situation(host, drain);
        let candidates = self.state.job_candidates(self.observed);
        let here = self.state.jobs.values().filter(|job| !job.status.is_final() && job.host.as_ref() == Some(&host.id));
        let mut standings: Vec<Standing> =
            here.map(|job| self.standing(job, host, drain, &situation, &candidates)).collect();
        standings.sort_by_key(|standing| (standing.leaves, std::cmp::Reverse(standing.tries)));
        standings
    }

    fn standing(
        &self,
        job: &JobRow,
        host: &HostRow,
        drain: &Drain,
        situation: &Situation,
        candidates: &[Candidate],
    ) -> Standing {
        let tries = self.state.departures.failed(&job.id).len();
        let of = |leaves, reason| Standing { job: job.id.clone(), leaves, reason, tries, next_attempt: None };
        if let Some(row) = self.state.migrations.get(&job.id) {
            let is_undone = matches!(row.outcome, Outcome::RollingBack { .. });
            return of(!is_undone, self.under_way(row));
        }
        if !self.observed.host_is_reachable(&host.id) {
            return of(false, format!("host {} is unreachable", host.name));
        }
        let Some(leaver) = situation.jobs.iter().find(|leaver| leaver.job == job.id) else {
            return of(true, waits(job.status));
        };
        let no_way = room(situation, leaver, candidates).err();
        let stays = no_way.as_ref().and_then(|no_way| stays(situation, leaver, candidates, no_way));
        match (self.last_failure(job), stays) {
            (Some(failure), None) => {
                Standing { next_attempt: self.next_attempt(job, drain), ..of(false, failure.to_owned()) }
            }
            (Some(failure), Some(stays)) => of(false, format!("{failure}; {stays}")),
            (None, Some(stays)) => of(false, stays),
            (None, None) => match (self.finding(job, host), no_way) {
                (Some(finding), _) => of(false, finding),
                (None, Some(no_way)) => of(true, format!("{}: it takes its turn to be suspended", no_way.why())),
                (None, None) => of(true, "it takes its turn to migrate".to_owned()),
            },
        }
    }

    /// Tells of a migration under way.
    fn under_way(&self, row: &MigrationRow) -> String {
        if let Outcome::RollingBack { phase, reason } = &row.outcome {
            return format!("its {} is rolled back, which failed in {phase}: {reason}", row.kind.noun());
        }
        let does = match row.kind {
            MigrationKind::Migrate => format!("it migrates to {}", self.state.end_name(row.to.as_ref())),
            MigrationKind::Suspend => "it is suspended into the capsule store".to_owned(),
            MigrationKind::Snapshot => "a snapshot of it is taken, after which it leaves".to_owned(),
            MigrationKind::Resume | MigrationKind::Recover => "it is restored, after which it leaves".to_owned(),
        };
        format!("{does} (phase {})", migration::phase_of(row.stage))
    }

    /// Returns why the last attempt of a job to leave failed.
    fn last_failure(&self, job: &JobRow) -> Option<&str> {
        match &self.state.departures.failed(&job.id).last()?.outcome {
            Outcome::Failed { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// Returns a finding against the migration of a job.
    fn finding(&self, job: &JobRow, host: &HostRow) -> Option<String> {
        let report = self.observed.job(&host.id, &job.id, job.generation)?;
        let mut against = report.findings.iter().filter(|finding| finding.effect == Effect::Refuses);
        against.next().map(|finding| finding.text.clone())
    }
}

/// Tells what is waited for before a job can leave.
fn waits(status: JobStatus) -> String {
    match status {
        JobStatus::Initializing | JobStatus::Starting => "it starts: it leaves as soon as it executes".to_owned(),
        JobStatus::Cancelling => "it is cancelled".to_owned(),
        status => format!("it is {status}: its host has not confirmed yet that it executes"),
    }
}

/// Returns why a job that has no way to another host stays where it is; `None` where it is
/// suspended.
fn stays(situation: &Situation, leaver: &Leaver, candidates: &[Candidate], no_way: &NoWay) -> Option<String> {
    let why = match (no_way, choose(candidates, leaver.asked, Some(&situation.host))) {
        (NoWay::NoRoom, Err(refusal)) => refusal.to_string(),
        _ => no_way.why().to_owned(),
    };
    match situation.extent {
        _ if situation.suspends() => None,
        Extent::WhatFitsElsewhere => Some(format!("{why}: it stays, as the host may not be reclaimed")),
        Extent::Everything => Some(format!("{why}, and without a capsule store it can't be suspended")),
    }
}

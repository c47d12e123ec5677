//! Decides the next step of a migration: a pure function of its row and of what both ends report.
//!
//! ```text
//!  migrate   Preparing ─► PreCopying ─► Quiescing ─► Freezing ─► Restoring ─► Retiring ─► Ended
//!  suspend                PreCopying ─► Quiescing ─► Freezing ──────────────► Retiring ─► Ended
//!  snapshot               PreCopying ─► Quiescing ─► Freezing ─► Restoring ────────────► Ended
//!  resume    Preparing ─────────────────────────────────────────► Restoring ────────────► Ended
//!
//! any stage before Retiring ──► Aborting ─► RollingBack ─► Ended     failed
//!                                   └─► commit          the destination has restored the job
//! ```
//!
//! Only this module rolls back. The destination records `Restored` before the job executes there.
//! From then on the migration can't be rolled back, since clients may have been answered.
//!
//! The source executes the job again only when the destination can't. There are three proofs of
//! that:
//!
//! * the destination reports that nothing is left,
//! * the source reports that it never released the capsule,
//! * the source was never told to freeze.
//!
//! Until there is one the job waits, since two executing copies are worse than none.
//!
//! The capsule store executes nothing. A job on its way into it can be rolled back until OpCenter
//! records that the job is there. A job on its way out stays there until OpCenter records its
//! arrival.
//!
//! A destination that is unreachable for [`LOST_HOST_WAIT`] is given up. If it has the job, it ends
//! the job when it is back, since it learns of a newer generation. What the clients have seen of
//! that copy is unknown, so the connections of the job that the source executes are reset.

use std::time::Duration;

use mooring_api::watch::{self, JobObservation, JobState};
use mooring_store::{MigrationRow, Stage};
use mooring_types::migration::{MigrationKind, Outcome, Phase};

/// The longest time of a stage: a large capsule over a slow network must not fail.
pub(crate) const STAGE_LIMIT: Duration = Duration::from_secs(600);
/// The longest quiesce; each gateway limits its own to one second.
pub(crate) const QUIESCE_LIMIT: Duration = Duration::from_secs(2);
/// The longest wait for an unreachable source, once the destination owns the job.
pub(crate) const RETIRE_LIMIT: Duration = Duration::from_secs(60);
/// The longest wait for an unreachable host that may have the job, after the migration failed.
pub(crate) const LOST_HOST_WAIT: Duration = Duration::from_secs(30);

/// The facts from which the next step follows.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) row: &'a MigrationRow,
    /// The source's report on its generation.
    pub(crate) source: Option<&'a JobObservation>,
    pub(crate) source_is_silent: bool,
    /// The destination's report on its generation.
    pub(crate) destination: Option<&'a JobObservation>,
    pub(crate) destination_is_silent: bool,
    /// True when the lost host, from which the job is recovered, reports again that it executes the
    /// job.
    pub(crate) owner_is_back: bool,
    /// True when every reachable gateway has quiesced.
    pub(crate) quiet: bool,
    /// The time since the stage began.
    pub(crate) in_stage: Duration,
}

/// The next step of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Stay,
    /// Enter a stage.
    Go(Stage),
    /// The destination owns the job from now on; it may be the capsule store.
    Commit,
    /// Roll back.
    Undo {
        phase: Phase,
        reason: String,
    },
    /// Give up a lost destination: the source executes the job, and its connections are reset.
    GiveUp,
    /// Rolled back: the source executes the job, or the store has it.
    Restored,
    /// The source can't execute the job again.
    Lost {
        reason: String,
    },
    /// The source is unreachable: it may have the job or not.
    SourceLost,
}

/// Returns the next step of a migration.
pub(crate) fn next(facts: &Facts<'_>) -> Step {
    match facts.row.stage {
        Stage::Ended => Step::Stay,
        Stage::Retiring => retiring(facts),
        Stage::Restoring | Stage::Aborting if is_restored(facts) => Step::Commit,
        Stage::Preparing if facts.row.kind.is_out_of_store() && is_restored(facts) => Step::Commit,
        Stage::Aborting => aborting(facts),
        Stage::RollingBack => rolling_back(facts),
        stage => failure(facts).unwrap_or_else(|| forward(facts, stage)),
    }
}

fn forward(facts: &Facts<'_>, stage: Stage) -> Step {
    let kind = facts.row.kind;
    let source = facts.source.map(|report| &report.state);
    let prepared = facts.destination.is_some_and(|report| matches!(report.state, JobState::Prepared { .. }));
    let step = match stage {
        Stage::Preparing if kind.is_out_of_store() => prepared.then_some(Step::Go(Stage::Restoring)),
        Stage::Preparing => prepared.then_some(Step::Go(Stage::PreCopying)),
        Stage::PreCopying => matches!(source, Some(JobState::PreCopied { .. })).then_some(Step::Go(Stage::Quiescing)),
        Stage::Quiescing => (facts.quiet || facts.in_stage >= QUIESCE_LIMIT).then_some(Step::Go(Stage::Freezing)),
        Stage::Freezing | Stage::Restoring if kind.is_into_store() && is_stored(facts) => Some(Step::Commit),
        Stage::Freezing if kind == MigrationKind::Snapshot => {
            matches!(source, Some(JobState::SnapshotTaken { .. })).then_some(Step::Go(Stage::Restoring))
        }
        Stage::Freezing if kind == MigrationKind::Suspend => None,
        Stage::Freezing => matches!(source, Some(JobState::Frozen { .. } | JobState::Sent { .. }))
            .then_some(Step::Go(Stage::Restoring)),
        Stage::Restoring | Stage::Retiring | Stage::Aborting | Stage::RollingBack | Stage::Ended => None,
    };
    step.unwrap_or(Step::Stay)
}

/// Returns whether the destination has restored the job.
fn is_restored(facts: &Facts<'_>) -> bool {
    let id = &facts.row.id;
    let restored =
        |report: &JobObservation| matches!(&report.state, JobState::Restored { migration } if migration == id);
    facts.destination.is_some_and(restored)
}

/// Returns whether the capsule is in the store.
fn is_stored(facts: &Facts<'_>) -> bool {
    let id = &facts.row.id;
    let stored =
        |report: &JobObservation| matches!(&report.state, JobState::Stored { migration, .. } if migration == id);
    facts.source.is_some_and(stored)
}

/// Returns why a migration that is not committed has to be rolled back.
fn failure(facts: &Facts<'_>) -> Option<Step> {
    let row = facts.row;
    if facts.owner_is_back {
        return Some(Step::Undo { phase: phase_of(row.stage), reason: "the lost host is back with the job".into() });
    }
    if let Some((phase, reason)) = cause(row, facts.source, facts.destination) {
        return Some(Step::Undo { phase, reason: reason.to_owned() });
    }
    if let Some(JobState::Lost { reason }) = facts.destination.map(|report| &report.state) {
        return Some(Step::Undo { phase: phase_of(row.stage), reason: format!("at the destination: {reason}") });
    }
    match facts.source.map(|report| &report.state) {
        Some(JobState::Exited { .. }) => {
            return Some(Step::Undo { phase: phase_of(row.stage), reason: "the job ended".into() });
        }
        Some(JobState::Lost { reason }) => {
            return Some(Step::Undo { phase: phase_of(row.stage), reason: format!("at the source: {reason}") });
        }
        _ => {}
    }
    // Between hosts the later stages wait, since the unreachable host may have the job.
    let early = row.stage < Stage::Freezing || row.kind != MigrationKind::Migrate;
    if facts.destination_is_silent && early {
        return Some(Step::Undo { phase: phase_of(row.stage), reason: "the destination is unreachable".into() });
    }
    if facts.source_is_silent && early {
        return Some(Step::Undo { phase: phase_of(row.stage), reason: "the source is unreachable".into() });
    }
    (facts.in_stage >= STAGE_LIMIT).then(|| Step::Undo {
        phase: phase_of(row.stage),
        reason: format!("the stage took longer than {} s", STAGE_LIMIT.as_secs()),
    })
}

/// Returns why a migration fails, as its ends report it. The one of them that fails first knows;
/// the other one only sees a connection that ends.
pub(crate) fn cause<'a>(
    row: &MigrationRow,
    source: Option<&'a JobObservation>,
    destination: Option<&'a JobObservation>,
) -> Option<(Phase, &'a str)> {
    let failures = [source, destination].into_iter().flatten().filter_map(|report| match &report.state {
        JobState::MigrateOutFailed { migration, phase, reason }
        | JobState::MigrateInFailed { migration, phase, reason }
            if *migration == row.id =>
        {
            Some((*phase, reason.as_str()))
        }
        _ => None,
    });
    failures.min_by_key(|(_, reason)| watch::is_consequence(reason))
}

fn retiring(facts: &Facts<'_>) -> Step {
    let gone = facts.source.is_some_and(|report| report.state == JobState::Gone);
    // A source that comes back later is told to remove what it holds of an older generation.
    let given_up = facts.source_is_silent && facts.in_stage >= RETIRE_LIMIT;
    if gone || given_up { Step::Go(Stage::Ended) } else { Step::Stay }
}

fn aborting(facts: &Facts<'_>) -> Step {
    let row = facts.row;
    let gone = row.to.is_none() || facts.destination.is_some_and(|report| report.state == JobState::Gone);
    let released = (row.kind.is_out_of_store() || row.freeze_time.is_some())
        && !facts.source.is_some_and(
            |report| matches!(&report.state, JobState::MigrateOutFailed { migration, .. } if *migration == row.id),
        );
    match gone || !released {
        true => Step::Go(Stage::RollingBack),
        false if facts.destination_is_silent && facts.in_stage >= LOST_HOST_WAIT => Step::GiveUp,
        false => Step::Stay,
    }
}

fn rolling_back(facts: &Facts<'_>) -> Step {
    if facts.row.from.is_none() {
        return Step::Restored;
    }
    match facts.source.map(|report| &report.state) {
        Some(JobState::Running | JobState::Exited { .. }) => Step::Restored,
        Some(JobState::Lost { reason } | JobState::FailedToStart { reason }) => Step::Lost { reason: reason.clone() },
        _ if facts.source_is_silent && facts.in_stage >= LOST_HOST_WAIT => Step::SourceLost,
        _ => Step::Stay,
    }
}

/// Returns the first stage of a kind of migration.
pub(crate) fn first_stage(kind: MigrationKind) -> Stage {
    if kind.is_into_store() { Stage::PreCopying } else { Stage::Preparing }
}

/// Returns the phase to which a stage belongs.
pub(crate) fn phase_of(stage: Stage) -> Phase {
    match stage {
        Stage::Preparing => Phase::Prepare,
        Stage::PreCopying => Phase::PreCopy,
        Stage::Quiescing => Phase::Quiesce,
        Stage::Freezing => Phase::Freeze,
        Stage::Restoring => Phase::Restore,
        Stage::Retiring | Stage::Aborting | Stage::RollingBack | Stage::Ended => Phase::Retire,
    }
}

/// Returns the final outcome of a migration that was rolled back.
pub(crate) fn failed(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::RollingBack { phase, reason } => Outcome::Failed { phase: *phase, reason: reason.clone() },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use mooring_types::{Generation, HostId, JobId, MigrationId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn row(kind: MigrationKind, stage: Stage, frozen: bool) -> MigrationRow {
        let mut rng = rand::rng();
        MigrationRow {
            id: MigrationId::random(&mut rng),
            job: JobId::random(&mut rng),
            kind,
            generation: Generation(2),
            from_generation: Generation(1),
            from: (!kind.is_out_of_store()).then(|| HostId::random(&mut rng)),
            to: (!kind.is_into_store()).then(|| HostId::random(&mut rng)),
            capsule: None,
            destination_lost: false,
            resources: None,
            token: String::new(),
            reason: String::new(),
            start_time: Timestamp::UNIX_EPOCH,
            stage,
            stage_time: Timestamp::UNIX_EPOCH,
            freeze_time: frozen.then_some(Timestamp::UNIX_EPOCH),
            outcome: Outcome::Running,
            phases: Vec::new(),
            pause_seconds: 0.0,
            bytes_moved: 0,
        }
    }

    fn states(migration: &MigrationId) -> Vec<JobState> {
        let migration = || migration.clone();
        let (phase, reason) = (Phase::Restore, String::from("it broke"));
        vec![
            JobState::Starting,
            JobState::Running,
            JobState::Exited { code: 1 },
            JobState::FailedToStart { reason: reason.clone() },
            JobState::Prepared { migration: migration() },
            JobState::PreCopied { migration: migration() },
            JobState::Frozen { migration: migration() },
            JobState::Sent { migration: migration() },
            JobState::Stored { migration: migration(), stored_bytes: 1, base: None },
            JobState::SnapshotTaken { migration: migration() },
            JobState::Restored { migration: migration() },
            JobState::MigrateInFailed { migration: migration(), phase, reason: reason.clone() },
            JobState::MigrateOutFailed { migration: migration(), phase, reason: reason.clone() },
            JobState::Gone,
            JobState::Lost { reason },
        ]
    }

    fn observed(row: &MigrationRow, state: JobState) -> JobObservation {
        JobObservation {
            job: row.job.clone(),
            generation: row.generation,
            grant: String::new(),
            state,
            phases: Vec::new(),
            bytes_moved: 0,
            image_digest: String::new(),
            usage: None,
            unserved: None,
            activity: None,
            out_of_memory: None,
            is_short_of_disk: false,
            findings: Vec::new(),
            unaccepted: None,
            differences: Vec::new(),
            progress: String::new(),
        }
    }

    const STAGES: [Stage; 9] = [
        Stage::Preparing,
        Stage::PreCopying,
        Stage::Quiescing,
        Stage::Freezing,
        Stage::Restoring,
        Stage::Retiring,
        Stage::Aborting,
        Stage::RollingBack,
        Stage::Ended,
    ];

    #[test]
    fn the_end_that_fails_first_tells_the_cause() {
        let row = row(MigrationKind::Migrate, Stage::Freezing, true);
        let failed = |reason: &str| (row.id.clone(), Phase::Transfer, reason.to_owned());
        let source = |reason| {
            let (migration, phase, reason) = failed(reason);
            observed(&row, JobState::MigrateOutFailed { migration, phase, reason })
        };
        let destination = |reason| {
            let (migration, phase, reason) = failed(reason);
            observed(&row, JobState::MigrateInFailed { migration, phase, reason })
        };
        let closed = "can't read the capsule: the other host closed the connection";
        let told = |source: Option<&JobObservation>, destination: Option<&JobObservation>| {
            cause(&row, source, destination).map(|(_, reason)| reason.to_owned())
        };
        let (traced, no_room) = (source("it is traced"), destination("the disk is full"));
        assert_eq!(told(Some(&traced), Some(&destination(closed))).as_deref(), Some("it is traced"));
        assert_eq!(told(Some(&source(closed)), Some(&no_room)).as_deref(), Some("the disk is full"));
        assert_eq!(told(Some(&traced), Some(&no_room)).as_deref(), Some("it is traced"));
        assert_eq!(told(None, Some(&destination(closed))).as_deref(), Some(closed));
        assert_eq!(told(Some(&observed(&row, JobState::Running)), None), None);
    }

    proptest! {
        #[test]
        fn source_executes_only_if_destination_can_not(
            kind in prop::sample::select(MigrationKind::ALL.to_vec()), stage in 0_usize..9, frozen: bool,
            source in prop::option::of(0_usize..15), destination in prop::option::of(0_usize..15),
            silent: (bool, bool), back: bool, quiet: bool, seconds in 0_u64..1000,
        ) {
            let row = row(kind, STAGES[stage], frozen);
            let all = states(&row.id);
            let observe = |index: usize| observed(&row, all[index].clone());
            // The store observes nothing.
            let source = source.filter(|_| row.from.is_some()).map(observe);
            let destination = destination.filter(|_| row.to.is_some()).map(observe);
            let facts = Facts {
                row: &row,
                source: source.as_ref(),
                source_is_silent: silent.0 && row.from.is_some(),
                destination: destination.as_ref(),
                destination_is_silent: silent.1 && row.to.is_some(),
                owner_is_back: back && kind == MigrationKind::Recover,
                quiet,
                in_stage: Duration::from_secs(seconds),
            };
            let state = |report: &Option<JobObservation>| report.as_ref().map(|report| report.state.clone());
            let restored = matches!(state(&destination), Some(JobState::Restored { .. }));
            let stored = matches!(state(&source), Some(JobState::Stored { .. }));
            match next(&facts) {
                Step::Go(Stage::RollingBack) => {
                    let withheld = matches!(state(&source), Some(JobState::MigrateOutFailed { .. }));
                    let can_not = row.to.is_none() || state(&destination) == Some(JobState::Gone);
                    prop_assert!(row.stage == Stage::Aborting);
                    prop_assert!(can_not || (row.from.is_some() && (!frozen || withheld)));
                }
                Step::Commit => match kind {
                    MigrationKind::Suspend | MigrationKind::Snapshot => {
                        prop_assert!(matches!(row.stage, Stage::Freezing | Stage::Restoring) && stored);
                    }
                    _ => prop_assert!(row.stage <= Stage::Aborting && restored),
                },
                Step::GiveUp => prop_assert!(row.stage == Stage::Aborting && facts.destination_is_silent && !restored),
                Step::Restored => prop_assert!(row.stage == Stage::RollingBack),
                Step::Undo { .. } => {
                    prop_assert!(row.stage <= Stage::Restoring && !(restored && row.stage == Stage::Restoring));
                }
                Step::Go(next) => prop_assert!(next > row.stage && next != Stage::Aborting),
                Step::SourceLost => prop_assert!(row.stage == Stage::RollingBack && facts.source_is_silent),
                Step::Stay | Step::Lost { .. } => {}
            }
        }

        #[test]
        fn rollback_never_waits_for_ever(
            kind in prop::sample::select(MigrationKind::ALL.to_vec()), frozen: bool,
        ) {
            // No unreachable host blocks a migration for ever.
            for stage in [Stage::Aborting, Stage::RollingBack] {
                let row = row(kind, stage, frozen);
                let facts = Facts {
                    row: &row,
                    source: None,
                    source_is_silent: row.from.is_some(),
                    destination: None,
                    destination_is_silent: row.to.is_some(),
                    owner_is_back: false,
                    quiet: false,
                    in_stage: LOST_HOST_WAIT,
                };
                prop_assert_ne!(next(&facts), Step::Stay);
            }
        }
    }
}

//! What a move does next, as a pure function of what was decided and what is observed.
//!
//! ```text
//!  move      Preparing ─► PreCopying ─► Quiescing ─► Freezing ─► Restoring ─► Retiring ─► Ended
//!  suspend                PreCopying ─► Quiescing ─► Freezing ──────────────► Retiring ─► Ended
//!  capture                PreCopying ─► Quiescing ─► Freezing ─► Restoring ────────────► Ended
//!  resume    Preparing ─────────────────────────────────────────► Restoring ────────────► Ended
//!
//!  any stage before Retiring ──► Aborting ─► RollingBack ─► Ended     failed
//!                                   └─► as if nothing had failed      the destination had restored it after all
//! ```
//!
//! This is the one place that undoes. The destination puts on record that it has restored the job before the job takes its first step
//! there: from that record on the move can't be undone, whoever knows of it, since clients may have been answered. The source goes on
//! only when the destination can't execute the job: it has said that nothing is left, or the source has said that the capsule was
//! never released, or the source was never told to freeze. Until one of the three is known the job waits, since two of it would be
//! worse than none.
//!
//! The capsule store executes nothing: what goes into it can be rolled back until OpCenter notes that the job is there, and what comes
//! out of it stays there until OpCenter notes that it has arrived. A destination that is silent for [`LOST`] is given up: should it have
//! the job, it ends it when it comes back, since it is told of a newer generation; what its clients have seen of it is not known, so that
//! the connections of a job that goes on without it are reset.

use std::time::Duration;

use mooring_api::watch::{JobObservation, JobState};
use mooring_store::{MigrationRow, Stage};
use mooring_types::migration::{MigrationKind, Outcome, Phase};

/// How long a stage may take before the move is given up. Generous: a large capsule over a slow network is no failure.
pub(crate) const STAGE_LIMIT: Duration = Duration::from_secs(600);
/// How long gateways may take to go quiet; each bounds itself to one second.
pub(crate) const QUIESCE_LIMIT: Duration = Duration::from_secs(2);
/// How long a source that is not heard from is waited for once the destination owns the job.
pub(crate) const RETIRE_LIMIT: Duration = Duration::from_secs(60);
/// How long a silent host that may have the job is waited for, from when the move was given up.
pub(crate) const LOST: Duration = Duration::from_secs(30);

/// What is known of a move.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) row: &'a MigrationRow,
    /// What the source says of its generation.
    pub(crate) source: Option<&'a JobObservation>,
    pub(crate) source_is_silent: bool,
    /// What the destination says of its generation.
    pub(crate) destination: Option<&'a JobObservation>,
    pub(crate) destination_is_silent: bool,
    /// Whether the host from whose loss the job is recovered is heard from again, and executes it.
    pub(crate) owner_is_back: bool,
    /// Whether every gateway that can answer has gone quiet.
    pub(crate) quiet: bool,
    /// Since when the stage is as it is.
    pub(crate) in_stage: Duration,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait.
    Stay,
    /// Go on to a stage.
    Go(Stage),
    /// The destination owns the job from now on, which may be the store.
    Commit,
    /// Give it up.
    Undo { phase: Phase, reason: String },
    /// The destination is lost: the source goes on, and no connection does.
    GiveUp,
    /// It is over, and the source executes the job or the store has it.
    Restored,
    /// It is over, and the source can't bring the job back.
    Lost { reason: String },
    /// It is over, and the source is not heard from: it may have the job, or not.
    SourceLost,
}

/// What a move does next.
pub(crate) fn next(view: &View<'_>) -> Step {
    match view.row.stage {
        Stage::Ended => Step::Stay,
        Stage::Retiring => retiring(view),
        Stage::Restoring | Stage::Aborting if is_restored(view) => Step::Commit,
        Stage::Preparing if view.row.kind.is_out_of_store() && is_restored(view) => Step::Commit,
        Stage::Aborting => aborting(view),
        Stage::RollingBack => rolling_back(view),
        stage => failure(view).unwrap_or_else(|| forward(view, stage)),
    }
}

fn forward(view: &View<'_>, stage: Stage) -> Step {
    let kind = view.row.kind;
    let source = view.source.map(|seen| &seen.state);
    let prepared = view.destination.is_some_and(|seen| matches!(seen.state, JobState::Prepared { .. }));
    let step = match stage {
        Stage::Preparing if kind.is_out_of_store() => prepared.then_some(Step::Go(Stage::Restoring)),
        Stage::Preparing => prepared.then_some(Step::Go(Stage::PreCopying)),
        Stage::PreCopying => matches!(source, Some(JobState::PreCopied { .. })).then_some(Step::Go(Stage::Quiescing)),
        Stage::Quiescing => (view.quiet || view.in_stage >= QUIESCE_LIMIT).then_some(Step::Go(Stage::Freezing)),
        Stage::Freezing | Stage::Restoring if kind.is_into_store() && is_stored(view) => Some(Step::Commit),
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

/// Whether the job has gone on at the destination.
fn is_restored(view: &View<'_>) -> bool {
    let restored =
        |seen: &JobObservation| matches!(&seen.state, JobState::Restored { migration } if *migration == view.row.id);
    view.destination.is_some_and(restored)
}

/// Whether the capsule is in the store.
fn is_stored(view: &View<'_>) -> bool {
    let stored =
        |seen: &JobObservation| matches!(&seen.state, JobState::Stored { migration, .. } if *migration == view.row.id);
    view.source.is_some_and(stored)
}

/// Why a move that is not committed has to be given up, if it has to.
fn failure(view: &View<'_>) -> Option<Step> {
    let row = view.row;
    if view.owner_is_back {
        return Some(Step::Undo {
            phase: phase_of(row.stage),
            reason: "the host that was lost is back with the job".into(),
        });
    }
    match view.destination.map(|seen| &seen.state) {
        Some(JobState::MigrateInFailed { migration, phase, reason }) if *migration == row.id => {
            return Some(Step::Undo { phase: *phase, reason: reason.clone() });
        }
        Some(JobState::Lost { reason }) => {
            return Some(Step::Undo { phase: phase_of(row.stage), reason: format!("at the destination: {reason}") });
        }
        _ => {}
    }
    match view.source.map(|seen| &seen.state) {
        Some(JobState::MigrateOutFailed { migration, phase, reason }) if *migration == row.id => {
            return Some(Step::Undo { phase: *phase, reason: reason.clone() });
        }
        Some(JobState::Exited { .. }) => {
            return Some(Step::Undo { phase: phase_of(row.stage), reason: "the job ended by itself".into() });
        }
        Some(JobState::Lost { reason }) => {
            return Some(Step::Undo { phase: phase_of(row.stage), reason: format!("at the source: {reason}") });
        }
        _ => {}
    }
    // Between two hosts the later stages wait: the one that is silent may have the job. The store never has.
    let early = row.stage < Stage::Freezing || row.kind != MigrationKind::Migrate;
    if view.destination_is_silent && early {
        return Some(Step::Undo { phase: phase_of(row.stage), reason: "the destination is not heard from".into() });
    }
    if view.source_is_silent && early {
        return Some(Step::Undo { phase: phase_of(row.stage), reason: "the source is not heard from".into() });
    }
    (view.in_stage >= STAGE_LIMIT).then(|| Step::Undo {
        phase: phase_of(row.stage),
        reason: format!("it took longer than {} s", STAGE_LIMIT.as_secs()),
    })
}

fn retiring(view: &View<'_>) -> Step {
    let gone = view.source.is_some_and(|seen| seen.state == JobState::Gone);
    // A source that comes back later is told to let go of what it still holds: it is of an older generation.
    let given_up = view.source_is_silent && view.in_stage >= RETIRE_LIMIT;
    if gone || given_up { Step::Go(Stage::Ended) } else { Step::Stay }
}

fn aborting(view: &View<'_>) -> Step {
    let row = view.row;
    let gone = row.to.is_none() || view.destination.is_some_and(|seen| seen.state == JobState::Gone);
    let released = (row.kind.is_out_of_store() || row.freeze_time.is_some())
        && !view.source.is_some_and(
            |seen| matches!(&seen.state, JobState::MigrateOutFailed { migration, .. } if *migration == row.id),
        );
    match gone || !released {
        true => Step::Go(Stage::RollingBack),
        false if view.destination_is_silent && view.in_stage >= LOST => Step::GiveUp,
        false => Step::Stay,
    }
}

fn rolling_back(view: &View<'_>) -> Step {
    if view.row.from.is_none() {
        return Step::Restored;
    }
    match view.source.map(|seen| &seen.state) {
        Some(JobState::Running | JobState::Exited { .. }) => Step::Restored,
        Some(JobState::Lost { reason } | JobState::FailedToStart { reason }) => Step::Lost { reason: reason.clone() },
        _ if view.source_is_silent && view.in_stage >= LOST => Step::SourceLost,
        _ => Step::Stay,
    }
}

/// Where a move of a kind begins.
pub(crate) fn first_stage(kind: MigrationKind) -> Stage {
    if kind.is_into_store() { Stage::PreCopying } else { Stage::Preparing }
}

/// The phase that a stage stands for.
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

/// How a move that was being undone has ended.
pub(crate) fn failed(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Undoing { phase, reason } => Outcome::Failed { phase: *phase, reason: reason.clone() },
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

    proptest! {
        #[test]
        fn the_source_goes_on_only_when_the_destination_can_not(
            kind in prop::sample::select(MigrationKind::ALL.to_vec()), stage in 0_usize..9, frozen: bool,
            source in prop::option::of(0_usize..15), destination in prop::option::of(0_usize..15),
            silent: (bool, bool), back: bool, quiet: bool, seconds in 0_u64..1000,
        ) {
            let row = row(kind, STAGES[stage], frozen);
            let all = states(&row.id);
            let observe = |index: usize| JobObservation {
                job: row.job.clone(),
                generation: row.generation,
                state: all[index].clone(),
                phases: Vec::new(),
                bytes_moved: 0,
                image_digest: String::new(),
                usage: None,
                progress: String::new(),
            };
            // The store observes nothing.
            let source = source.filter(|_| row.from.is_some()).map(observe);
            let destination = destination.filter(|_| row.to.is_some()).map(observe);
            let view = View {
                row: &row,
                source: source.as_ref(),
                source_is_silent: silent.0 && row.from.is_some(),
                destination: destination.as_ref(),
                destination_is_silent: silent.1 && row.to.is_some(),
                owner_is_back: back && kind == MigrationKind::Recover,
                quiet,
                in_stage: Duration::from_secs(seconds),
            };
            let state = |seen: &Option<JobObservation>| seen.as_ref().map(|seen| seen.state.clone());
            let restored = matches!(state(&destination), Some(JobState::Restored { .. }));
            let stored = matches!(state(&source), Some(JobState::Stored { .. }));
            match next(&view) {
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
                Step::GiveUp => prop_assert!(row.stage == Stage::Aborting && view.destination_is_silent && !restored),
                Step::Restored => prop_assert!(row.stage == Stage::RollingBack),
                Step::Undo { .. } => {
                    prop_assert!(row.stage <= Stage::Restoring && !(restored && row.stage == Stage::Restoring));
                }
                Step::Go(next) => prop_assert!(next > row.stage && next != Stage::Aborting),
                Step::SourceLost => prop_assert!(row.stage == Stage::RollingBack && view.source_is_silent),
                Step::Stay | Step::Lost { .. } => {}
            }
        }

        #[test]
        fn a_job_that_is_undone_for_too_long_is_given_back(
            kind in prop::sample::select(MigrationKind::ALL.to_vec()), frozen: bool,
        ) {
            // Whoever is silent, nothing waits for ever.
            for stage in [Stage::Aborting, Stage::RollingBack] {
                let row = row(kind, stage, frozen);
                let view = View {
                    row: &row,
                    source: None,
                    source_is_silent: row.from.is_some(),
                    destination: None,
                    destination_is_silent: row.to.is_some(),
                    owner_is_back: false,
                    quiet: false,
                    in_stage: LOST,
                };
                prop_assert_ne!(next(&view), Step::Stay);
            }
        }
    }
}

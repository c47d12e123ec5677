//! The next action of a driver: a pure function of the recorded state and the directive.

use mooring_api::watch::{AfterCheckpoint, Connections, Destination, JobDirective, JobOrder, MigrateOutStage, Origin};
use mooring_linux::process::ProcessId;
use mooring_types::{CapsuleName, Generation, MigrationId};

use super::record::{RecordedOutbound, RecordedState};

/// The next action of a driver, with all that it needs beside the job itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Wait until something changes.
    Nothing,
    /// Make the container and start it.
    Start,
    /// Record that the job is lost: it should be here and is not.
    ReportLost,
    /// Make ready for the job, and receive it.
    Receive { migration: MigrationId, from: Origin },
    /// Send the job's files while it executes.
    PreCopy { migration: MigrationId, to: Destination },
    /// Freeze the job, checkpoint it and send the checkpoint to the other host.
    MoveToHost { migration: MigrationId },
    /// Freeze the job, checkpoint it and store the checkpoint.
    Suspend { migration: MigrationId, to: Destination },
    /// Freeze the job, checkpoint it, let it execute again and store the checkpoint.
    Snapshot {
        migration: MigrationId,
        /// The snapshot on which this one may build.
        base: Option<CapsuleName>,
    },
    /// Forget a migration that failed or is complete; the job executes.
    ForgetMigration,
    /// Roll back: thaw the job where its processes are still here, or restore it from a checkpoint
    /// that this host has kept.
    RestoreHere { from: OwnCheckpoint, connections: Connections },
    /// Make a job that was received this host's own.
    TakeOver { migration: MigrationId, process: ProcessId },
    /// End the job with a grace period, and remove everything.
    Stop { process: ProcessId },
    /// Remove everything but the record that the job is gone.
    Remove(Removal),
    /// Remove the record as well.
    Forget,
    /// End the driver: nothing is held, and nothing is ordered.
    End,
    /// Let a job go on that was frozen for lack of a lease.
    LiftFence,
    /// Leave a job frozen until the lease of this host is confirmed, or another order comes.
    AwaitLease,
}

/// The lease of this host as it concerns a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnderLease {
    /// OpCenter may recover the job elsewhere.
    pub(crate) is_fenced: bool,
    /// The job was frozen for lack of a lease.
    pub(crate) is_frozen: bool,
    /// The lease is valid, and OpCenter has given its orders since the last lapse.
    pub(crate) is_confirmed: bool,
}

/// A checkpoint of a job on its own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnCheckpoint {
    /// The checkpoint of a migration that is rolled back.
    Migration(MigrationId),
    /// The checkpoint that was made when the host was stopped.
    Parked,
}

/// The reason for which a job is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The job executes on another host, to which packets have to pass.
    Retired,
    /// The job ended, or its migration to this host was aborted.
    Ended,
}

/// Returns the next action for a job of this generation. Every action but [`Action::Nothing`] and
/// [`Action::End`] changes the state, so that asking again comes to rest. [`under_lease`] follows.
pub(crate) fn decide(generation: Generation, state: &RecordedState, directive: Option<&JobDirective>) -> Action {
    let Some(JobDirective { generation: ordered, order, .. }) = directive else {
        return match state {
            RecordedState::Absent => Action::End,
            RecordedState::Gone => Action::Forget,
            // A job in no order is left alone.
            RecordedState::Starting
            | RecordedState::Running { .. }
            | RecordedState::Exited { .. }
            | RecordedState::FailedToStart { .. }
            | RecordedState::Lost { .. }
            | RecordedState::Freezing { .. }
            | RecordedState::Frozen { .. }
            | RecordedState::Receiving { .. }
            | RecordedState::ReceiveFailed { .. }
            | RecordedState::Restored { .. }
            | RecordedState::Parked => Action::Nothing,
        };
    };
    if *state == RecordedState::Absent {
        return begin(order);
    }
    if *ordered < generation {
        return Action::Nothing;
    }
    if *ordered > generation {
        return if *state == RecordedState::Gone { Action::Forget } else { Action::Remove(removal(order)) };
    }
    match order {
        JobOrder::Run { .. } => run(state),
        JobOrder::MigrateIn { .. } => Action::Nothing,
        JobOrder::MigrateOut { migration, stage, to } => migrate_out(state, migration, *stage, to),
        JobOrder::Rollback { connections, .. } => roll_back(state, *connections),
        JobOrder::Abort { .. } => abort(state),
        JobOrder::Retire { .. } => retire(state),
        JobOrder::Stop => stop(state),
    }
}

/// Returns the action that takes the place of another one where a job may not execute without a
/// lease.
pub(crate) fn under_lease(
    action: Action,
    lease: UnderLease,
    generation: Generation,
    directive: Option<&JobDirective>,
) -> Action {
    let is_ordered = directive.is_some_and(|ordered| ordered.generation == generation && ordered.order.executes());
    match action {
        // A frozen job heeds no signal.
        Action::Stop { .. } if lease.is_frozen => Action::Remove(Removal::Ended),
        Action::Stop { .. } | Action::Remove(_) | Action::Forget | Action::End | Action::ReportLost => action,
        _ if lease.is_frozen && lease.is_confirmed && is_ordered => Action::LiftFence,
        _ if lease.is_frozen => Action::AwaitLease,
        Action::RestoreHere { .. } if lease.is_fenced && !lease.is_confirmed => Action::AwaitLease,
        action => action,
    }
}

/// The action for a job of which nothing is held.
fn begin(order: &JobOrder) -> Action {
    match order {
        JobOrder::Run { begun: false } => Action::Start,
        JobOrder::Run { begun: true } | JobOrder::MigrateOut { .. } | JobOrder::Rollback { .. } => Action::ReportLost,
        JobOrder::MigrateIn { migration, from } => Action::Receive { migration: migration.clone(), from: from.clone() },
        JobOrder::Abort { .. } | JobOrder::Retire { .. } | JobOrder::Stop => Action::Remove(removal(order)),
    }
}

fn removal(order: &JobOrder) -> Removal {
    match order {
        JobOrder::Retire { .. } => Removal::Retired,
        JobOrder::Run { .. }
        | JobOrder::MigrateIn { .. }
        | JobOrder::MigrateOut { .. }
        | JobOrder::Abort { .. }
        | JobOrder::Rollback { .. }
        | JobOrder::Stop => Removal::Ended,
    }
}

fn run(state: &RecordedState) -> Action {
    match state {
        RecordedState::Starting => Action::Start,
        RecordedState::Running { outbound, .. } => forget_migration(outbound),
        RecordedState::Frozen { migration, .. } => roll_back_from(migration, Connections::Kept),
        RecordedState::Parked => unpark(Connections::Kept),
        RecordedState::Restored { migration, process } => take_over(migration, *process),
        RecordedState::Absent
        | RecordedState::Exited { .. }
        | RecordedState::FailedToStart { .. }
        | RecordedState::Lost { .. }
        | RecordedState::Freezing { .. }
        | RecordedState::Receiving { .. }
        | RecordedState::ReceiveFailed { .. }
        | RecordedState::Gone => Action::Nothing,
    }
}

fn migrate_out(state: &RecordedState, migration: &MigrationId, stage: MigrateOutStage, to: &Destination) -> Action {
    match state {
        RecordedState::Running { outbound, .. } => match outbound {
            RecordedOutbound::PreCopied(now) if now == migration => match stage {
                MigrateOutStage::PreCopy => Action::Nothing,
                MigrateOutStage::Freeze => freeze(migration, to),
            },
            RecordedOutbound::SnapshotTaken(now)
            | RecordedOutbound::Stored { migration: now, .. }
            | RecordedOutbound::Failed { migration: now, .. }
                if now == migration =>
            {
                Action::Nothing
            }
            // No migration, or an earlier one.
            RecordedOutbound::None
            | RecordedOutbound::PreCopied(_)
            | RecordedOutbound::SnapshotTaken(_)
            | RecordedOutbound::Stored { .. }
            | RecordedOutbound::Failed { .. } => Action::PreCopy { migration: migration.clone(), to: to.clone() },
        },
        RecordedState::Parked => unpark(Connections::Kept),
        // The source of a migration owns the job: the order to run it was given while the agent was
        // away.
        RecordedState::Restored { migration, process } => take_over(migration, *process),
        RecordedState::Absent
        | RecordedState::Starting
        | RecordedState::Exited { .. }
        | RecordedState::FailedToStart { .. }
        | RecordedState::Lost { .. }
        | RecordedState::Freezing { .. }
        | RecordedState::Frozen { .. }
        | RecordedState::Receiving { .. }
        | RecordedState::ReceiveFailed { .. }
        | RecordedState::Gone => Action::Nothing,
    }
}

/// The action that freezes a job, by where its checkpoint goes and what the job does then.
fn freeze(migration: &MigrationId, to: &Destination) -> Action {
    let migration = migration.clone();
    match to {
        Destination::Host { .. } => Action::MoveToHost { migration },
        Destination::Store { then: AfterCheckpoint::StayFrozen, .. } => Action::Suspend { migration, to: to.clone() },
        Destination::Store { then: AfterCheckpoint::GoOn, base, .. } => {
            Action::Snapshot { migration, base: base.clone() }
        }
    }
}

fn roll_back(state: &RecordedState, connections: Connections) -> Action {
    match state {
        RecordedState::Running { outbound, .. } => forget_migration(outbound),
        RecordedState::Frozen { migration, .. } => roll_back_from(migration, connections),
        RecordedState::Parked => unpark(connections),
        RecordedState::Restored { migration, process } => take_over(migration, *process),
        RecordedState::Absent
        | RecordedState::Starting
        | RecordedState::Exited { .. }
        | RecordedState::FailedToStart { .. }
        | RecordedState::Lost { .. }
        | RecordedState::Freezing { .. }
        | RecordedState::Receiving { .. }
        | RecordedState::ReceiveFailed { .. }
        | RecordedState::Gone => Action::Nothing,
    }
}

fn abort(state: &RecordedState) -> Action {
    match state {
        // The job has taken steps here and is this host's: OpCenter did not know that when it gave
        // the order, and takes it back.
        RecordedState::Restored { .. } => Action::Nothing,
        RecordedState::Absent | RecordedState::Gone => Action::Nothing,
        RecordedState::Starting
        | RecordedState::Running { .. }
        | RecordedState::Exited { .. }
        | RecordedState::FailedToStart { .. }
        | RecordedState::Lost { .. }
        | RecordedState::Freezing { .. }
        | RecordedState::Frozen { .. }
        | RecordedState::Receiving { .. }
        | RecordedState::ReceiveFailed { .. }
        | RecordedState::Parked => Action::Remove(Removal::Ended),
    }
}

fn retire(state: &RecordedState) -> Action {
    if *state == RecordedState::Gone { Action::Nothing } else { Action::Remove(Removal::Retired) }
}

fn stop(state: &RecordedState) -> Action {
    match state {
        RecordedState::Absent | RecordedState::Gone => Action::Nothing,
        RecordedState::Running { process, .. } => Action::Stop { process: *process },
        RecordedState::Starting
        | RecordedState::Exited { .. }
        | RecordedState::FailedToStart { .. }
        | RecordedState::Lost { .. }
        | RecordedState::Freezing { .. }
        | RecordedState::Frozen { .. }
        | RecordedState::Receiving { .. }
        | RecordedState::ReceiveFailed { .. }
        | RecordedState::Restored { .. }
        | RecordedState::Parked => Action::Remove(Removal::Ended),
    }
}

fn forget_migration(outbound: &RecordedOutbound) -> Action {
    match outbound {
        RecordedOutbound::None => Action::Nothing,
        RecordedOutbound::PreCopied(_)
        | RecordedOutbound::SnapshotTaken(_)
        | RecordedOutbound::Stored { .. }
        | RecordedOutbound::Failed { .. } => Action::ForgetMigration,
    }
}

fn take_over(migration: &MigrationId, process: ProcessId) -> Action {
    Action::TakeOver { migration: migration.clone(), process }
}

fn roll_back_from(migration: &MigrationId, connections: Connections) -> Action {
    Action::RestoreHere { from: OwnCheckpoint::Migration(migration.clone()), connections }
}

fn unpark(connections: Connections) -> Action {
    Action::RestoreHere { from: OwnCheckpoint::Parked, connections }
}

#[cfg(test)]
pub(super) mod tests;

//! What to do about a job: a pure function of what is held and what is wanted.

use mooring_api::watch::{JobDirective, JobOrder, MigrateOutStage};
use mooring_types::MigrationId;

use super::record::{Attempt, LocalState, Record};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing, until something changes.
    Nothing,
    /// Make and start it.
    Start,
    /// It should be here and is not.
    CallLost,
    /// Make ready to receive it.
    Prepare(MigrationId),
    /// Send files ahead.
    PreCopy(MigrationId),
    /// Checkpoint and send it.
    Freeze(MigrationId),
    /// Forget an attempt that came to nothing; the job executes.
    Clear,
    /// Have it execute again from its own capsule.
    Resume,
    /// What was restored is this host's own from now on.
    Keep,
    /// End it, kindly first, and remove everything.
    Stop,
    /// Remove everything.
    Remove,
    /// Remove the record as well.
    Forget,
}

/// What to do next. Every answer but [`Action::Nothing`] changes what is held, so that asking again comes to rest.
pub(crate) fn decide(record: Option<&Record>, directive: Option<&JobDirective>) -> Action {
    match (record, directive) {
        (None, None) => Action::Nothing,
        // A job in no order is left alone: only what is gone anyway is forgotten.
        (Some(record), None) => {
            if record.state == LocalState::Gone {
                Action::Forget
            } else {
                Action::Nothing
            }
        }
        (None, Some(directive)) => begin(&directive.order),
        (Some(record), Some(directive)) if directive.generation < record.generation => Action::Nothing,
        (Some(record), Some(directive)) if directive.generation > record.generation => match record.state {
            LocalState::Gone => Action::Forget,
            _ => Action::Remove,
        },
        (Some(record), Some(directive)) => go_on(&record.state, &directive.order),
    }
}

fn begin(order: &JobOrder) -> Action {
    match order {
        JobOrder::Run { begun: false } => Action::Start,
        JobOrder::Run { begun: true } | JobOrder::MigrateOut { .. } | JobOrder::Rollback { .. } => Action::CallLost,
        JobOrder::MigrateIn { migration, .. } => Action::Prepare(migration.clone()),
        JobOrder::Abort { .. } | JobOrder::Retire { .. } | JobOrder::Stop => Action::Remove,
    }
}

fn go_on(held: &LocalState, order: &JobOrder) -> Action {
    match order {
        JobOrder::Run { .. } => match held {
            LocalState::Starting => Action::Start,
            LocalState::Running { attempt: Attempt::None, .. } => Action::Nothing,
            LocalState::Running { .. } => Action::Clear,
            LocalState::Frozen { .. } | LocalState::Parked => Action::Resume,
            LocalState::Restored { .. } => Action::Keep,
            _ => Action::Nothing,
        },
        JobOrder::MigrateIn { .. } => Action::Nothing,
        JobOrder::MigrateOut { migration, stage, .. } => {
            match held {
                LocalState::Parked => Action::Resume,
                // Who is told to send it away owns it: the order to run it came and went while the agent was away.
                LocalState::Restored { .. } => Action::Keep,
                LocalState::Running { attempt: Attempt::Failed { migration: failed, .. }, .. }
                    if failed == migration =>
                {
                    Action::Nothing
                }
                LocalState::Running {
                    attempt: Attempt::SnapshotTaken(now) | Attempt::Stored { migration: now, .. },
                    ..
                } if now == migration => Action::Nothing,
                LocalState::Running { attempt: Attempt::PreCopied(ready), .. } if ready == migration => match stage {
                    MigrateOutStage::PreCopy => Action::Nothing,
                    MigrateOutStage::Freeze => Action::Freeze(migration.clone()),
                },
                LocalState::Running { .. } => Action::PreCopy(migration.clone()),
                _ => Action::Nothing,
            }
        }
        JobOrder::Rollback { .. } => match held {
            LocalState::Restored { .. } => Action::Keep,
            LocalState::Running { attempt: Attempt::None, .. } => Action::Nothing,
            LocalState::Running { .. } => Action::Clear,
            LocalState::Frozen { .. } | LocalState::Parked => Action::Resume,
            _ => Action::Nothing,
        },
        JobOrder::Stop => match held {
            LocalState::Gone => Action::Nothing,
            LocalState::Running { .. } => Action::Stop,
            _ => Action::Remove,
        },
        JobOrder::Abort { .. } => match held {
            // It has been let go and is this host's: the order was given in ignorance of that, and is taken back.
            LocalState::Restored { .. } | LocalState::Gone => Action::Nothing,
            _ => Action::Remove,
        },
        JobOrder::Retire { .. } => match held {
            LocalState::Gone => Action::Nothing,
            _ => Action::Remove,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mooring_api::watch::{Connections, Destination, Origin};
    use mooring_linux::process::ProcessId;
    use mooring_types::host::Resources;
    use mooring_types::job::JobSpec;
    use mooring_types::migration::Phase;
    use mooring_types::{Generation, JobId};
    use proptest::prelude::*;

    use super::super::record::Release;
    use super::*;

    fn directive(generation: u64, order: JobOrder) -> JobDirective {
        JobDirective {
            job: JobId::random(&mut rand::rng()),
            generation: Generation(generation),
            address: Ipv4Addr::LOCALHOST,
            spec: JobSpec {
                name: "job".parse().expect("a name"),
                image: "dir:/".parse().expect("an image"),
                command: Vec::new(),
                env: Default::default(),
                working_dir: "/".into(),
                resources: Resources { cpu: 1, mem_gb: 1.0 },
                publish: Vec::new(),
                access_path: "/".into(),
                script: None,
                with_root: false,
                volumes: Vec::new(),
            },
            order,
        }
    }

    fn everything_held(migration: &MigrationId) -> Vec<LocalState> {
        let (init, reason) = (ProcessId { pid: 1, started: 1 }, String::new());
        let m = || migration.clone();
        vec![
            LocalState::Starting,
            LocalState::Running { init, attempt: Attempt::None },
            LocalState::Running { init, attempt: Attempt::PreCopied(m()) },
            LocalState::Running {
                init,
                attempt: Attempt::Failed { migration: m(), phase: Phase::Freeze, reason: reason.clone() },
            },
            LocalState::Exited { code: 0 },
            LocalState::FailedToStart { reason: reason.clone() },
            LocalState::Lost { reason: reason.clone() },
            LocalState::Freezing { init, migration: m() },
            LocalState::Frozen { migration: m(), release: Release::Withheld },
            LocalState::Frozen { migration: m(), release: Release::Confirmed },
            LocalState::Frozen { migration: m(), release: Release::Stored { stored_bytes: 1 } },
            LocalState::Running { init, attempt: Attempt::SnapshotTaken(m()) },
            LocalState::Running { init, attempt: Attempt::Stored { migration: m(), stored_bytes: 1, base: None } },
            LocalState::Arriving { migration: m() },
            LocalState::ArrivalFailed { migration: m(), phase: Phase::Restore, reason },
            LocalState::Restored { migration: m(), init },
            LocalState::Parked,
            LocalState::Gone,
        ]
    }

    fn every_order(migration: &MigrationId) -> Vec<JobOrder> {
        let m = || migration.clone();
        let out = |stage| JobOrder::MigrateOut {
            migration: m(),
            stage,
            to: Destination::Host {
                address: (Ipv4Addr::LOCALHOST, 1).into(),
                certificate: String::new(),
                token: String::new(),
            },
        };
        vec![
            JobOrder::Run { begun: false },
            JobOrder::Run { begun: true },
            JobOrder::MigrateIn {
                migration: m(),
                from: Origin::Host { certificate: String::new(), token: String::new() },
            },
            out(MigrateOutStage::PreCopy),
            out(MigrateOutStage::Freeze),
            JobOrder::Abort { migration: m() },
            JobOrder::Rollback { migration: m(), connections: Connections::Kept },
            JobOrder::Retire { migration: m() },
            JobOrder::Stop,
        ]
    }

    proptest! {
        #[test]
        fn nothing_that_executes_is_removed_without_an_order_to(
            held in 0_usize..18, order in prop::option::of(0_usize..9), generations in (1_u64..4, 1_u64..4),
        ) {
            let migration = MigrationId::random(&mut rand::rng());
            let order = order.map(|index| every_order(&migration)[index].clone());
            let wanted = order.clone().map(|order| directive(generations.1, order));
            let mut record = Record::new(&directive(generations.0, JobOrder::Stop), LocalState::Gone);
            record.state = everything_held(&migration)[held].clone();
            let action = decide(Some(&record), wanted.as_ref());
            if matches!(action, Action::Remove | Action::Stop) {
                let ordered = matches!(order, Some(JobOrder::Abort { .. } | JobOrder::Retire { .. } | JobOrder::Stop));
                let stale = generations.0 < generations.1;
                prop_assert!(ordered || stale);
            }
            if action == Action::Start {
                prop_assert_eq!(&record.state, &LocalState::Starting);
            }
            // What was restored may have spoken to clients: of its own generation only its owner's end or departure removes it.
            let same = generations.0 == generations.1;
            let owns = matches!(order, Some(JobOrder::Run { .. } | JobOrder::MigrateOut { .. } | JobOrder::Rollback { .. }));
            if owns && same && matches!(record.state, LocalState::Restored { .. }) {
                prop_assert_eq!(&action, &Action::Keep);
            }
            let aborted = matches!(order, Some(JobOrder::Abort { .. })) && same;
            if aborted && matches!(record.state, LocalState::Restored { .. }) {
                prop_assert_eq!(&action, &Action::Nothing);
            }
            // Only a capsule of one's own is resumed, and only by a source's order.
            if action == Action::Resume {
                let source = matches!(order, Some(JobOrder::Rollback { .. } | JobOrder::Run { .. }));
                let frozen = source && matches!(record.state, LocalState::Frozen { .. });
                prop_assert!(frozen || record.state == LocalState::Parked);
            }
        }

        #[test]
        fn what_is_not_here_is_started_once_only(order in 0_usize..9) {
            let migration = MigrationId::random(&mut rand::rng());
            let order = every_order(&migration)[order].clone();
            let action = decide(None, Some(&directive(1, order.clone())));
            prop_assert_eq!(action == Action::Start, order == JobOrder::Run { begun: false });
        }
    }
}

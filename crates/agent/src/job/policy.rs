//! What to do about a job: a pure function of what is held and what is wanted.

use mooring_api::watch::{JobDirective, JobOrder, MigrateOutStage};
use mooring_types::MigrationId;

use super::held::{Attempt, Held, Record};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
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

/// What to do next. Every answer but [`Act::Nothing`] changes what is held, so that asking again comes to rest.
pub(crate) fn decide(record: Option<&Record>, directive: Option<&JobDirective>) -> Act {
    match (record, directive) {
        (None, None) => Act::Nothing,
        // A job in no order is left alone: only what is gone anyway is forgotten.
        (Some(record), None) => {
            if record.held == Held::Gone {
                Act::Forget
            } else {
                Act::Nothing
            }
        }
        (None, Some(directive)) => begin(&directive.order),
        (Some(record), Some(directive)) if directive.generation < record.generation => Act::Nothing,
        (Some(record), Some(directive)) if directive.generation > record.generation => match record.held {
            Held::Gone => Act::Forget,
            _ => Act::Remove,
        },
        (Some(record), Some(directive)) => go_on(&record.held, &directive.order),
    }
}

fn begin(order: &JobOrder) -> Act {
    match order {
        JobOrder::Run { begun: false } => Act::Start,
        JobOrder::Run { begun: true } | JobOrder::MigrateOut { .. } | JobOrder::Rollback { .. } => Act::CallLost,
        JobOrder::MigrateIn { migration, .. } => Act::Prepare(migration.clone()),
        JobOrder::Abort { .. } | JobOrder::Retire { .. } | JobOrder::Stop => Act::Remove,
    }
}

fn go_on(held: &Held, order: &JobOrder) -> Act {
    match order {
        JobOrder::Run { .. } => match held {
            Held::Starting => Act::Start,
            Held::Running { attempt: Attempt::None, .. } => Act::Nothing,
            Held::Running { .. } => Act::Clear,
            Held::Frozen { .. } | Held::Parked => Act::Resume,
            Held::Restored { .. } => Act::Keep,
            _ => Act::Nothing,
        },
        JobOrder::MigrateIn { .. } => Act::Nothing,
        JobOrder::MigrateOut { migration, stage, .. } => {
            match held {
                Held::Parked => Act::Resume,
                // Who is told to send it away owns it: the order to run it came and went while the agent was away.
                Held::Restored { .. } => Act::Keep,
                Held::Running { attempt: Attempt::Failed { migration: failed, .. }, .. } if failed == migration => {
                    Act::Nothing
                }
                Held::Running {
                    attempt: Attempt::SnapshotTaken(now) | Attempt::Stored { migration: now, .. }, ..
                } if now == migration => Act::Nothing,
                Held::Running { attempt: Attempt::PreCopied(ready), .. } if ready == migration => match stage {
                    MigrateOutStage::PreCopy => Act::Nothing,
                    MigrateOutStage::Freeze => Act::Freeze(migration.clone()),
                },
                Held::Running { .. } => Act::PreCopy(migration.clone()),
                _ => Act::Nothing,
            }
        }
        JobOrder::Rollback { .. } => match held {
            Held::Restored { .. } => Act::Keep,
            Held::Running { attempt: Attempt::None, .. } => Act::Nothing,
            Held::Running { .. } => Act::Clear,
            Held::Frozen { .. } | Held::Parked => Act::Resume,
            _ => Act::Nothing,
        },
        JobOrder::Stop => match held {
            Held::Gone => Act::Nothing,
            Held::Running { .. } => Act::Stop,
            _ => Act::Remove,
        },
        JobOrder::Abort { .. } => match held {
            // It has been let go and is this host's: the order was given in ignorance of that, and is taken back.
            Held::Restored { .. } | Held::Gone => Act::Nothing,
            _ => Act::Remove,
        },
        JobOrder::Retire { .. } => match held {
            Held::Gone => Act::Nothing,
            _ => Act::Remove,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mooring_api::watch::{Connections, Destination, Origin};
    use mooring_types::host::Resources;
    use mooring_types::job::JobSpec;
    use mooring_types::migration::Phase;
    use mooring_types::{Generation, JobId};
    use proptest::prelude::*;

    use super::super::held::{Init, Release};
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

    fn everything_held(migration: &MigrationId) -> Vec<Held> {
        let (init, reason) = (Init { pid: 1, started: 1 }, String::new());
        let m = || migration.clone();
        vec![
            Held::Starting,
            Held::Running { init, attempt: Attempt::None },
            Held::Running { init, attempt: Attempt::PreCopied(m()) },
            Held::Running {
                init,
                attempt: Attempt::Failed { migration: m(), phase: Phase::Freeze, reason: reason.clone() },
            },
            Held::Exited { code: 0 },
            Held::FailedToStart { reason: reason.clone() },
            Held::Lost { reason: reason.clone() },
            Held::Freezing { init, migration: m() },
            Held::Frozen { migration: m(), release: Release::Withheld },
            Held::Frozen { migration: m(), release: Release::Confirmed },
            Held::Frozen { migration: m(), release: Release::Stored { stored_bytes: 1 } },
            Held::Running { init, attempt: Attempt::SnapshotTaken(m()) },
            Held::Running { init, attempt: Attempt::Stored { migration: m(), stored_bytes: 1, base: None } },
            Held::Arriving { migration: m() },
            Held::ArrivalFailed { migration: m(), phase: Phase::Restore, reason },
            Held::Restored { migration: m(), init },
            Held::Parked,
            Held::Gone,
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
            let mut record = Record::new(&directive(generations.0, JobOrder::Stop), Held::Gone);
            record.held = everything_held(&migration)[held].clone();
            let act = decide(Some(&record), wanted.as_ref());
            if matches!(act, Act::Remove | Act::Stop) {
                let ordered = matches!(order, Some(JobOrder::Abort { .. } | JobOrder::Retire { .. } | JobOrder::Stop));
                let stale = generations.0 < generations.1;
                prop_assert!(ordered || stale);
            }
            if act == Act::Start {
                prop_assert_eq!(&record.held, &Held::Starting);
            }
            // What was restored may have spoken to clients: of its own generation only its owner's end or departure removes it.
            let same = generations.0 == generations.1;
            let owns = matches!(order, Some(JobOrder::Run { .. } | JobOrder::MigrateOut { .. } | JobOrder::Rollback { .. }));
            if owns && same && matches!(record.held, Held::Restored { .. }) {
                prop_assert_eq!(&act, &Act::Keep);
            }
            let aborted = matches!(order, Some(JobOrder::Abort { .. })) && same;
            if aborted && matches!(record.held, Held::Restored { .. }) {
                prop_assert_eq!(&act, &Act::Nothing);
            }
            // Only a capsule of one's own is resumed, and only by a source's order.
            if act == Act::Resume {
                let source = matches!(order, Some(JobOrder::Rollback { .. } | JobOrder::Run { .. }));
                let frozen = source && matches!(record.held, Held::Frozen { .. });
                prop_assert!(frozen || record.held == Held::Parked);
            }
        }

        #[test]
        fn what_is_not_here_is_started_once_only(order in 0_usize..9) {
            let migration = MigrationId::random(&mut rand::rng());
            let order = every_order(&migration)[order].clone();
            let act = decide(None, Some(&directive(1, order.clone())));
            prop_assert_eq!(act == Act::Start, order == JobOrder::Run { begun: false });
        }
    }
}

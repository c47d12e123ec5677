//! Properties of the decisions of a driver.

use std::net::Ipv4Addr;

use mooring_tls::Fingerprint;
use mooring_types::job::JobSpec;
use mooring_types::migration::Phase;
use mooring_types::{HostId, JobId};
use proptest::prelude::*;

use super::super::record::Release;
use super::*;

pub(in crate::job) fn directive(generation: u64, order: JobOrder) -> JobDirective {
    JobDirective {
        store: None,
        job: JobId::random(&mut rand::rng()),
        generation: Generation(generation),
        address: Ipv4Addr::LOCALHOST,
        spec: JobSpec::minimal("job".parse().expect("a name"), "dir:/".parse().expect("an image")),
        order,
        recoverable: false,
        grant: String::new(),
    }
}

const PROCESS: ProcessId = ProcessId { pid: 1, started: 1 };

pub(in crate::job) fn every_state(migration: &MigrationId) -> Vec<RecordedState> {
    let reason = String::new;
    let m = || migration.clone();
    let running = |outbound| RecordedState::Running { process: PROCESS, outbound };
    let frozen = |release| RecordedState::Frozen { process: None, migration: m(), release };
    vec![
        RecordedState::Absent,
        RecordedState::Starting,
        running(RecordedOutbound::None),
        running(RecordedOutbound::PreCopied(m())),
        running(RecordedOutbound::SnapshotTaken(m())),
        running(RecordedOutbound::Stored { migration: m(), stored_bytes: 1, base: None }),
        running(RecordedOutbound::Failed { migration: m(), phase: Phase::Freeze, reason: reason() }),
        RecordedState::Exited { code: 0 },
        RecordedState::FailedToStart { reason: reason() },
        RecordedState::Lost { reason: reason() },
        RecordedState::Freezing { process: PROCESS, migration: m() },
        frozen(Release::Withheld),
        frozen(Release::Refused { phase: Phase::Transfer, reason: reason() }),
        frozen(Release::Given),
        frozen(Release::Confirmed),
        frozen(Release::Stored { stored_bytes: 1 }),
        RecordedState::Receiving { migration: m() },
        RecordedState::ReceiveFailed { migration: m(), phase: Phase::Restore, reason: reason() },
        RecordedState::Restored { migration: m(), process: PROCESS },
        RecordedState::Parked,
        RecordedState::Gone,
    ]
}

fn host() -> HostId {
    HostId::random(&mut rand::rng())
}

fn to_host() -> Destination {
    let address = (Ipv4Addr::LOCALHOST, 1).into();
    Destination::Host { host: host(), address, key: Fingerprint::of(b""), token: String::new() }
}

fn to_store(then: AfterCheckpoint) -> Destination {
    let base = Some("base".parse().expect("a name"));
    Destination::Store { capsule: "capsule".parse().expect("a name"), then, base }
}

fn every_order(migration: &MigrationId) -> Vec<JobOrder> {
    let m = || migration.clone();
    let out = |stage, to| JobOrder::MigrateOut { migration: m(), stage, to };
    let roll_back = |connections| JobOrder::Rollback { migration: m(), connections };
    vec![
        JobOrder::Run { begun: false },
        JobOrder::Run { begun: true },
        JobOrder::MigrateIn {
            migration: m(),
            from: Origin::Host { host: host(), key: Fingerprint::of(b""), token: String::new() },
        },
        JobOrder::MigrateIn {
            migration: m(),
            from: Origin::Store { capsule: "capsule".parse().expect("a name"), connections: Connections::Reset },
        },
        out(MigrateOutStage::PreCopy, to_host()),
        out(MigrateOutStage::Freeze, to_host()),
        out(MigrateOutStage::PreCopy, to_store(AfterCheckpoint::StayFrozen)),
        out(MigrateOutStage::Freeze, to_store(AfterCheckpoint::StayFrozen)),
        out(MigrateOutStage::PreCopy, to_store(AfterCheckpoint::GoOn)),
        out(MigrateOutStage::Freeze, to_store(AfterCheckpoint::GoOn)),
        JobOrder::Abort { migration: m() },
        roll_back(Connections::Kept),
        roll_back(Connections::Reset),
        JobOrder::Retire { migration: m() },
        JobOrder::Stop,
    ]
}

fn one<T: Clone>(all: Vec<T>, index: usize) -> T {
    all[index % all.len()].clone()
}

/// The migration of an action, where it has one.
fn migration_of(action: &Action) -> Option<&MigrationId> {
    match action {
        Action::Receive { migration, .. }
        | Action::PreCopy { migration, .. }
        | Action::MoveToHost { migration }
        | Action::Suspend { migration, .. }
        | Action::Snapshot { migration, .. }
        | Action::TakeOver { migration, .. }
        | Action::RestoreHere { from: OwnCheckpoint::Migration(migration), .. } => Some(migration),
        Action::RestoreHere { from: OwnCheckpoint::Parked, .. }
        | Action::Nothing
        | Action::Start
        | Action::ReportLost
        | Action::ForgetMigration
        | Action::Stop { .. }
        | Action::Remove(_)
        | Action::Forget
        | Action::End
        | Action::LiftFence
        | Action::AwaitLease => None,
    }
}

proptest! {
    #[test]
    fn executing_job_is_removed_only_by_an_order(
        state in 1_usize..21, order in prop::option::of(0_usize..15), generations in (1_u64..4, 1_u64..4),
    ) {
        let migration = MigrationId::random(&mut rand::rng());
        let state = one(every_state(&migration), state);
        let order = order.map(|index| one(every_order(&migration), index));
        let directive = order.clone().map(|order| directive(generations.1, order));
        let action = decide(Generation(generations.0), &state, directive.as_ref());
        if matches!(action, Action::Remove(_) | Action::Stop { .. }) {
            let ordered = matches!(order, Some(JobOrder::Abort { .. } | JobOrder::Retire { .. } | JobOrder::Stop));
            let stale = generations.0 < generations.1;
            prop_assert!(ordered || stale);
        }
        if action == Action::Start {
            prop_assert_eq!(&state, &RecordedState::Starting);
        }
        // A restored job may have spoken to clients: in its own generation only its owner's end
        // or departure removes it.
        let same = generations.0 == generations.1;
        let restored = matches!(state, RecordedState::Restored { .. });
        let owns = matches!(order, Some(JobOrder::Run { .. } | JobOrder::MigrateOut { .. } | JobOrder::Rollback { .. }));
        if owns && same && restored {
            prop_assert_eq!(&action, &Action::TakeOver { migration: migration.clone(), process: PROCESS });
        }
        let aborted = matches!(order, Some(JobOrder::Abort { .. })) && same;
        if aborted && restored {
            prop_assert_eq!(&action, &Action::Nothing);
        }
        // A host restores only its own checkpoint, and only by a source's order.
        if let Action::RestoreHere { from, .. } = &action {
            let source = matches!(order, Some(JobOrder::Rollback { .. } | JobOrder::Run { .. }));
            let frozen = source && matches!(state, RecordedState::Frozen { .. });
            prop_assert_eq!(*from == OwnCheckpoint::Parked, state == RecordedState::Parked);
            prop_assert!(frozen || state == RecordedState::Parked);
        }
        // Connections end only where a roll-back says so.
        if let Action::RestoreHere { connections: Connections::Reset, .. } = &action {
            let resets = matches!(order, Some(JobOrder::Rollback { connections: Connections::Reset, .. }));
            prop_assert!(resets);
        }
    }

    /// A job that was frozen for lack of a lease goes on only by an order that came since.
    #[test]
    fn job_without_a_lease_does_not_execute(
        state in 1_usize..21, order in prop::option::of(0_usize..15), generations in (1_u64..4, 1_u64..4),
        is_fenced: bool, is_frozen: bool, is_confirmed: bool,
    ) {
        let migration = MigrationId::random(&mut rand::rng());
        let state = one(every_state(&migration), state);
        let order = order.map(|index| one(every_order(&migration), index));
        let directive = order.clone().map(|order| directive(generations.1, order));
        let generation = Generation(generations.0);
        let lease = UnderLease { is_fenced, is_frozen, is_confirmed };
        let before = decide(generation, &state, directive.as_ref());
        let action = under_lease(before.clone(), lease, generation, directive.as_ref());
        let executes = order.is_some_and(|order| order.executes()) && generations.0 == generations.1;
        match &action {
            Action::LiftFence => prop_assert!(is_frozen && is_confirmed && executes),
            Action::AwaitLease => prop_assert!(is_frozen || (is_fenced && !is_confirmed)),
            Action::RestoreHere { .. } => prop_assert!(!is_frozen && (is_confirmed || !is_fenced)),
            Action::Stop { .. } => prop_assert!(!is_frozen),
            Action::Remove(_) | Action::Forget | Action::End | Action::ReportLost => {}
            _ => prop_assert!(!is_frozen),
        }
        // What ends waits for no lease, and nothing waits that has one.
        if matches!(before, Action::Stop { .. } | Action::Remove(_) | Action::Forget | Action::ReportLost) {
            prop_assert!(action != Action::AwaitLease && action != Action::LiftFence);
        }
        if is_confirmed && !is_frozen {
            prop_assert_eq!(action, before);
        }
    }

    #[test]
    fn absent_job_is_started_once(order in 0_usize..15) {
        let order = one(every_order(&MigrationId::random(&mut rand::rng())), order);
        let action = decide(Generation(1), &RecordedState::Absent, Some(&directive(1, order.clone())));
        prop_assert_eq!(action == Action::Start, order == JobOrder::Run { begun: false });
        prop_assert!(!matches!(action, Action::Nothing | Action::End), "nothing held has something to do");
    }

    /// Every action that freezes a job carries the order's migration and destination, and follows
    /// the pre-copy of that very migration.
    #[test]
    fn actions_carry_the_order(state in 0_usize..21, order in 0_usize..15, same in any::<bool>()) {
        let ordered = MigrationId::random(&mut rand::rng());
        let recorded = if same { ordered.clone() } else { MigrationId::random(&mut rand::rng()) };
        let state = one(every_state(&recorded), state);
        let order = one(every_order(&ordered), order);
        let action = decide(Generation(1), &state, Some(&directive(1, order.clone())));
        match (&action, &order) {
            (Action::PreCopy { to, .. }, JobOrder::MigrateOut { to: wanted, .. }) => prop_assert_eq!(to, wanted),
            (Action::Receive { from, .. }, JobOrder::MigrateIn { from: wanted, .. }) => {
                prop_assert_eq!(from, wanted);
            }
            (
                Action::MoveToHost { .. },
                JobOrder::MigrateOut { to: Destination::Host { .. }, stage: MigrateOutStage::Freeze, .. },
            ) => {}
            (
                Action::Suspend { .. },
                JobOrder::MigrateOut {
                    to: Destination::Store { then: AfterCheckpoint::StayFrozen, .. },
                    stage: MigrateOutStage::Freeze,
                    ..
                },
            ) => {}
            (
                Action::Snapshot { base, .. },
                JobOrder::MigrateOut {
                    to: Destination::Store { then: AfterCheckpoint::GoOn, base: wanted, .. },
                    stage: MigrateOutStage::Freeze,
                    ..
                },
            ) => prop_assert_eq!(base, wanted),
            (
                Action::PreCopy { .. }
                | Action::Receive { .. }
                | Action::MoveToHost { .. }
                | Action::Suspend { .. }
                | Action::Snapshot { .. },
                _,
            ) => prop_assert!(false, "{:?} does not follow from {:?}", action, order),
            _ => {}
        }
        let freezes =
            matches!(action, Action::MoveToHost { .. } | Action::Suspend { .. } | Action::Snapshot { .. });
        if freezes {
            prop_assert_eq!(
                &state,
                &RecordedState::Running {
                    process: PROCESS,
                    outbound: RecordedOutbound::PreCopied(ordered.clone()),
                }
            );
        }
        // What concerns a migration names the order's, or the one whose remains are on this host.
        if let Some(migration) = migration_of(&action) {
            let of_state = matches!(action, Action::TakeOver { .. } | Action::RestoreHere { .. });
            prop_assert_eq!(migration, if of_state { &recorded } else { &ordered });
        }
    }

    /// A job that OpCenter does not mention is left alone until nothing is left of it.
    #[test]
    fn job_without_a_directive_is_left_alone(state in 0_usize..21) {
        let state = one(every_state(&MigrationId::random(&mut rand::rng())), state);
        let expected = match state {
            RecordedState::Absent => Action::End,
            RecordedState::Gone => Action::Forget,
            _ => Action::Nothing,
        };
        prop_assert_eq!(decide(Generation(1), &state, None), expected);
    }

    /// A host that missed a commit does nothing for the new generation but remove the old one.
    #[test]
    fn newer_generation_removes_the_older(state in 1_usize..21, order in 0_usize..15) {
        let migration = MigrationId::random(&mut rand::rng());
        let (state, order) = (one(every_state(&migration), state), one(every_order(&migration), order));
        let retired = matches!(order, JobOrder::Retire { .. });
        let action = decide(Generation(1), &state, Some(&directive(2, order)));
        match state {
            RecordedState::Gone => prop_assert_eq!(action, Action::Forget),
            _ => prop_assert_eq!(action, Action::Remove(if retired { Removal::Retired } else { Removal::Ended })),
        }
        let older = one(every_order(&migration), 0);
        prop_assert_eq!(decide(Generation(2), &state, Some(&directive(1, older))), Action::Nothing);
    }
}

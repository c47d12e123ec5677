//! The audit in the real database: choices, pages, limits.

use std::path::Path;
use std::time::Duration;

use mooring_store::{AuditActor, AuditChoice, AuditLimits, AuditRow, Store, Tx};
use mooring_types::Timestamp;
use mooring_types::audit::AuditOutcome;

fn begin() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

fn row(number: u64, actor: AuditActor, action: &str) -> AuditRow {
    AuditRow {
        id: 0,
        time: begin() + Duration::from_secs(number),
        actor,
        address: "192.0.2.1".into(),
        client: "float".into(),
        action: action.into(),
        object: format!("g-{number}"),
        object_name: "lab".into(),
        detail: String::new(),
        outcome: if number.is_multiple_of(2) { AuditOutcome::Succeeded } else { AuditOutcome::Refused },
        reason: "Robert'); DROP TABLE audit; --".into(),
    }
}

fn known(name: &str) -> AuditActor {
    AuditActor::Known(name.into())
}

async fn world(directory: &Path) -> Tx {
    let store = Store::open(&directory.join("opcenter.db")).await.expect("the store opens");
    let mut tx = store.begin().await.expect("a transaction");
    let rows = [
        (known("ada"), "job.cancel"),
        (known("bob"), "job.submit"),
        (known("ada"), "jobless"),
        (known("ada"), "user.add"),
    ];
    for (number, (actor, action)) in (0..).zip(rows) {
        tx.audit_insert(&row(number, actor, action)).await.expect("a row");
    }
    tx
}

async fn objects(tx: &mut Tx, choice: AuditChoice) -> Vec<String> {
    tx.audit_list(&choice, 100).await.expect("rows").into_iter().map(|row| row.object).collect()
}

#[tokio::test]
async fn choices_narrow_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = world(directory.path()).await;
    let text = |text: &str| Some(text.to_owned());
    let all = || AuditChoice::default();
    for (choice, expected) in [
        (all(), vec!["g-3", "g-2", "g-1", "g-0"]),
        (AuditChoice { user: text("ada"), ..all() }, vec!["g-3", "g-2", "g-0"]),
        (AuditChoice { action: text("job"), ..all() }, vec!["g-1", "g-0"]),
        (AuditChoice { action: text("job.submit"), ..all() }, vec!["g-1"]),
        (AuditChoice { object: text("g-2"), ..all() }, vec!["g-2"]),
        (AuditChoice { object: text("lab"), outcome: Some(AuditOutcome::Refused), ..all() }, vec!["g-3", "g-1"]),
        (AuditChoice { since: Some(begin() + Duration::from_secs(2)), ..all() }, vec!["g-3", "g-2"]),
        (AuditChoice { until: Some(begin() + Duration::from_secs(2)), ..all() }, vec!["g-1", "g-0"]),
        (AuditChoice { before: Some(3), ..all() }, vec!["g-1", "g-0"]),
        (AuditChoice { after: Some(3), ..all() }, vec!["g-3"]),
        (AuditChoice { user: text("' OR 1 --"), ..all() }, vec![]),
    ] {
        assert_eq!(objects(&mut tx, choice.clone()).await, expected, "{choice:?}");
    }
    assert_eq!(tx.audit_list(&all(), 2).await.unwrap().len(), 2);
    assert_eq!(tx.audit_actions().await.unwrap(), ["job.cancel", "job.submit", "jobless", "user.add"]);
}

#[tokio::test]
async fn strangers_do_not_push_out_users() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = world(directory.path()).await;
    for number in 10..30 {
        tx.audit_insert(&row(number, AuditActor::Stranger("ada".into()), "session.login")).await.unwrap();
    }
    let limits = AuditLimits { known: 3, strangers: 5 };
    assert_eq!(tx.audit_trim(Timestamp::UNIX_EPOCH, limits).await.unwrap(), 1 + 15);
    let left = tx.audit_list(&AuditChoice::default(), 100).await.unwrap();
    let strangers = left.iter().filter(|row| matches!(row.actor, AuditActor::Stranger(_)));
    assert_eq!((left.len(), strangers.count()), (8, 5));
    assert_eq!(tx.audit_trim(Timestamp::UNIX_EPOCH, limits).await.unwrap(), 0);
    assert_eq!(tx.audit_trim(begin() + Duration::from_secs(29), limits).await.unwrap(), 7);
}

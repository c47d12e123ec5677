//! A database of an earlier version opens, and its rows are read in the words of this version.

use std::borrow::Cow;
use std::path::Path;

use mooring_store::Store;
use mooring_types::gateway::HoldLimits;
use mooring_types::migration::MigrationKind;
use mooring_types::{GatewayId, JobId};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// The last migration before the glossary's words.
const BEFORE: i64 = 17;

const JOB: &str = "uqaj8l6a407u88v0106ol";
const PLAIN_JOB: &str = "aqaj8l6a407u88v0106ol";
const GATEWAY: &str = "g-uqaj8l6a407u88v0106ol";

const ROWS: &str = r#"
INSERT INTO host (id, name, overlay, token_hash, join_data) VALUES ('HOST', 'host-1', '100.127.0.1', 't',
    '{"role":"both","address":"198.18.0.2","publicAddress":"127.0.0.1","movePort":7000,"certificate":"ab","wireguardKey":"",
      "facts":{"cores":2,"memGb":4.0,"kernel":"6.18","criu":"4.2","runc":"1.3","readiness":{"state":"ready"}}}');
INSERT INTO job (id, user_name, spec, status, host_id, host_wanted, gateway_wanted, image_digest, submit_time, last_update, status_time)
VALUES ('JOB', 'alice', 'SPEC', 'Executing', 'HOST', 'host-1', 'GATEWAY', 'sha256:ab', 'TIME', 'TIME', 'TIME'),
       ('PLAIN', 'alice', 'SPEC', 'Submitted', NULL, '', '', '', 'TIME', 'TIME', 'TIME');
INSERT INTO gateway (id, name, spec, host_id, token, create_time) VALUES ('GATEWAY', 'lab',
    '{"name":"lab","resources":{"cpu":1,"memGb":1.0},"portRange":"10000:10500","exposure":"public","securityGroups":[]}',
    'HOST', 't', 'TIME');
INSERT INTO connection (id, gateway_id, job_id, target_port, gateway_port, protocol, patience)
VALUES ('CONNECTION', 'GATEWAY', 'JOB', 80, 10000, '"auto"', '{"holdSeconds":7,"pageSeconds":3,"heldMax":9}');
INSERT INTO migration (id, job_id, kind, generation, from_generation, from_host, to_host, token, reason, start_time, stage, stage_time, outcome)
VALUES ('MIGRATION-1', 'JOB', 'move', 2, 1, 'HOST', 'HOST', 't', 'requested by alice', 'TIME', 'ended', 'TIME', '{"state":"succeeded"}'),
       ('MIGRATION-2', 'JOB', 'capture', 3, 2, 'HOST', NULL, 't', 'requested by alice', 'TIME', 'freezing', 'TIME', '{"state":"running"}');
INSERT INTO capsule (name, job_id, kind, create_time, bytes, stored_bytes) VALUES ('CAPSULE', 'JOB', 'capture', 'TIME', 2, 1);
"#;

const SPEC: &str = r#"{"name":"job","image":"dir:/","command":["sleep","1"],"env":{},"workingDir":"/",
    "resources":{"cpu":1,"memGb":0.5},"publish":[],"accessPath":"/"}"#;

/// Makes a database of the version before, with a row of every table that a word has changed in.
async fn make_old_database(path: &Path) {
    let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    let all = Migrator::new(migrations).await.expect("the migrations are readable");
    let old: Vec<_> = all.iter().filter(|migration| migration.version <= BEFORE).cloned().collect();
    assert!(old.len() < all.iter().count());
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    let pool = SqlitePool::connect_with(options).await.expect("the database opens");
    Migrator { migrations: Cow::Owned(old), ..Migrator::DEFAULT }.run(&pool).await.expect("the migrations run");
    let mut rng = rand::rng();
    let mut rows = ROWS.to_owned();
    for (name, value) in [
        ("HOST", mooring_types::HostId::random(&mut rng).to_string()),
        ("PLAIN", PLAIN_JOB.into()),
        (
            "CAPSULE",
            mooring_types::CapsuleName::of_job(&JOB.parse().expect("an id"), mooring_types::Generation(3), 1)
                .to_string(),
        ),
        ("JOB", JOB.into()),
        ("GATEWAY", GATEWAY.into()),
        ("CONNECTION", mooring_types::ConnectionId::random(&mut rng).to_string()),
        ("MIGRATION-1", mooring_types::MigrationId::random(&mut rng).to_string()),
        ("MIGRATION-2", mooring_types::MigrationId::random(&mut rng).to_string()),
        ("SPEC", SPEC.into()),
        ("TIME", "2026-01-02T03:04:05Z".into()),
    ] {
        rows = rows.replace(&format!("'{name}'"), &format!("'{value}'"));
    }
    sqlx::raw_sql(&rows).execute(&pool).await.expect("the rows are inserted");
    pool.close().await;
}

#[tokio::test]
async fn database_of_before_opens_in_the_words_of_today() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("opcenter.db");
    make_old_database(&path).await;
    let store = Store::open(&path).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let (job, plain): (JobId, JobId) = (JOB.parse().unwrap(), PLAIN_JOB.parse().unwrap());

    let row = tx.job_get(&job).await.unwrap().unwrap();
    assert_eq!(row.requested_host, Some("host-1".parse().unwrap()));
    assert_eq!(row.requested_gateway, Some(GATEWAY.parse::<GatewayId>().unwrap()));
    assert_eq!(row.image_digest.as_deref(), Some("sha256:ab"));
    let row = tx.job_get(&plain).await.unwrap().unwrap();
    assert_eq!((row.requested_host, row.requested_gateway, row.image_digest), (None, None, None));

    let kinds: Vec<_> = tx.migration_list_of_job(&job).await.unwrap().iter().map(|row| row.kind).collect();
    assert_eq!(kinds, [MigrationKind::Migrate, MigrationKind::Snapshot]);
    assert_eq!(tx.capsule_list().await.unwrap()[0].kind, MigrationKind::Snapshot);
    let connections = tx.connection_list_of_job(&job).await.unwrap();
    assert_eq!(connections[0].hold_limits, HoldLimits { hold_seconds: 7, page_seconds: 3, held_max: 9 });
    let hosts = tx.host_list().await.unwrap();
    assert_eq!((hosts[0].name.as_str(), hosts[0].joined.migration_port), ("host-1", 7000));
}

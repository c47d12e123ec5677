//! The store with its real database.

use std::path::Path;
use std::time::Duration;

use mooring_store::{
    ConnectionRow, GatewayCertificateRow, GatewayRow, HostKey, HostRow, JobRow, Joined, MigrationRow, SecurityGroupRow,
    Stage, Store, StoreError, Tx,
};
use mooring_types::gateway::{Access, Cookies, Exposure, GatewaySpec, HoldLimits, Protocol, Tls, WakeOn, Widget};
use mooring_types::host::{HostFacts, HostRole, Purchase, Readiness, Resources};
use mooring_types::job::{Image, JobSpec, JobStatus};
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::policy::JobPolicy;
use mooring_types::security::{DEFAULT_GROUP, SecurityGroupSpec, allows};
use mooring_types::{
    ConnectionId, Event, GatewayId, Generation, HostId, JobId, MigrationId, Port, PortRange, SecurityGroupId, Timestamp,
};

fn now() -> Timestamp {
    "2026-01-02T03:04:05.678Z".parse().expect("a time")
}

async fn open(directory: &Path) -> Store {
    Store::open(&directory.join("opcenter.db")).await.expect("the store opens")
}

fn host(name: &str, overlay: [u8; 4]) -> HostRow {
    let facts = HostFacts {
        cores: 2,
        mem_gb: 4.0,
        kernel: "6.18".into(),
        criu: "4.2.1".into(),
        runc: "1.3.6".into(),
        mounts: Vec::new(),
        lacks: Vec::new(),
        readiness: Readiness::Ready,
        purchase: Some(Purchase::Spot),
    };
    HostRow {
        key: HostKey::Hash("key".into()),
        id: HostId::random(&mut rand::rng()),
        name: name.parse().expect("a name"),
        overlay: overlay.into(),
        public_key: name.into(),
        joined: Joined {
            role: HostRole::Both,
            address: [198, 18, 0, 2].into(),
            public_address: [127, 0, 0, 1].into(),
            migration_port: 7000,
            wireguard_key: String::new(),
            facts,
        },
        last_seen: Some(now()),
        drain_by_hand: None,
        drain_by_notice: None,
        removed_at: None,
    }
}

fn job(address: [u8; 4]) -> JobRow {
    let port = Port::new(8888).expect("a port");
    let spec = JobSpec {
        command: vec!["sleep".into(), "1".into()],
        env: [("K".to_owned(), "V".to_owned())].into(),
        resources: Resources { cpu: 1, mem_gb: 0.5 },
        publish: vec![mooring_types::job::Publish { host: port, container: port }],
        ..JobSpec::minimal("job".parse().expect("a name"), Image::Directory("/".into()))
    };
    JobRow {
        address: Some(address.into()),
        security_groups: vec![SecurityGroupId::random(&mut rand::rng())],
        ..JobRow::submitted(JobId::random(&mut rand::rng()), "admin", spec, now())
    }
}

#[tokio::test]
async fn commits_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (kept, lost) = (job([100, 64, 0, 2]), job([100, 64, 0, 3]));
    {
        let store = open(directory.path()).await;
        let mut tx = store.begin().await.unwrap();
        tx.job_insert(&kept).await.unwrap();
        tx.setting_set("a", "1").await.unwrap();
        tx.setting_set("a", "2").await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.job_insert(&lost).await.unwrap();
        drop(tx);
        store.close().await;
    }
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    assert_eq!(tx.job_list().await.unwrap(), [kept]);
    assert_eq!(tx.job_get(&lost.id).await.unwrap(), None);
    assert_eq!(tx.setting_get("a").await.unwrap().as_deref(), Some("2"));
}

#[tokio::test]
async fn status_follows_the_state_machine() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    let submitted = job([100, 64, 0, 2]);
    let id = submitted.id.clone();
    tx.job_insert(&submitted).await.unwrap();
    let refused = tx.job_status_set(&submitted, JobStatus::Floating, "", now()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Transition { .. }), "{refused}");
    for status in [JobStatus::Initializing, JobStatus::Starting, JobStatus::Executing, JobStatus::Completed] {
        let row = tx.job_get(&id).await.unwrap().unwrap();
        assert!(row.address.is_some());
        tx.job_status_set(&row, status, "because", now()).await.unwrap();
    }
    let ended = tx.job_get(&id).await.unwrap().unwrap();
    assert_eq!((ended.exec_time, ended.end_time, ended.address), (Some(now()), Some(now()), submitted.address));
    // Its host may still hold something of it, which nobody else may be taken for.
    assert_eq!(tx.job_list_live().await.unwrap().len(), 1);
    tx.job_address_free(&id).await.unwrap();
    assert_eq!(tx.job_get(&id).await.unwrap().unwrap().address, None);
    assert!(tx.job_list_live().await.unwrap().is_empty());
    let event = Event::Resumed { to: "host-1".into() };
    tx.event_append(&id, &event, now()).await.unwrap();
    let events = tx.event_list(&id).await.unwrap();
    assert_eq!(events[5].event, event);
    let messages: Vec<String> = events.iter().map(|row| row.event.to_string()).collect();
    let expected = [
        "Submitted",
        "Initializing: because",
        "Starting: because",
        "Executing: because",
        "Completed: because",
        "resumed on host-1",
    ];
    assert_eq!(messages, expected);
}

#[tokio::test]
async fn only_executing_time_counts() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    let job = job([100, 64, 0, 2]);
    tx.job_insert(&job).await.unwrap();
    let at = |seconds: u64| now() + Duration::from_secs(seconds);
    let executed = |row: &JobRow, seconds: u64| row.executed(at(seconds)).as_secs();
    let mut row = tx.job_get(&job.id).await.unwrap().unwrap();
    for (to, time) in [
        (JobStatus::Initializing, 10),
        (JobStatus::Starting, 20),
        (JobStatus::Executing, 30),
        (JobStatus::Floating, 40),
        (JobStatus::Executing, 50),
        (JobStatus::Suspending, 55),
        (JobStatus::Suspended, 60),
        (JobStatus::Resuming, 1000),
        (JobStatus::Executing, 1010),
    ] {
        tx.job_status_set(&row, to, "", at(time)).await.unwrap();
        row = tx.job_get(&job.id).await.unwrap().unwrap();
    }
    assert_eq!((executed(&row, 1010), executed(&row, 1013), executed(&row, 0)), (15, 18, 15));
    let policy = JobPolicy { time_limit: Some(Duration::from_secs(60)), ..JobPolicy::default() };
    tx.job_policy_set(&job.id, &policy, at(1020)).await.unwrap();
    tx.job_name_set(&job.id, &"other".parse().unwrap(), at(1020)).await.unwrap();
    tx.job_status_set(&row, JobStatus::Timedout, "", at(1030)).await.unwrap();
    let row = tx.job_get(&job.id).await.unwrap().unwrap();
    assert_eq!((executed(&row, 5000), row.policy, row.spec.name.as_str()), (35, policy, "other"));
    assert_eq!((row.status_time, row.last_update, row.end_time), (at(1030), at(1030), Some(at(1030))));
}

#[tokio::test]
async fn job_awaits_a_host_until_it_executes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    let job = job([100, 64, 0, 2]);
    tx.job_insert(&job).await.unwrap();
    let go = async |tx: &mut Tx, path: &[JobStatus]| {
        for to in path {
            let row = tx.job_get(&job.id).await.unwrap().unwrap();
            tx.job_status_set(&row, *to, "", now()).await.unwrap();
        }
        tx.job_get(&job.id).await.unwrap().unwrap().awaits_host
    };
    use JobStatus::{Executing, Initializing, Resuming, Starting, Suspended, Suspending};
    assert!(!go(&mut tx, &[Initializing, Starting, Executing, Suspending]).await);
    tx.job_await_host(&job.id).await.unwrap();
    assert!(go(&mut tx, &[Suspended, Resuming, Suspended]).await, "a resume that failed is no reason to stay");
    assert!(!go(&mut tx, &[Resuming, Executing, Suspending]).await, "the next suspend is another one");
    tx.job_await_host(&job.id).await.unwrap();
    assert!(!go(&mut tx, &[Executing, Suspending, Suspended]).await, "it was not suspended");
    tx.job_await_host(&job.id).await.unwrap();
    tx.job_await_user(&job.id, "requested by alice", now()).await.unwrap();
    assert!(!go(&mut tx, &[]).await);
    assert_eq!(tx.job_get(&job.id).await.unwrap().unwrap().status_reason, "requested by alice");
}

fn migration(job: &JobRow, from: &HostRow, to: &HostRow) -> MigrationRow {
    MigrationRow {
        id: MigrationId::random(&mut rand::rng()),
        job: job.id.clone(),
        generation: Generation(2),
        from_generation: Generation::FIRST,
        kind: MigrationKind::Migrate,
        from: Some(from.id.clone()),
        to: Some(to.id.clone()),
        capsule: None,
        destination_lost: false,
        resources: None,
        token: "t".into(),
        reason: "requested by admin".into(),
        start_time: now(),
        stage: Stage::Preparing,
        stage_time: now(),
        freeze_time: None,
        outcome: Outcome::Running,
        phases: Vec::new(),
        pause_seconds: 0.0,
        bytes_moved: 0,
    }
}

fn gateway(host: &HostRow) -> GatewayRow {
    GatewayRow {
        id: GatewayId::random(&mut rand::rng()),
        spec: GatewaySpec {
            name: "gate".parse().expect("a name"),
            resources: Resources { cpu: 1, mem_gb: 1.0 },
            port_range: PortRange::DEFAULT,
            exposure: Exposure::Private,
            security_groups: vec![SecurityGroupId::random(&mut rand::rng())],
            tls: Tls::On,
            trusted_proxies: Vec::new(),
            external_url: None,
        },
        host: host.id.clone(),
        public_key: None,
        create_time: now(),
        restart: 0,
        user_name: "alice".into(),
    }
}

fn connection(gateway: &GatewayRow, job: &JobRow) -> ConnectionRow {
    ConnectionRow {
        opened: false,
        id: ConnectionId::random(&mut rand::rng()),
        gateway: gateway.id.clone(),
        job: job.id.clone(),
        target_port: Port::new(8888).expect("a port"),
        gateway_port: Port::new(10000).expect("a port"),
        protocol: Protocol::Auto,
        hold_limits: HoldLimits { hold_seconds: 1, page_seconds: 2, held_max: 3 },
        wake_on: Some(WakeOn::Page),
        widget: Widget::Hidden,
        cookies: Cookies::Shared,
        access: Access::Open,
        shares: Vec::new(),
        link_hash: None,
    }
}

/// Inserts a host, a gateway on it and a job that is connected to the gateway.
async fn insert_connected(tx: &mut Tx) -> (GatewayRow, JobRow, ConnectionRow) {
    let (host, job) = (host("one", [100, 127, 0, 1]), job([100, 64, 0, 2]));
    let gateway = gateway(&host);
    let connection = connection(&gateway, &job);
    tx.host_put(&host).await.expect("a host");
    tx.gateway_insert(&gateway).await.expect("a gateway");
    tx.job_insert(&job).await.expect("a job");
    tx.connection_insert(&connection).await.expect("a connection");
    (gateway, job, connection)
}

async fn cancel(tx: &mut Tx, job: &JobRow) {
    for status in [JobStatus::Cancelling, JobStatus::Cancelled] {
        let row = tx.job_get(&job.id).await.expect("the database").expect("the job");
        tx.job_status_set(&row, status, "", now()).await.expect("a status");
    }
}

#[tokio::test]
async fn host_that_joins_again_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (first, second) = (host("one", [100, 127, 0, 1]), host("two", [100, 127, 0, 2]));
    for host in [&first, &second, &second] {
        tx.host_put(host).await.unwrap();
    }
    assert_eq!(tx.host_list().await.unwrap(), [first, second]);
}

#[tokio::test]
async fn job_has_one_migration_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (from, to, job) = (host("one", [100, 127, 0, 1]), host("two", [100, 127, 0, 2]), job([100, 64, 0, 2]));
    tx.host_put(&from).await.unwrap();
    tx.host_put(&to).await.unwrap();
    tx.job_insert(&job).await.unwrap();
    tx.job_own(&job.id, &from.id, Generation::FIRST, now()).await.unwrap();
    let (first, second) = (migration(&job, &from, &to), migration(&job, &from, &to));
    tx.migration_insert(&first).await.unwrap();
    assert!(tx.migration_insert(&second).await.unwrap_err().is_taken());
    let ended = MigrationRow {
        stage: Stage::Ended,
        freeze_time: Some(now()),
        outcome: Outcome::Succeeded,
        bytes_moved: 7,
        ..first
    };
    tx.migration_update(&ended).await.unwrap();
    tx.migration_insert(&second).await.unwrap();
    assert_eq!(tx.migration_list_under_way().await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(tx.migration_list_of_job(&job.id).await.unwrap(), [ended, second]);
}

#[tokio::test]
async fn gateway_is_restarted_and_changed() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (gateway, ..) = insert_connected(&mut tx).await;
    assert_eq!(tx.gateway_list().await.unwrap(), std::slice::from_ref(&gateway));
    tx.gateway_restart(&gateway.id).await.unwrap();
    assert_eq!(tx.gateway_list().await.unwrap(), [GatewayRow { restart: 1, ..gateway.clone() }]);
    let larger = GatewaySpec { resources: Resources { cpu: 2, mem_gb: 1.0 }, ..gateway.spec.clone() };
    tx.gateway_update(&gateway.id, &larger).await.unwrap();
    assert_eq!(tx.gateway_list().await.unwrap(), [GatewayRow { spec: larger, restart: 1, ..gateway }]);
}

#[tokio::test]
async fn gateway_has_one_certificate_of_a_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.expect("a transaction");
    let (gateway, ..) = insert_connected(&mut tx).await;
    let row = |name: &str, certificate: &str| GatewayCertificateRow {
        gateway: gateway.id.clone(),
        name: name.into(),
        certificate: certificate.into(),
        sealed_key: vec![1, 2, 3],
        set_time: now(),
    };
    for (name, certificate) in [("lab", "first"), ("other", "other"), ("lab", "second")] {
        tx.gateway_certificate_put(&row(name, certificate)).await.expect("a certificate");
    }
    let all = tx.gateway_certificate_list().await.expect("a list");
    assert_eq!(all, [row("lab", "second"), row("other", "other")]);
    assert!(tx.gateway_certificate_delete(&gateway.id, "lab").await.expect("a removal"));
    assert!(!tx.gateway_certificate_delete(&gateway.id, "lab").await.expect("a removal"));
    tx.gateway_delete(&gateway.id).await.expect("a removal");
    assert!(tx.gateway_certificate_list().await.expect("a list").is_empty());
}

#[tokio::test]
async fn gateway_port_has_one_connection() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (.., connection) = insert_connected(&mut tx).await;
    let other = ConnectionRow { id: ConnectionId::random(&mut rand::rng()), ..connection.clone() };
    assert!(tx.connection_insert(&other).await.unwrap_err().is_taken());
    assert_eq!(tx.connection_list().await.unwrap(), [connection]);
}

#[tokio::test]
async fn ended_job_frees_its_ports() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (_, job, connection) = insert_connected(&mut tx).await;
    assert!(tx.farewell_list().await.unwrap().is_empty());
    cancel(&mut tx, &job).await;
    assert!(tx.connection_list().await.unwrap().is_empty());
    let farewells = tx.farewell_list().await.unwrap();
    let [farewell] = farewells.as_slice() else { panic!("{farewells:?}") };
    assert_eq!((&farewell.connection, &farewell.job), (&connection.id, &job.id));
    assert_eq!((farewell.gateway_port, farewell.widget), (connection.gateway_port, connection.widget));
    assert_eq!((farewell.job_name.as_str(), farewell.job_status), (job.spec.name.as_str(), JobStatus::Cancelled));
}

#[tokio::test]
async fn plain_tcp_port_leaves_no_farewell() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (_, job, connection) = insert_connected(&mut tx).await;
    let bytes = ConnectionRow {
        id: ConnectionId::random(&mut rand::rng()),
        target_port: Port::new(22).unwrap(),
        gateway_port: Port::new(10001).unwrap(),
        protocol: Protocol::Tcp,
        ..connection.clone()
    };
    tx.connection_insert(&bytes).await.unwrap();
    cancel(&mut tx, &job).await;
    let ports: Vec<Port> = tx.farewell_list().await.unwrap().iter().map(|farewell| farewell.gateway_port).collect();
    assert_eq!(ports, [connection.gateway_port]);
}

#[tokio::test]
async fn farewell_ends_with_the_next_connection_or_the_gateway() {
    let directory = tempfile::tempdir().unwrap();
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let (gateway, ended, connection) = insert_connected(&mut tx).await;
    cancel(&mut tx, &ended).await;
    for number in [3, 4] {
        let next = job([100, 64, 0, number]);
        tx.job_insert(&next).await.unwrap();
        let id = ConnectionId::random(&mut rand::rng());
        let of_next = ConnectionRow { id: id.clone(), job: next.id.clone(), ..connection.clone() };
        tx.connection_insert(&of_next).await.unwrap();
        assert!(tx.farewell_list().await.unwrap().is_empty());
        tx.job_status_declare(&next, JobStatus::Completed, "done", now()).await.unwrap();
        let farewells = tx.farewell_list().await.unwrap();
        assert_eq!((farewells.len(), farewells[0].status_reason.as_str()), (1, "done"));
        if number == 3 {
            tx.farewell_delete(&id).await.unwrap();
        }
    }
    assert_eq!(tx.farewell_list().await.unwrap().len(), 1);
    tx.gateway_delete(&gateway.id).await.unwrap();
    assert!(tx.gateway_list().await.unwrap().is_empty() && tx.farewell_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn default_security_group_exists_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    let first = tx.security_group_list().await.unwrap().pop().unwrap();
    assert_eq!(first.spec.name.as_str(), DEFAULT_GROUP);
    for (from, allowed) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("10.1.2.3", true),
        ("172.31.0.1", true),
        ("172.32.0.1", false),
        ("192.168.1.1", true),
        ("198.18.0.1", true),
        ("100.64.0.1", true),
        ("fd00::1", true),
        ("fe80::1", true),
        ("203.0.113.7", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(allows(&first.spec.rules, Port::MIN, from.parse().unwrap()), allowed, "{from}");
    }
    let spec = SecurityGroupSpec::new("lab".parse().unwrap(), "for the lab").unwrap();
    let group = SecurityGroupRow {
        id: SecurityGroupId::random(&mut rand::rng()),
        spec,
        user_name: "alice".into(),
        create_time: "9999-01-01T00:00:00Z".parse().unwrap(),
    };
    tx.security_group_insert(&group).await.unwrap();
    let twin = SecurityGroupRow { id: SecurityGroupId::random(&mut rand::rng()), ..group.clone() };
    assert!(tx.security_group_insert(&twin).await.unwrap_err().is_taken());
    let spec = group.spec.changed(&[], &["tcp:80:10.0.0.0/8".parse().unwrap()]).unwrap();
    tx.security_group_update(&group.id, &spec).await.unwrap();
    let changed = SecurityGroupRow { spec, id: group.id, user_name: group.user_name, create_time: group.create_time };
    assert_eq!(tx.security_group_list().await.unwrap(), [first.clone(), changed.clone()]);
    tx.security_group_delete(&changed.id).await.unwrap();
    assert_eq!(tx.security_group_list().await.unwrap(), [first]);
}

/// Rows of the first schema: a gateway, a job and a connection without security groups.
const FIRST: [&str; 3] = [
    "INSERT INTO host (id, name, overlay, token_hash, join_data) VALUES ('h-000000000000000000000', 'h', '', '', '{}')",
    r#"INSERT INTO gateway VALUES ('g-000000000000000000000', 'lab',
        '{"name":"lab","resources":{"cpu":1,"memGb":1.0},"portRange":"10000:10500"}',
        'h-000000000000000000000', 'token', '2026-01-02T03:04:05Z')"#,
    r#"INSERT INTO job (id, user_name, spec, status, submit_time, last_update) VALUES ('000000000000000000000', 'admin',
        '{"name":"job","image":"dir:/","command":[],"env":{},"workingDir":"/","resources":{"cpu":1,"memGb":1.0},
          "publish":[],"accessPath":"/"}', 'Submitted', '2026-01-02T03:04:05Z', '2026-01-02T03:04:05Z')"#,
];

#[tokio::test]
async fn older_database_gets_the_default_security_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("opcenter.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    let mut older = sqlx::migrate::Migrator::new(migrations).await.unwrap();
    older.migrations.to_mut().retain(|migration| migration.version < 3);
    older.run(&pool).await.unwrap();
    for statement in FIRST {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    sqlx::query(
        r#"INSERT INTO connection VALUES ('c-000000000000000000000', 'g-000000000000000000000', '000000000000000000000',
            80, 10000, '"auto"')"#,
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let mut tx = open(directory.path()).await.begin().await.unwrap();
    let default = tx.security_group_list().await.unwrap().pop().unwrap().id;
    let gateway = tx.gateway_list().await.unwrap().pop().unwrap();
    assert_eq!((gateway.spec.security_groups, gateway.spec.exposure), (vec![default.clone()], Exposure::Public));
    assert_eq!(tx.job_list().await.unwrap().pop().unwrap().security_groups, [default]);
    assert_eq!(tx.connection_list().await.unwrap().pop().unwrap().hold_limits, HoldLimits::default());
}

#[tokio::test]
async fn newer_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    store.close().await;
    let path = directory.path().join("opcenter.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    assert!(matches!(Store::open(&path).await.unwrap_err(), StoreError::Newer { version: 9999 }));
}

#[tokio::test]
async fn event_log_is_append_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    tx.job_insert(&job([100, 64, 0, 2])).await.unwrap();
    tx.commit().await.unwrap();
    store.close().await;
    let path = directory.path().join("opcenter.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    for statement in ["DELETE FROM event", "UPDATE event SET message = ''"] {
        let refused = sqlx::query(statement).execute(&pool).await.unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
}
